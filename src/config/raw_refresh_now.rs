//! `refreshNow`, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;

/// Ways to request a refresh: keyferry reads all sources whose read issues nothing in Vault.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRefreshNow {
    /// File with the annotations of the pod, from a downward API volume with `fieldPath: metadata.annotations`. A new value of the annotation `keyferry.dev/refresh` requests a refresh: keyferry reads all sources whose read issues nothing in Vault. A new value of `keyferry.dev/refresh-leases` also replaces leases, certificates, and tokens. Default: annotations have no effect.
    #[schemars(extend("examples" = ["/etc/keyferry/pod/annotations"]))]
    pub(super) annotations_file: Option<String>,
    /// File with a token of at least 16 characters for `POST /refresh` at the address in `listen`. keyferry reads the file for each request. Default: no such endpoint.
    #[schemars(extend("examples" = ["/etc/keyferry/refresh/token"]))]
    pub(super) token_file: Option<String>,
}
