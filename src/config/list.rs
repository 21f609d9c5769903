//! `sources.<name>.list`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;

/// Settings of a list, as the user writes them.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawList {
    /// Also read the secrets in folders, at any depth.
    #[schemars(extend("default" = false))]
    pub(super) recursive: Option<bool>,
    /// Read only secrets whose path below `path` matches one of these patterns. `*` and `?` match within a name, `**` matches any number of folders. Default: all secrets.
    #[schemars(extend("examples" = [["web-*", "shared/**"]]))]
    pub(super) include: Option<Vec<String>>,
    /// Do not read secrets whose path below `path` matches one of these patterns.
    #[schemars(extend("examples" = [["**/draft"]]))]
    pub(super) exclude: Option<Vec<String>>,
    /// Maximum number of secrets. A longer list is an error.
    #[schemars(range(min = 1, max = defaults::LIST_COUNT_LIMIT), extend("default" = defaults::LIST_COUNT))]
    pub(super) max_count: Option<u32>,
    /// Maximum number of levels below `path`. Secrets in `path` itself are at level 1. Deeper secrets are an error. Requires `recursive`.
    #[schemars(range(min = 1, max = defaults::LIST_DEPTH_LIMIT), extend("default" = defaults::LIST_DEPTH))]
    pub(super) max_depth: Option<u32>,
}
