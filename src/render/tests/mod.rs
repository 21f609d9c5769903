//! Which files there are, and what is refused or left out.

mod env_file;
mod formats;
mod merge;
mod pkcs12;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Rendered, join, render_output};
use crate::model::{
    Failure, FailureClass, FileEntry, FileFormat, FilePath, FileSet, KeySelection, Mode, Output, OutputKind, Reading,
    Reason, SecretValue, SourceName, Validity, Version, WhenMissing,
};

fn path(text: &str) -> FilePath {
    FilePath::new(text).expect(text)
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).expect(name)
}

fn each_key(name: &str, prefix: Option<&str>) -> Output {
    let kind = OutputKind::EachKey { prefix: prefix.map(path), base64: false, keys: KeySelection::default() };
    Output { source: source(name), kind, mode: None }
}

fn one_key(name: &str, key: &str, file: &str, base64: bool) -> Output {
    let (field, missing) = (None, WhenMissing::Fail);
    let kind = OutputKind::Key { key: key.into(), path: path(file), base64, field, missing };
    Output { source: source(name), kind, mode: None }
}

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, SecretValue> {
    entries.iter().map(|(key, text)| ((*key).to_owned(), SecretValue::Text((*text).into()))).collect()
}

fn readings(sources: &[(&str, &[(&str, &str)])]) -> BTreeMap<SourceName, Arc<Reading>> {
    let reading = |entries| Reading {
        data: data(entries),
        version: Version::default(),
        validity: Validity::Unlimited,
        warnings: Vec::new(),
        ..Reading::default()
    };
    sources.iter().map(|(name, entries)| (source(name), Arc::new(reading(entries)))).collect()
}

fn contents(files: &BTreeMap<FilePath, FileEntry>) -> Vec<(&str, &str)> {
    files.iter().map(|(path, file)| (path.as_str(), file.bytes.expose_str().expect("text"))).collect()
}

/// One output of one secret, which must render.
fn rendered(output: &Output, secret: &[(&str, &str)]) -> Rendered {
    let readings = readings(&[(output.source.as_str(), secret)]);
    render_output(output, &readings).unwrap_or_else(|failure| panic!("{failure}"))
}

/// One output of one secret, which must fail.
fn failure(output: &Output, secret: &[(&str, &str)]) -> Failure {
    let Err(failure) = render_output(output, &readings(&[(output.source.as_str(), secret)])) else {
        panic!("must fail")
    };
    assert_eq!(failure.reason, Reason::RenderFailed);
    assert!(failure.message.starts_with("failed to render "), "{failure}");
    failure
}

fn whole(name: &str, file: &str, format: FileFormat) -> Output {
    let kind = OutputKind::Whole { path: path(file), format, keys: KeySelection::default() };
    Output { source: source(name), kind, mode: None }
}

#[test]
fn each_file_records_its_source() {
    let tls = rendered(&each_key("tls", Some("tls")), &[("key.pem", "k"), ("cert.pem", "c")]);
    assert_eq!(contents(&tls.files), [("tls/cert.pem", "c"), ("tls/key.pem", "k")]);
    assert!(tls.left_out.is_empty());
    for output in [each_key("db", None), one_key("db", "a", "b", false), whole("db", "env", FileFormat::Json)] {
        let made = rendered(&output, &[("a", "1")]);
        assert_eq!(made.files.len(), 1);
        assert!(made.files.values().all(|file| file.sources == BTreeSet::from([source("db")])));
        assert_eq!(output.sources(), BTreeSet::from([source("db")]));
    }
}

#[test]
fn output_mode_applies_to_its_file() {
    let owner_only = Mode::new(0o400).expect("mode");
    let output = Output { mode: Some(owner_only), ..one_key("db", "password", "secret/pw", false) };
    let made = rendered(&output, &[("password", "p")]);
    assert!(made.files[&path("secret/pw")].mode == Some(owner_only));
}

#[test]
fn output_without_reading_has_no_files() {
    for output in [each_key("optional", None), one_key("optional", "a", "b", true)] {
        let made = render_output(&output, &readings(&[("db", &[("a", "1")])])).unwrap_or_else(|f| panic!("{f}"));
        assert!(made.files.is_empty() && made.left_out.is_empty());
    }
}

#[test]
fn invalid_file_name_key_is_skipped_and_others_render() {
    let (long, deep) = ("k".repeat(256), "d/".repeat(2047) + "dd");
    let bad = ["", ".", "..x", "/etc/passwd", "a//b", "a/../b", "nul\0", "trailing/", long.as_str(), deep.as_str()];
    let mut secret: Vec<(&str, &str)> = bad.iter().map(|key| (*key, "pl@nted")).collect();
    secret.extend([("password", "p"), ("tls/key", "k"), ("new\nline", "n")]);
    let made = rendered(&each_key("db", None), &secret);
    assert_eq!(contents(&made.files), [("new\nline", "n"), ("password", "p"), ("tls/key", "k")]);
    let mut names = made.left_out.clone();
    names.sort_unstable();
    let mut expected: Vec<String> = bad.iter().map(|key| super::text::shortened(key)).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(names.iter().all(|name| name.chars().count() <= 101 && !name.contains(char::is_control)), "{names:?}");

    let prefixed = rendered(&each_key("db", Some("db")), &[("..x", "1"), ("", "2"), ("a", "3")]);
    assert_eq!(contents(&prefixed.files), [("db/a", "3")]);
}

#[test]
fn key_below_another_file_is_skipped() {
    // `-` sorts before `/`, so that the two are not neighbours.
    let made = rendered(&each_key("db", None), &[("tls", "1"), ("tls-old", "2"), ("tls/key", "3"), ("tls/a/b", "4")]);
    assert_eq!(contents(&made.files), [("tls", "1"), ("tls-old", "2")]);
    assert_eq!(made.left_out, ["tls/a/b", "tls/key"]);
}

#[test]
fn base64_decodes_with_and_without_padding_and_line_breaks() {
    for text in ["aGVsbG8=", "aGVsbG8", "aGVs\n bG8=\r\n"] {
        let made = rendered(&one_key("db", "k", "k", true), &[("k", text)]);
        assert_eq!(contents(&made.files), [("k", "hello")], "{text:?}");
    }
    let made = rendered(&one_key("db", "k", "k", true), &[("k", "/wD+")]);
    assert!(made.files[&path("k")].bytes.expose() == [0xff, 0x00, 0xfe]);
}

#[test]
fn render_failure_names_output_and_hides_value() {
    let kind = OutputKind::EachKey { prefix: Some(path("sub")), base64: true, keys: KeySelection::default() };
    let base64 = Output { kind, ..each_key("db", None) };
    let secret = [("text", "pl@nted!"), ("b-ad", "pl@nted!")];
    for (output, class, parts) in [
        (one_key("db", "absent", "a", false), FailureClass::Missing, ["file a:", "has no key \"absent\""]),
        (one_key("db", "text", "b", true), FailureClass::Invalid, ["file b:", "key \"text\""]),
        (base64, FailureClass::Invalid, ["file sub/b-ad:", "key \"b-ad\""]),
        (whole("db", "env", FileFormat::Dotenv), FailureClass::Invalid, ["file env:", "key \"b-ad\""]),
    ] {
        let failure = failure(&output, &secret);
        assert_eq!(failure.class, class, "{failure}");
        assert!(parts.iter().all(|part| failure.message.contains(part)), "{failure}");
        assert!(failure.message.contains("source db"), "{failure}");
        assert!(!failure.message.contains("pl@nted") && !failure.message.contains('@'), "{failure}");
    }
    let long = format!("{}\n", "k".repeat(5000));
    let failure = failure(&one_key("db", &long, "a", false), &secret);
    assert!(failure.message.len() < 400 && !failure.message.contains('\n'), "{failure}");
}

fn parts(outputs: &[Output], sources: &[(&str, &[(&str, &str)])]) -> Vec<BTreeMap<FilePath, FileEntry>> {
    let readings = readings(sources);
    let files = |output| render_output(output, &readings).unwrap_or_else(|failure| panic!("{failure}")).files;
    outputs.iter().map(files).collect()
}

#[test]
fn join_combines_files_of_all_outputs() {
    let parts = parts(
        &[each_key("db", None), each_key("tls", Some("tls")), one_key("db", "password", "copy", false)],
        &[("db", &[("username", "u"), ("password", "p")]), ("tls", &[("key", "k")])],
    );
    let set = join(&parts).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(contents(&set.files), [("copy", "p"), ("password", "p"), ("tls/key", "k"), ("username", "u")]);
    assert!(set.files[&path("tls/key")].sources == BTreeSet::from([source("tls")]));
    assert!(Arc::ptr_eq(&set.files[&path("copy")].bytes, &parts[2][&path("copy")].bytes), "nothing is copied");
    assert!(join([]).is_ok_and(|set| set == FileSet::default()));
}

#[test]
fn join_failure_names_both_sources_and_path() {
    let one: &[(&str, &str)] = &[("same", "pl@nted"), ("dir", "pl@nted")];
    let same: &[(&str, &str)] = &[("same", "pl@nted")];
    let below: &[(&str, &str)] = &[("dir/file", "pl@nted")];
    for (two, words) in [
        (same, "file same: source one and source two both produce it"),
        (below, "file dir/file: source one produces a file where source two requires the directory dir"),
    ] {
        let parts = parts(&[each_key("one", None), each_key("two", None)], &[("one", one), ("two", two)]);
        for parts in [[&parts[0], &parts[1]], [&parts[1], &parts[0]]] {
            let Err(failure) = join(parts) else { panic!("must fail: {words}") };
            assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::RenderFailed));
            let swapped = words.replace("source one and source two", "source two and source one");
            assert!(failure.message.contains(words) || failure.message.contains(&swapped), "{failure}");
            assert!(
                failure.message.contains("give one output its own `prefix`") && !failure.message.contains('@'),
                "{failure}"
            );
        }
    }
    let parts = parts(&[each_key("one", None), one_key("one", "dir", "same", false)], &[("one", one)]);
    let Err(failure) = join(&parts) else { panic!("must fail") };
    assert!(failure.message.contains("two outputs of source one produce it"), "{failure}");
}
