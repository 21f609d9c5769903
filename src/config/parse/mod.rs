//! Parses a [`RawDocument`] into [`Settings`], one file per section. A section with an error continues with a default,
//! so that the following sections are checked too.

mod auth;
mod conflicts;
mod list;
mod merge;
mod mirrors;
mod notify;
mod notify_http;
mod outputs;
mod pkcs12;
mod pki;
mod refresh_now;
mod seed;
mod selection;
mod server;
mod sources;
mod status;
mod template;
mod token_file;
mod wrapped;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::TemplateFiles;
use super::defaults;
use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::quantity::{self, DURATION_FORM, RawDuration, SIZE_FORM, duration_as_text};
use super::raw::{RawDirectory, RawDocument, RawRetry};
use super::raw_output::RawOutput;
use super::variables::given_token;
use crate::model::{AuthMethod, Directory, Listener, Mode, Retry, Settings, SourceName};

/// Parses all sections. `None` only if an error is reported.
pub(super) fn settings(
    raw: RawDocument,
    env: &dyn Environment,
    files: &TemplateFiles,
    diagnostics: &mut Diagnostics,
) -> Option<Settings> {
    let raw_vault = raw.vault.unwrap_or_default();
    let events = raw_vault.events.unwrap_or(false);
    let server = server::parse(raw_vault, diagnostics);
    let auth = auth::parse(raw.auth.unwrap_or_default(), given_token(env), diagnostics);
    let raw_sources = raw.sources.unwrap_or_default();
    // A template can read all its sources by path.
    let needs_no_source = raw.token_file.is_some() || raw.outputs.iter().flatten().any(RawOutput::is_template);
    let given = template::Given { env, files };
    let mut outputs = outputs::parse(raw.outputs, &raw_sources, given, diagnostics);
    let mut sources = sources::parse(raw_sources, needs_no_source, env, diagnostics);
    let call_defaults = sources::of_calls(raw.call_refresh.as_ref(), diagnostics);
    template::connect(&mut outputs, &mut sources, &call_defaults);
    let directory = directory(raw.directory.unwrap_or_default(), diagnostics);
    template::check_files(&outputs, &directory, diagnostics);
    let status = status::parse(raw.status.unwrap_or_default(), diagnostics);
    let token = raw.token_file.and_then(|raw| token_file::parse(raw, &outputs, &status, env, diagnostics));
    if let Some((source, output)) = token {
        sources.insert(SourceName::token_file(), source);
        outputs.push(output);
    }
    let mirrors = mirrors::parse(raw.mirrors.unwrap_or_default(), &outputs, &sources, diagnostics);
    let seed = raw.seed.and_then(|raw| {
        let of = seed::Copied { directory: &directory, sources: &sources, outputs: &outputs, mirrors: &mirrors };
        seed::parse(raw, &of, diagnostics)
    });
    let listens = raw.listen.is_some() || diagnostics.contains("listen");
    let notify = notify::parse(raw.notify.unwrap_or_default(), &outputs, &directory, diagnostics);
    let listener = raw.listen.and_then(|text| listener(&text, diagnostics));
    let refresh_now = refresh_now::parse(raw.refresh_now.unwrap_or_default(), listens, &directory, diagnostics);
    let retry = retry(raw.retry.unwrap_or_default(), diagnostics);
    let drain = duration("drain", raw.drain.as_ref(), defaults::DRAIN, diagnostics);
    if drain > defaults::MAX_DRAIN {
        let message = "must be at most 5m; the kubelet kills the container after terminationGracePeriodSeconds anyway";
        diagnostics.invalid("drain", duration_as_text(drain), message);
    }
    let (server, auth) = (server?, auth?);
    let own_login = !matches!(auth.method, AuthMethod::Token { .. } | AuthMethod::TokenFile { .. });
    Some(Settings {
        server,
        events,
        sources,
        call_defaults,
        outputs,
        directory,
        mirrors,
        notify,
        seed,
        status,
        listener,
        refresh_now,
        retry,
        concurrency: raw.concurrency.and_then(|n| usize::try_from(n).ok()).unwrap_or(defaults::CONCURRENCY),
        // Others may still use a supplied token.
        revoke_on_exit: raw.revoke_on_exit.unwrap_or(own_login),
        drain,
        auth,
    })
}

fn directory(raw: RawDirectory, diagnostics: &mut Diagnostics) -> Directory {
    let path = raw.path.unwrap_or_else(|| defaults::DIRECTORY.to_owned());
    check_directory("directory.path", &path, "/run/keyferry/files", diagnostics);
    let max_bytes = raw.max_bytes.and_then(|size| {
        let bytes = quantity::size(&size.0).filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            diagnostics.invalid("directory.maxBytes", &size.0, SIZE_FORM);
        }
        bytes
    });
    Directory {
        path: PathBuf::from(path),
        allow_disk: raw.allow_disk.unwrap_or(false),
        file_mode: raw.file_mode.and_then(|text| mode("directory.fileMode", &text, diagnostics)),
        max_bytes,
    }
}

fn check_directory(at: &str, path: &str, example: &str, diagnostics: &mut Diagnostics) {
    let below_root = path.starts_with('/') && !path.trim_matches('/').is_empty();
    if !below_root || path.split('/').any(|part| part == ".." || part == ".") {
        let message = format!("must be an absolute path below the root, without \"..\", like {example:?}");
        diagnostics.invalid(at, path, message);
    }
}

fn listener(text: &str, diagnostics: &mut Diagnostics) -> Option<Listener> {
    let address = match text.strip_prefix(':') {
        // The listener accepts IPv4 on this address too, and uses 0.0.0.0 on nodes without IPv6.
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        None => text.parse().ok(),
    };
    if address.is_none() {
        diagnostics.invalid(
            "listen",
            text,
            "must be an IP address and a port, like \":8250\", \"127.0.0.1:8250\", or \"[::]:8250\"",
        );
    }
    address.map(|address| Listener { address })
}

fn retry(raw: RawRetry, diagnostics: &mut Diagnostics) -> Retry {
    let mut of = |key: &str, value: Option<RawDuration>, default| {
        let path = format!("retry.{key}");
        let wait = duration(&path, value.as_ref(), default, diagnostics);
        if wait.is_zero() {
            diagnostics.invalid(&path, 0, "must be greater than 0; retries without a delay overload a failing server");
        }
        wait
    };
    let retry = Retry {
        base: of("base", raw.base, defaults::RETRY_BASE),
        max: of("max", raw.max, defaults::RETRY_MAX),
        slow: of("slow", raw.slow, defaults::RETRY_SLOW),
    };
    if retry.base > retry.max {
        let message = format!("must be at least `retry.base` ({})", duration_as_text(retry.base));
        diagnostics.invalid("retry.max", duration_as_text(retry.max), message);
    }
    retry
}

/// The duration at `path`. The default if it is unset, or reported as invalid.
fn duration(path: &str, raw: Option<&RawDuration>, default: Duration, diagnostics: &mut Diagnostics) -> Duration {
    let Some(RawDuration(scalar)) = raw else { return default };
    quantity::duration(scalar).unwrap_or_else(|| {
        diagnostics.invalid(path, scalar, DURATION_FORM);
        default
    })
}

/// The duration at `path`; `None` if it is unset, or reported as invalid.
fn optional_duration(path: &str, raw: Option<&RawDuration>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let RawDuration(scalar) = raw?;
    let value = quantity::duration(scalar);
    if value.is_none() {
        diagnostics.invalid(path, scalar, DURATION_FORM);
    }
    value
}

fn mode(path: &str, text: &str, diagnostics: &mut Diagnostics) -> Option<Mode> {
    quantity::mode(text).map_err(|message| diagnostics.invalid(path, text, message)).ok()
}

/// Whether the text can be part of a request header or an API path: no spaces at either end, no control characters.
fn is_plain(text: &str) -> bool {
    text.trim() == text && !text.chars().any(char::is_control)
}
