//! The JSON Schema and the reference of the configuration, generated from the types. Only tests do it: they keep
//! `docs/config.schema.json`, which is part of the binary, and `docs/config.md` current.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::raw::RawDocument;
use super::schema::choices;
use super::variables::VARIABLES;

/// Generates the schema from the types.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RawDocument>().to_value();
    tidy(&mut schema, true);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "keyferry".into());
    }
    schema
}

/// Removes `null` from types, because a `null` in YAML counts as unset. Forbids empty text, except as a value in maps
/// that users fill freely, such as labels.
fn tidy(schema: &mut Value, forbid_empty: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
    // The Rust type of a number, such as `uint32`.
    object.remove("format");
    if forbid_empty && object.get("type") == Some(&json!("string")) && !object.contains_key("oneOf") {
        object.insert("minLength".into(), json!(1));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(|property| tidy(property, true));
    }
    for (key, forbid_empty) in [("items", true), ("additionalProperties", false)] {
        if let Some(inner) = object.get_mut(key) {
            tidy(inner, forbid_empty);
        }
    }
}

/// One row of the reference table.
struct Row {
    path: String,
    kind: String,
    default: String,
    meaning: String,
}

/// The tables of `docs/config.md` in Markdown: every configuration key and every environment variable.
pub(super) fn reference() -> String {
    let mut rows = Vec::new();
    collect(&schema(), "", &mut rows);
    let mut text =
        String::from("### Configuration keys\n\n| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
    for Row { path, kind, default, meaning } in rows {
        let _ = writeln!(text, "| `{path}` | {kind} | {default} | {meaning} |");
    }
    text.push_str("\n### Environment variables\n\n| Variable | Fills | Meaning |\n| --- | --- | --- |\n");
    for variable in VARIABLES {
        let fills = if variable.fills.is_empty() { String::new() } else { format!("`{}`", variable.fills) };
        let _ = writeln!(text, "| `{}` | {fills} | {} |", variable.name, variable.meaning);
    }
    text
}

fn collect(schema: &Value, path: &str, rows: &mut Vec<Row>) {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match property.get("default") {
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
            None if required.contains(&&json!(name)) => "(required)".to_owned(),
            None => String::new(),
        };
        let meaning = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        rows.push(Row { path: path.clone(), kind: kind(property), default, meaning });
        collect(property, &path, rows);
        if let Some(items) = property.get("items") {
            collect(items, &format!("{path}[]"), rows);
        }
        if let Some(values) = property.get("additionalProperties") {
            collect(values, &format!("{path}.<name>"), rows);
        }
    }
}

fn kind(property: &Value) -> String {
    if let Some(choices) = choices(property) {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    let of = |key: &str| property.get(key).map(kind).unwrap_or_default();
    match property.get("type") {
        Some(Value::Array(types)) if property.get("properties").is_some() => {
            let other = if types.contains(&json!("boolean")) { "boolean" } else { "`serviceAccount`" };
            format!("{other} or section")
        }
        Some(Value::Array(_)) if property.to_string().contains("(d|h|m|s|ms)") => "duration".to_owned(),
        Some(Value::Array(_)) if property.get("items").is_some() => "value or list".to_owned(),
        Some(Value::Array(types)) if types.contains(&json!("boolean")) => "value".to_owned(),
        Some(Value::Array(_)) => "size".to_owned(),
        Some(Value::String(name)) => match name.as_str() {
            "array" => format!("list of {}", of("items")),
            "object" if property.get("additionalProperties").is_some_and(Value::is_object) => {
                format!("map of {}", of("additionalProperties"))
            }
            "object" => "section".to_owned(),
            "string" => "text".to_owned(),
            other => other.to_owned(),
        },
        _ => String::new(),
    }
}
