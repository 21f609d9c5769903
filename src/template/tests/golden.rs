//! Templates with the content that consul-template 0.41.1 renders for them. They are in files with lines of JSON:
//!
//! - `template`: with `missingKey: default`.
//! - `response`: what `secret "t"` returns; without it, the one in the first line of the file.
//! - `output`, or `base64` for bytes that are not UTF-8. Without either, consul-template refuses the template.
//!
//! The cases are from generators, and the content from the program in `tests/testbed/go/consul-template`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::offline;
use crate::model::MissingKey;

#[derive(serde::Deserialize)]
struct Case {
    template: String,
    response: Option<Box<RawValue>>,
    output: Option<String>,
    base64: Option<String>,
}

/// Fails with all cases of a file that differ.
fn check(lines: &str) {
    let (first, lines) = lines.split_once('\n').expect("a first line");
    let default: Box<RawValue> = serde_json::from_str(first).expect("JSON");
    let mut different = Vec::new();
    for line in lines.lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let response = case.response.unwrap_or_else(|| default.clone());
        let responses = BTreeMap::from([("t".to_owned(), response)]);
        let found = offline(&case.template, MissingKey::Default, &responses);
        let bytes = case.base64.map(|base64| STANDARD.decode(base64).expect("base64"));
        let wanted = case.output.map(String::into_bytes).or(bytes);
        if found.as_ref().ok() != wanted.as_ref() {
            let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            different.push(format!("{line}\n  Go:   {:?}\n  here: {:?}\n", wanted.map(shown), found.map(shown)));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.concat());
}

#[test]
fn functions_return_what_they_return_in_go() {
    check(include_str!("golden/functions.jsonl"));
}

#[test]
fn functions_that_change_a_map_change_its_variable() {
    check(include_str!("golden/mutation.jsonl"));
}

#[test]
fn yaml_is_read_as_in_go() {
    check(include_str!("golden/parse_yaml.jsonl"));
}

#[test]
fn yaml_is_written_as_in_go() {
    check(include_str!("golden/to_yaml.jsonl"));
}

#[test]
fn toml_is_written_as_in_go() {
    check(include_str!("golden/to_toml.jsonl"));
}

/// A value that is too deep would end the process when it is dropped.
#[test]
fn nesting_of_values_has_a_limit() {
    let none = BTreeMap::new();
    for text in [
        r#"{{ $x := "a" }}{{ range loop 20000 }}{{ $x = sprig_list $x }}{{ end }}"#,
        r#"{{ $x := sprig_dict }}{{ range loop 20000 }}{{ $x = sprig_dict "a" $x }}{{ end }}"#,
        r"{{ $x := sprig_list 1 }}{{ range loop 200 }}{{ $x = sprig_list $x $x }}{{ end }}",
        r#"{{ range loop 20000 }}{{ scratch.MapSet "m" "k" (scratch.Get "m") }}{{ end }}"#,
    ] {
        let error = offline(text, MissingKey::Default, &none).expect_err("an error");
        assert!(error.contains("more than 256 levels"), "{error}");
    }
}
