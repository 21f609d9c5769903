//! `refreshNow`, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;

/// Ways to make keyferry read all sources now.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRefreshNow {
    /// File with the annotations of the pod, from a downward API volume with `fieldPath: metadata.annotations`. A new value of the annotation `keyferry.dev/refresh` makes keyferry read all sources now. A new value of `keyferry.dev/refresh-leases` also replaces leases, certificates, and tokens. Default: annotations have no effect.
    #[schemars(extend("examples" = ["/etc/keyferry/pod/annotations"]))]
    pub(super) annotations_file: Option<String>,
    /// File with a token of at least 16 characters for `POST /refresh` at the address in `listen`. Read for each request. Default: no such endpoint.
    #[schemars(extend("examples" = ["/etc/keyferry/refresh/token"]))]
    pub(super) token_file: Option<String>,
}
