//! `values.yaml` is the only source of the chart's options: its comments become the chart's reference, and its values and
//! the hints in the comments (`@schema`, `@agent`) become its schema.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// A key of `values.yaml`.
pub struct Entry {
    /// Path of the key, for example `vault.ca.key`.
    pub path: String,
    /// The comment above the key, as one line.
    pub meaning: String,
    /// Schema of the key, beyond the type of the default.
    hint: Value,
    default: Value,
    /// Whether the value is a map whose keys are entries too.
    section: bool,
}

/// All keys, in the order of the file.
///
/// # Panics
/// If the file is not in the expected form: block maps, a comment above each key, a hint on one line.
pub fn entries(text: &str) -> Vec<Entry> {
    let all: Value = serde_saphyr::from_str(text).expect("values.yaml is YAML");
    let mut entries = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let (mut meaning, mut hint) = (String::new(), json!({}));
    // Lines with a deeper indent belong to the value of the last entry.
    let mut leaf: Option<usize> = None;
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() {
            // A comment before an empty line does not belong to a key.
            (meaning, hint) = (String::new(), json!({}));
            continue;
        }
        if leaf.is_some_and(|leaf| indent > leaf) {
            continue;
        }
        if let Some(comment) = content.strip_prefix('#') {
            match comment.trim().strip_prefix("@schema ") {
                Some(text) => hint = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in: {text}")),
                None => meaning = [meaning.as_str(), comment.trim()].join(" ").trim().into(),
            }
            continue;
        }
        let (key, _) = content.split_once(':').unwrap_or_else(|| panic!("no key in values.yaml: {line}"));
        above.retain(|(other, _)| *other < indent);
        above.push((indent, key.to_owned()));
        let keys: Vec<&str> = above.iter().map(|(_, key)| key.as_str()).collect();
        let default = all.pointer(&format!("/{}", keys.join("/"))).expect("a key of the same file").clone();
        let section = default.as_object().is_some_and(|map| !map.is_empty()) && hint.get("properties").is_none();
        leaf = (!section).then_some(indent);
        let (meaning, hint) = (std::mem::take(&mut meaning), std::mem::replace(&mut hint, json!({})));
        entries.push(Entry { path: keys.join("."), meaning, hint, default, section });
    }
    entries
}

/// The JSON Schema of the values, without additional properties. `@agent` refers to a part of the schema of keyferry's
/// configuration file.
pub fn schema(entries: &[Entry], agent: &Value) -> Value {
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "keyferry",
        "type": "object",
        // Helm passes the global values of a chart to its subcharts.
        "properties": {"global": {"type": "object", "description": "Helm's global values; not used."}},
        "additionalProperties": false,
    });
    for entry in entries {
        let mut node = &mut root;
        let (parents, key) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            node = &mut node["properties"][parent];
        }
        node["properties"][key] = if entry.section {
            json!({"description": entry.meaning, "type": "object", "properties": {}, "additionalProperties": false})
        } else {
            leaf(entry, agent)
        };
    }
    root
}

fn leaf(entry: &Entry, agent: &Value) -> Value {
    let mut node = json!({"description": entry.meaning});
    if let Some(kind) = kind(&entry.default) {
        node["type"] = json!(kind);
    }
    overlay(&mut node, resolved(&entry.hint, agent));
    node["description"] = json!(entry.meaning);
    node["default"] = entry.default.clone();
    node
}

const fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("integer"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
    }
}

/// The hint, with references to the agent's schema resolved.
fn resolved(hint: &Value, agent: &Value) -> Value {
    match hint {
        Value::Object(map) => {
            let mut node = json!({});
            if let Some(pointer) = map.get("@agent").and_then(Value::as_str) {
                node = agent.pointer(pointer).unwrap_or_else(|| panic!("the agent has no {pointer}")).clone();
                for key in ["$schema", "title"] {
                    node.as_object_mut().expect("a schema").remove(key);
                }
            }
            if map.contains_key("@partial") {
                optional(&mut node);
            }
            let rest: Map<String, Value> = map
                .iter()
                .filter(|(key, _)| !key.starts_with('@'))
                .map(|(key, value)| (key.clone(), resolved(value, agent)))
                .collect();
            overlay(&mut node, Value::Object(rest));
            node
        }
        Value::Array(all) => all.iter().map(|one| resolved(one, agent)).collect(),
        other => other.clone(),
    }
}

/// Removes `required`: the field can be set elsewhere in the values, and the agent checks the complete configuration.
fn optional(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("required").is_some_and(Value::is_array) {
                map.remove("required");
            }
            map.values_mut().for_each(optional);
        }
        Value::Array(all) => all.iter_mut().for_each(optional),
        _ => {}
    }
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// The table of the chart's README.
pub fn table(entries: &[Entry], schema: &Value) -> String {
    let mut text = String::from("| Value | Type | Default | Meaning |\n| --- | --- | --- | --- |\n");
    for entry in entries {
        let node = schema
            .pointer(&format!("/properties/{}", entry.path.replace('.', "/properties/")))
            .expect("each entry is in the schema");
        let kind = match (&node["enum"], &node["type"]) {
            (Value::Array(choices), _) => {
                choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")
            }
            (_, Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            (_, kind) if entry.section => kind.as_str().map(|_| "section".to_owned()).unwrap_or_default(),
            (_, kind) => kind.as_str().unwrap_or_default().to_owned(),
        };
        let default =
            if entry.section || entry.default == json!("") { String::new() } else { format!("`{}`", entry.default) };
        let _ = writeln!(text, "| `{}` | {kind} | {default} | {} |", entry.path, entry.meaning);
    }
    text
}
