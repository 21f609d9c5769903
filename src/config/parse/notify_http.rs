//! `notify.<name>.http`

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderName, HeaderValue, Uri};

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::quantity::duration_as_text;
use super::super::raw_notify::{RawHttp, RawHttpMethod};
use super::duration;
use super::notify::check_file;
use crate::model::{HeaderSource, HttpTarget};

/// Headers that the HTTP client sets.
const RESERVED: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

pub(super) fn parse(at: &str, raw: RawHttp, diagnostics: &mut Diagnostics) -> Option<HttpTarget> {
    let key = |key: &str| format!("{at}.{key}");
    let timeout = duration(&key("timeout"), raw.timeout.as_ref(), defaults::NOTIFY_TIMEOUT, diagnostics);
    if timeout.is_zero() || timeout > defaults::MAX_NOTIFY_TIMEOUT {
        diagnostics.invalid(&key("timeout"), duration_as_text(timeout), "must be more than 0s, and at most 5m");
    }
    let unix_socket =
        raw.unix_socket.and_then(|path| check_file(&key("unixSocket"), &path, "/run/app/control.sock", diagnostics));
    let ca_file =
        raw.ca_file.and_then(|path| check_file(&key("caFile"), &path, "/etc/sensitive/tls/ca.crt", diagnostics));
    let mut headers = BTreeMap::new();
    for (name, value) in raw.headers.unwrap_or_default() {
        let at = format!("{}.{name}", key("headers"));
        if HeaderValue::from_str(&value).is_err() {
            diagnostics.invalid_hidden(&at, "must be the value of a header, in one line of visible ASCII characters");
        }
        add(&mut headers, &at, &name, HeaderSource::Value(value.into()), diagnostics);
    }
    for (name, path) in raw.header_files.unwrap_or_default() {
        let at = format!("{}.{name}", key("headerFiles"));
        if let Some(file) = check_file(&at, &path, "/etc/sensitive/reload-authorization", diagnostics) {
            add(&mut headers, &at, &name, HeaderSource::File(file), diagnostics);
        }
    }
    let Some(url) = raw.url else {
        diagnostics.required(
            &key("url"),
            "is missing; set it to an address in the pod, like \"http://127.0.0.1:8080/reload\"",
        );
        return None;
    };
    let (is_https, addresses) = url_of(&key("url"), &url, diagnostics)?;
    if is_https && ca_file.is_none() {
        let message = "is missing; set it to a PEM file with the CA of the application's certificate, or use `http`, which \
                       does not leave the pod";
        diagnostics.required(&key("caFile"), message);
    }
    for (name, is_set) in [("caFile", ca_file.is_some()), ("serverName", raw.server_name.is_some())] {
        if is_set && !is_https {
            diagnostics.forbidden(&key(name), "must not be set without an `https` URL");
        }
    }
    let server_name = raw.server_name.filter(|name| {
        // An address, in any notation that a URL can have, would be used instead of the loopback address.
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let is_address = name.starts_with('[') || last.starts_with(|c: char| c.is_ascii_digit());
        let is_valid = !is_address && name.parse::<http::uri::Authority>().is_ok_and(|parsed| parsed.host() == name);
        if !is_valid {
            diagnostics.invalid(&key("serverName"), name.as_str(), "must be a DNS name, like \"webapp.shop.svc\"");
        }
        is_valid
    });
    Some(HttpTarget {
        url,
        addresses,
        unix_socket,
        method: raw.method.unwrap_or(RawHttpMethod::Post).as_str().to_owned(),
        headers,
        body: raw.body.map(Into::into),
        expect: raw.expect.map(BTreeSet::from_iter).unwrap_or_default(),
        timeout,
        ca_file,
        server_name,
    })
}

fn add(
    headers: &mut BTreeMap<String, HeaderSource>,
    at: &str,
    name: &str,
    source: HeaderSource,
    diagnostics: &mut Diagnostics,
) {
    let name = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        diagnostics.invalid_hidden(at, "must have the name of a header, like \"Authorization\"");
    } else if RESERVED.contains(&name.as_str()) {
        diagnostics.forbidden(at, "must not be set, because keyferry sets this header itself; remove it");
    } else if headers.insert(name, source).is_some() {
        diagnostics.forbidden(at, "must not be set twice; header names are not case-sensitive");
    }
}

/// Whether the URL is `https`, and the addresses of its host. `None` if it is reported. A URL is not shown, because it can
/// contain a token.
fn url_of(at: &str, url: &str, diagnostics: &mut Diagnostics) -> Option<(bool, Vec<IpAddr>)> {
    let parsed = url.parse::<Uri>().ok().filter(|parsed| !url.contains('#') && parsed.authority().is_some());
    let parts = parsed.as_ref().and_then(|parsed| Some((parsed.scheme_str()?, parsed.host()?)));
    let Some((scheme @ ("http" | "https"), host)) = parts else {
        diagnostics.invalid_hidden(at, "must be an http or https URL, like \"http://127.0.0.1:8080/reload\"");
        return None;
    };
    if parsed.as_ref().and_then(Uri::authority).is_some_and(|authority| authority.as_str().contains('@')) {
        diagnostics.invalid_hidden(at, "must not contain a password; put an `Authorization` header into `headerFiles`");
        return None;
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let addresses = match literal {
        Ok(ip) if ip.is_loopback() => vec![ip],
        Err(_) if host.eq_ignore_ascii_case("localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        _ => {
            let message = "must have a loopback address as host, like \"127.0.0.1\", \"[::1]\", or \"localhost\": notifications \
                           do not leave the pod";
            diagnostics.invalid_hidden(at, message);
            return None;
        }
    };
    Some((scheme == "https", addresses))
}
