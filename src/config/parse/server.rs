//! `vault`

use std::path::PathBuf;

use http::Uri;

use super::super::defaults;
use super::super::mistakes::Mistakes;
use super::super::raw::{RawTls, RawVault};
use super::{duration, is_plain};
use crate::model::{Tls, VaultServer};

pub(super) fn parse(raw: RawVault, mistakes: &mut Mistakes) -> Option<VaultServer> {
    if raw.address.is_none() {
        mistakes.missing("vault.address", "is missing; give Vault's address here or in VAULT_ADDR");
    }
    let address = raw.address.and_then(|text| address("vault.address", &text, mistakes));
    let redirect_to = raw.redirect_to.unwrap_or_default();
    let redirect_to = redirect_to
        .iter()
        .enumerate()
        .filter_map(|(index, text)| self::address(&format!("vault.redirectTo[{index}]"), text, mistakes))
        .collect();
    let timeout = duration("vault.timeout", raw.timeout.as_ref(), defaults::TIMEOUT, mistakes);
    if timeout.is_zero() {
        mistakes.at("vault.timeout", "must be more than 0");
    }
    Some(VaultServer {
        namespace: raw.namespace.and_then(|text| namespace("vault.namespace", &text, mistakes)),
        tls: tls(raw.tls.unwrap_or_default(), mistakes),
        address: address?,
        redirect_to,
        timeout,
    })
}

/// A namespace as the header takes it; a slash at the end is what the Vault CLI prints.
pub(super) fn namespace(path: &str, text: &str, mistakes: &mut Mistakes) -> Option<String> {
    let plain = text.trim_matches('/');
    if plain.is_empty() || !is_plain(plain) || !plain.is_ascii() {
        mistakes.wrong(path, text, "is not a namespace, like \"team-a\" or \"team-a/dev\"");
        return None;
    }
    Some(plain.to_owned())
}

/// `http://host:port`, without anything after it.
fn address(path: &str, text: &str, mistakes: &mut Mistakes) -> Option<String> {
    const FORM: &str = "must be like \"https://vault.example.com:8200\"";
    let uri: Option<Uri> = text.trim().parse().ok();
    let Some((uri, scheme, authority)) = uri.as_ref().and_then(|uri| Some((uri, uri.scheme_str()?, uri.authority()?)))
    else {
        mistakes.wrong(path, text, FORM);
        return None;
    };
    if !matches!(scheme, "http" | "https") {
        mistakes.wrong(path, text, format!("{FORM}: http or https"));
        return None;
    }
    if authority.as_str().contains('@') {
        mistakes.at(path, format!("{FORM}: without user and password, Vault does not use them"));
        return None;
    }
    // Behind the host there is a port that fits, or nothing at all.
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none()) {
        mistakes.wrong(path, text, FORM);
        return None;
    }
    // The parser drops a fragment, so the text is asked.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
        mistakes.wrong(path, text, format!("{FORM}: nothing after host and port (`/v1` is added)"));
        return None;
    }
    Some(format!("{scheme}://{authority}"))
}

fn tls(raw: RawTls, mistakes: &mut Mistakes) -> Tls {
    let client = match (raw.client_cert_file, raw.client_key_file) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (Some(_), None) => {
            mistakes.missing(
                "vault.tls.clientKeyFile",
                "is missing; a client certificate needs its key (VAULT_CLIENT_KEY)",
            );
            None
        }
        (None, Some(_)) => {
            let message = "is missing; a client key needs its certificate (VAULT_CLIENT_CERT)";
            mistakes.missing("vault.tls.clientCertFile", message);
            None
        }
        (None, None) => None,
    };
    if let Some(name) =
        raw.server_name.as_deref().filter(|name| rustls::pki_types::ServerName::try_from(*name).is_err())
    {
        mistakes.wrong("vault.tls.serverName", name, "must be a DNS name or an IP address");
    }
    Tls { ca_file: raw.ca_file.map(PathBuf::from), server_name: raw.server_name, client }
}
