//! `tokenFile`, as the user writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;
use super::quantity::{RawDuration, duration_as_text};

/// A file with a Vault token for the application.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["policies"]}, {"required": ["role"]}]))]
pub(super) struct RawTokenFile {
    /// Path of the file in the output directory.
    #[schemars(extend("default" = defaults::TOKEN_FILE))]
    pub(super) path: Option<String>,
    /// Policies of the token. Without `role`, keyferry's own token must have them too. Required without `role`. Default with `role`: the policies that the token role allows.
    #[schemars(length(min = 1), extend("examples" = [["webapp-transit"]]))]
    pub(super) policies: Option<Vec<String>>,
    /// Token role with which to create the token, at `auth/token/create/<role>`. Default: no role.
    pub(super) role: Option<String>,
    /// Requested TTL. keyferry renews the token, and replaces it before its maximum TTL ends. Minimum: 10s.
    #[schemars(extend("default" = duration_as_text(defaults::TOKEN_TTL)))]
    pub(super) ttl: Option<RawDuration>,
    /// How long a replaced token stays valid after its successor is visible. Then keyferry revokes it. Default: a tenth of the TTL, and at least 30s. Limited to half of the TTL.
    #[schemars(extend("examples" = ["5m"]))]
    pub(super) overlap: Option<RawDuration>,
    /// Interval at which keyferry looks up the token, to notice that an operator revoked it. Minimum: 10s. Default: no lookups; a revoked token is noticed at its next renewal.
    #[schemars(extend("examples" = ["5m"]))]
    pub(super) watch_lease: Option<RawDuration>,
    /// Permission bits in octal, in quotes. Default: `directory.fileMode`.
    #[schemars(regex(pattern = "^(0o?)?[4-7][0-7]{2}$"), extend("examples" = ["0400"]))]
    pub(super) mode: Option<String>,
    /// Whether the first set of files, and with it the readiness of the pod, requires the token.
    #[schemars(extend("default" = true))]
    pub(super) required: Option<bool>,
}
