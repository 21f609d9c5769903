//! `sources.<name>.pki`

use std::net::IpAddr;
use std::time::Duration;

use super::super::diagnostics::Diagnostics;
use super::super::environment::Environment;
use super::super::parameter::expand;
use super::super::quantity::{RawDuration, duration_as_text};
use super::super::raw::RawSource;
use super::super::raw_pki::{RawKeyType, RawPki};
use super::auth::is_path;
use super::optional_duration;
use crate::model::{CertificateRequest, KeyType, Parameters};

/// Parameters for Vault that keyferry sets itself, with the key that sets them; empty if none does.
const RESERVED: [(&str, &str); 8] = [
    ("common_name", "commonName"),
    ("alt_names", "altNames"),
    ("ip_sans", "ipSans"),
    ("uri_sans", "uriSans"),
    ("ttl", "ttl"),
    ("csr", ""),
    ("format", ""),
    ("private_key_format", ""),
];

/// Keys of a reading of a certificate.
pub(super) const KEYS: [&str; 7] =
    ["certificate", "private_key", "issuing_ca", "ca_chain", "intermediates", "ca", "serial_number"];

/// Path of the endpoint, and the certificate to request there. `at` is the path of the source in the configuration.
pub(super) fn parse(
    at: &str,
    raw: RawPki,
    env: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> Option<(String, CertificateRequest)> {
    let at = |key: &str| format!("{at}.pki.{key}");
    let text = |key: &str, text: String, diagnostics: &mut Diagnostics| {
        let expanded = expand(text.trim(), env).unwrap_or_else(|message| {
            diagnostics.invalid(&at(key), text.as_str(), message);
            String::new()
        });
        if expanded.is_empty() && !diagnostics.contains(&at(key)) {
            diagnostics.invalid(&at(key), text.as_str(), "must not be empty; remove it");
        }
        expanded
    };
    let issue = raw.issue.map(|path| text("issue", path, diagnostics));
    let sign = raw.sign.map(|path| text("sign", path, diagnostics));
    let common_name = raw.common_name.map(|name| text("commonName", name, diagnostics));
    let list = |key: &str, items: Option<Vec<String>>, diagnostics: &mut Diagnostics| {
        let indexed = items.unwrap_or_default().into_iter().enumerate();
        indexed.map(|(index, item)| text(&format!("{key}[{index}]"), item, diagnostics)).collect::<Vec<_>>()
    };
    let alt_names = list("altNames", raw.alt_names, diagnostics);
    let addresses = list("ipSans", raw.ip_sans, diagnostics);
    let uri_sans = list("uriSans", raw.uri_sans, diagnostics);

    let mut ip_sans: Vec<IpAddr> = Vec::new();
    for (index, address) in addresses.iter().enumerate().filter(|(_, address)| !address.is_empty()) {
        if let Ok(parsed) = address.parse() {
            ip_sans.push(parsed);
        } else {
            let message = "must be an IPv4 or IPv6 address, like \"10.0.0.7\" or \"fd00::7\"";
            diagnostics.invalid(&at(&format!("ipSans[{index}]")), address.as_str(), message);
        }
    }
    for (key, names) in [("altNames", &alt_names), ("uriSans", &uri_sans)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            let message = "must be ASCII without spaces and commas; write an internationalized domain name in Punycode";
            diagnostics.invalid(&at(&format!("{key}[{index}]")), name.as_str(), message);
        }
    }
    for (index, uri) in uri_sans.iter().enumerate().filter(|(_, uri)| !uri.is_empty() && !uri.contains(':')) {
        let message = "must be a URI with a scheme, like \"spiffe://example.com/web\"";
        diagnostics.invalid(&at(&format!("uriSans[{index}]")), uri.as_str(), message);
    }
    if common_name.is_none() && alt_names.is_empty() && addresses.is_empty() && uri_sans.is_empty() {
        diagnostics.required(&at("commonName"), "is missing; set it, `altNames`, `ipSans`, or `uriSans`");
    }
    let ttl = time(&at("ttl"), raw.ttl.as_ref(), diagnostics);
    let renew_before = time(&at("renewBefore"), raw.renew_before.as_ref(), diagnostics);
    if let (Some(ttl), Some(before)) = (ttl, renew_before)
        && before >= ttl
    {
        let message = format!("must be less than `ttl` ({})", duration_as_text(ttl));
        diagnostics.invalid(&at("renewBefore"), duration_as_text(before), message);
    }
    let key_type = match raw.key_type {
        None | Some(RawKeyType::EcP256) => KeyType::EcP256,
        Some(RawKeyType::EcP384) => KeyType::EcP384,
        Some(RawKeyType::Ed25519) => KeyType::Ed25519,
    };
    let (path, key) = match (issue, sign) {
        (Some(_), Some(_)) => {
            diagnostics.forbidden(&at("sign"), "cannot be combined with `issue`; remove one of them");
            return None;
        }
        (None, None) => {
            // The schema check has reported an invalid path.
            if !diagnostics.contains_below(&at("issue")) && !diagnostics.contains_below(&at("sign")) {
                let message = "is missing; set it to the path of the role, like \"pki/issue/web\", or set `sign`";
                diagnostics.required(&at("issue"), message);
            }
            return None;
        }
        (Some(path), None) => {
            if raw.key_type.is_some() {
                let message = "requires `sign`; with `issue`, the `key_type` of the role determines the key";
                diagnostics.forbidden(&at("keyType"), message);
            }
            (endpoint(&at("issue"), &path, "issue", diagnostics)?, None)
        }
        (None, Some(path)) => (endpoint(&at("sign"), &path, "sign", diagnostics)?, Some(key_type)),
    };
    Some((path, CertificateRequest { key, common_name, alt_names, ip_sans, uri_sans, ttl, renew_before }))
}

/// Reports keys of a source that have no meaning for a certificate.
pub(super) fn conflicts(at: &str, raw: &RawSource, parameters: &Parameters, diagnostics: &mut Diagnostics) {
    let set = [
        ("path", raw.path.is_some()),
        ("list", raw.list().is_some()),
        ("mount", raw.mount.is_some()),
        ("engine", raw.engine.is_some()),
        ("version", raw.version.is_some()),
        ("method", raw.method.is_some()),
        ("previous", raw.previous_suffix().is_some()),
        ("overlap", raw.overlap.is_some()),
        ("watchLease", raw.watch_lease.is_some()),
    ];
    for (key, _) in set.into_iter().filter(|(_, set)| *set) {
        diagnostics.forbidden(&format!("{at}.{key}"), "cannot be combined with `pki`; remove one of them");
    }
    for (name, key) in RESERVED.into_iter().filter(|(name, _)| parameters.contains_key(*name)) {
        let message = if key.is_empty() {
            "is set by keyferry; remove it".to_owned()
        } else {
            format!("is set by keyferry; use `pki.{key}` instead")
        };
        diagnostics.forbidden(&format!("{at}.parameters.{name}"), message);
    }
}

/// The path of an endpoint of the PKI engine that ends with a role.
fn endpoint(at: &str, path: &str, action: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    let path = path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let matches = match parts.as_slice() {
        [_, .., before, _] => *before == action || action == "sign" && *before == "sign-verbatim",
        _ => false,
    };
    if is_path(path) && matches {
        return Some(path.to_owned());
    }
    if !diagnostics.contains(at) {
        let message = format!("must be the path of a role below `{action}/`, like \"pki/{action}/web\"");
        diagnostics.invalid(at, path, message);
    }
    None
}

/// Whether the text can be one of several names that are separated by commas. Empty if it is already reported.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn time(at: &str, raw: Option<&RawDuration>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let time = optional_duration(at, raw, diagnostics)?;
    if time < Duration::from_secs(1) {
        diagnostics.invalid(at, duration_as_text(time), "must be at least 1s");
    }
    Some(time)
}
