//! Env files, read by the rules of the kubelet.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{data, failure, readings, rendered, whole};
use crate::model::{FailureClass, FileFormat};

/// The longest line that the kubelet reads.
const MAX_LINE: usize = 65_535;

/// The lines of Go's `bufio.Scanner` with its default split function and buffer; `None` after a line that is too long.
fn lines(file: &str) -> impl Iterator<Item = Option<&str>> {
    let end = file.strip_suffix('\n').unwrap_or(file);
    let lines = (!file.is_empty()).then(|| end.split('\n')).into_iter().flatten();
    lines.map(|line| (line.len() <= MAX_LINE).then(|| line.strip_suffix('\r').unwrap_or(line)))
}

/// `ParseEnv` of `pkg/kubelet/util/env/env_util.go` in Kubernetes 1.37.2, statement by statement. `Ok("")` also if the key is
/// missing.
fn parse_env(file: &str, key: &str) -> Result<String, &'static str> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut scanner = lines(file);
    while let Some(line) = scanner.next() {
        let line = line.ok_or("error reading environment variable file")?.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or("missing '='")?;
        let trimmed = name.trim_end_matches(BLANK);
        if trimmed.is_empty() {
            return Err("empty variable name");
        }
        if trimmed != name {
            return Err("whitespace before '=' is not allowed");
        }
        if value.starts_with(BLANK) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let mut rest = value.strip_prefix('\'').ok_or("value must be enclosed in single quotes")?;
        let mut found = String::new();
        loop {
            if let Some((last, after)) = rest.split_once('\'') {
                found.push_str(last);
                let after = after.trim_start_matches(BLANK);
                if !after.is_empty() && !after.starts_with('#') {
                    return Err("unexpected content after closing quote");
                }
                if name == key {
                    return Ok(found);
                }
                break;
            }
            found.push_str(rest);
            found.push('\n');
            // A line that is too long ends the scan like the end of the file.
            rest = scanner.next().flatten().ok_or("unclosed single quote")?;
        }
    }
    Ok(String::new())
}

/// The test cases of Kubernetes that show each rule, so that the port is the parser.
#[test]
fn port_parses_as_the_kubelet_does() {
    for (file, key, expected) in [
        ("   KEY1='val1'\n\t\tKEY2='val2'\n", "KEY2", Ok("val2")),
        ("# comment\n\nKEY1='foo'\n   # another\n\nKEY2='bar'\n", "KEY2", Ok("bar")),
        ("KEY1 = 'val1'\nKEY2='val2'\n", "KEY2", Err("whitespace before '=' is not allowed")),
        ("KEY1='foo'\n", "KEY3", Ok("")),
        ("KEY1='foo=bar=baz'", "KEY1", Ok("foo=bar=baz")),
        ("KEY1='foo'\nKEY2='bar' # comment\n", "KEY2", Ok("bar")),
        ("='foo'\nKEY2='bar'\n", "KEY2", Err("empty variable name")),
        ("KEY1='foo'\nINVALID_LINE\nKEY2='bar'\n", "KEY2", Err("missing '='")),
        ("KEY1='foo'\nKEY2=bar\n", "KEY2", Err("value must be enclosed in single quotes")),
        ("KEY1=\"foo\"\n", "KEY1", Err("value must be enclosed in single quotes")),
        ("KEY1='foo''bar'", "KEY1", Err("unexpected content after closing quote")),
        ("KEY1='foo'\nKEY2='bar\n", "KEY2", Err("unclosed single quote")),
        ("KEY1= 'foo'\n", "KEY1", Ok("")),
        ("KEY1='line1\n\n  line3  '\nKEY2='bar'\n", "KEY1", Ok("line1\n\n  line3  ")),
        ("KEY1='a\r\nb'\r\n", "KEY1", Ok("a\nb")),
        ("KEY1='1'\nKEY1='2'\n", "KEY1", Ok("1")),
    ] {
        assert_eq!(parse_env(file, key), expected.map(str::to_owned), "{file:?}");
    }
    let long = format!("A='{}'\nB='x'\n", "a".repeat(MAX_LINE - 4));
    assert_eq!(parse_env(&long, "B"), Ok("x".to_owned()));
    assert!(parse_env(&long.replace("A=", "AA="), "B").is_err());
}

#[test]
fn env_file_has_one_quoted_line_for_each_key() {
    let output = whole("db", "app.env", FileFormat::EnvFile);
    let made = rendered(&output, &[("b.c-d", "$X `id` \"q\" \\n #"), ("A", "1\n 2\n"), ("x y", "\r")]);
    let text = made.files.values().next().expect("a file").bytes.expose_str().expect("text");
    assert_eq!(text, "A='1\n 2\n'\nb.c-d='$X `id` \"q\" \\n #'\nx y='\r'\n");
}

#[test]
fn what_the_kubelet_cannot_read_is_an_error_with_source_and_key() {
    let output = whole("db", "app.env", FileFormat::EnvFile);
    let long = "geheim".repeat(20_000);
    for (key, value, part) in [
        ("#a", "geheim", "key \"#a\" cannot be in an env file of Kubernetes"),
        ("a=b", "geheim", "key \"a=b\" cannot be in an env file"),
        (" a", "geheim", "key \" a\" cannot be in an env file"),
        ("ü", "geheim", "give it another name with `rename`"),
        ("k", "", "the value of key \"k\" is empty"),
        ("k", "geheim's", "the value of key \"k\" contains a single quote"),
        ("k", "geheim\r\n", "the value of key \"k\" contains a carriage return before a newline"),
        ("k", "geheim\0", "the value of key \"k\" contains a NUL byte"),
        ("k", &long, "the value of key \"k\" contains a line that is too long"),
        ("k", &format!("a\n{long}"), "the value of key \"k\" contains a line that is too long"),
    ] {
        let failure = failure(&output, &[(key, value)]);
        assert_eq!(failure.class, FailureClass::Invalid);
        let message = &failure.message;
        assert!(message.contains("file app.env: source db: ") && message.contains(part), "{message}");
        assert!(!message.contains("geheim"), "{message}");
    }
}

/// Texts with more of what the kubelet treats in a special way than chance gives.
fn texts() -> impl Strategy<Value = String> {
    let special = vec!["'", "\"", "\\", "#", "=", " ", "\t", "\r", "\n", "\r\n", "\0", "$A", "ü", "export "];
    let lengths = prop::sample::select(vec![MAX_LINE - 5, MAX_LINE - 4, MAX_LINE - 3, MAX_LINE, MAX_LINE + 1]);
    let pieces = prop_oneof![
        8 => prop::sample::select(special).prop_map(String::from),
        8 => "[ -~]{0,6}",
        1 => any::<char>().prop_map(String::from),
        1 => lengths.prop_map(|length| "x".repeat(length)),
    ];
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Either the kubelet reads exactly the value of each key, or the key and its value are refused. Nothing that it can read is
    /// refused, apart from a NUL byte, which no variable can contain, and names that the API server rejects.
    #[test]
    fn kubelet_reads_exactly_the_values(secret in prop::collection::btree_map(texts(), texts(), 0..4)) {
        let entries: Vec<_> = secret.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        let output = whole("db", "app.env", FileFormat::EnvFile);
        let is_valid_name = |name: &str| name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_read = |(name, text): &(&str, &str)| {
            let file = format!("{name}='{text}'\nLAST='end'\n");
            is_valid_name(name)
                && !text.is_empty()
                && !text.contains('\0')
                && parse_env(&file, name).as_deref() == Ok(*text)
                && parse_env(&file, "LAST").as_deref() == Ok("end")
        };
        match super::super::render_output(&output, &readings(&[("db", &entries)])) {
            Ok(made) => {
                prop_assert!(entries.iter().all(is_read));
                let file = made.files.values().next().expect("a file").bytes.expose_str().expect("text");
                for (name, text) in &entries {
                    prop_assert_eq!(parse_env(file, name), Ok((*text).to_owned()));
                }
            }
            Err(failure) => prop_assert!(!entries.iter().all(is_read), "{}", failure),
        }
    }
}

/// Numbers and nested values of one source are written as in `dotenv`.
#[test]
fn values_that_are_not_text_are_written_as_json() {
    let mut secret: BTreeMap<_, _> = data(&[("A", "text")]);
    secret.insert("N".into(), crate::model::SecretValue::Json("1.50".into()));
    secret.insert("O".into(), crate::model::SecretValue::Json(r#"{"a":[1,"b"]}"#.into()));
    secret.insert("P".into(), crate::model::SecretValue::Json("null".into()));
    let source = super::source("db");
    let keys = crate::model::KeySelection::default();
    let Ok(selected) = super::super::selection::selected(&secret, &keys) else { panic!("no collision") };
    let Ok(bytes) = super::super::format::whole(FileFormat::EnvFile, &source, &selected) else { panic!("renders") };
    assert_eq!(bytes.expose_str(), Some("A='text'\nN='1.50'\nO='{\"a\":[1,\"b\"]}'\n"));
}
