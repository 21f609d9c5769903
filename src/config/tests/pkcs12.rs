//! `outputs[].format: pkcs12`

use super::{loaded, rejected};
use crate::model::{FilePath, KeyReference, OutputKind, Pkcs12, SourceName};

/// A certificate, a secret, and a list, with this output.
fn document(output: &str) -> String {
    format!(
        "vault: {{address: 'https://v'}}\nauth: {{role: r}}\nsources: {{\n  web: {{pki: {{issue: pki/issue/web, commonName: \
         a}}}},\n  app: {{path: secret/app}},\n  team: {{path: secret/team, list: true}},\n}}\noutputs: [{{{output}}}]\n"
    )
}

fn file(output: &str) -> (String, Pkcs12) {
    let outputs = loaded(&[], Some(&document(output))).outputs;
    let sources = outputs[0].sources();
    match outputs.into_iter().next().expect("an output").kind {
        OutputKind::Pkcs12 { path, file } => {
            assert!(sources.contains(&file.password.source) && sources.len() == 2, "both sources");
            (path.to_string(), file)
        }
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn keystore_of_certificate_has_default_keys() {
    let password = |source, key: &str| KeyReference { source: SourceName::new(source).expect(source), key: key.into() };
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (path, found) = file("source: web, format: pkcs12, file: web/keystore.p12, password: {source: app, key: pw}");
    assert_eq!(path, "web/keystore.p12");
    let default = keys(&["certificate", "intermediates", "ca", "private_key"]);
    assert_eq!(found, Pkcs12 { keys: default, password: password("app", "pw"), alias: None });
    let (_, found) = file(
        "source: web, bundle: [ca], format: pkcs12, file: t.p12, password: {source: team, key: a/pw}, alias: 'Zoë CA'",
    );
    let expected =
        Pkcs12 { keys: keys(&["ca"]), password: password("team", "a/pw"), alias: Some("Zoë CA".to_owned()) };
    assert_eq!(found, expected);
}

#[test]
fn password_can_be_in_the_same_secret() {
    let output =
        "source: app, bundle: [tls.crt, tls.key], format: pkcs12, file: k.p12, password: {source: app, key: pw}";
    let outputs = loaded(&[], Some(&document(output))).outputs;
    assert_eq!(outputs[0].sources().len(), 1);
    assert_eq!(outputs[0].known_files(), Some(vec![FilePath::new("k.p12").expect("a path")]));
}

#[test]
fn each_error_has_its_path_and_its_action() {
    const FILE: &str = "source: web, format: pkcs12, file: k.p12";
    const PASSWORD: &str = "password: {source: app, key: pw}";
    for (output, path, part) in [
        (FILE, "password", "is missing; set it to the source and the key"),
        (&format!("{FILE}, password: geheim"), "password", "must be a mapping, not text"),
        (&format!("{FILE}, password: {{key: pw}}"), "password.source", "is missing"),
        (&format!("{FILE}, password: {{source: app}}"), "password.key", "is missing"),
        (&format!("{FILE}, password: {{source: ap, key: pw}}"), "password.source", "did you mean `app`?"),
        (&format!("{FILE}, password: {{source: web, key: ca}}"), "password.source", "not a certificate"),
        (&format!("{FILE}, password: {{source: team, key: pw}}"), "password.key", "the path of a secret below"),
        (&format!("source: web, format: pkcs12, {PASSWORD}"), "file", "like \"keystore.p12\""),
        (&format!("source: app, format: pkcs12, file: k.p12, {PASSWORD}"), "bundle", "like [tls.crt, tls.key]"),
        (&format!("{FILE}, {PASSWORD}, bundle: [private_key, ca]"), "bundle", "must contain `certificate`"),
        (&format!("{FILE}, {PASSWORD}, bundle: [crt]"), "bundle[0]", "must be a key of a certificate"),
        (&format!("{FILE}, {PASSWORD}, bundle: [serial_number, ca]"), "bundle[0]", "it is text and not PEM"),
        (&format!("{FILE}, {PASSWORD}, bundle: []"), "bundle", "must list at least one key"),
        (&format!("{FILE}, {PASSWORD}, prefix: a"), "prefix", "cannot be combined with `format`"),
        (&format!("{FILE}, {PASSWORD}, include: [a]"), "include", "are in `bundle`"),
        (&format!("{FILE}, {PASSWORD}, key: ca"), "format", "list the keys of the file in `bundle`"),
        (&format!("{FILE}, {PASSWORD}, alias: '🔑'"), "alias", "Basic Multilingual Plane"),
        (&format!("{FILE}, {PASSWORD}, alias: ''"), "alias", "must not be empty"),
        (&format!("source: web, key: ca, {PASSWORD}"), "password", "requires `format: pkcs12`"),
        (&format!("source: app, format: json, file: a, {PASSWORD}"), "password", "requires `format: pkcs12`"),
        ("source: web, bundle: [ca], alias: a, file: a.pem", "alias", "requires `format: pkcs12`"),
        ("source: app, bundle: [a], format: json, file: a", "format", "unless it is `pkcs12`"),
    ] {
        let error = rejected(&[], Some(&document(output)));
        let text = error.to_string();
        assert_eq!(error.diagnostics.len(), 1, "{output}: {text}");
        assert!(text.starts_with(&format!("outputs[0].{path}: ")) && text.contains(part), "{output}: {text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}
