//! The committed schema and reference are generated from the same types that parse the configuration.

use std::path::Path;

use serde_json::{Value, json};

use super::super::environment::{Environment, ProcessEnvironment};
use super::super::generate::{reference, schema};
use super::loaded;

const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->";

fn written(file: &str) -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

fn assert_current(file: &str, current: &str) {
    let (path, text) = written(file);
    if ProcessEnvironment.get("UPDATE_DOCS").is_some() {
        std::fs::write(&path, current).expect("docs can be written");
    } else {
        assert!(text == current, "docs/{file} is not current; run: UPDATE_DOCS=1 cargo test config::tests::docs");
    }
}

#[test]
fn committed_schema_is_current() {
    // The same bytes as `keyferry schema > docs/config.schema.json`.
    assert_current("config.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn committed_reference_is_current() {
    let (_, text) = written("config.md");
    let (before, rest) = text.split_once(BEGIN).expect("docs/config.md has the begin mark");
    let (_, after) = rest.split_once(END).expect("docs/config.md has the end mark");
    assert_current("config.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", reference()));
}

#[test]
fn examples_in_the_configuration_page_load() {
    let (_, text) = written("config.md");
    let blocks: Vec<_> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let environment = [
            ("VAULT_ADDR", "https://v"),
            ("KEYFERRY_ROLE", "r"),
            ("KEYFERRY_SECRETS", "secret/a"),
            ("POD_NAME", "web-0"),
        ];
        loaded(&environment, Some(block));
    }
}

#[test]
fn schema_objects_are_closed_and_keys_have_descriptions() {
    fn walk(schema: &Value, path: &str) {
        let Some(object) = schema.as_object() else { return };
        assert!(!object.contains_key("$ref"), "{path}");
        if object.get("type") == Some(&json!("object")) {
            assert!(object.contains_key("additionalProperties"), "{path} is open");
        }
        for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            assert!(property.get("description").is_some(), "{path}.{name} has no description");
            walk(property, &format!("{path}.{name}"));
        }
        for key in ["items", "additionalProperties"] {
            object.get(key).into_iter().for_each(|inner| walk(inner, path));
        }
    }
    walk(&schema(), "");
}

#[test]
fn schema_defaults_match_effective_defaults() {
    /// A configuration with every default of the schema written out.
    fn defaults(schema: &Value) -> Value {
        let mut document = json!({});
        for (name, property) in schema["properties"].as_object().expect("an object") {
            if let Some(default) = property.get("default") {
                document[name] = default.clone();
            } else if property.get("properties").is_some() {
                document[name] = defaults(property);
            }
        }
        document
    }
    let schema = schema();
    let mut written = defaults(&schema);
    written["vault"]["address"] = json!("https://v");
    written["auth"] = json!({"role": "r"});
    written["sources"]["a"] = defaults(&schema["properties"]["sources"]["additionalProperties"]);
    written["sources"]["a"]["path"] = json!("secret/a");
    if let Some(source) = written["sources"]["a"].as_object_mut() {
        // Excludes `path`, and has no defaults.
        source.remove("pki");
        source.remove("list");
    }
    let mut output = defaults(&schema["properties"]["outputs"]["items"]);
    output["source"] = json!("a");
    if let Some(output) = output.as_object_mut() {
        // Requires `format: pkcs12`, and has no defaults.
        output.remove("password");
    }
    written["outputs"] = json!([output]);
    written["mirrors"]["m"] = defaults(&schema["properties"]["mirrors"]["additionalProperties"]);
    if let Some(owner) = written["mirrors"]["m"].as_object_mut() {
        owner.remove("owner");
    }
    written["seed"]["directory"] = json!("/seed");
    written["tokenFile"]["role"] = json!("webapp");
    // A seed has no token.
    written["tokenFile"]["required"] = json!(false);
    let short = "{vault: {address: 'https://v'}, auth: {role: r}, sources: {a: {path: secret/a}}, mirrors: {m: {}}, \
                 seed: {directory: /seed}, tokenFile: {role: webapp, required: false}}";
    assert!(loaded(&[], Some(&written.to_string())) == loaded(&[], Some(short)), "{written:#}");
}
