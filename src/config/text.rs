//! Text that YAML can read as a number or a boolean.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A text as the user writes it, with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawText {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

impl JsonSchema for RawText {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer", "boolean"]})
    }
}

impl From<RawText> for String {
    fn from(raw: RawText) -> Self {
        match raw {
            RawText::Boolean(flag) => flag.to_string(),
            RawText::Integer(number) => number.to_string(),
            RawText::Text(text) => text,
        }
    }
}
