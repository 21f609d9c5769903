//! `sources.<name>.list`: `true` or a mapping.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

use super::defaults;

/// A list as the user writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawList {
    /// `true` is a list with all defaults, `false` is no list.
    Switch(bool),
    /// A list.
    Section(RawListSection),
}

impl RawList {
    /// `None` if it is no list.
    pub(super) fn section(&self) -> Option<Cow<'_, RawListSection>> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) => Some(Cow::Owned(RawListSection::default())),
            Self::Section(section) => Some(Cow::Borrowed(section)),
        }
    }
}

/// Settings of a list.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawListSection {
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

impl JsonSchema for RawList {
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// One schema without `anyOf`: the keywords for objects do not apply to a boolean.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawListSection::json_schema(generator);
        schema.insert("type".into(), json!(["boolean", "object"]));
        schema
    }
}
