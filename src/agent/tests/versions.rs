//! Which reading is newer, and what becomes of an older one.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, mirror, name, object, reading, secs, settings, source};
use crate::agent::{MirrorResult, Op, Outcome};
use crate::model::{ConditionStatus, Reading, Reason};

/// Version 7 is published; the API server is not answered for.
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
fn a_lagging_standby_changes_nothing_and_is_asked_again() {
    let mut d = at_version_seven();
    d.serve(MINUTE * 2, answer(6));
    assert_eq!(d.file("a/password"), Some("seven"));
    assert!(d.log.iter().any(|line| line.reason == Some(Reason::OlderVersion)));
    d.serve(MINUTE, answer(8));
    assert_eq!(d.file("a/password"), Some("v8"));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn after_a_restore_of_the_server_the_older_version_is_the_truth_once_the_tolerance_is_over() {
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
    let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("it is compared") };
    assert!(content.accept_older, "and the Secret follows");
}

#[test]
fn a_refresh_that_a_person_asks_for_takes_what_is_there_now() {
    let mut d = at_version_seven();
    d.refresh();
    d.read_ok("a", 6, &[("password", "six")]);
    assert_eq!(d.file("a/password"), Some("six"));
}

#[test]
fn a_higher_number_is_newer_whatever_the_clock_of_its_writer_said() {
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
fn a_newer_version_with_equal_content_is_noted_for_the_mirror() {
    let mut d = at_version_seven();
    d.hold(Kind::Mirror);
    d.advance(MINUTE);
    let generation = d.agent.generation();
    d.read_ok("a", 8, &[("password", "seven")]);
    assert_eq!(d.agent.generation(), generation, "the files are the same");
    while d.is_open(Kind::Mirror) {
        let (ticket, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!() };
        let number = content.versions[&name("a")].1.number;
        d.input(crate::agent::Input::Completed(ticket, Outcome::Mirrored(Ok(MirrorResult::Unchanged))));
        if number == Some(8) {
            return;
        }
    }
    panic!("the Secret is to carry version 8");
}

#[test]
fn a_source_that_moves_to_a_secret_written_earlier_is_followed_by_files_and_mirror() {
    let mut d = at_version_seven();
    let mut moved = (**d.agent.settings()).clone();
    moved.sources.insert(name("a"), source("secret/other"));
    d.config(moved);
    assert_eq!(d.file("a/password"), Some("seven"), "until the new place was read");
    d.hold(Kind::Mirror);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.file("a/password"), Some("two"));
    d.advance(secs(1));
    let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("it is mirrored") };
    let (request, version) = &content.versions[&name("a")];
    assert_eq!(
        (request.as_str(), version.number),
        ("detect:secret/other", Some(2)),
        "of another request, so not older"
    );
}

#[test]
fn a_pinned_version_is_a_rollback_on_purpose() {
    let mut d = at_version_seven();
    let mut pinned = (**d.agent.settings()).clone();
    pinned.sources.get_mut(&name("a")).expect("a").version = Some(3);
    d.config(pinned);
    d.read_ok("a", 3, &[("password", "three")]);
    assert_eq!(d.file("a/password"), Some("three"));
}

#[test]
fn a_refresh_that_is_asked_for_during_a_read_is_not_lost() {
    let mut d = at_version_seven();
    d.advance(MINUTE);
    assert!(d.is_reading("a"));
    d.refresh();
    d.read_ok("a", 7, &[("password", "seven")]);
    assert!(d.is_reading("a"), "the read in flight had started before it was asked for");
    d.read_ok("a", 8, &[("password", "eight")]);
    assert!(!d.is_reading("a"));
}

#[test]
fn a_lagging_standby_is_not_believed_because_the_secret_was_superseded() {
    let mut d = at_version_seven();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, answer(7));
    d.complete(Kind::Mirror, None, Outcome::Mirrored(Ok(MirrorResult::Superseded)));
    d.read_ok("a", 6, &[("password", "six")]);
    assert_eq!(d.file("a/password"), Some("v7"), "what was asked for is a newer version");
}
