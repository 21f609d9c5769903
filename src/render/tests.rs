//! Tables for what is refused, properties for the formats: whatever text goes in comes out of a real parser.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::{format, mirror_data, render};
use crate::model::{
    Auth, AuthMethod, Directory, FailureClass, FileFormat, FilePath, FileSet, Mirror, MirrorKey, Mode, ObjectName,
    Output, OutputKind, Reading, Reason, Retry, SecretType, SecretValue, Settings, SourceName, StatusReport, Tls,
    VaultServer, Version,
};

fn path(text: &str) -> FilePath {
    FilePath::new(text).expect(text)
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).expect(name)
}

fn settings(outputs: Vec<Output>) -> Settings {
    let second = std::time::Duration::from_secs(1);
    Settings {
        server: VaultServer {
            address: "http://127.0.0.1:8200".into(),
            redirect_to: Vec::new(),
            namespace: None,
            tls: Tls::default(),
            timeout: second,
        },
        auth: Auth { mount: "token".into(), namespace: None, method: AuthMethod::TokenFile { file: "/token".into() } },
        sources: BTreeMap::new(),
        outputs,
        directory: Directory { path: "/out".into(), allow_disk: false, file_mode: None, max_bytes: None },
        mirrors: BTreeMap::new(),
        status: StatusReport {
            conditions: false,
            events: false,
            pod_name: None,
            pod_uid: None,
            pod_namespace: None,
            kubeconfig: None,
        },
        listener: None,
        retry: Retry { base: second, max: second, slow: second },
        concurrency: 1,
        revoke_on_exit: false,
        drain: second,
    }
}

fn each_key(name: &str, prefix: Option<&str>) -> Output {
    Output { source: source(name), kind: OutputKind::EachKey { prefix: prefix.map(path), base64: false }, mode: None }
}

fn one_key(name: &str, key: &str, file: &str, base64: bool) -> Output {
    Output { source: source(name), kind: OutputKind::Key { key: key.into(), path: path(file), base64 }, mode: None }
}

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, SecretValue> {
    entries.iter().map(|(key, text)| ((*key).to_owned(), SecretValue::Text((*text).into()))).collect()
}

fn readings(sources: &[(&str, &[(&str, &str)])]) -> BTreeMap<SourceName, Arc<Reading>> {
    let reading =
        |entries| Reading { data: data(entries), version: Version::default(), lease: None, warnings: Vec::new() };
    sources.iter().map(|(name, entries)| (source(name), Arc::new(reading(entries)))).collect()
}

fn contents(set: &FileSet) -> Vec<(&str, &str)> {
    set.files.iter().map(|(path, file)| (path.as_str(), file.bytes.expose_str().expect("text"))).collect()
}

fn whole(format: FileFormat, data: &BTreeMap<String, SecretValue>) -> String {
    let bytes = format::whole(format, data).map_err(|error| error.to_string()).expect("renders");
    bytes.expose_str().expect("text").to_owned()
}

/// Class and message of each failure.
fn failures(outputs: Vec<Output>, sources: &[(&str, &[(&str, &str)])]) -> Vec<(FailureClass, String)> {
    let Err(failures) = render(&settings(outputs), &readings(sources)) else { panic!("must fail") };
    assert!(failures.iter().all(|failure| failure.reason == Reason::RenderFailed));
    failures.into_iter().map(|failure| (failure.class, failure.message)).collect()
}

#[test]
fn every_key_becomes_a_file() {
    let outputs = vec![each_key("db", None), each_key("tls", Some("tls"))];
    let sources = readings(&[("db", &[("username", "u"), ("password", "p")]), ("tls", &[("key.pem", "k")])]);
    let set = render(&settings(outputs), &sources).map_err(|f| f[0].message.clone()).expect("renders");
    assert_eq!(contents(&set), [("password", "p"), ("tls/key.pem", "k"), ("username", "u")]);
}

#[test]
fn an_output_has_its_own_mode() {
    let mode = Mode::new(0o400).expect("mode");
    let outputs = vec![Output { mode: Some(mode), ..one_key("db", "password", "secret/pw", false) }];
    let set = render(&settings(outputs), &readings(&[("db", &[("password", "p")])])).ok().expect("renders");
    assert!(set.files[&path("secret/pw")].mode == Some(mode));
}

#[test]
fn an_absent_source_leaves_its_outputs_out() {
    let outputs = vec![each_key("db", None), one_key("optional", "a", "b", false)];
    let set = render(&settings(outputs), &readings(&[("db", &[("a", "1")])])).ok().expect("renders");
    assert_eq!(contents(&set), [("a", "1")]);
}

#[test]
fn base64_is_decoded_with_or_without_padding_and_line_breaks() {
    for text in ["aGVsbG8=", "aGVsbG8", "aGVs\n bG8=\r\n"] {
        let sources = readings(&[("db", &[("k", text)])]);
        let set = render(&settings(vec![one_key("db", "k", "k", true)]), &sources).ok().expect("renders");
        assert_eq!(contents(&set), [("k", "hello")], "{text:?}");
    }
    let sources = readings(&[("db", &[("k", "/wD+")])]);
    let set = render(&settings(vec![one_key("db", "k", "k", true)]), &sources).ok().expect("renders");
    assert!(set.files[&path("k")].bytes.expose() == [0xff, 0x00, 0xfe]);
}

#[test]
fn all_failures_are_told_at_once_without_a_value() {
    let outputs = vec![
        one_key("db", "absent", "a", false),
        one_key("db", "text", "b", true),
        each_key("odd", None),
        Output {
            source: source("odd"),
            kind: OutputKind::Whole { path: path("env"), format: FileFormat::Dotenv },
            mode: None,
        },
    ];
    let found = failures(outputs, &[("db", &[("text", "pl@nted!")]), ("odd", &[("../up", "pl@nted!"), ("ok", "x")])]);
    let classes: Vec<_> = found.iter().map(|(class, _)| *class).collect();
    assert_eq!(classes, [FailureClass::Missing, FailureClass::Invalid, FailureClass::Invalid, FailureClass::Invalid]);
    for ((_, message), part) in found.iter().zip(["\"absent\"", "\"text\"", "\"../up\"", "shell variable"]) {
        assert!(message.starts_with("failed to ") && message.contains(part), "{message}");
        assert!(!message.contains("pl@nted") && !message.contains('@'), "{message}");
    }
}

#[test]
fn colliding_keys_name_both_sources() {
    let found = failures(
        vec![each_key("one", None), each_key("two", None)],
        &[("one", &[("same", "1"), ("dir", "x")]), ("two", &[("same", "2"), ("dir/file", "y")])],
    );
    assert_eq!(found.len(), 2);
    for (class, message) in found {
        assert_eq!(class, FailureClass::Invalid);
        assert!(message.contains("source one") && message.contains("source two"), "{message}");
    }
}

#[test]
fn dotenv_refuses_what_a_shell_cannot_hold() {
    for key in ["", "1a", "a-b", "a.b", "ü", "a b", "a=b"] {
        assert!(format::whole(FileFormat::Dotenv, &data(&[(key, "x")])).is_err(), "{key:?}");
    }
    let error = format::whole(FileFormat::Dotenv, &data(&[("key", "pl\0anted")])).err().expect("NUL").to_string();
    assert!(error.contains("\"key\"") && !error.contains("anted"), "{error}");
    assert_eq!(whole(FileFormat::Dotenv, &data(&[("A", "it's $x"), ("b_2", "")])), "A='it'\\''s $x'\nb_2=''\n");
}

#[test]
fn formats_keep_what_is_not_a_string() {
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
        serde_saphyr::from_str(&whole(FileFormat::Yaml, &self::data(&[(&long, "v")]))).expect("YAML");
    assert_eq!(read[&long], "v");
}

#[test]
fn properties_are_escaped_as_java_does_it() {
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
    fn json_comes_back(secret in secrets()) {
        let text = whole(FileFormat::Json, &as_data(&secret));
        prop_assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&text).expect("JSON"), secret);
    }

    #[test]
    fn yaml_comes_back(secret in secrets()) {
        let text = whole(FileFormat::Yaml, &as_data(&secret));
        let options = serde_saphyr::options! { merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary };
        let read: BTreeMap<String, String> = serde_saphyr::from_str_with_options(&text, options).expect("YAML");
        prop_assert_eq!(read, secret);
    }

    #[test]
    fn properties_come_back(secret in secrets()) {
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
fn a_real_shell_sources_dotenv_to_exactly_the_bytes() {
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
    let prints: String = secret.keys().map(|key| format!("printf '%s\\0' \"${key}\"\n")).collect();
    let script = format!(". {}\n{prints}", file.path().display());
    let output = Command::new("/bin/sh").arg("-c").arg(script).output().expect("a shell");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    assert_eq!(seen.len(), secret.len() + 1);
    for ((key, text), bytes) in secret.iter().zip(seen) {
        assert_eq!(bytes, text.as_bytes(), "{key}");
    }
}

fn mirror(secret_type: SecretType, keys: &[(&str, &str)]) -> Mirror {
    Mirror {
        secret_type,
        keys: keys.iter().map(|(key, file)| MirrorKey { key: (*key).into(), file: path(file) }).collect(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner: None,
        allow_leased: false,
    }
}

fn published(files: &[(&str, &str)]) -> FileSet {
    let outputs = files.iter().map(|(file, _)| one_key("s", file, file, false)).collect();
    render(&settings(outputs), &readings(&[("s", files)])).ok().expect("renders")
}

fn mirrored(mirror: &Mirror, set: &FileSet) -> Result<Vec<String>, (FailureClass, String)> {
    let name = ObjectName::new("top-secret-ks").expect("name");
    mirror_data(mirror, &name, set)
        .map(|data| data.into_keys().collect())
        .map_err(|failure| (failure.class, failure.message))
}

#[test]
fn a_mirror_takes_all_files_or_the_chosen_ones() {
    let set = published(&[("a", "1"), ("b.c", "2")]);
    assert_eq!(mirrored(&mirror(SecretType::Opaque, &[]), &set), Ok(vec!["a".into(), "b.c".into()]));
    assert_eq!(
        mirrored(&mirror(SecretType::Opaque, &[("x", "a"), ("y", "a")]), &set),
        Ok(vec!["x".into(), "y".into()])
    );
    let name = ObjectName::new("m").expect("name");
    let data = mirror_data(&mirror(SecretType::Opaque, &[("x", "a")]), &name, &set).ok().expect("data");
    assert!(Arc::ptr_eq(&data["x"], &set.files[&path("a")].bytes), "the mirror shares the published bytes");
}

#[test]
fn a_mirror_refuses_what_the_api_server_would() {
    let set = published(&[("a", "1"), ("dir/b", "2"), ("username", "u")]);
    for (mirror, class, part) in [
        (mirror(SecretType::Opaque, &[]), FailureClass::Invalid, "\"dir/b\""),
        (mirror(SecretType::Opaque, &[("x", "gone")]), FailureClass::Missing, "gone"),
        (mirror(SecretType::Tls, &[("tls.crt", "a")]), FailureClass::Invalid, "tls.key"),
        (mirror(SecretType::BasicAuth, &[("a", "a")]), FailureClass::Invalid, "username, password"),
    ] {
        let (found, message) = mirrored(&mirror, &set).expect_err(part);
        assert!(found == class && message.contains(part) && message.contains("top-secret-ks"), "{message}");
    }
    assert!(mirrored(&mirror(SecretType::BasicAuth, &[("username", "username")]), &set).is_ok());
    let half = "x".repeat(1 << 19);
    assert!(mirrored(&mirror(SecretType::Opaque, &[]), &published(&[("a", &half), ("b", &half)])).is_ok());
    let (_, message) =
        mirrored(&mirror(SecretType::Opaque, &[]), &published(&[("a", &half), ("b", &half), ("c", "1")]))
            .expect_err("too large");
    assert!(message.contains("1 MiB"), "{message}");
}
