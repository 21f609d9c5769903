//! Sources with a list of secrets.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, RUN, mirror, name, object, reading, secs, settings};
use crate::agent::Op;
use crate::model::{
    Failure, FailureClass, KeySelection, Output, OutputKind, Reading, Reason, SecretList, Settings, Version,
};

fn list() -> SecretList {
    SecretList { recursive: true, include: vec![], exclude: vec![], max_count: 100, max_depth: 10 }
}

/// Settings with the list `a` and a mirror of one of its secrets.
fn with_list() -> Settings {
    let mut settings = settings(&["a"]);
    settings.sources.get_mut(&name("a")).expect("a").list = Some(list());
    settings.outputs = vec![Output {
        source: name("a"),
        kind: OutputKind::EachKey { prefix: None, base64: false, keys: KeySelection::default() },
        mode: None,
    }];
    settings.mirrors.insert(object("copy"), mirror(&[("password", "web/db/password")]));
    settings
}

/// The reading of secrets with these versions. Each has a password that contains its version.
fn secrets(versions: &[(&str, u64)]) -> Reading {
    let values: Vec<_> =
        versions.iter().map(|(path, number)| (format!("{path}/password"), format!("v{number}"))).collect();
    let values: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let secrets = versions.iter().map(|(path, number)| ((*path).to_owned(), reading(*number, &[]).version)).collect();
    Reading { version: Version { secrets, ..Version::default() }, ..reading(1, &values) }
}

fn logged_in() -> Driver {
    let mut d = Driver::with(with_list(), RUN, None);
    d.login_ok(secs(3600));
    d
}

fn published(versions: &[(&str, u64)]) -> Driver {
    let mut d = logged_in();
    d.read("a", Ok(secrets(versions)));
    d
}

#[test]
fn new_and_removed_secrets_change_the_set_as_a_whole() {
    let mut d = published(&[("shared", 1), ("web/db", 2)]);
    assert_eq!((d.file("shared/password"), d.file("web/db/password")), (Some("v1"), Some("v2")));
    let generation = d.agent.generation();
    d.advance(MINUTE);
    d.read("a", Ok(secrets(&[("web/api", 1), ("web/db", 3)])));
    assert_eq!(d.file("shared/password"), None);
    assert_eq!((d.file("web/api/password"), d.file("web/db/password")), (Some("v1"), Some("v3")));
    assert_eq!(d.agent.generation().map(|now| now.0), generation.map(|before| before.0 + 1), "one publication");
}

#[test]
fn list_with_one_older_secret_is_ignored() {
    let mut d = published(&[("shared", 4), ("web/db", 7)]);
    d.advance(MINUTE);
    d.read("a", Ok(secrets(&[("new", 1), ("shared", 5), ("web/db", 6)])));
    assert_eq!((d.file("shared/password"), d.file("web/db/password")), (Some("v4"), Some("v7")));
    let line = d.log.iter().find(|line| line.reason == Some(Reason::OlderVersion)).expect("a log line");
    let expected = "Vault returned version 6 of web/db, which is older than the version 7 in use";
    assert!(line.message.contains(expected), "{}", line.message);
    d.advance(MINUTE);
    d.read("a", Ok(secrets(&[("new", 1), ("shared", 5), ("web/db", 7)])));
    assert_eq!((d.file("new/password"), d.file("shared/password")), (Some("v1"), Some("v5")));
}

#[test]
fn mirror_has_the_versions_of_all_secrets_of_a_list() {
    let mut d = logged_in();
    d.hold(Kind::Mirror);
    d.read("a", Ok(secrets(&[("shared", 1), ("web/db", 3)])));
    let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("the set is mirrored") };
    let (request, version) = &content.versions[&name("a")];
    assert!(request.ends_with("#list=recursive"), "{request}");
    assert_eq!(*version, secrets(&[("shared", 1), ("web/db", 3)]).version);
}

#[test]
fn list_whose_maximum_changes_is_read_at_once() {
    let mut d = published(&[("web/db", 1)]);
    d.advance(MINUTE);
    d.read("a", Err(Failure::new(FailureClass::Invalid, Reason::InvalidRequest, "too many secrets")));
    assert!(!d.is_open(Kind::Read), "the next attempt waits");
    let mut raised = with_list();
    raised.sources.get_mut(&name("a")).expect("a").list = Some(SecretList { max_count: 200, ..list() });
    d.config(raised);
    d.read("a", Ok(secrets(&[("web/db", 2)])));
    assert_eq!(d.file("web/db/password"), Some("v2"));
}
