//! `sources.<name>.previous`: `true` or a mapping.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

use super::defaults;

/// Whether and how to read the previous version, as the user writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawPrevious {
    Switch(bool),
    Section(RawSection),
}

/// How to read the previous version.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSection {
    /// Suffix of the keys of the previous version. Must not contain `/`.
    #[schemars(extend("default" = defaults::PREVIOUS_SUFFIX))]
    pub(super) suffix: Option<String>,
}

impl RawPrevious {
    /// The suffix; `None` if the previous version is not read.
    pub(super) fn suffix(&self) -> Option<&str> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) | Self::Section(RawSection { suffix: None }) => Some(defaults::PREVIOUS_SUFFIX),
            Self::Section(RawSection { suffix: Some(suffix) }) => Some(suffix),
        }
    }
}

impl JsonSchema for RawPrevious {
    fn schema_name() -> Cow<'static, str> {
        "Previous".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// One schema without `anyOf`.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawSection::json_schema(generator);
        schema.insert("type".into(), json!(["boolean", "object"]));
        schema
    }
}
