//! `sources.<name>.previous`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;

/// How to read the previous version, as the user writes it.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawPrevious {
    /// Suffix of the keys of the previous version. Must not contain `/`.
    #[schemars(extend("default" = defaults::PREVIOUS_SUFFIX))]
    pub(super) suffix: Option<String>,
}

impl RawPrevious {
    pub(super) fn suffix(&self) -> String {
        self.suffix.clone().unwrap_or_else(|| defaults::PREVIOUS_SUFFIX.to_owned())
    }
}
