//! Which files there are, what is refused.

mod formats;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::render;
use crate::model::{
    Auth, AuthMethod, Directory, FailureClass, FileFormat, FilePath, FileSet, Mode, Output, OutputKind, Reading,
    Reason, Retry, SecretValue, Settings, SourceName, StatusReport, Tls, VaultServer, Version,
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

fn rendered(outputs: Vec<Output>, readings: &BTreeMap<SourceName, Arc<Reading>>) -> FileSet {
    render(&settings(outputs), readings).unwrap_or_else(|failures| panic!("{}", failures[0].message))
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
    let set = rendered(outputs, &sources);
    assert_eq!(contents(&set), [("password", "p"), ("tls/key.pem", "k"), ("username", "u")]);
}

#[test]
fn an_output_has_its_own_mode() {
    let mode = Mode::new(0o400).expect("mode");
    let outputs = vec![Output { mode: Some(mode), ..one_key("db", "password", "secret/pw", false) }];
    let set = rendered(outputs, &readings(&[("db", &[("password", "p")])]));
    assert!(set.files[&path("secret/pw")].mode == Some(mode));
}

#[test]
fn an_absent_source_leaves_its_outputs_out() {
    let outputs = vec![each_key("db", None), one_key("optional", "a", "b", false)];
    let set = rendered(outputs, &readings(&[("db", &[("a", "1")])]));
    assert_eq!(contents(&set), [("a", "1")]);
}

#[test]
fn base64_is_decoded_with_or_without_padding_and_line_breaks() {
    for text in ["aGVsbG8=", "aGVsbG8", "aGVs\n bG8=\r\n"] {
        let sources = readings(&[("db", &[("k", text)])]);
        let set = rendered(vec![one_key("db", "k", "k", true)], &sources);
        assert_eq!(contents(&set), [("k", "hello")], "{text:?}");
    }
    let sources = readings(&[("db", &[("k", "/wD+")])]);
    let set = rendered(vec![one_key("db", "k", "k", true)], &sources);
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
