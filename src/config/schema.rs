//! The JSON Schema of the configuration file.

use serde_json::Value;

/// JSON Schema (draft 2020-12) of the configuration file: closed objects, defaults, examples. Without `$ref`, so that every
/// editor understands it. Generated from the types by `generate.rs`; a test keeps it current.
pub const SCHEMA: &str = include_str!("../../docs/config.schema.json");

/// [`SCHEMA`], parsed. Every start needs it, and parsing the text is quicker than generating it from the types.
#[must_use]
pub fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap_or_else(|error| unreachable!("a test parses the embedded schema: {error}"))
}

/// The allowed values of an enumeration.
pub(super) fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(Value::Array(values)) = schema.get("enum") {
        return Some(values.iter().filter_map(Value::as_str).collect());
    }
    let Some(Value::Array(variants)) = schema.get("oneOf") else { return None };
    Some(variants.iter().filter_map(|variant| variant.get("const").and_then(Value::as_str)).collect())
}
