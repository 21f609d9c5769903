//! `vault`

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use rustls::pki_types::ServerName;

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::raw::{RawTls, RawVault};
use super::{duration, is_plain};
use crate::model::{Tls, VaultServer};

pub(super) fn parse(raw: RawVault, diagnostics: &mut Diagnostics) -> Option<VaultServer> {
    if raw.address.is_none() {
        diagnostics.required("vault.address", "is missing; set the address of Vault here or in VAULT_ADDR");
    }
    let address = raw.address.and_then(|text| address("vault.address", &text, diagnostics));
    let redirect_to = raw.redirect_to.unwrap_or_default();
    let redirect_to = redirect_to
        .iter()
        .enumerate()
        .filter_map(|(index, text)| self::address(&format!("vault.redirectTo[{index}]"), text, diagnostics))
        .collect();
    let timeout = duration("vault.timeout", raw.timeout.as_ref(), defaults::TIMEOUT, diagnostics);
    if timeout.is_zero() {
        diagnostics.invalid("vault.timeout", 0, "must be greater than 0");
    }
    Some(VaultServer {
        namespace: raw.namespace.and_then(|text| namespace("vault.namespace", &text, diagnostics)),
        tls: tls(raw.tls.unwrap_or_default(), address.as_deref(), diagnostics),
        address: address?,
        redirect_to,
        timeout,
    })
}

/// Parses a namespace. What it accepts can be sent in a request header. The Vault CLI prints namespaces with a slash at the end.
pub(super) fn namespace(path: &str, text: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    let plain = text.trim_matches('/');
    if plain.is_empty() || !is_plain(plain) || !plain.is_ascii() {
        let message = "must be a namespace, like \"team-a\" or \"team-a/dev\": ASCII without control characters, and no \
                       space at its start or end";
        diagnostics.invalid(path, text, message);
        return None;
    }
    Some(plain.to_owned())
}

/// Parses an address into `http://host:port` or `https://host:port`.
fn address(path: &str, text: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    const FORM: &str = "must be like \"https://vault.example.com:8200\"";
    let uri: Option<Uri> = text.trim().parse().ok();
    let Some((uri, scheme, authority)) = uri.as_ref().and_then(|uri| Some((uri, uri.scheme_str()?, uri.authority()?)))
    else {
        diagnostics.invalid(path, text, FORM);
        return None;
    };
    if !matches!(scheme, "http" | "https") {
        diagnostics.invalid(path, text, format!("{FORM}; use http or https"));
        return None;
    }
    if authority.as_str().contains('@') {
        diagnostics.invalid_hidden(path, format!("{FORM}; remove user and password, which Vault does not use"));
        return None;
    }
    // The host is followed by a valid port or by nothing.
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none()) {
        diagnostics.invalid(path, text, FORM);
        return None;
    }
    // The parser drops a fragment.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
        diagnostics.invalid(path, text, format!("{FORM}; remove everything after host and port (keyferry adds `/v1`)"));
        return None;
    }
    Some(format!("{scheme}://{authority}"))
}

fn tls(raw: RawTls, address: Option<&str>, diagnostics: &mut Diagnostics) -> Tls {
    let client = match (raw.client_cert_file, raw.client_key_file) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (Some(_), None) => {
            diagnostics.required(
                "vault.tls.clientKeyFile",
                "is missing; a client certificate requires its key (VAULT_CLIENT_KEY)",
            );
            None
        }
        (None, Some(_)) => {
            let message = "is missing; a client key requires its certificate (VAULT_CLIENT_CERT)";
            diagnostics.required("vault.tls.clientCertFile", message);
            None
        }
        (None, None) => None,
    };
    let server_name = raw.server_name.and_then(|name| server_name(name, address, diagnostics));
    Tls { ca_file: raw.ca_file.map(PathBuf::from), server_name, client }
}

/// Parses the name to verify instead of the host of the address. `None` if it is that host: any other IP address is not
/// supported, because the HTTP client would connect to it (`vault/http/tls.rs`).
fn server_name(name: String, address: Option<&str>, diagnostics: &mut Diagnostics) -> Option<String> {
    const FORM: &str = "must be a DNS name, like \"vault.internal\"";
    let host = |address: &str| address.parse::<Uri>().ok()?.host()?.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    match (ServerName::try_from(name.as_str()), name.parse::<IpAddr>()) {
        (Ok(ServerName::DnsName(_)), _) => Some(name),
        (_, Ok(ip)) if address.and_then(host) == Some(ip) => None,
        (_, Ok(_)) => {
            let message = format!("{FORM}; an IP address is supported only if it is the host of vault.address");
            diagnostics.invalid("vault.tls.serverName", name, message);
            None
        }
        (_, Err(_)) => {
            diagnostics.invalid("vault.tls.serverName", name, FORM);
            None
        }
    }
}
