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
    assert_eq!((source.path.as_str(), source.engine), ("pki/issue/shop", KvEngine::Other));
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
        "other:pki/issue/shop#method=write#bits=256#cn=true#common_name=\"web-0.shop\"#ttl=\"24h\"\
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
