//! `sources.<name>.pki`, and the outputs of certificates.

use std::time::Duration;

use super::super::load;
use super::{environment, loaded};
use crate::model::{CertificateRequest, FilePath, KeyType, Output, OutputKind, RequestMethod, Source, SourceName};

const POD: [(&str, &str); 3] = [("POD_NAME", "web-0"), ("POD_IP", "10.0.0.7"), ("POD_NAMESPACE", "shop")];

/// A configuration with these sources, and more.
fn document(sources: &str, more: &str) -> String {
    format!("vault: {{address: 'https://v'}}\nauth: {{role: r}}\nsources: {{{sources}}}\n{more}\n")
}

fn source(pki: &str) -> (Source, CertificateRequest) {
    let settings = loaded(&POD, Some(&document(&format!("web: {{pki: {{{pki}}}}}"), "")));
    let source = settings.sources[&SourceName::new("web").expect("a name")].clone();
    let certificate = source.certificate.clone().expect("a certificate");
    (source, certificate)
}

#[test]
fn names_contain_properties_of_the_pod() {
    let (source, certificate) = source(
        "issue: /pki/issue/web/, commonName: web.example.com, altNames: ['${POD_NAME}.web.example.com', b.example.com], \
         ipSans: ['${POD_IP}', '::1'], uriSans: ['spiffe://example.com/ns/${POD_NAMESPACE}'], ttl: 24h, renewBefore: 6h",
    );
    assert_eq!((source.path.as_str(), source.method), ("pki/issue/web", RequestMethod::Write));
    assert_eq!((certificate.key, certificate.renew_before), (None, Some(Duration::from_hours(6))));
    assert_eq!(
        source.request_id(),
        "other:pki/issue/web#method=write#alt_names=\"web-0.web.example.com,b.example.com\"\
         #common_name=\"web.example.com\"#ip_sans=\"10.0.0.7,::1\"#ttl=\"86400s\"\
         #uri_sans=\"spiffe://example.com/ns/shop\""
    );
}

#[test]
fn key_is_made_by_the_agent_for_sign_only() {
    let key = |pki: &str| source(&format!("{pki}, commonName: a")).1.key;
    assert_eq!(key("issue: pki/issuer/i/issue/web"), None);
    assert_eq!(key("sign: pki/sign/web"), Some(KeyType::EcP256));
    assert_eq!(key("sign: pki/sign-verbatim/web, keyType: ec-p384"), Some(KeyType::EcP384));
    assert_eq!(key("sign: pki/issuer/i/sign/web, keyType: ed25519"), Some(KeyType::Ed25519));
    let id = |pki: &str| source(pki).0.request_id();
    let default = id("sign: pki/sign/web, commonName: a");
    assert_ne!(default, id("sign: pki/sign/web, commonName: a, keyType: ed25519"), "another key is another request");
    assert_eq!(default, id("sign: pki/sign/web, commonName: a, renewBefore: 1h"), "the same request at another time");
}

fn outputs(more: &str) -> Vec<Output> {
    loaded(&POD, Some(&document("web: {pki: {issue: pki/issue/web, commonName: a}}", more))).outputs
}

fn bundle(path: &str, keys: &[&str]) -> OutputKind {
    let path = FilePath::new(path).expect("a path");
    OutputKind::Bundle { path, keys: keys.iter().map(ToString::to_string).collect() }
}

#[test]
fn default_files_are_those_of_a_tls_secret() {
    let kinds = |more: &str| outputs(more).into_iter().map(|output| output.kind).collect::<Vec<_>>();
    let files = |prefix: &str| {
        let name = |name: &str| format!("{prefix}{name}");
        vec![
            bundle(&name("tls.crt"), &["certificate", "intermediates"]),
            bundle(&name("tls.key"), &["private_key"]),
            bundle(&name("ca.crt"), &["ca"]),
        ]
    };
    assert_eq!(kinds(""), files(""));
    assert_eq!(kinds("outputs: [{source: web, prefix: web}]"), files("web/"));
    assert_eq!(
        kinds("outputs: [{source: web, bundle: [private_key, certificate, ca_chain], file: a.pem}]"),
        [bundle("a.pem", &["private_key", "certificate", "ca_chain"])]
    );
    let mirror = "mirrors: {web-tls: {type: kubernetes.io/tls, keys: {tls.crt: tls.crt, tls.key: tls.key}}}";
    assert_eq!(kinds(mirror), files(""));
    let mode = &outputs("outputs: [{source: web, mode: '0400'}]")[1].mode;
    assert!(mode.is_some(), "{mode:?}");
}

#[test]
fn each_error_has_its_path_and_its_action() {
    // pki, key in the source, part of the message
    let table = [
        ("{}", "pki.issue", "set `sign`"),
        ("{issue: pki/issue/web, sign: pki/sign/web, commonName: a}", "pki.sign", "cannot be combined with `issue`"),
        ("{issue: pki/sign/web, commonName: a}", "pki.issue", "like \"pki/issue/web\""),
        ("{sign: pki/issue/web, commonName: a}", "pki.sign", "like \"pki/sign/web\""),
        ("{issue: issue/web, commonName: a}", "pki.issue", "must be the path of a role"),
        ("{issue: pki/issue/web}", "pki.commonName", "is missing"),
        ("{issue: pki/issue/web, commonName: '${HOME}'}", "pki.commonName", "unknown placeholder"),
        ("{issue: pki/issue/web, altNames: ['${NODE_NAME}']}", "pki.altNames[0]", "spec.nodeName"),
        ("{issue: pki/issue/web, altNames: ['a,b']}", "pki.altNames[0]", "without spaces and commas"),
        ("{issue: pki/issue/web, altNames: ['zoë.example.com']}", "pki.altNames[0]", "Punycode"),
        ("{issue: pki/issue/web, commonName: ''}", "pki.commonName", "must not be empty"),
        ("{issue: pki/issue/web, commonName: a, altNames: [b, ' ']}", "pki.altNames[1]", "must not be empty"),
        ("{issue: pki/issue/web, ipSans: ['']}", "pki.ipSans[0]", "must not be empty"),
        ("{issue: pki/issue/web, ipSans: [web]}", "pki.ipSans[0]", "must be an IPv4 or IPv6 address"),
        ("{issue: pki/issue/web, uriSans: [web]}", "pki.uriSans[0]", "scheme"),
        ("{issue: pki/issue/web, commonName: a, ttl: 0}", "pki.ttl", "at least 1s"),
        ("{issue: pki/issue/web, commonName: a, ttl: 1h, renewBefore: 1h}", "pki.renewBefore", "less than `ttl` (1h)"),
        ("{issue: pki/issue/web, commonName: a, keyType: ed25519}", "pki.keyType", "requires `sign`"),
        ("{sign: pki/sign/web, commonName: a, keyType: rsa}", "pki.keyType", "must be one of ec-p256"),
        ("{issue: pki/issue/web, common_name: a}", "pki.common_name", "did you mean `commonName`?"),
    ];
    for (pki, path, part) in table {
        let text = document(&format!("web: {{pki: {pki}}}"), "");
        let Err(error) = load(&environment(&[]), Some(&text)) else { panic!("must be rejected: {pki}") };
        let path = format!("sources.web.{path}");
        let found = error.diagnostics.iter().any(|one| one.path == path && one.message.contains(part));
        assert!(found, "{pki}: {error}");
    }
}

#[test]
fn keys_for_other_sources_are_reported_together() {
    let web = "web: {path: a/b, method: write, engine: other, overlap: 1m, watchLease: 5m, pki: {issue: pki/issue/web, commonName: a}, \
               parameters: {ttl: 1h, csr: x, other_sans: y}}, b: {pki: {sign: pki/sign/b, commonName: b}}";
    let text = document(web, "outputs: [{source: web, key: tls.crt}, {source: web, key: ca, encoding: base64}]");
    let Err(error) = load(&environment(&[]), Some(&text)) else { panic!("must be rejected") };
    let paths: Vec<_> = error.diagnostics.iter().map(|one| one.path.as_str()).collect();
    let expected = [
        "outputs[0].key",
        "outputs[1].encoding",
        "sources.web.path",
        "sources.web.engine",
        "sources.web.method",
        "sources.web.overlap",
        "sources.web.watchLease",
        "sources.web.parameters.ttl",
        "sources.web.parameters.csr",
    ];
    assert_eq!(paths, expected, "{error}");
    let Err(error) = load(
        &environment(&[]),
        Some(&document(&web.replace("path: a/b, method: write, engine: other, overlap: 1m, watchLease: 5m, ", ""), "")),
    ) else {
        panic!("two certificates with the same files")
    };
    assert!(error.to_string().contains("with several certificates"), "{error}");
}
