//! Outputs that select, rename, and shape keys.

use std::sync::Arc;

use super::super::render_output;
use super::{contents, each_key, failure, one_key, path, readings, rendered, whole};
use crate::model::{
    FailureClass, FileFormat, Glob, JsonPointer, KeySelection, Output, OutputKind, SecretValue, WhenMissing,
};

const SECRET: &[(&str, &str)] =
    &[("db-host", "h"), ("db-old", "o"), ("db-user", "u"), ("url", "l"), ("nested", r#"{"a": [{"b": "x\ny"}, 1.50]}"#)];

fn keys(include: &[&str], exclude: &[&str], rename: &[(&str, &str)]) -> KeySelection {
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern).expect(pattern)).collect();
    let rename = rename.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
    KeySelection { include: globs(include), exclude: globs(exclude), rename }
}

fn selected(prefix: Option<&str>, keys: KeySelection) -> Output {
    Output { kind: OutputKind::EachKey { prefix: prefix.map(path), base64: false, keys }, ..each_key("db", None) }
}

fn in_format(format: FileFormat, keys: KeySelection) -> Output {
    Output { kind: OutputKind::Whole { path: path("all"), format, keys }, ..whole("db", "all", format) }
}

fn shaped(key: &str, pointer: Option<&str>, missing: WhenMissing) -> Output {
    let field = pointer.map(|text| JsonPointer::new(text).expect(text));
    let kind = OutputKind::Key { key: key.into(), path: path("f"), base64: false, field, missing };
    Output { kind, ..one_key("db", key, "f", false) }
}

#[test]
fn selected_keys_get_their_new_names() {
    let chosen = || keys(&["db-*"], &["*-old"], &[("db-host", "sub/host")]);
    let made = rendered(&selected(Some("p"), chosen()), SECRET);
    assert_eq!(contents(&made.files), [("p/db-user", "u"), ("p/sub/host", "h")]);
    let made = rendered(&in_format(FileFormat::Json, chosen()), SECRET);
    assert_eq!(contents(&made.files), [("all", "{\"db-user\":\"u\",\"sub/host\":\"h\"}\n")]);
    let variables = keys(&["db-*"], &[], &[("db-host", "HOST"), ("db-user", "A"), ("db-old", "OLD")]);
    let made = rendered(&in_format(FileFormat::Dotenv, variables), SECRET);
    assert_eq!(contents(&made.files), [("all", "A='u'\nHOST='h'\nOLD='o'\n")]);
    let some = rendered(&selected(None, keys(&["absent", "url"], &[], &[("absent", "x")])), SECRET);
    assert_eq!(contents(&some.files), [("url", "l")], "a selection does not require each of its keys");
}

#[test]
fn include_without_any_key_is_an_error() {
    for output in [selected(None, keys(&["pasword"], &[], &[])), in_format(FileFormat::Json, keys(&["x-*"], &[], &[]))]
    {
        let failure = failure(&output, SECRET);
        assert_eq!(failure.class, FailureClass::Missing);
        assert!(failure.message.contains("source db: no key of the secret matches `include`"), "{failure}");
    }
}

#[test]
fn keys_can_swap_names_but_not_share_one() {
    let swapped =
        rendered(&selected(None, keys(&["url", "db-old"], &[], &[("url", "db-old"), ("db-old", "url")])), SECRET);
    assert_eq!(contents(&swapped.files), [("db-old", "l"), ("url", "o")]);
    let shared = || keys(&[], &[], &[("db-host", "url")]);
    for (output, file) in [(selected(Some("p"), shared()), "p/url"), (in_format(FileFormat::Yaml, shared()), "all")] {
        let failure = failure(&output, SECRET);
        assert_eq!(failure.class, FailureClass::Invalid);
        let expected = format!(
            "failed to render file {file}: source db: keys \"db-host\" and \"url\" both have the name \"url\" in the output; \
             correct `rename`, or leave one out with `exclude`"
        );
        assert_eq!(failure.message, expected);
    }
}

#[test]
fn renamed_key_below_another_file_is_skipped() {
    let made = rendered(&selected(None, keys(&["url", "db-old"], &[], &[("db-old", "url/old")])), SECRET);
    assert_eq!((contents(&made.files), made.left_out), (vec![("url", "l")], vec!["db-old".to_owned()]));
}

#[test]
fn field_of_value_becomes_the_file() {
    for (pointer, expected) in [("/a/0/b", "x\ny"), ("/a/1", "1.50"), ("/a", r#"[{"b":"x\ny"},1.50]"#)] {
        let made = rendered(&shaped("nested", Some(pointer), WhenMissing::Fail), SECRET);
        assert_eq!(contents(&made.files), [("f", expected)], "{pointer}");
    }
    let mut readings = readings(&[("db", &[])]);
    let mut reading = (*readings[&super::source("db")]).clone();
    reading.data.insert("k".into(), SecretValue::Json(r#"{"blob":"AAH/"}"#.into()));
    readings.insert(super::source("db"), reading.into());
    let OutputKind::Key { field, .. } = shaped("k", Some("/blob"), WhenMissing::Fail).kind else { unreachable!() };
    let kind = OutputKind::Key { key: "k".into(), path: path("f"), base64: true, field, missing: WhenMissing::Fail };
    let made = render_output(&Output { kind, ..one_key("db", "k", "f", true) }, &readings);
    let made = made.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(made.files[&path("f")].bytes.expose() == [0, 1, 255], "`encoding` applies to the field");
}

#[test]
fn missing_key_or_field_uses_default_or_writes_no_file() {
    for (key, pointer) in [("absent", None), ("absent", Some("/a")), ("nested", Some("/a/9")), ("nested", Some("/b"))] {
        let made = rendered(&shaped(key, pointer, WhenMissing::Omit), SECRET);
        assert!(made.files.is_empty(), "{key} {pointer:?}");
        let made = rendered(&shaped(key, pointer, WhenMissing::Default(b"d".to_vec())), SECRET);
        assert_eq!(contents(&made.files), [("f", "d")], "{key} {pointer:?}");
        assert!(made.files[&path("f")].sources == [super::source("db")].into());
        let failure = failure(&shaped(key, pointer, WhenMissing::Fail), SECRET);
        assert_eq!(failure.class, FailureClass::Missing);
        let named =
            if key == "absent" { "has no key \"absent\"" } else { "of key \"nested\" of source db has no field \"/" };
        assert!(failure.message.contains(named) && failure.message.contains("`default` or `optional`"), "{failure}");
    }
    for missing in [WhenMissing::Omit, WhenMissing::Default(b"d".to_vec())] {
        let made = rendered(&shaped("url", None, missing), SECRET);
        assert_eq!(contents(&made.files), [("f", "l")], "the key exists");
    }
}

#[test]
fn null_counts_as_missing_except_in_json_and_yaml() {
    let mut readings = readings(&[("db", &[("user", "u"), ("nested", r#"{"a": null}"#)])]);
    let reading = readings.values_mut().next().map(Arc::make_mut).expect("one reading");
    reading.data.insert("token".into(), SecretValue::Json("null".into()));
    let made = |output: &Output| render_output(output, &readings).map(|made| made.files);
    let contents_of = |output: &Output| {
        let files = made(output).unwrap_or_else(|failure| panic!("{failure}"));
        contents(&files).into_iter().map(|(path, text)| format!("{path}: {text}")).collect::<Vec<_>>()
    };
    assert_eq!(contents_of(&each_key("db", None)), [r#"nested: {"a": null}"#, "user: u"]);
    for (key, field) in [("token", None), ("nested", Some("/a"))] {
        assert_eq!(contents_of(&shaped(key, field, WhenMissing::Default(b"d".to_vec()))), ["f: d"]);
        assert!(contents_of(&shaped(key, field, WhenMissing::Omit)).is_empty());
        assert!(made(&shaped(key, field, WhenMissing::Fail)).is_err());
    }
    let some = || keys(&["token", "user"], &[], &[]);
    assert_eq!(contents_of(&in_format(FileFormat::Json, some())), ["all: {\"token\":null,\"user\":\"u\"}\n"]);
    for format in [FileFormat::Dotenv, FileFormat::Properties] {
        let text = contents_of(&in_format(format, some()));
        assert!(!text[0].contains("token"), "{text:?}");
    }
}

#[test]
fn value_that_is_not_json_fails_without_the_value() {
    let secret = [("text", "pl@nted"), ("broken", r#"{"pl@nted": "pl@nted"#)];
    for key in ["text", "broken"] {
        for missing in [WhenMissing::Fail, WhenMissing::Omit, WhenMissing::Default(b"d".to_vec())] {
            let failure = failure(&shaped(key, Some("/a"), missing), &secret);
            assert_eq!(failure.class, FailureClass::Invalid);
            let expected = format!("the value of key \"{key}\" of source db is not JSON");
            assert!(failure.message.contains(&expected) && !failure.message.contains('@'), "{failure}");
        }
    }
}

#[test]
fn unusable_keys_of_a_format_can_be_renamed_or_excluded() {
    let failure = failure(&in_format(FileFormat::Dotenv, KeySelection::default()), &[("a-b", "pl@nted")]);
    assert!(failure.message.contains("\"a-b\"") && failure.message.contains("`rename`"), "{failure}");
    let nul = in_format(FileFormat::Dotenv, keys(&[], &[], &[("a", "B")]));
    let failure = super::failure(&nul, &[("a", "pl@nted\0")]);
    assert!(failure.message.contains("value of key \"a\"") && !failure.message.contains('@'), "{failure}");
}
