//! The checkpoint, which one process saves for the next one of the same pod.

use std::time::Duration;

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, failure, issued, lease, leased, name, not_found, reading, secs, session, settings, unknown_token,
    unreachable,
};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome};
use crate::model::{Checkpoint, FailureClass, LeaseId, Reason, Session, Validity};

const ONCE: Mode = Mode::Once { deadline: Duration::from_secs(30), checkpoint: true };
const RUN: Mode = Mode::Run { checkpoint: true, app_container: false };

/// The checkpoint of `once` with a leased source `a` and an ordinary source `b`.
fn saved(sources: &[&str]) -> Checkpoint {
    let mut d = Driver::with(settings(sources), ONCE, None);
    d.login_ok(HOUR);
    for source in sources {
        let answer = if *source == "a" { leased("l1", secs(600)) } else { reading(3, &[("password", "three")]) };
        d.read(source, Ok(answer));
    }
    assert_eq!((d.exit, d.revoked.len(), d.count(Kind::Save)), (Some(0), 0, 1));
    d.checkpoint.expect("the checkpoint is saved")
}

/// The next process, which restores the checkpoint.
fn restored(sources: &[&str], checkpoint: Checkpoint) -> Driver {
    let mut d = Driver::with(settings(sources), RUN, None);
    let (ticket, op) = d.take(Kind::LogIn, None);
    assert!(matches!(op, Op::LogIn { restore: true, .. }));
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
    d
}

/// A `run` whose source `a` holds the lease `l1`.
fn running() -> Driver {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", secs(600))));
    d
}

/// The token and the lease of `a` that were saved last.
fn last_saved(d: &Driver) -> (Option<String>, Option<LeaseId>) {
    let checkpoint = d.checkpoint.as_ref().expect("a checkpoint");
    let token = checkpoint.token.as_ref().map(|saved| String::from_utf8_lossy(saved.token.expose()).into_owned());
    let lease = checkpoint.sources.get(&name("a")).and_then(|saved| saved.reading.validity.lease());
    (token, lease.map(|lease| lease.id.clone()))
}

fn both(token: &str, lease: &str) -> (Option<String>, Option<LeaseId>) {
    (Some(token.into()), Some(LeaseId::Id(lease.into())))
}

#[test]
fn next_process_publishes_without_login_and_keeps_lease() {
    let mut d = restored(&["a", "b"], saved(&["a", "b"]));
    assert_eq!(d.count(Kind::LogIn), 1, "the login that found the checkpoint");
    assert!(!d.is_reading("a"), "a read would issue another lease");
    d.read_ok("b", 4, &[("password", "four")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("l1"), Some("four")));
    d.advance(secs(430));
    let (_, op) = d.take(Kind::RenewLease, Some("a"));
    let Op::RenewLease { lease, token, .. } = op else { panic!() };
    assert_eq!((lease, token.expose()), (LeaseId::Id("l1".into()), b"t1".as_slice()));
}

#[test]
fn each_change_of_token_and_lease_is_saved() {
    let mut d = running();
    assert_eq!(last_saved(&d), both("t1", "l1"));
    let saves = d.count(Kind::Save);
    d.advance(secs(421));
    d.renew_lease("a", Ok(lease("l1", secs(600))));
    assert_eq!(d.count(Kind::Save), saves + 1);
    assert_eq!(d.checkpoint.as_ref().map(|saved| saved.sources[&name("a")].left), Some(secs(600)));
    d.advance(secs(421));
    d.renew_lease("a", Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", HOUR * 24)));
    assert_eq!(last_saved(&d), both("t1", "l2"));
    d.serve(HOUR, |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        Op::LogIn { restore: false, .. } => Some(Outcome::LoggedIn(Ok(session("t2", HOUR)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(leased("l3", HOUR * 24)))),
        _ => None,
    });
    assert_eq!(last_saved(&d), both("t2", "l3"));
}

#[test]
fn unchanged_state_is_not_saved_again() {
    let mut d = Driver::with(settings(&["b"]), RUN, None);
    d.login_ok(HOUR);
    d.read_ok("b", 1, &[("password", "one")]);
    let saves = d.count(Kind::Save);
    let mut version = 1;
    d.serve(MINUTE * 30, |op| match op {
        Op::Read { .. } => {
            version += 1;
            Some(Outcome::Read(Ok(reading(version, &[("password", "other")]))))
        }
        _ => None,
    });
    assert_eq!((saves, d.count(Kind::Save)), (1, 1), "KV secrets are not part of the checkpoint");
}

#[test]
fn unwrapped_secret_is_saved_even_if_it_cannot_be_rendered() {
    let mut settings = settings(&["b"]);
    settings.sources.get_mut(&name("b")).expect("b").wrapping_token_file = Some("/run/wrapped".into());
    settings.outputs = vec![super::fixtures::key("b", "password", "password")];
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    let saves = d.count(Kind::Save);
    d.read("b", Ok(issued(Validity::Unlimited, &[("other", "one")])));
    assert_eq!(d.count(Kind::Save), saves + 1, "a later configuration may render it");
    d.advance(MINUTE);
    d.read("b", Ok(issued(Validity::Unlimited, &[("password", "two")])));
    assert_eq!((d.count(Kind::Save), d.file("password")), (saves + 2, Some("two")));
    d.advance(MINUTE);
    d.read("b", Ok(issued(Validity::Unlimited, &[("password", "two")])));
    assert_eq!(d.count(Kind::Save), saves + 2, "the same secret");
}

#[test]
fn killed_process_continues_where_it_was() {
    let mut checkpoint = running().checkpoint.expect("saved");
    for _ in 0..50 {
        let mut d = restored(&["a"], checkpoint);
        d.advance(secs(2));
        assert_eq!((d.count(Kind::LogIn), d.count(Kind::Read), d.file("a/password")), (1, 0, Some("l1")));
        checkpoint = d.checkpoint.expect("saved again");
    }
}

#[test]
fn checkpoint_is_kept_while_vault_does_not_answer() {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    d.serve(MINUTE, |op| match op {
        Op::LogIn { restore: true, .. } => Some(Outcome::Restored(Err(unreachable()))),
        _ => None,
    });
    assert!(d.count(Kind::LogIn) > 3 && d.count(Kind::Save) == 0, "it is not overwritten");
    d.advance(MINUTE);
    let (ticket, _) = d.take(Kind::LogIn, None);
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(saved(&["a"]))))));
    assert_eq!((d.file("a/password"), d.count(Kind::Read)), (Some("l1"), 0));
}

#[test]
fn exit_before_the_checkpoint_is_restored_keeps_it() {
    for mode in [RUN, ONCE] {
        let mut d = Driver::with(settings(&["a"]), mode, None);
        d.serve(secs(20), |op| match op {
            Op::LogIn { restore: true, .. } => Some(Outcome::Restored(Err(unreachable()))),
            _ => None,
        });
        d.input(Input::Terminate);
        d.advance(MINUTE);
        assert!(d.exit.is_some());
        assert_eq!((d.count(Kind::Save), d.revoked.len()), (0, 0), "{mode:?}");
    }
}

#[test]
fn token_restored_during_the_shutdown_keeps_its_leases() {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    let (ticket, _) = d.take(Kind::LogIn, None);
    d.input(Input::Terminate);
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(saved(&["a"]))))));
    d.advance(MINUTE);
    assert_eq!((d.revoked.len(), last_saved(&d)), (0, both("t1", "l1")));
    assert!(d.files.is_empty(), "a stopping agent publishes nothing");
}

#[test]
fn failed_login_is_saved_because_it_can_have_unwrapped_a_secret_id() {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    let (ticket, _) = d.take(Kind::LogIn, None);
    d.input(Input::Completed(ticket, Outcome::LoggedIn(Err(unreachable()))));
    assert_eq!(d.count(Kind::Save), 1);
}

#[test]
fn credential_with_its_own_ttl_survives_without_token() {
    for self_issued in [false, true] {
        let mut d = Driver::with(settings(&["a"]), RUN, None);
        d.login(Ok(Session { self_issued, ..session("t1", HOUR) }));
        d.read("a", Ok(issued(Validity::Expires(HOUR), &[("password", "certificate")])));
        d.advance(MINUTE * 10);
        let mut checkpoint = d.checkpoint.expect("saved");
        assert_eq!(checkpoint.token.is_some(), self_issued);
        checkpoint.token = None;
        checkpoint.sources.get_mut(&name("a")).expect("a").left = MINUTE * 50;
        let mut d = restored(&["a"], checkpoint);
        assert_eq!(d.file("a/password"), Some("certificate"), "before the login");
        d.login_ok(HOUR);
        d.advance(MINUTE * 27);
        assert_eq!(d.count(Kind::Read), 0);
        d.advance(MINUTE * 9);
        assert_eq!(d.count(Kind::Read), 1, "about two thirds of the remaining time later");
    }
}

#[test]
fn lease_without_its_token_is_not_restored() {
    let mut checkpoint = saved(&["a"]);
    checkpoint.token = None;
    let mut d = restored(&["a"], checkpoint);
    d.login_ok(HOUR);
    assert!(d.is_reading("a"));
}

#[test]
fn exit_saves_token_only_if_it_stays_valid() {
    // The application continues, so the lease is needed.
    let mut d = running();
    d.input(Input::Terminate);
    assert_eq!((d.exit, d.revoked.len(), last_saved(&d)), (Some(0), 0, both("t1", "l1")));

    let mut d = running();
    d.hold(Kind::PatchConditions);
    d.input(Input::Terminate);
    while d.is_open(Kind::PatchConditions) {
        d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(true)));
    }
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(0), ["t1".to_owned()].as_slice()));
    assert!(d.checkpoint.is_some_and(|saved| saved.is_empty()), "the pod is deleted");

    let mut d = Driver::with(settings(&["b"]), RUN, None);
    d.login_ok(HOUR);
    d.read_ok("b", 1, &[("password", "one")]);
    d.input(Input::Terminate);
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 1));
    assert!(d.checkpoint.is_some_and(|saved| saved.is_empty()), "no lease depends on the token");
}

#[test]
fn rejected_token_is_removed_from_checkpoint() {
    let mut d = Driver::with(settings(&["a", "b"]), RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR * 9)));
    d.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(last_saved(&d), both("t1", "l1"));
    d.advance(MINUTE);
    d.read("b", Err(unknown_token()));
    assert!(d.checkpoint.as_ref().is_some_and(Checkpoint::is_empty));
}

#[test]
fn failed_save_of_run_is_retried_and_changes_nothing_else() {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    for _ in 0..3 {
        d.complete(Kind::Save, None, Outcome::Saved(Err(failure(FailureClass::Local, Reason::NoSpace))));
        d.advance(MINUTE);
    }
    assert_eq!(d.file("a/password"), Some("l1"));
    d.release(Kind::Save);
    assert_eq!(last_saved(&d), both("t1", "l1"));
}

#[test]
fn failed_save_of_once_revokes_token_and_exits_with_io_error() {
    let mut d = Driver::with(settings(&["a"]), ONCE, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    d.complete(Kind::Save, None, Outcome::Saved(Err(failure(FailureClass::Local, Reason::WriteFailed))));
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(74), ["t1".to_owned()].as_slice()));
}

#[test]
fn hanging_save_exits_with_io_error() {
    let mut d = Driver::with(settings(&["a"]), ONCE, None);
    d.hold(Kind::Save);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.advance(secs(8));
    assert_eq!(d.exit, Some(74));
}

#[test]
fn failed_or_stopped_once_leaves_no_token() {
    for stop in [false, true] {
        let mut d = Driver::with(settings(&["a"]), ONCE, None);
        d.login_ok(HOUR);
        if stop {
            d.input(Input::Terminate);
        } else {
            d.serve(secs(5), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(not_found()))));
        }
        assert_eq!(d.exit, Some(if stop { 143 } else { 66 }));
        assert!(d.checkpoint.is_some_and(|saved| saved.is_empty()));
        assert_eq!(d.revoked.len(), 1);
    }
}

#[test]
fn supplied_token_is_not_saved_and_log_says_so() {
    let mut d = Driver::with(settings(&["a"]), ONCE, None);
    d.login(Ok(Session { self_issued: false, ..session("supplied", HOUR) }));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
    assert!(d.checkpoint.as_ref().is_some_and(Checkpoint::is_empty));
    assert!(d.lines(LogLevel::Info).iter().any(|line| line.contains("was supplied")), "{:?}", d.lines(LogLevel::Info));
}

#[test]
fn invalid_restored_token_causes_login() {
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
}

#[test]
fn restored_readings_of_other_sources_are_ignored() {
    let mut d = restored(&["b"], saved(&["a", "b"]));
    d.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(d.files.keys().collect::<Vec<_>>(), ["b/password"]);
}

#[test]
fn checkpoint_of_abandoned_login_is_revoked() {
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    let (ticket, _) = d.take(Kind::LogIn, None);
    let mut other = settings(&["a"]);
    other.auth.mount = "other".into();
    d.config(other);
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(saved(&["a"]))))));
    assert_eq!(d.revoked, ["t1"]);
}
