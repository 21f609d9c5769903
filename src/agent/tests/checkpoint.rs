//! The handover from one process to the next one of the same pod.

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, failure, leased, name, not_found, reading, secs, session, settings, unknown_token,
};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome};
use crate::model::{Checkpoint, FailureClass, LeaseId, Reason, Session};
use std::time::Duration;

const SAVING: Mode = Mode::Once { deadline: Duration::from_secs(30), save: true };
const RESTORING: Mode = Mode::Run { restore: true };

/// The checkpoint of `once` with a leased source `a` and an ordinary source `b`.
fn saved(sources: &[&str]) -> Checkpoint {
    let mut d = Driver::with(settings(sources), SAVING, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    for source in sources {
        let answer = if *source == "a" { leased("l1", secs(600)) } else { reading(3, &[("password", "three")]) };
        d.read(source, Ok(answer));
    }
    let (ticket, Op::Save { checkpoint, .. }) = d.take(Kind::Save, None) else { panic!("the checkpoint is saved") };
    d.input(Input::Completed(ticket, Outcome::Saved(Ok(()))));
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
    *checkpoint
}

/// The next process, which restores the checkpoint.
fn restored(sources: &[&str], checkpoint: Checkpoint) -> Driver {
    let mut d = Driver::with(settings(sources), RESTORING, None);
    let (ticket, op) = d.take(Kind::LogIn, None);
    assert!(matches!(op, Op::LogIn { restore: true, .. }));
    d.input(Input::Completed(ticket, Outcome::Restored(Box::new(checkpoint))));
    d
}

#[test]
fn next_process_publishes_without_login_and_keeps_lease() {
    let mut d = restored(&["a", "b"], saved(&["a", "b"]));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("l1"), Some("three")));
    assert_eq!(d.count(Kind::LogIn), 1, "the login that found the checkpoint");
    assert!(!d.is_reading("a"), "a read would issue another lease");
    assert!(d.is_reading("b"), "the age of the reading is unknown");
    d.read_ok("b", 4, &[("password", "four")]);
    d.advance(secs(430));
    let (_, op) = d.take(Kind::RenewLease, Some("a"));
    let Op::RenewLease { lease, token, .. } = op else { panic!() };
    assert_eq!((lease, token.expose()), (LeaseId("l1".into()), b"t1".as_slice()));
    d.input(Input::Terminate);
    assert!(d.revoked.is_empty(), "the application may still use the lease");
}

#[test]
fn new_lease_with_equal_values_is_saved_with_its_new_id() {
    let mut d = Driver::with(settings(&["a", "b"]), SAVING, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    let again = |id: &str| {
        let mut reading = leased(id, secs(2));
        reading.data = leased("same", secs(2)).data;
        reading
    };
    d.read("a", Ok(again("l1")));
    d.advance(secs(2));
    d.renew_lease("a", Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    d.advance(secs(1));
    d.read("a", Ok(again("l2")));
    d.read_ok("b", 1, &[("password", "one")]);
    let (_, Op::Save { checkpoint, .. }) = d.take(Kind::Save, None) else { panic!("the checkpoint is saved") };
    let lease = checkpoint.sources[&name("a")].reading.validity.lease().expect("a lease");
    assert_eq!(lease.id, LeaseId("l2".into()));
}

#[test]
fn failed_save_revokes_token_and_exits_with_io_error() {
    let mut d = Driver::with(settings(&["a"]), SAVING, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    d.complete(Kind::Save, None, Outcome::Saved(Err(failure(FailureClass::Local, Reason::WriteFailed))));
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(74), ["t1".to_owned()].as_slice()));
}

#[test]
fn hanging_save_exits_with_io_error() {
    let mut d = Driver::with(settings(&["a"]), SAVING, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.advance(secs(8));
    assert_eq!(d.exit, Some(74));
}

#[test]
fn failed_or_stopped_once_saves_nothing() {
    for stop in [false, true] {
        let mut d = Driver::with(settings(&["a"]), SAVING, None);
        d.login_ok(HOUR);
        if stop {
            d.input(Input::Terminate);
        } else {
            d.serve(secs(5), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(not_found()))));
        }
        assert_eq!(d.exit, Some(if stop { 143 } else { 66 }));
        assert_eq!((d.count(Kind::Save), d.revoked.len()), (0, 1));
    }
}

#[test]
fn supplied_token_is_not_saved_and_log_names_it() {
    let mut d = Driver::with(settings(&["a"]), SAVING, None);
    d.login(Ok(Session { self_issued: false, ..session("supplied", HOUR) }));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.exit, d.count(Kind::Save), d.revoked.len()), (Some(0), 0, 0));
    assert!(d.lines(LogLevel::Info).iter().any(|line| line.contains("was supplied")), "{:?}", d.lines(LogLevel::Info));
}

#[test]
fn version_older_than_restored_one_is_rejected() {
    let mut d = restored(&["b"], saved(&["b"]));
    // The restart requests the first read, which must not accept an older version.
    d.read_ok("b", 2, &[("password", "two")]);
    assert_eq!(d.file("b/password"), Some("three"));
}

#[test]
fn invalid_restored_token_causes_login_and_expired_lease_causes_read() {
    let mut d = restored(&["a", "b"], saved(&["a", "b"]));
    d.serve(secs(10), |op| match op {
        Op::Read { .. } | Op::LookUp { .. } if token_of(op) == "t1" => Some(match op {
            Op::Read { .. } => Outcome::Read(Err(unknown_token())),
            _ => Outcome::LookedUp(Err(unknown_token())),
        }),
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("t2", HOUR)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(9, &[("password", "nine")])))),
        _ => None,
    });
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("nine"), Some("nine")));

    let mut expired = saved(&["a", "b"]);
    expired.sources.get_mut(&name("a")).expect("a").lease_left = Some(Duration::ZERO);
    let mut d = restored(&["a", "b"], expired);
    assert!(d.is_reading("a"));
    d.read("a", Ok(leased("l2", MINUTE)));
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("l2"), 1));
}

#[test]
fn restored_readings_of_other_sources_are_ignored() {
    let d = restored(&["b"], saved(&["a", "b"]));
    assert_eq!(d.files.keys().collect::<Vec<_>>(), ["b/password"]);
}
