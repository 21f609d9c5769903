//! `sources`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::environment::Environment;
use super::super::parameter::{RawParameter, expand};
use super::super::quantity::{RawDuration, duration_as_text};
use super::super::raw::{RawEngine, RawRequestMethod, RawSource};
use super::super::variables::CALLS;
use super::auth::is_path;
use super::{duration, list, optional_duration, pki, wrapped};
use crate::model::{KvEngine, Parameters, RequestMethod, Source, SourceName};

/// Limit for `previous.suffix`, so that most keys with the suffix are valid file names.
const MAX_SUFFIX: usize = 64;

pub(super) fn parse(
    raw: BTreeMap<String, RawSource>,
    needs_none: bool,
    env: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<SourceName, Source> {
    if raw.is_empty() && !needs_none {
        diagnostics.required("sources", "is missing; configure at least one secret here or in KEYFERRY_SECRETS");
    }
    raw.into_iter().filter_map(|(name, raw)| source(&name, raw, env, diagnostics)).collect()
}

/// The source of a template's `secret` call, without its path. `refresh` is from the environment.
pub(super) fn of_calls(refresh: Option<&RawDuration>, diagnostics: &mut Diagnostics) -> Source {
    let (refresh, max_stale) = times(CALLS, refresh, None, diagnostics);
    Source {
        path: String::new(),
        list: None,
        wrapping_token_file: None,
        mount: None,
        engine: KvEngine::Detect,
        version: None,
        previous: None,
        method: RequestMethod::Read,
        parameters: Parameters::new(),
        certificate: None,
        refresh,
        max_stale,
        overlap: None,
        watch_lease: None,
        required: true,
    }
}

/// `refresh` and `maxStale` of the source at a path of the document.
fn times(
    at: &str,
    refresh: Option<&RawDuration>,
    max_stale: Option<&RawDuration>,
    diagnostics: &mut Diagnostics,
) -> (Duration, Duration) {
    let (refresh_at, stale_at) = (format!("{at}.refresh"), format!("{at}.maxStale"));
    let refresh = duration(&refresh_at, refresh, defaults::REFRESH, diagnostics);
    if refresh < defaults::MIN_REFRESH {
        diagnostics.invalid(&refresh_at, duration_as_text(refresh), "must be at least 1s");
    }
    let default_stale = defaults::MAX_STALE.max(refresh.saturating_mul(defaults::MAX_STALE_REFRESHES));
    let max_stale = duration(&stale_at, max_stale, default_stale, diagnostics);
    if max_stale < refresh {
        let message = format!(
            "must be at least `refresh` ({}); otherwise files become stale before the next read",
            duration_as_text(refresh)
        );
        diagnostics.invalid(&stale_at, duration_as_text(max_stale), message);
    }
    (refresh, max_stale)
}

fn source(
    name: &str,
    mut raw: RawSource,
    env: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> Option<(SourceName, Source)> {
    let at = |key: &str| format!("sources.{name}.{key}");
    let source_name = SourceName::new(name)
        .map_err(|error| diagnostics.invalid_hidden(&format!("sources.{name}"), error.to_string()))
        .ok();
    if source_name.as_ref().is_some_and(SourceName::is_token_file) {
        let message = "cannot have this name, which messages use for the section `tokenFile`; choose another one";
        diagnostics.forbidden(&format!("sources.{name}"), message);
    }
    wrapped::contradictions(&format!("sources.{name}"), &raw, diagnostics);
    let list = list::parse(&format!("sources.{name}"), &raw, diagnostics);
    let (refresh, max_stale) =
        times(&format!("sources.{name}"), raw.refresh.as_ref(), raw.max_stale.as_ref(), diagnostics);
    let overlap = optional_duration(&at("overlap"), raw.overlap.as_ref(), diagnostics);
    let watch_lease = watch_lease(&at("watchLease"), raw.watch_lease.as_ref(), diagnostics);
    let engine = match raw.engine {
        None | Some(RawEngine::Detect) => KvEngine::Detect,
        Some(RawEngine::KvV1) => KvEngine::V1,
        Some(RawEngine::KvV2) => KvEngine::V2,
        Some(RawEngine::Other) => KvEngine::Other,
    };
    if raw.version.is_some() && matches!(engine, KvEngine::V1 | KvEngine::Other) {
        diagnostics.forbidden(&at("version"), "requires KV version 2; remove it or set `engine: kv-v2`");
    }
    let previous = raw.previous_suffix();
    if let Some(suffix) = &previous {
        if suffix.contains('/') || suffix.chars().any(char::is_control) || suffix.len() > MAX_SUFFIX {
            let message =
                format!("must be at most {MAX_SUFFIX} bytes without \"/\", like \"{}\"", defaults::PREVIOUS_SUFFIX);
            diagnostics.invalid(&at("previous.suffix"), suffix.as_str(), message);
        }
        if matches!(engine, KvEngine::V1 | KvEngine::Other) {
            diagnostics.forbidden(&at("previous"), "requires KV version 2; remove it or set `engine: kv-v2`");
        }
        if raw.version.is_some() {
            diagnostics.forbidden(
                &at("previous"),
                "cannot be combined with `version`; to read two fixed versions, use a source for each",
            );
        }
    }
    let method = match raw.method {
        None | Some(RawRequestMethod::Read) => RequestMethod::Read,
        Some(RawRequestMethod::Write) => RequestMethod::Write,
    };
    let parameters = parameters(&at("parameters"), raw.parameters.take().unwrap_or_default(), env, diagnostics);
    if raw.pki.is_some() || diagnostics.contains_below(&at("pki")) {
        let at = format!("sources.{name}");
        pki::conflicts(&at, &raw, &parameters, diagnostics);
        let (path, certificate) = pki::parse(&at, raw.pki?, env, diagnostics)?;
        let source = Source {
            path,
            list: None,
            wrapping_token_file: None,
            mount: None,
            engine: KvEngine::Other,
            version: None,
            previous: None,
            method: RequestMethod::Write,
            parameters,
            certificate: Some(certificate),
            refresh,
            max_stale,
            overlap,
            watch_lease,
            required: raw.required.unwrap_or(true),
        };
        return Some((source_name?, source));
    }
    let plain_read = method == RequestMethod::Read && parameters.is_empty();
    if !plain_read && list.is_none() && matches!(engine, KvEngine::V1 | KvEngine::V2) {
        diagnostics.forbidden(
            &at("engine"),
            "cannot be KV with `method: write` or `parameters`; remove `engine`, or remove these",
        );
    }
    if !plain_read && list.is_none() && raw.version.is_some() {
        diagnostics.forbidden(&at("version"), "cannot be combined with `method: write` or `parameters`; remove it");
    }
    if !plain_read && previous.is_some() {
        diagnostics.forbidden(&at("previous"), "cannot be combined with `method: write` or `parameters`; remove it");
    }
    let wrapping_token_file = raw.wrapping_token_file.take().map(PathBuf::from);
    // The engine of a write is detected, because a write to KV would replace the secret.
    let is_detected = plain_read || method == RequestMethod::Write;
    let engine = if is_detected && wrapping_token_file.is_none() { engine } else { KvEngine::Other };
    if raw.path.is_none() {
        diagnostics.required(&at("path"), "is missing; set it, or `pki` for a certificate");
    }
    // Slashes at either end are ignored, as in the Vault CLI.
    let path = raw.path?.trim().trim_matches('/').to_owned();
    let path = expand(&path, env).unwrap_or_else(|message| {
        diagnostics.invalid(&at("path"), path.as_str(), message);
        path
    });
    if !is_path(&path) || !(path.contains('/') || list.is_some()) {
        let message = match path.split_once(['?', '#']) {
            Some((_, query)) if query.starts_with("version=") => {
                "must be a path without a query; set `version` next to `path`, like `version: 1`"
            }
            Some(_) if path.contains('#') => {
                "must be a path without \"#\"; select one key of a secret with `outputs: [{source: ..., key: ...}]`"
            }
            _ if list.is_some() => {
                "must be a mount, or a mount and a path in it, like \"secret/webapp\", without \"..\", \"?\", or \"#\""
            }
            _ => "must be a mount and a path in it, like \"secret/webapp/config\", without \"..\", \"?\", or \"#\"",
        };
        diagnostics.invalid(&at("path"), path.as_str(), message);
    }
    let mount = raw.mount.map(|mount| mount.trim_matches('/').to_owned());
    if let Some(mount) = &mount
        && !path
            .strip_prefix(mount.as_str())
            .is_some_and(|rest| rest.starts_with('/') || rest.is_empty() && list.is_some())
    {
        diagnostics.invalid(&at("mount"), mount.as_str(), "must be a prefix of `path` that ends before a slash");
    }
    let source = Source {
        path,
        list,
        wrapping_token_file,
        mount,
        engine,
        version: raw.version,
        previous,
        method,
        parameters,
        certificate: None,
        refresh,
        max_stale,
        overlap,
        watch_lease,
        required: raw.required.unwrap_or(true),
    };
    Some((source_name?, source))
}

/// The interval of lookups at `at`; `None` without lookups.
pub(super) fn watch_lease(at: &str, raw: Option<&RawDuration>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let interval = optional_duration(at, raw, diagnostics)?;
    if interval < defaults::MIN_WATCH_LEASE {
        diagnostics.invalid(at, duration_as_text(interval), "must be at least 10s");
    }
    Some(interval)
}

fn parameters(
    at: &str,
    raw: BTreeMap<String, RawParameter>,
    env: &dyn Environment,
    diagnostics: &mut Diagnostics,
) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, value) in raw {
        match value.expand(env) {
            Ok(value) => _ = parameters.insert(name, value),
            Err(message) => diagnostics.invalid_hidden(&format!("{at}.{name}"), message),
        }
    }
    parameters
}
