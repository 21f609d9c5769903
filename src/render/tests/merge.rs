//! Files that are merged from several sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{contents, path, render_output, source};
use crate::model::{
    Failure, FailureClass, FileFormat, Glob, KeySelection, MergeItem, Output, OutputKind, Reading, Reason, SecretValue,
    SourceName, Validity, Version,
};

const FORMATS: [FileFormat; 6] = [
    FileFormat::Dotenv,
    FileFormat::EnvFile,
    FileFormat::Json,
    FileFormat::Properties,
    FileFormat::Toml,
    FileFormat::Yaml,
];

fn item(name: &str, under: &[&str]) -> MergeItem {
    let under = under.iter().map(ToString::to_string).collect();
    MergeItem { source: source(name), under, keys: KeySelection::default() }
}

fn merged(format: FileFormat, items: Vec<MergeItem>) -> Output {
    let source = items[0].source.clone();
    Output { source, kind: OutputKind::Merged { path: path("f"), format, items }, mode: None }
}

/// A reading of the JSON object `data`. Its text is used as it is, so that numbers keep their digits.
fn reading(data: &str) -> Reading {
    let members: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(data).expect(data);
    let value = |raw: &serde_json::value::RawValue| SecretValue::from_json(raw.get()).expect("JSON");
    Reading {
        data: members.into_iter().map(|(key, raw)| (key, value(raw))).collect(),
        version: Version::default(),
        validity: Validity::Unlimited,
        warnings: Vec::new(),
        ..Reading::default()
    }
}

fn attempt(output: &Output, secrets: &[(&str, &str)]) -> Result<Option<String>, Failure> {
    let readings: BTreeMap<SourceName, Arc<Reading>> =
        secrets.iter().map(|(name, data)| (source(name), Arc::new(reading(data)))).collect();
    let made = render_output(output, &readings)?;
    Ok(contents(&made.files).first().map(|(_, text)| (*text).to_owned()))
}

fn rendered(output: &Output, secrets: &[(&str, &str)]) -> String {
    attempt(output, secrets).unwrap_or_else(|failure| panic!("{failure}")).expect("a file")
}

fn failed(output: &Output, secrets: &[(&str, &str)]) -> Failure {
    let Err(failure) = attempt(output, secrets) else { panic!("must fail") };
    assert_eq!(failure.reason, Reason::RenderFailed);
    assert!(failure.message.starts_with("failed to render "), "{failure}");
    failure
}

/// The example of the documentation.
const APP: &str = r#"{"server": {"port": 8443, "hosts": ["a", "b"]}, "spring": {"datasource": {"url": "jdbc:old",
    "pool": 1.50}}, "serial": 12345678901234567890, "off": false, "none": null}"#;
const DB: &str = r#"{"url": "jdbc:pg", "driver-class-name": "org.Driver", "note": "it\u0027s\nü"}"#;

fn example(format: FileFormat) -> Output {
    merged(format, vec![item("app", &[]), item("db", &["spring", "datasource"])])
}

#[test]
fn mappings_are_merged_and_the_later_item_wins() {
    let secrets = [("app", APP), ("db", DB)];
    let json = "{\"none\":null,\"off\":false,\"serial\":12345678901234567890,\"server\":{\"hosts\":[\"a\",\"b\"],\
                \"port\":8443},\"spring\":{\"datasource\":{\"driver-class-name\":\"org.Driver\",\
                \"note\":\"it's\\nü\",\"pool\":1.50,\"url\":\"jdbc:pg\"}}}\n";
    assert_eq!(rendered(&example(FileFormat::Json), &secrets), json);
    let yaml = "\"none\": null\n\"off\": false\n\"serial\": 12345678901234567890\n\"server\":\n  \
                \"hosts\": [\"a\", \"b\"]\n  \"port\": 8443\n\"spring\":\n  \"datasource\":\n    \
                \"driver-class-name\": \"org.Driver\"\n    \"note\": \"it's\\nü\"\n    \"pool\": 1.50\n    \
                \"url\": \"jdbc:pg\"\n";
    assert_eq!(rendered(&example(FileFormat::Yaml), &secrets), yaml);
    let properties = "off=false\nserial=12345678901234567890\nserver.hosts[0]=a\nserver.hosts[1]=b\nserver.port=8443\n\
                      spring.datasource.driver-class-name=org.Driver\nspring.datasource.note=it's\\n\\u00FC\n\
                      spring.datasource.pool=1.50\nspring.datasource.url=jdbc\\:pg\n";
    assert_eq!(rendered(&example(FileFormat::Properties), &secrets), properties);
    let dotenv = "SERVER_HOSTS_0='a'\nSERVER_HOSTS_1='b'\nSERVER_PORT='8443'\n\
                  SPRING_DATASOURCE_DRIVERCLASSNAME='org.Driver'\nSPRING_DATASOURCE_NOTE='it'\\''s\nü'\n\
                  SPRING_DATASOURCE_POOL='1.50'\nSPRING_DATASOURCE_URL='jdbc:pg'\noff='false'\n\
                  serial='12345678901234567890'\n";
    assert_eq!(rendered(&example(FileFormat::Dotenv), &secrets), dotenv);
    let failure = failed(&example(FileFormat::Toml), &secrets);
    assert!(failure.message.contains("source app: the value of key \"serial\" contains a whole number"), "{failure}");
    let failure = failed(&example(FileFormat::EnvFile), &secrets);
    assert!(failure.message.contains("source db: the value of key \"note\" contains a single quote"), "{failure}");
    assert!(!failure.message.contains("it's"), "{failure}");
}

#[test]
fn toml_has_tables_and_keeps_digits() {
    let app = r#"{"a b": -9223372036854775808, "x": 1.50, "e": 1e-7, "list": [{"k": [1, {}]}, "t\u0001\"\\"], "none": null,
        "deep": {"only": {"table": true, "none": null}, "n": 0}, "empty": {}}"#;
    let toml = "\"a b\" = -9223372036854775808\ne = 1e-7\nlist = [{ k = [1, {}] }, \"t\\u0001\\\"\\\\\"]\nx = 1.50\n\n\
                [deep]\nn = 0\n\n[deep.only]\ntable = true\n\n[empty]\n\n[spring.datasource]\nurl = \"u\"\n";
    let output = merged(FileFormat::Toml, vec![item("app", &[]), item("db", &["spring", "datasource"])]);
    assert_eq!(rendered(&output, &[("app", app), ("db", r#"{"url": "u"}"#)]), toml);
    // The same for one source without `merge`.
    let kind = OutputKind::Whole { path: path("f"), format: FileFormat::Toml, keys: KeySelection::default() };
    let whole = Output { kind, ..output.clone() };
    let text = rendered(&whole, &[("app", app)]);
    assert!(toml.starts_with(&text) && text.ends_with("[empty]\n"), "{text}");
    for (bad, part) in [
        (r#"{"n": 9223372036854775808}"#, "the value of key \"n\" contains a whole number of more than 64 bits"),
        (r#"{"n": {"a": [18446744073709551615]}}"#, "the value of key \"n\" contains a whole number"),
        (r#"{"n": [1, null]}"#, "the value of key \"n\" contains null in a list"),
    ] {
        for output in [&output, &whole] {
            let failure = failed(output, &[("app", bad)]);
            assert!(failure.message.contains(part) && failure.message.contains("source app"), "{failure}");
        }
    }
}

#[test]
fn file_waits_for_all_sources_and_records_them() {
    for format in FORMATS {
        let output = merged(format, vec![item("app", &[]), item("db", &["db"]), item("app", &["again"])]);
        assert_eq!(output.sources(), BTreeSet::from([source("app"), source("db")]));
        assert_eq!(output.known_files(), Some(vec![path("f")]));
        for part in [&[("app", r#"{"A": "1"}"#)][..], &[("db", r#"{"A": "1"}"#)], &[]] {
            assert_eq!(attempt(&output, part).unwrap_or_else(|failure| panic!("{failure}")), None);
        }
        rendered(&output, &[("app", r#"{"A": "1"}"#), ("db", r#"{"A": "1"}"#)]);
    }
}

#[test]
fn each_source_is_checked_without_the_others() {
    let output = |format| merged(format, vec![item("app", &[]), item("db", &[])]);
    let good = ("db", r#"{"a": "1", "A": "1"}"#);
    for (format, bad, part) in [
        (FileFormat::Dotenv, r#"{"a-b": "geheim"}"#, "source app: key \"a-b\" is not a valid name of a shell variable"),
        (FileFormat::Dotenv, r#"{"a": {"ü": "geheim"}}"#, "source app: key \"A_ü\" is not a valid name"),
        (FileFormat::Dotenv, r#"{"a": "\u0000geheim"}"#, "source app: the value of key \"a\" contains a NUL byte"),
        (FileFormat::EnvFile, r#"{"a": ""}"#, "source app: the value of key \"a\" is empty"),
        (FileFormat::EnvFile, r#"{"a": {"b": []}}"#, "source app: the value of key \"a\" is empty"),
        (
            FileFormat::EnvFile,
            r#"{"a": {"b": "geheim'"}}"#,
            "source app: the value of key \"a\" contains a single quote",
        ),
        (FileFormat::Toml, r#"{"a": [null]}"#, "source app: the value of key \"a\" contains null in a list"),
    ] {
        // The bad value is replaced by that of the later item, but the result must not depend on the order of the reads.
        for secrets in [&[("app", bad)][..], &[("app", bad), good]] {
            let failure = failed(&output(format), secrets);
            assert_eq!(failure.class, FailureClass::Invalid);
            assert!(failure.message.contains(part) && !failure.message.contains("geheim"), "{failure}");
        }
    }
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(64), "]".repeat(64));
    for format in FORMATS {
        let failure = failed(&output(format), &[("app", &deep)]);
        assert!(failure.message.contains("source app: the value of key \"a\" has more than 64 levels"), "{failure}");
    }
    let fine = format!("{{\"a\": {}1{}}}", "[".repeat(63), "]".repeat(63));
    for format in FORMATS {
        rendered(&output(format), &[("app", &fine), ("db", r#"{"b": "1"}"#)]);
    }
}

#[test]
fn two_values_with_one_name_in_the_file_are_an_error() {
    for (format, app, db, name) in [
        (FileFormat::Properties, r#"{"a.b": "geheim"}"#, r#"{"a": {"b": "1"}}"#, "a.b"),
        (FileFormat::Properties, r#"{"a[0]": "geheim"}"#, r#"{"a": ["1"]}"#, "a[0]"),
        (FileFormat::Dotenv, r#"{"A_B": "geheim"}"#, r#"{"a": {"b": "1"}}"#, "A_B"),
        (FileFormat::EnvFile, r#"{"a": {"b-c": "geheim"}}"#, r#"{"A": {"bc": "1"}}"#, "A_BC"),
    ] {
        let output = merged(format, vec![item("app", &[]), item("db", &[])]);
        let failure = failed(&output, &[("app", app), ("db", db)]);
        let message = &failure.message;
        assert!(message.contains("of source ") && message.contains("both have a value with the name"), "{message}");
        assert!(message.contains(&format!("{name:?}")) && !message.contains("geheim"), "{message}");
        // JSON has no such names.
        rendered(&merged(FileFormat::Json, vec![item("app", &[]), item("db", &[])]), &[("app", app), ("db", db)]);
    }
}

#[test]
fn items_select_and_rename_their_keys() {
    let glob = |text| vec![Glob::new(text).expect(text)];
    let rename = [("db-password".to_owned(), "password".to_owned())].into();
    let keys = KeySelection { include: glob("db-*"), exclude: glob("*-old"), rename };
    let items = vec![MergeItem { keys, ..item("app", &["db"]) }, item("app", &["all"])];
    let output = merged(FileFormat::Json, items);
    let secret = r#"{"db-password": "p", "db-old": "o", "url": "u"}"#;
    let all = r#""all":{"db-old":"o","db-password":"p","url":"u"}"#;
    assert_eq!(rendered(&output, &[("app", secret)]), format!("{{{all},\"db\":{{\"password\":\"p\"}}}}\n"));
    let failure = failed(&output, &[("app", r#"{"url": "u"}"#)]);
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(failure.message.contains("source app: no key of the secret matches `include`"), "{failure}");
}

#[test]
fn null_and_empty_values_follow_the_format() {
    let secrets = [
        ("app", r#"{"gone": "x", "kept": {"a": null, "b": [1, null]}, "m": {}, "l": []}"#),
        ("db", r#"{"gone": null}"#),
    ];
    let output = |format| merged(format, vec![item("app", &[]), item("db", &[])]);
    assert_eq!(
        rendered(&output(FileFormat::Json), &secrets),
        "{\"gone\":null,\"kept\":{\"a\":null,\"b\":[1,null]},\"l\":[],\"m\":{}}\n"
    );
    assert_eq!(rendered(&output(FileFormat::Properties), &secrets), "kept.b[0]=1\nkept.b[1]=\nl=\nm=\n");
    assert_eq!(rendered(&output(FileFormat::Dotenv), &secrets), "KEPT_B_0='1'\nKEPT_B_1=''\nl=''\nm=''\n");
    for (format, text) in [
        (FileFormat::Json, "{}\n"),
        (FileFormat::Yaml, "{}\n"),
        (FileFormat::Toml, ""),
        (FileFormat::Properties, ""),
        (FileFormat::Dotenv, ""),
    ] {
        assert_eq!(rendered(&output(format), &[("app", "{}"), ("db", "{}")]), text);
    }
}

/// Any JSON value. `whole` numbers and decimals that every parser reads alike.
fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,6}",
        any::<String>(),
        prop::sample::select(vec![
            "yes",
            "1",
            "null",
            "\u{85}\u{2028}",
            "\u{feff}",
            "\u{7f}",
            "\r\n",
            "'",
            "\"\\",
            "😀"
        ])
        .prop_map(String::from)
    ];
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| json!(f64::from(n) / 8.0)),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names(), inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-c]", "[ -~]{1,4}", "[a-z]{101,110}", any::<String>()]
}

fn objects() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(names(), values(), 0..5).prop_map(|members| json!(members))
}

/// The rule of the documentation.
fn merge(into: &mut Value, later: &Value) {
    match (into, later) {
        (Value::Object(into), Value::Object(later)) => {
            for (name, value) in later {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, later) => *into = later.clone(),
    }
}

proptest! {
    #[test]
    fn documents_are_read_by_real_parsers(one in objects(), two in objects()) {
        let (first, second) = (one.to_string(), two.to_string());
        let secrets = [("app", first.as_str()), ("db", &second)];
        let items = || vec![item("app", &[]), item("db", &["a", "b"])];
        let mut expected = one;
        if two != json!({}) {
            merge(&mut expected, &json!({"a": {"b": two}}));
        }
        let text = rendered(&merged(FileFormat::Json, items()), &secrets);
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected.clone());
        let text = rendered(&merged(FileFormat::Yaml, items()), &secrets);
        let options = serde_saphyr::options! { merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary };
        let read: Value = serde_saphyr::from_str_with_options(&text, options).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(read, expected.clone(), "{}", text);
        let text = rendered(&merged(FileFormat::Toml, items()), &secrets);
        let read: Value = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(read, expected, "{}", text);
    }
}
