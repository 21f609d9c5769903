//! The order of versions, and when an older one is accepted.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, mirror, name, object, reading, secs, settings, source};
use crate::agent::{MirrorResult, Op, Outcome};
use crate::model::{ConditionStatus, Reading, Reason};

/// An agent with a published version 7 and a mirror.
fn at_version_seven() -> Driver {
    let mut settings = settings(&["a"]);
    settings.mirrors.insert(object("copy"), mirror(&[("password", "a/password")]));
    let mut d = Driver::published_with(settings);
    d.refresh();
    d.read_ok("a", 7, &[("password", "seven")]);
    d
}

fn answer(number: u64) -> impl FnMut(&Op) -> Option<Outcome> {
    move |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(number, &[("password", &format!("v{number}"))])))),
        _ => None,
    }
}

#[test]
fn older_version_of_lagging_standby_is_ignored_and_retried() {
    let mut d = at_version_seven();
    d.serve(MINUTE * 2, answer(6));
    assert_eq!(d.file("a/password"), Some("seven"));
    assert!(d.log.iter().any(|line| line.reason == Some(Reason::OlderVersion)));
    d.serve(MINUTE, answer(8));
    assert_eq!(d.file("a/password"), Some("v8"));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn older_version_is_accepted_after_tolerance() {
    let mut d = at_version_seven();
    d.serve(MINUTE * 5, answer(6));
    assert_eq!(d.file("a/password"), Some("seven"));
    while d.file("a/password") != Some("v6") {
        d.serve(secs(1), answer(6));
        assert!(d.at < MINUTE * 9);
    }
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    d.hold(Kind::Mirror);
    d.serve(MINUTE, answer(6));
    let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("the Secret is compared") };
    assert!(content.accept_older, "the Secret is rolled back, too");
}

#[test]
fn requested_refresh_accepts_older_version() {
    let mut d = at_version_seven();
    d.advance(secs(1));
    d.refresh();
    d.read_ok("a", 6, &[("password", "six")]);
    assert_eq!(d.file("a/password"), Some("six"));
}

#[test]
fn higher_version_number_is_newer_despite_earlier_timestamp() {
    let mut d = at_version_seven();
    d.advance(MINUTE);
    let behind = Reading {
        version: crate::model::Version { created: reading(1, &[]).version.created, ..reading(8, &[]).version },
        ..reading(8, &[("password", "eight")])
    };
    d.read("a", Ok(behind));
    assert_eq!(d.file("a/password"), Some("eight"));
}

#[test]
fn newer_version_with_equal_content_is_mirrored() {
    let mut d = at_version_seven();
    d.hold(Kind::Mirror);
    d.advance(MINUTE);
    let generation = d.agent.generation();
    d.read_ok("a", 8, &[("password", "seven")]);
    assert_eq!(d.agent.generation(), generation, "the files are unchanged");
    while d.is_open(Kind::Mirror) {
        let (ticket, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!() };
        let number = content.versions[&name("a")].1.number;
        d.input(crate::agent::Input::Completed(ticket, Outcome::Mirrored(Ok(MirrorResult::Unchanged))));
        if number == Some(8) {
            return;
        }
    }
    panic!("version 8 is mirrored");
}

#[test]
fn moved_source_with_older_secret_updates_files_and_mirror() {
    let mut d = at_version_seven();
    let mut moved = (**d.agent.settings()).clone();
    moved.sources.insert(name("a"), source("secret/other"));
    d.config(moved);
    assert_eq!(d.file("a/password"), Some("seven"), "the new path has not been read");
    d.hold(Kind::Mirror);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.file("a/password"), Some("two"));
    d.advance(secs(1));
    let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("the set is mirrored") };
    let (request, version) = &content.versions[&name("a")];
    assert_eq!(
        (request.as_str(), version.number),
        ("detect:secret/other", Some(2)),
        "of another request, so not older"
    );
}

#[test]
fn pinned_older_version_is_published() {
    let mut d = at_version_seven();
    let mut pinned = (**d.agent.settings()).clone();
    pinned.sources.get_mut(&name("a")).expect("a").version = Some(3);
    d.config(pinned);
    d.read_ok("a", 3, &[("password", "three")]);
    assert_eq!(d.file("a/password"), Some("three"));
}

#[test]
fn refresh_requested_during_read_triggers_another_read() {
    let mut d = at_version_seven();
    d.advance(MINUTE);
    assert!(d.is_reading("a"));
    d.refresh();
    d.read_ok("a", 7, &[("password", "seven")]);
    assert!(d.is_reading("a"), "the read in flight started before the request");
    d.read_ok("a", 8, &[("password", "eight")]);
    assert!(!d.is_reading("a"));
}

#[test]
fn refresh_after_superseded_mirror_rejects_older_version() {
    let mut d = at_version_seven();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, answer(7));
    d.complete(Kind::Mirror, None, Outcome::Mirrored(Ok(MirrorResult::Superseded)));
    d.read_ok("a", 6, &[("password", "six")]);
    assert_eq!(d.file("a/password"), Some("v7"), "the refresh requests a newer version");
}
