//! Environment variables, and how they set keys that the configuration file does not set.
//!
//! The configuration file takes precedence, key by key: it has one author, while variables can come from a node, a base image,
//! or an injector. An unused variable is not an error.

use std::collections::BTreeMap;

use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::quantity::{RawDuration, Scalar};
use super::raw::{RawDocument, RawMirror, RawSource};
use crate::model::SecretBytes;

/// A supported variable. Only the generated reference uses `fills` and `meaning`.
#[cfg_attr(not(test), allow(dead_code, reason = "the reference is generated in tests"))]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// Key of the configuration file that the variable sets; empty if there is none.
    pub(super) fills: &'static str,
    pub(super) meaning: &'static str,
}

const fn variable(name: &'static str, fills: &'static str, meaning: &'static str) -> Variable {
    Variable { name, fills, meaning }
}

const PROXY: &str = "Ignored, with a warning at startup: keyferry connects to Vault directly.";

/// All variables, for the reference and for suggestions.
pub(super) const VARIABLES: &[Variable] = &[
    variable("KEYFERRY_CONFIG", "", "Path of the configuration file. `--config` takes precedence."),
    variable("KEYFERRY_CONFIG_INLINE", "", "The configuration itself, as YAML. Ignored if `KEYFERRY_CONFIG` is set."),
    variable(
        "KEYFERRY_SECRETS",
        "sources",
        "Comma-separated paths of secrets, each as `path` or `name=path`. Each key becomes a file.",
    ),
    variable("KEYFERRY_ROLE", "auth.role", "Role of the auth method."),
    variable("KEYFERRY_AUTH_METHOD", "auth.method", "Auth method."),
    variable("KEYFERRY_AUTH_MOUNT", "auth.mount", "Mount path of the auth method."),
    variable(
        "KEYFERRY_JWT_FILE",
        "auth.jwtFile",
        "File with the token that the methods `kubernetes` and `jwt` send to Vault.",
    ),
    variable("KEYFERRY_AUDIENCE", "auth.audience", "Required audience of this token."),
    variable("KEYFERRY_DIRECTORY", "directory.path", "Output directory."),
    variable("KEYFERRY_ALLOW_DISK", "directory.allowDisk", "`true`: allow an output directory that is not in memory."),
    variable(
        "KEYFERRY_REFRESH",
        "sources.<name>.refresh",
        "Interval between reads, for each source without its own `refresh` and for the sources that templates add.",
    ),
    variable(
        "KEYFERRY_ANNOTATIONS_FILE",
        "refreshNow.annotationsFile",
        "File with the annotations of the pod, in which `keyferry.dev/refresh` requests a refresh.",
    ),
    variable("KEYFERRY_REFRESH_TOKEN_FILE", "refreshNow.tokenFile", "File with the token for `POST /refresh`."),
    variable(
        "KEYFERRY_CHECKPOINT",
        "",
        "File that keeps the Vault token, its leases, and certificates across restarts of keyferry. `--checkpoint` takes precedence.",
    ),
    variable("KEYFERRY_MIRROR", "mirrors", "Name of one Secret of type Opaque that receives a copy of all files."),
    variable(
        "KEYFERRY_SEED",
        "seed.directory",
        "Directory with a copy of the files to start from if Vault is unavailable.",
    ),
    variable("KEYFERRY_LISTEN", "listen", "IP address and port for probes and metrics."),
    variable(
        "KEYFERRY_LOG",
        "",
        "Log filter: `error`, `warn`, `info`, `debug`, or `target=level` pairs. Overrides `RUST_LOG`.",
    ),
    variable(
        "KEYFERRY_LOG_FORMAT",
        "",
        "`text`, `json`, or `auto`. Default: `auto`, which is `text` on a terminal and `json` otherwise.",
    ),
    variable("VAULT_ADDR", "vault.address", "Same meaning as in the Vault CLI."),
    variable("VAULT_NAMESPACE", "vault.namespace", "Same meaning as in the Vault CLI."),
    variable("VAULT_CACERT", "vault.tls.caFile", "Same meaning as in the Vault CLI."),
    variable("VAULT_CLIENT_CERT", "vault.tls.clientCertFile", "Same meaning as in the Vault CLI."),
    variable("VAULT_CLIENT_KEY", "vault.tls.clientKeyFile", "Same meaning as in the Vault CLI."),
    variable("VAULT_TLS_SERVER_NAME", "vault.tls.serverName", "Same meaning as in the Vault CLI."),
    variable("VAULT_CLIENT_TIMEOUT", "vault.timeout", "Same meaning as in the Vault CLI."),
    variable(
        "VAULT_TOKEN",
        "",
        "Token for the method `token`. Prefer a file, because environment variables can be read in `/proc`.",
    ),
    variable("VAULT_SKIP_VERIFY", "", "Rejected if true: certificate verification cannot be disabled."),
    variable("VAULT_PROXY_ADDR", "", PROXY),
    variable("HTTPS_PROXY", "", PROXY),
    variable("HTTP_PROXY", "", PROXY),
    variable("POD_NAME", "status.podName", "From the downward API: `metadata.name`."),
    variable("POD_UID", "status.podUid", "From the downward API: `metadata.uid`."),
    variable("POD_NAMESPACE", "status.podNamespace", "From the downward API: `metadata.namespace`."),
    variable("POD_IP", "", "For `${POD_IP}` in `sources`. From the downward API: `status.podIP`."),
    variable("NODE_NAME", "", "For `${NODE_NAME}` in `sources`. From the downward API: `spec.nodeName`."),
    variable(
        "SERVICE_ACCOUNT",
        "",
        "For `${SERVICE_ACCOUNT}` in `sources`. From the downward API: `spec.serviceAccountName`.",
    ),
    variable("KUBECONFIG", "status.kubeconfig", "Same meaning as in kubectl, limited to one file."),
];

/// Fills what `raw` leaves open, and tells misspelt variables.
pub(super) fn overlay(env: &dyn Environment, raw: &mut RawDocument, diagnostics: &mut Diagnostics) {
    unknown(env, diagnostics);
    unreadable(env, diagnostics);
    vault(env, raw, diagnostics);

    let auth = raw.auth.get_or_insert_default();
    fill(&mut auth.role, "auth.role", own(env, "KEYFERRY_ROLE"), diagnostics);
    fill(&mut auth.mount, "auth.mount", own(env, "KEYFERRY_AUTH_MOUNT"), diagnostics);
    fill(&mut auth.jwt_file, "auth.jwtFile", own(env, "KEYFERRY_JWT_FILE"), diagnostics);
    fill(&mut auth.audience, "auth.audience", own(env, "KEYFERRY_AUDIENCE"), diagnostics);
    if let Some((name, text)) = own(env, "KEYFERRY_AUTH_METHOD").filter(|_| auth.method.is_none()) {
        diagnostics.set_origin("auth.method", &name);
        match serde_json::from_value(text.as_str().into()) {
            Ok(method) => auth.method = Some(method),
            Err(_) => diagnostics.invalid("auth.method", text, "must be one of kubernetes, jwt, approle, token"),
        }
    }

    let directory = raw.directory.get_or_insert_default();
    fill(&mut directory.path, "directory.path", own(env, "KEYFERRY_DIRECTORY"), diagnostics);
    if let Some((name, text)) = own(env, "KEYFERRY_ALLOW_DISK").filter(|_| directory.allow_disk.is_none()) {
        diagnostics.set_origin("directory.allowDisk", &name);
        match boolean(&text) {
            Some(flag) => directory.allow_disk = Some(flag),
            None => diagnostics.invalid("directory.allowDisk", text, "must be true or false"),
        }
    }
    fill(&mut raw.listen, "listen", own(env, "KEYFERRY_LISTEN"), diagnostics);
    let refresh = raw.refresh_now.get_or_insert_default();
    let annotations = own(env, "KEYFERRY_ANNOTATIONS_FILE");
    fill(&mut refresh.annotations_file, "refreshNow.annotationsFile", annotations, diagnostics);
    let token = own(env, "KEYFERRY_REFRESH_TOKEN_FILE");
    fill(&mut refresh.token_file, "refreshNow.tokenFile", token, diagnostics);

    sources(env, raw, diagnostics);
    if let Some((name, text)) =
        own(env, "KEYFERRY_MIRROR").filter(|_| raw.mirrors.as_ref().is_none_or(BTreeMap::is_empty))
    {
        diagnostics.set_origin("mirrors", &name);
        raw.mirrors = Some(BTreeMap::from([(text, RawMirror::default())]));
    }

    if let Some(seed) = own(env, "KEYFERRY_SEED") {
        let directory = &mut raw.seed.get_or_insert_default().directory;
        fill(directory, "seed.directory", Some(seed), diagnostics);
    }

    let status = raw.status.get_or_insert_default();
    fill(&mut status.pod_name, "status.podName", own(env, "POD_NAME"), diagnostics);
    fill(&mut status.pod_uid, "status.podUid", own(env, "POD_UID"), diagnostics);
    fill(&mut status.pod_namespace, "status.podNamespace", own(env, "POD_NAMESPACE"), diagnostics);
    fill(&mut status.kubeconfig, "status.kubeconfig", own(env, "KUBECONFIG"), diagnostics);
}

/// The token that a user put into the environment.
pub(super) fn given_token(env: &dyn Environment) -> Option<(String, SecretBytes)> {
    of_vault(env, "TOKEN").map(|(name, token)| (name, token.into()))
}

fn vault(env: &dyn Environment, raw: &mut RawDocument, diagnostics: &mut Diagnostics) {
    let vault = raw.vault.get_or_insert_default();
    fill(&mut vault.address, "vault.address", of_vault(env, "ADDR"), diagnostics);
    fill(&mut vault.namespace, "vault.namespace", of_vault(env, "NAMESPACE"), diagnostics);
    if let Some((name, text)) = of_vault(env, "CLIENT_TIMEOUT").filter(|_| vault.timeout.is_none()) {
        diagnostics.set_origin("vault.timeout", &name);
        vault.timeout = Some(RawDuration(Scalar::Text(text)));
    }
    let tls = vault.tls.get_or_insert_default();
    fill(&mut tls.ca_file, "vault.tls.caFile", of_vault(env, "CACERT"), diagnostics);
    fill(&mut tls.server_name, "vault.tls.serverName", of_vault(env, "TLS_SERVER_NAME"), diagnostics);
    // Certificate and key are a pair and must come from the same source.
    if tls.client_cert_file.is_none() && tls.client_key_file.is_none() {
        fill(&mut tls.client_cert_file, "vault.tls.clientCertFile", of_vault(env, "CLIENT_CERT"), diagnostics);
        fill(&mut tls.client_key_file, "vault.tls.clientKeyFile", of_vault(env, "CLIENT_KEY"), diagnostics);
    }
    if tls.ca_file.is_none() {
        for suffix in ["CACERT_BYTES", "CAPATH"] {
            if let Some((name, _)) = of_vault(env, suffix) {
                diagnostics.forbidden(
                    &name,
                    "is not supported; put the CA certificates in one PEM file and set VAULT_CACERT to its path",
                );
            }
        }
    }
    if let Some((name, text)) = of_vault(env, "SKIP_VERIFY") {
        match boolean(&text) {
            Some(false) => {}
            Some(true) => diagnostics.invalid(
                &name,
                text,
                "certificate verification cannot be disabled; set VAULT_CACERT to the CA certificate, and VAULT_TLS_SERVER_NAME if the name in the certificate differs from the address",
            ),
            None => diagnostics.invalid(&name, text, "must be false or unset; certificates are always verified"),
        }
    }
}

/// Path of the sources that templates add, in messages.
pub(super) const CALLS: &str = "sources.<template>";

fn sources(env: &dyn Environment, raw: &mut RawDocument, diagnostics: &mut Diagnostics) {
    if let Some((variable, text)) =
        own(env, "KEYFERRY_SECRETS").filter(|_| raw.sources.as_ref().is_none_or(BTreeMap::is_empty))
    {
        diagnostics.set_origin("sources", &variable);
        let mut sources = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if let Some(message) = misread(part) {
                diagnostics.invalid("sources", part, message);
                continue;
            }
            let (name, path) =
                part.split_once('=').map_or((part.trim_matches('/'), part), |(name, path)| (name.trim(), path.trim()));
            let source = RawSource { path: Some(path.to_owned()), ..RawSource::default() };
            if sources.insert(name.to_owned(), source).is_some() {
                let message = "source name; use `name=path` to give each source a unique name";
                diagnostics.duplicate("sources", name, message);
            }
        }
        raw.sources = Some(sources);
    }
    if let Some((variable, text)) = own(env, "KEYFERRY_REFRESH") {
        let refresh = || Some(RawDuration(Scalar::Text(text.clone())));
        let sources = raw.sources.iter_mut().flatten();
        for (name, source) in sources.filter(|(_, source)| source.refresh.is_none()) {
            diagnostics.set_origin(&format!("sources.{name}.refresh"), &variable);
            source.refresh = refresh();
        }
        diagnostics.set_origin(&format!("{CALLS}.refresh"), &variable);
        raw.call_refresh = refresh();
    }
}

/// Why a part of `KEYFERRY_SECRETS` is probably not what its author means.
fn misread(part: &str) -> Option<&'static str> {
    let (name, path) = part.split_once('=').unwrap_or(("", part));
    if part.contains('?') {
        return Some(
            "must be a path without a query; to select a version, use the configuration file: `sources: {app: {path: secret/app, version: 1}}`",
        );
    }
    if [name, path].iter().any(|text| text.trim().contains(|c: char| c.is_whitespace() || c == ';')) {
        return Some(
            "must be one path; separate paths with a comma, and write a path that contains a space or `;` in the configuration file",
        );
    }
    if name.contains('/') {
        return Some(
            "must be `name=path`, with a name without a slash; write a path that contains `=` in the configuration file",
        );
    }
    None
}

/// Variables that ask for a proxy; none of them is followed.
pub(super) const PROXIES: [&str; 8] = [
    "VAULT_PROXY_ADDR",
    "BAO_PROXY_ADDR",
    "VAULT_HTTP_PROXY",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
];

/// Variables that are set but cannot be read. To take one for "not set" would send its author looking in the wrong place.
fn unreadable(env: &dyn Environment, diagnostics: &mut Diagnostics) {
    let names = VARIABLES.iter().map(|variable| variable.name).filter(|name| !PROXIES.contains(name));
    for name in names {
        let bao = name.strip_prefix("VAULT_").map(|suffix| format!("BAO_{suffix}"));
        for name in [Some(name.to_owned()), bao].into_iter().flatten().filter(|name| env.is_unreadable(name)) {
            diagnostics.invalid_hidden(&name, "must be UTF-8 text");
        }
    }
}

fn fill(slot: &mut Option<String>, path: &str, found: Option<(String, String)>, diagnostics: &mut Diagnostics) {
    if let Some((name, text)) = found.filter(|_| slot.is_none()) {
        diagnostics.set_origin(path, &name);
        *slot = Some(text);
    }
}

/// A variable with its name; an empty one counts as not set, as in Vault's CLI and in kubectl.
fn own(env: &dyn Environment, name: &str) -> Option<(String, String)> {
    let text = env.get(name)?.trim().to_owned();
    (!text.is_empty()).then(|| (name.to_owned(), text))
}

/// `BAO_*` before `VAULT_*`, as `OpenBao`'s CLI does it (`ReadBaoVariable`).
fn of_vault(env: &dyn Environment, suffix: &str) -> Option<(String, String)> {
    own(env, &format!("BAO_{suffix}")).or_else(|| own(env, &format!("VAULT_{suffix}")))
}

/// What Go's `strconv.ParseBool` takes, because the Vault CLI uses it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn unknown(env: &dyn Environment, diagnostics: &mut Diagnostics) {
    let known = || VARIABLES.iter().map(|variable| variable.name).filter(|name| name.starts_with("KEYFERRY_"));
    let mut names = env.names();
    names.sort_unstable();
    for name in names.iter().filter(|name| name.starts_with("KEYFERRY_")) {
        if !known().any(|variable| variable == name) && !is_service_link(name) {
            let all: Vec<_> = known().collect();
            diagnostics.unknown(name, "environment variable", name, all.iter().copied());
        }
    }
}

/// Whether the kubelet set it for a Service whose name begins with `keyferry`
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    let Some((_, port)) = name.rsplit_once("_PORT_") else { return false };
    let mut parts = port.split('_');
    let number = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let protocol = parts.next().is_some_and(|part| matches!(part, "TCP" | "UDP" | "SCTP"));
    let rest = parts.next().is_none_or(|part| matches!(part, "PROTO" | "PORT" | "ADDR"));
    number && protocol && rest && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_not_reported_as_unknown_variables() {
        for name in [
            "KEYFERRY_SERVICE_HOST",
            "KEYFERRY_SERVICE_PORT",
            "KEYFERRY_SERVICE_PORT_METRICS",
            "KEYFERRY_PORT",
            "KEYFERRY_PORT_8250_TCP",
            "KEYFERRY_PORT_8250_TCP_ADDR",
            "KEYFERRY_DEMO_PORT_80_UDP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["KEYFERRY_ROLES", "KEYFERRY_PORTS", "KEYFERRY_PORT_X_TCP", "KEYFERRY_SERVICE"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
