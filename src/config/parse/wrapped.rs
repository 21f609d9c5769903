//! `sources.<name>.wrappingTokenFile`

use super::super::diagnostics::Diagnostics;
use super::super::raw::RawSource;

/// Reports keys of the source that cannot be combined with a wrapped secret. `at` is the key path of the source.
pub(super) fn contradictions(at: &str, raw: &RawSource, diagnostics: &mut Diagnostics) {
    if raw.wrapping_token_file.is_none() {
        return;
    }
    let has_parameters = raw.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    for (key, is_set) in [
        ("list", raw.list().is_some()),
        ("pki", raw.pki.is_some()),
        ("mount", raw.mount.is_some()),
        ("engine", raw.engine.is_some()),
        ("version", raw.version.is_some()),
        ("previous", raw.previous_suffix().is_some()),
        ("method", raw.method.is_some()),
        ("parameters", has_parameters),
        ("overlap", raw.overlap.is_some()),
        ("watchLease", raw.watch_lease.is_some()),
    ] {
        if is_set {
            let message =
                "cannot be combined with `wrappingTokenFile`: the secret was read when it was wrapped; remove it";
            diagnostics.forbidden(&format!("{at}.{key}"), message);
        }
    }
}
