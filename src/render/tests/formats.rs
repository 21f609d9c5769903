//! Formats: whatever text goes in comes out of a real parser.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::format;
use super::super::selection::selected;
use super::data;
use crate::model::{FileFormat, KeySelection, SecretBytes, SecretValue};

/// All keys of `data` in one format, or the reason why not.
fn attempt(format: FileFormat, data: &BTreeMap<String, SecretValue>) -> Result<SecretBytes, String> {
    let keys = KeySelection::default();
    let selected = selected(data, &keys).map_err(|collision| collision.to_string())?;
    format::whole(format, &super::source("db"), &selected).map_err(|error| error.to_string())
}

fn whole(format: FileFormat, data: &BTreeMap<String, SecretValue>) -> String {
    let bytes = attempt(format, data).expect("renders");
    bytes.expose_str().expect("text").to_owned()
}

#[test]
fn dotenv_rejects_invalid_names_and_nul() {
    for key in ["", "1a", "a-b", "a.b", "ü", "a b", "a=b"] {
        assert!(attempt(FileFormat::Dotenv, &data(&[(key, "x")])).is_err(), "{key:?}");
    }
    let error = attempt(FileFormat::Dotenv, &data(&[("key", "pl\0anted")])).err().expect("NUL");
    assert!(error.contains("\"key\"") && !error.contains("anted"), "{error}");
    assert_eq!(whole(FileFormat::Dotenv, &data(&[("A", "it's $x"), ("b_2", "")])), "A='it'\\''s $x'\nb_2=''\n");
}

#[test]
fn formats_keep_non_string_values() {
    let mut data = data(&[("b", "x")]);
    data.insert("a".into(), SecretValue::Json(r#"{"n":1.50,"l":[true,null,"a:b\/\ud83d\ude00"]}"#.into()));
    assert_eq!(
        whole(FileFormat::Json, &data),
        "{\"a\":{\"n\":1.50,\"l\":[true,null,\"a:b\\/\\ud83d\\ude00\"]},\"b\":\"x\"}\n"
    );
    assert_eq!(
        whole(FileFormat::Yaml, &data),
        "\"a\": {\"n\": 1.50,\"l\": [true,null,\"a:b/\\U0001F600\"]}\n\"b\": \"x\"\n"
    );
    let read: serde_json::Value = serde_saphyr::from_str(&whole(FileFormat::Yaml, &data)).expect("YAML");
    assert_eq!(read, serde_json::json!({"a": {"n": 1.5, "l": [true, null, "a:b/😀"]}, "b": "x"}));
}

#[test]
fn yaml_strings_stay_strings() {
    let texts = [
        "1",
        "1.5",
        "0x1F",
        "010",
        "1_000",
        "yes",
        "no",
        "on",
        "true",
        "null",
        "~",
        "",
        " a ",
        "- x",
        "a: b",
        "#",
        "<<",
        "2026-01-01",
        "1:30",
        "!!int 3",
        "&a",
        "*a",
        "---",
        "\u{85}\u{2028}\u{feff}",
        "\r\n",
        "😀",
    ];
    let keys: Vec<String> = texts.iter().map(|text| format!("k{text}")).collect();
    let data = data(&keys.iter().map(String::as_str).zip(texts).collect::<Vec<_>>());
    let read: BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(&whole(FileFormat::Yaml, &data)).expect("YAML");
    for (key, text) in keys.iter().zip(texts) {
        assert_eq!(read[key], serde_json::Value::from(text));
    }
    assert_eq!(whole(FileFormat::Yaml, &BTreeMap::new()), "{}\n");
    let long = "k".repeat(2000);
    let read: BTreeMap<String, String> =
        serde_saphyr::from_str(&whole(FileFormat::Yaml, &super::data(&[(&long, "v")]))).expect("YAML");
    assert_eq!(read[&long], "v");
}

#[test]
fn properties_escape_like_java() {
    let data = data(&[("a b:c", "  x y "), ("k", "ü=😀\\\n")]);
    assert_eq!(whole(FileFormat::Properties, &data), "a\\ b\\:c=\\ \\ x y \nk=\\u00FC\\=\\uD83D\\uDE00\\\\\\n\n");
}

/// Texts with more of what hurts than chance gives.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ -~]{0,6}",
        prop::sample::select(vec![
            "'", "\"", "\\", "$x", "`", "\n", "\r\n", "\t", " ", "!", "#", "=", ":", "\u{85}", "\u{2028}", "\u{feff}",
            "ü", "😀"
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

fn secrets() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(texts(), texts(), 0..5)
}

fn as_data(secret: &BTreeMap<String, String>) -> BTreeMap<String, SecretValue> {
    secret.iter().map(|(key, text)| (key.clone(), SecretValue::Text(text.as_str().into()))).collect()
}

proptest! {
    #[test]
    fn json_round_trips(secret in secrets()) {
        let text = whole(FileFormat::Json, &as_data(&secret));
        prop_assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&text).expect("JSON"), secret);
    }

    #[test]
    fn yaml_round_trips(secret in secrets()) {
        let text = whole(FileFormat::Yaml, &as_data(&secret));
        let options = serde_saphyr::options! { merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary };
        let read: BTreeMap<String, String> = serde_saphyr::from_str_with_options(&text, options).expect("YAML");
        prop_assert_eq!(read, secret);
    }

    #[test]
    fn properties_round_trip(secret in secrets()) {
        let text = whole(FileFormat::Properties, &as_data(&secret));
        prop_assert!(text.is_ascii());
        prop_assert_eq!(load_properties(&text), secret);
    }
}

/// `java.util.Properties.load`, as its documentation describes it.
fn load_properties(text: &str) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for line in text.split(['\n', '\r', '\x0c']) {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut escaped = false;
        let end = line
            .char_indices()
            .find(|(_, c)| {
                let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t');
                escaped = !escaped && *c == '\\';
                ends
            })
            .map_or(line.len(), |(at, _)| at);
        let (key, value) = line.split_at(end);
        let value = value.trim_start_matches([' ', '\t']);
        let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start_matches([' ', '\t']);
        read.insert(unescape(key), unescape(value));
    }
    read
}

fn unescape(text: &str) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' {
            chars.next().expect("no line ends in a backslash")
        } else {
            units.push(c as u16);
            continue;
        };
        match c {
            'u' => units.push(u16::from_str_radix(&chars.by_ref().take(4).collect::<String>(), 16).expect("hex")),
            't' => units.push(9),
            'n' => units.push(10),
            'f' => units.push(12),
            'r' => units.push(13),
            other => units.push(other as u16),
        }
    }
    String::from_utf16(&units).expect("UTF-16")
}

#[test]
fn shell_sources_dotenv_to_exact_bytes() {
    // One shell for many texts: it prints each variable, with a NUL after it.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let secret: BTreeMap<String, String> = (0..400)
        .map(|n| {
            let text = texts().new_tree(&mut runner).expect("text").current().replace('\0', "");
            (format!("_K{n:03}"), text)
        })
        .chain([("TAIL".to_owned(), "ends in newlines\n\n".to_owned()), ("QUOTES".to_owned(), "''''".to_owned())])
        .collect();
    let mut file = tempfile::NamedTempFile::new().expect("file");
    file.write_all(whole(FileFormat::Dotenv, &as_data(&secret)).as_bytes()).expect("write");
    let prints: String = secret.keys().map(|key| format!("printf '%s\\0' \"${key}\"")).collect::<Vec<_>>().join("\n");
    let script = format!(". {}\n{prints}", file.path().display());
    let output = Command::new("/bin/sh").arg("-c").arg(script).output().expect("a shell");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    assert_eq!(seen.len(), secret.len() + 1);
    for ((key, text), bytes) in secret.iter().zip(seen) {
        assert_eq!(bytes, text.as_bytes(), "{key}");
    }
}
