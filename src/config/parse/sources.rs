//! `sources`

use std::collections::BTreeMap;

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::raw::{RawEngine, RawSource};
use super::auth::is_path;
use super::duration;
use crate::model::{KvEngine, Source, SourceName};

pub(super) fn parse(raw: BTreeMap<String, RawSource>, diagnostics: &mut Diagnostics) -> BTreeMap<SourceName, Source> {
    if raw.is_empty() {
        diagnostics.required("sources", "is missing; name at least one secret to read here or in KEYFERRY_SECRETS");
    }
    raw.into_iter().filter_map(|(name, raw)| source(&name, raw, diagnostics)).collect()
}

fn source(name: &str, raw: RawSource, diagnostics: &mut Diagnostics) -> Option<(SourceName, Source)> {
    let at = |key: &str| format!("sources.{name}.{key}");
    let source_name =
        SourceName::new(name).map_err(|error| diagnostics.hidden(&format!("sources.{name}"), error.to_string())).ok();
    let refresh = duration(&at("refresh"), raw.refresh.as_ref(), defaults::REFRESH, diagnostics);
    if refresh < defaults::MIN_REFRESH {
        diagnostics.hidden(&at("refresh"), "must be at least 1s");
    }
    let default_stale = defaults::MAX_STALE.max(refresh.saturating_mul(defaults::MAX_STALE_REFRESHES));
    let max_stale = duration(&at("maxStale"), raw.max_stale.as_ref(), default_stale, diagnostics);
    if max_stale < refresh {
        diagnostics.hidden(
            &at("maxStale"),
            "must not be less than `refresh`, or the files would be stale before the next read",
        );
    }
    let engine = match raw.engine {
        None | Some(RawEngine::Detect) => KvEngine::Detect,
        Some(RawEngine::KvV1) => KvEngine::V1,
        Some(RawEngine::KvV2) => KvEngine::V2,
        Some(RawEngine::Other) => KvEngine::Other,
    };
    if raw.version.is_some() && matches!(engine, KvEngine::V1 | KvEngine::Other) {
        diagnostics.hidden(&at("version"), "only KV version 2 has versions; leave it out or set `engine: kv-v2`");
    }
    // A missing path is told by the schema. A slash at either end is nothing, as for the Vault CLI.
    let path = raw.path?.trim().trim_matches('/').to_owned();
    if !is_path(&path) || !path.contains('/') {
        let message = match path.split_once(['?', '#']) {
            Some((_, query)) if query.starts_with("version=") => {
                "must be a path without a query; write `version: 1` beside `path`"
            }
            Some(_) if path.contains('#') => {
                "must be a path without \"#\"; one key of a secret is chosen by `outputs: [{source: ..., key: ...}]`"
            }
            _ => "must be a mount and a path in it, like \"secret/webapp/config\", without \"..\", \"?\" or \"#\"",
        };
        diagnostics.invalid(&at("path"), path.as_str(), message);
    }
    let mount = raw.mount.map(|mount| mount.trim_matches('/').to_owned());
    if let Some(mount) = &mount
        && !path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'))
    {
        diagnostics.invalid(&at("mount"), mount.as_str(), "must be the beginning of `path`, up to a slash");
    }
    let source = Source {
        path,
        mount,
        engine,
        version: raw.version,
        refresh,
        max_stale,
        required: raw.required.unwrap_or(true),
    };
    Some((source_name?, source))
}
