//! Sources with a method and parameters.

use super::diagnostics::with;
use super::{loaded, rejected};
use crate::model::{KvEngine, Parameter, SourceName};

#[test]
fn source_is_a_request_with_placeholders() {
    let document = r#"
sources:
  certificate:
    path: pki/issue/${POD_NAMESPACE}
    method: write
    parameters: {common_name: "${POD_NAME}.shop", ttl: 24h, uri_sans: ["spiffe://${POD_NAME}", b], bits: 256, cn: true}
"#;
    let environment =
        [("VAULT_ADDR", "https://v"), ("KEYFERRY_ROLE", "webapp"), ("POD_NAME", "web-0"), ("POD_NAMESPACE", "shop")];
    let settings = loaded(&environment, Some(document));
    let source = &settings.sources[&SourceName::new("certificate").expect("name")];
    assert_eq!((source.path.as_str(), source.engine), ("pki/issue/shop", KvEngine::Detect));
    let text = |text: &str| Parameter::Text(text.into());
    let expected = [
        ("bits", Parameter::Integer(256)),
        ("cn", Parameter::Boolean(true)),
        ("common_name", text("web-0.shop")),
        ("ttl", text("24h")),
        ("uri_sans", Parameter::List(vec![text("spiffe://web-0"), text("b")])),
    ];
    assert!(source.parameters.iter().map(|(name, value)| (name.as_str(), value.clone())).eq(expected));
    assert_eq!(
        source.request_id(),
        "detect:pki/issue/shop#method=write#bits=256#cn=true#common_name=\"web-0.shop\"#ttl=\"24h\"\
         #uri_sans=[\"spiffe://web-0\",\"b\"]"
    );
}

#[test]
fn each_error_of_a_request_has_its_path_and_its_action() {
    for (section, path, part) in [
        (
            "sources: {db: {path: pki/issue/a, method: put}}",
            "sources.db.method",
            "must be one of read, write (found \"put\")",
        ),
        ("sources: {db: {path: pki/issue/a, method: write, engine: kv-v2}}", "sources.db.engine", "cannot be KV"),
        ("sources: {db: {path: aws/creds/a, parameters: {ttl: 1h}, version: 1}}", "sources.db.version", "remove it"),
        ("sources: {db: {path: pki/issue/a, parameters: {ttl: {}}}}", "sources.db.parameters.ttl", "a list of them"),
        ("sources: {db: {path: pki/issue/a, parameters: {a: [[b]]}}}", "sources.db.parameters.a[0]", "true or false"),
        (
            "sources: {db: {path: pki/issue/a, parameters: {cn: '${HOME}'}}}",
            "sources.db.parameters.cn",
            "unknown placeholder; use one of ${POD_NAME}",
        ),
        (
            "sources: {db: {path: 'pki/issue/${POD_IP}'}}",
            "sources.db.path",
            "{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}",
        ),
    ] {
        let lines: Vec<_> = rejected(&[], Some(&with(section))).diagnostics.iter().map(ToString::to_string).collect();
        let found = lines.iter().any(|line| line.starts_with(&format!("{path}: ")) && line.contains(part));
        assert!(found, "{section}: {lines:#?}");
    }
}

#[test]
fn previous_version_has_a_suffix() {
    for (previous, suffix) in [
        ("true", Some(".previous")),
        ("{}", Some(".previous")),
        ("{suffix: _PREVIOUS}", Some("_PREVIOUS")),
        ("false", None),
        ("~", None),
    ] {
        let settings = loaded(&[], Some(&with(&format!("sources: {{db: {{path: secret/a, previous: {previous}}}}}"))));
        let source = &settings.sources[&SourceName::new("db").expect("name")];
        assert_eq!(source.previous.as_deref(), suffix, "{previous}");
        let expected = suffix.map_or("detect:secret/a".into(), |suffix| format!("detect:secret/a#previous={suffix:?}"));
        assert_eq!(source.request_id(), expected);
    }
}

#[test]
fn previous_version_contradicts_other_requests() {
    let source = |keys: &str| format!("sources: {{db: {{path: secret/a, previous: true, {keys}}}}}");
    for (section, path, part) in [
        (source("version: 2"), "sources.db.previous", "cannot be combined with `version`"),
        (source("method: write"), "sources.db.previous", "cannot be combined with `method: write`"),
        (source("parameters: {a: b}"), "sources.db.previous", "`parameters`; remove it"),
        (source("engine: kv-v1"), "sources.db.previous", "requires KV version 2"),
        (source("engine: other"), "sources.db.previous", "requires KV version 2"),
        ("sources: {db: {path: secret/a, previous: 1}}".into(), "sources.db.previous", "a mapping with suffix"),
        (
            "sources: {db: {path: secret/a, previous: {sufix: x}}}".into(),
            "sources.db.previous.sufix",
            "did you mean `suffix`?",
        ),
        (
            "sources: {db: {path: secret/a, previous: {suffix: /old}}}".into(),
            "sources.db.previous.suffix",
            "without \"/\"",
        ),
        (
            "sources: {db: {path: secret/a, previous: true}}\noutputs: [{source: db, format: dotenv, file: env}]"
                .into(),
            "outputs[0].format",
            "\"KEY.previous\" of the previous version is not the name of a shell variable",
        ),
        (
            "sources: {db: {path: secret/a, previous: true}}\n\
             outputs: [{source: db, format: dotenv, file: env, include: [A, 'DB_*']}]"
                .into(),
            "outputs[0].format",
            "\"DB_KEY.previous\" of the previous version",
        ),
    ] {
        let error = rejected(&[], Some(&with(&section)));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{section}: {text}");
        assert!(text.starts_with(&format!("{path}: ")) && text.contains(part), "{section}: {text}");
    }
    for output in ["exclude: ['*.previous']", "include: [A]", "include: ['A*', B], exclude: ['*.previous']"] {
        let outputs = format!("outputs: [{{source: db, format: dotenv, file: env, {output}}}]");
        loaded(&[], Some(&with(&format!("sources: {{db: {{path: secret/a, previous: true}}}}\n{outputs}"))));
    }
}
