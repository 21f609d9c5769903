//! A PKCS#12 file of two sources.

use std::collections::BTreeSet;

use rcgen::{CertificateParams, KeyPair};

use super::{Rendered, path, readings, render_output, source};
use crate::model::{Failure, FailureClass, KeyReference, Output, OutputKind, Pkcs12, Reason};

fn keystore(keys: &[&str]) -> Output {
    let password = KeyReference { source: source("app"), key: "pw".into() };
    let file = Pkcs12 { keys: keys.iter().map(ToString::to_string).collect(), password, alias: None };
    Output { source: source("web"), kind: OutputKind::Pkcs12 { path: path("k.p12"), file }, mode: None }
}

/// A key and its certificate, as PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["web".to_owned()]).expect("params").self_signed(&key);
    (key.serialize_pem(), certificate.expect("a certificate").pem())
}

fn attempt(sources: &[(&str, &[(&str, &str)])]) -> Result<Rendered, Failure> {
    render_output(&keystore(&["tls.crt", "tls.key"]), &readings(sources))
}

#[test]
fn file_records_both_sources_and_waits_for_them() {
    let (key, certificate) = pair();
    let web = ("web", &[("tls.crt", certificate.as_str()), ("tls.key", &key)][..]);
    let app = ("app", &[("pw", "Losungswort")][..]);
    for part in [&[web][..], &[app], &[]] {
        let made = attempt(part).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(made.files.is_empty());
    }
    let made = attempt(&[web, app]).unwrap_or_else(|failure| panic!("{failure}"));
    let file = &made.files[&path("k.p12")];
    assert_eq!(file.sources, BTreeSet::from([source("app"), source("web")]));
    let again = attempt(&[web, app]).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(file.bytes == again.files[&path("k.p12")].bytes, "equal input gives equal bytes");
    let other = attempt(&[web, ("app", &[("pw", "other")])]).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(file.bytes != other.files[&path("k.p12")].bytes);
}

/// Each source is judged without the other one, so that the one whose content is wrong fails.
#[test]
fn each_failure_names_source_and_key_and_no_value() {
    let ((key, certificate), (other, _)) = (pair(), pair());
    let web = |key| ("web", vec![("tls.crt", certificate.as_str()), ("tls.key", key)]);
    for (found, class, part) in [
        (("app", vec![("pw", "")]), FailureClass::Invalid, "key \"pw\" of source app is empty"),
        (("app", vec![("pw", "geheim\n")]), FailureClass::Invalid, "key \"pw\" of source app is not a usable password"),
        (("app", vec![("pw", "gehëim")]), FailureClass::Invalid, "printable ASCII"),
        (("app", vec![("other", "a")]), FailureClass::Missing, "source app has no key \"pw\""),
        (("web", vec![("tls.crt", certificate.as_str())]), FailureClass::Missing, "source web has no key \"tls.key\""),
        (web("geheim"), FailureClass::Invalid, "source web: the value of key \"tls.key\" is not PEM"),
        (web(other.as_str()), FailureClass::Invalid, "the private key of key \"tls.key\" belongs to none"),
    ] {
        let Err(failure) = attempt(&[(found.0, &found.1)]) else { panic!("must fail: {part}") };
        assert_eq!((failure.class, failure.reason), (class, Reason::RenderFailed));
        let message = failure.message;
        assert!(message.starts_with("failed to render file k.p12: ") && message.contains(part), "{message}");
        assert!(!message.contains("geh") && !message.contains(&key[30..60]), "{message}");
    }
}
