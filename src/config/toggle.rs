//! Features that are a boolean or a section: `true` enables the feature with all defaults.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

/// A feature as the user writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Toggle<S> {
    Switch(bool),
    Section(S),
}

impl<S: Clone + Default> Toggle<S> {
    /// The settings of the feature; `None` if it is disabled.
    pub(super) fn section(&self) -> Option<Cow<'_, S>> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) => Some(Cow::Owned(S::default())),
            Self::Section(section) => Some(Cow::Borrowed(section)),
        }
    }
}

impl<S: JsonSchema> JsonSchema for Toggle<S> {
    fn schema_name() -> Cow<'static, str> {
        S::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    /// One schema without `anyOf`: the keywords for objects do not apply to a boolean.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = S::json_schema(generator);
        schema.insert("type".into(), json!(["boolean", "object"]));
        schema
    }
}
