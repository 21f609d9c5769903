//! How often sources are read, and when they become stale.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, issued, leased, mirror, name, object, reading, secs, settings, unreachable,
};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, Failure, FailureClass, Reason, Validity};

fn serve(d: &mut Driver, time: Duration, mut read: impl FnMut(&str) -> Result<crate::model::Reading, Failure>) {
    d.serve(time, |op| match op {
        Op::Read { source, .. } => Some(Outcome::Read(read(source.as_str()))),
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(super::fixtures::info(Some(HOUR * 100), true)))),
        _ => None,
    });
}

fn rotates(left: u64) -> crate::model::Reading {
    issued(Validity::Rotates(secs(left)), &[("password", "one")])
}

#[test]
fn overdue_static_role_is_read_with_growing_interval() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 100);
    serve(&mut d, MINUTE, |_| Ok(rotates(0)));
    assert!(d.count(Kind::Read) < 15, "{} reads", d.count(Kind::Read));
    let before = d.count(Kind::Read);
    serve(&mut d, MINUTE * 10, |_| Ok(rotates(0)));
    assert!((8..16).contains(&(d.count(Kind::Read) - before)), "the refresh interval");
}

#[test]
fn static_role_is_read_after_rotation() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 100);
    d.read("a", Ok(rotates(30)));
    d.advance(secs(30));
    assert!(!d.is_reading("a"));
    d.advance(secs(2));
    assert!(d.is_reading("a"));
}

#[test]
fn new_password_is_read_a_second_after_a_rotation_that_is_up_to_5s_late() {
    for late in 0..=5 {
        let mut d = Driver::run(&["a"]);
        d.login_ok(HOUR * 100);
        d.read("a", Ok(rotates(30)));
        serve(&mut d, secs(30 + late), |_| Ok(rotates(0)));
        let new = || Ok(issued(Validity::Rotates(secs(30)), &[("password", "two")]));
        serve(&mut d, Duration::from_millis(1100), |_| new());
        assert_eq!(d.file("a/password"), Some("two"), "rotated {late}s late");
    }
}

#[test]
fn static_role_is_not_treated_as_lease() {
    let mut settings = settings(&["a"]);
    settings.mirrors.insert(object("copy"), mirror(&[("password", "a/password")]));
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(rotates(3000)));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
    d.input(Input::Terminate);
    assert_eq!(d.revoked, ["t1"], "no token is kept for a static role");
}

#[test]
fn credential_with_own_ttl_is_reread_before_it_expires() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 100);
    d.read("a", Ok(issued(Validity::Expires(HOUR * 24), &[("token", "one")])));
    serve(&mut d, HOUR * 13, |_| panic!("too early"));
    assert_eq!(d.fresh().0, ConditionStatus::True);
    d.advance(HOUR * 4);
    assert!(d.is_reading("a"));
}

#[test]
fn zero_ttl_does_not_set_request_rate() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 100);
    serve(&mut d, MINUTE * 10, |_| Ok(issued(Validity::Expires(Duration::ZERO), &[("token", "one")])));
    assert!(d.count(Kind::Read) < 25, "{} reads", d.count(Kind::Read));
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 100);
    serve(&mut d, MINUTE, |_| Ok(leased("l", Duration::ZERO)));
    assert!(d.count(Kind::Read) + d.count(Kind::RenewLease) <= 61);
}

#[test]
fn maximum_durations_do_not_overflow() {
    for validity in [Validity::Rotates(Duration::MAX), Validity::Expires(Duration::MAX)] {
        let mut d = Driver::run(&["a"]);
        d.login_ok(Duration::MAX);
        d.read("a", Ok(issued(validity, &[("token", "one")])));
        d.advance(HOUR);
        assert_eq!(d.file("a/token"), Some("one"));
    }
}

#[test]
fn source_becomes_stale_one_tolerance_after_last_read() {
    let mut d = Driver::published(&["a"]);
    serve(&mut d, MINUTE * 5 - secs(1), |_| Err(unreachable()));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    serve(&mut d, secs(1), |_| Err(unreachable()));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::VaultUnreachable));
    assert!(d.message(ConditionType::SecretsFresh).contains("source a is stale: not read since 1970-01-01T00:00:00Z"));
    assert_eq!(d.ready().0, ConditionStatus::True, "the files remain");
    serve(&mut d, MINUTE, |_| Ok(reading(1, &[("password", "one")])));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn failing_source_does_not_occupy_last_slot() {
    let mut settings = settings(&["a", "b", "c"]);
    settings.concurrency = 1;
    let mut d = Driver::published_with(settings);
    d.advance(secs(47));
    serve(
        &mut d,
        secs(20),
        |source| if source == "a" { Ok(reading(1, &[("password", "one")])) } else { Err(unreachable()) },
    );
    let mut read = 0;
    // `b` and `c` fail, and their next reads hang.
    for _ in 0..120 {
        d.advance(secs(1));
        if d.is_reading("a") {
            read += 1;
            d.read_ok("a", 1, &[("password", "one")]);
        }
    }
    assert!(read >= 2, "{read} reads of the healthy source");
    assert!(d.is_reading("b") || d.is_reading("c"), "failing sources are retried");
}

#[test]
fn reload_frees_slots_of_moved_failing_sources() {
    let mut settings = settings(&["a", "b"]);
    settings.concurrency = 2;
    let mut d = Driver::published_with(settings);
    d.advance(MINUTE);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read("b", Err(unreachable()));
    d.advance(secs(1));
    let (ticket, _) = d.take(Kind::Read, Some("b"));
    let mut moved = (**d.agent.settings()).clone();
    moved.sources.get_mut(&name("b")).expect("b").path = "secret/other".into();
    d.config(moved);
    d.input(Input::Completed(ticket, Outcome::Read(Err(unreachable()))));
    d.read("b", Err(unreachable()));
    d.advance(secs(1));
    d.read_ok("b", 2, &[("password", "two")]);
    assert_eq!(d.file("b/password"), Some("two"), "the failing source is retried");
}

#[test]
fn retry_after_delays_next_attempt() {
    let mut d = Driver::published(&["a"]);
    d.advance(MINUTE);
    let busy = Failure { retry_after: Some(secs(120)), ..failure(FailureClass::Transient, Reason::RateLimited) };
    d.read("a", Err(busy));
    d.advance(secs(119));
    assert!(!d.is_reading("a"));
    d.advance(secs(3));
    assert!(d.is_reading("a"));
}

#[test]
fn unchanged_secret_gives_no_new_generation_and_no_report() {
    let mut d = Driver::published(&["a"]);
    // The repetition of the conditions after the start.
    d.serve(MINUTE * 2, |op| {
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))))
    });
    let observed = |d: &Driver| {
        let counts = [Kind::PatchConditions, Kind::RecordEvent].map(|kind| d.count(kind));
        (counts, d.agent.generation())
    };
    let before = observed(&d);
    d.hold(Kind::Publish);
    d.serve(MINUTE * 10, |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        Op::Publish { .. } => Some(Outcome::Published(Ok(false))),
        _ => None,
    });
    assert_eq!(observed(&d), before);
}
