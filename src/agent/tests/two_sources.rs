//! A file that is rendered from two sources: a keystore with its password.

use rcgen::{CertificateParams, KeyPair};

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, key, lease, mirror, name, not_found, object, path, reading, settings, unreachable,
};
use crate::agent::{LogLevel, Op};
use crate::model::{
    AdoptedSet, ConditionStatus, KeyReference, Output, OutputKind, Pkcs12, Reading, Reason, Settings, Validity,
};

const FILE: &str = "keystore.p12";

/// The sources `app`, with a password and its own file, and `web`, with key and certificate and the keystore.
fn with_keystore() -> Settings {
    let password = KeyReference { source: name("app"), key: "pw".into() };
    let file = Pkcs12 { keys: vec!["crt".into(), "key".into()], password, alias: None };
    let keystore = Output { source: name("web"), kind: OutputKind::Pkcs12 { path: path(FILE), file }, mode: None };
    let mut settings = settings(&["app", "web"]);
    settings.outputs = vec![key("app", "pw", "password"), keystore];
    settings
}

/// Version `number` of a secret with a new certificate and its key.
fn certificate(number: u64) -> Reading {
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::new(vec!["web".to_owned()]).expect("params").self_signed(&key);
    reading(number, &[("crt", &made.expect("a certificate").pem()), ("key", &key.serialize_pem())])
}

fn published(settings: Settings) -> (Driver, Reading) {
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    d.read_ok("app", 1, &[("pw", "one")]);
    let web = certificate(1);
    d.read("web", Ok(web.clone()));
    assert!(d.file(FILE).is_some(), "{:?}", d.log.len());
    (d, web)
}

/// The content of the file for a message-free comparison.
fn keystore(d: &Driver) -> Option<String> {
    d.file(FILE).map(str::to_owned)
}

#[test]
fn each_source_changes_the_file() {
    let (mut d, _) = published(with_keystore());
    let first = keystore(&d);
    d.advance(MINUTE * 2);
    d.read_ok("app", 2, &[("pw", "two")]);
    let second = keystore(&d);
    assert!(second != first && d.file("password") == Some("two"));
    d.read("web", Ok(certificate(2)));
    assert!(keystore(&d) != second);
    let set = d.agent.parts.publication.visible().expect("a set");
    assert_eq!(set.manifest.files[&path(FILE)], [name("app"), name("web")].into());
}

#[test]
fn refresh_without_a_change_publishes_nothing() {
    let (mut d, web) = published(with_keystore());
    let (first, published) = (keystore(&d), d.agent.generation());
    d.advance(MINUTE * 2);
    d.read_ok("app", 1, &[("pw", "one")]);
    d.read("web", Ok(web));
    assert!(keystore(&d) == first && d.agent.generation() == published);
}

#[test]
fn unusable_password_keeps_the_file_and_only_its_source_fails() {
    let (mut d, _) = published(with_keystore());
    let first = keystore(&d);
    d.advance(MINUTE * 2);
    d.read_ok("app", 2, &[("pw", "")]);
    assert!(keystore(&d) == first && d.file("password") == Some("one"), "the last good set stays");
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.contains("key \"pw\" of source app is empty")));
    d.read("web", Ok(certificate(2)));
    assert!(keystore(&d) != first, "with the accepted password");
    d.advance(MINUTE * 2);
    d.read_ok("app", 3, &[("pw", "three")]);
    assert_eq!(d.file("password"), Some("three"));
}

#[test]
fn first_set_waits_for_both_sources() {
    let mut d = Driver::with(with_keystore(), RUN, None);
    d.login_ok(HOUR);
    d.read("web", Ok(certificate(1)));
    d.read("app", Err(not_found()));
    assert!(!d.agent.is_ready() && d.count(Kind::Publish) == 0);
    d.advance(MINUTE * 2);
    d.read_ok("app", 1, &[("pw", "one")]);
    assert!(d.agent.is_ready() && d.file(FILE).is_some());
}

/// A restart of the agent with the visible set of this process.
fn restarted(d: &Driver, settings: Settings) -> Driver {
    let visible = d.agent.parts.publication.visible().expect("a set is published");
    let (files, manifest) = (visible.files.clone(), visible.manifest.clone());
    let published = jiff::Timestamp::from_second(1000).expect("a time");
    let mut next = Driver::with(settings, RUN, Some(AdoptedSet { files, manifest, published }));
    next.files = d.files.clone();
    next
}

#[test]
fn adopted_file_stays_until_both_sources_are_read() {
    for first in ["app", "web"] {
        let (before, web) = published(with_keystore());
        let old = keystore(&before);
        let mut d = restarted(&before, with_keystore());
        d.login_ok(HOUR);
        d.read(if first == "app" { "web" } else { "app" }, Err(unreachable()));
        match first {
            "app" => d.read_ok("app", 2, &[("pw", "two")]),
            _ => d.read("web", Ok(certificate(2))),
        }
        assert!(keystore(&d) == old, "{first}: the output cannot be rendered yet");
        assert_eq!(d.ready().0, ConditionStatus::True);
        d.advance(MINUTE * 2);
        match first {
            "app" => d.read("web", Ok(web)),
            _ => d.read_ok("app", 1, &[("pw", "one")]),
        }
        assert!(keystore(&d) != old && keystore(&d).is_some(), "{first}");
        assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
        d.advance(MINUTE * 2);
        let again = keystore(&d);
        d.read("web", Ok(certificate(3)));
        assert!(keystore(&d) != again, "{first}: the adopted file has given way");
    }
}

#[test]
fn equal_content_after_restart_has_equal_bytes() {
    let (before, web) = published(with_keystore());
    let mut d = restarted(&before, with_keystore());
    d.login_ok(HOUR);
    d.read_ok("app", 1, &[("pw", "one")]);
    d.read("web", Ok(web));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    assert!(d.files == before.files);
}

#[test]
fn adopted_file_goes_with_an_optional_source_that_does_not_exist() {
    let mut settings = with_keystore();
    settings.sources.get_mut(&name("app")).expect("app").required = false;
    let (before, web) = published(settings.clone());
    let mut d = restarted(&before, settings);
    d.login_ok(HOUR);
    d.read("app", Err(not_found()));
    d.read("web", Ok(web));
    assert_eq!((d.file("password"), d.file(FILE)), (None, None));
}

#[test]
fn reload_that_removes_a_source_of_an_adopted_file_removes_it() {
    let (before, _) = published(with_keystore());
    let mut d = restarted(&before, with_keystore());
    let mut settings = with_keystore();
    settings.sources.remove(&name("app"));
    settings.outputs = vec![key("web", "crt", FILE)];
    d.config(settings);
    d.login_ok(HOUR);
    let web = certificate(2);
    d.read("web", Ok(web));
    assert!(d.file(FILE).is_some_and(|text| text.starts_with("-----BEGIN CERTIFICATE-----")));
}

#[test]
fn mirror_skips_the_file_if_one_source_has_a_lease() {
    let mut settings = with_keystore();
    settings.outputs.push(key("web", "crt", "tls.crt"));
    settings.mirrors.insert(object("copy"), mirror(&[]));
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    let leased = Reading { validity: Validity::Lease(lease("l", HOUR)), ..reading(1, &[("pw", "one")]) };
    d.hold(Kind::Mirror);
    d.read("app", Ok(leased));
    d.read("web", Ok(certificate(1)));
    let (_, op) = d.take(Kind::Mirror, None);
    let Op::Mirror { content, .. } = op else { panic!("a mirror") };
    assert_eq!(content.data.keys().collect::<Vec<_>>(), ["tls.crt"]);
    assert!(d.file(FILE).is_some());
}
