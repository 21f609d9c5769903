//! `sources.<name>.list`

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::list::RawList;
use super::super::raw::{RawEngine, RawRequestMethod, RawSource};
use crate::model::{Glob, SecretList};

/// Parses the list of `raw`; `None` if it is not configured. `at` is the key path of the source.
pub(super) fn parse(at: &str, raw: &RawSource, diagnostics: &mut Diagnostics) -> Option<SecretList> {
    let list = raw.list()?;
    contradictions(at, raw, diagnostics);
    let at = format!("{at}.list");
    let recursive = list.recursive.unwrap_or(false);
    if !recursive && list.max_depth.is_some() {
        diagnostics.forbidden(&format!("{at}.maxDepth"), "requires `recursive: true`; set it, or remove `maxDepth`");
    }
    let RawList { include, exclude, max_count, max_depth, .. } = list.as_ref();
    let number = |number: Option<u32>, default| usize::try_from(number.unwrap_or(default)).unwrap_or(usize::MAX);
    Some(SecretList {
        recursive,
        include: globs(&format!("{at}.include"), include.as_deref(), recursive, diagnostics),
        exclude: globs(&format!("{at}.exclude"), exclude.as_deref(), recursive, diagnostics),
        max_count: number(*max_count, defaults::LIST_COUNT),
        max_depth: number(*max_depth, defaults::LIST_DEPTH),
    })
}

/// Reports keys of the source that cannot be combined with a list.
fn contradictions(at: &str, raw: &RawSource, diagnostics: &mut Diagnostics) {
    for (key, is_set, message) in [
        (
            "version",
            raw.version.is_some(),
            "cannot be combined with `list`, which reads the latest versions; remove one of them",
        ),
        ("previous", raw.previous_suffix().is_some(), "cannot be combined with `list`; remove one of them"),
        (
            "method",
            matches!(raw.method, Some(RawRequestMethod::Write)),
            "cannot be `write` with `list`; remove one of them",
        ),
        (
            "parameters",
            raw.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()),
            "cannot be combined with `list`; remove one of them",
        ),
        (
            "engine",
            matches!(raw.engine, Some(RawEngine::Other)),
            "cannot be `other` with `list`, which reads secrets of KV engines; remove one of them",
        ),
        ("overlap", raw.overlap.is_some(), "has no effect with `list`, whose secrets have no lease; remove it"),
        ("watchLease", raw.watch_lease.is_some(), "has no effect with `list`, whose secrets have no lease; remove it"),
    ] {
        if is_set {
            diagnostics.forbidden(&format!("{at}.{key}"), message);
        }
    }
}

fn globs(at: &str, raw: Option<&[String]>, recursive: bool, diagnostics: &mut Diagnostics) -> Vec<Glob> {
    let mut globs = Vec::new();
    for (index, text) in raw.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}[{index}]");
        match Glob::new(text) {
            Ok(_) if text.starts_with('/') || text.ends_with('/') => {
                diagnostics.invalid(
                    &at,
                    text.as_str(),
                    "must match a path below `path`, without a slash at either end",
                );
            }
            Ok(_) if !recursive && text.trim_start_matches("**/").contains('/') => {
                diagnostics.invalid(
                    &at,
                    text.as_str(),
                    "can only match secrets in folders, which requires `recursive: true`",
                );
            }
            Ok(glob) => globs.push(glob),
            Err(error) => diagnostics.invalid(&at, text.as_str(), error.to_string()),
        }
    }
    globs
}
