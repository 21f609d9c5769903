//! The overlap of two credentials: the old lease stays valid after the new one is visible, and is then revoked.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, lease, leased, name, not_found, reading, secs, settings, unreachable,
};
use crate::agent::{LogLevel, Mode, Op, Outcome};
use crate::model::{ConditionStatus, FailureClass, Lease, Reading, Reason, Settings, Validity};

/// Settings whose source `a` has this overlap.
fn overlapping(overlap: Duration) -> Settings {
    let mut settings = settings(&["a"]);
    settings.sources.get_mut(&name("a")).expect("a").overlap = Some(overlap);
    settings
}

/// A lease that cannot be renewed.
fn fixed(id: &str, ttl: Duration) -> Reading {
    Reading { validity: Validity::Lease(Lease { renewable: false, ..lease(id, ttl) }), ..leased(id, ttl) }
}

/// An agent whose source `a` has just replaced the lease `l1` by `l2`, with an overlap of 20 s.
fn replaced() -> Driver {
    let mut d = Driver::with(overlapping(secs(20)), RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(fixed("l1", secs(100))));
    d.advance(secs(71));
    d.read("a", Ok(fixed("l2", HOUR)));
    assert_eq!(d.file("a/password"), Some("l2"));
    d
}

#[test]
fn replaced_lease_is_revoked_after_overlap() {
    let mut d = replaced();
    d.advance(secs(19));
    assert!(d.revoked_leases.is_empty(), "an application may still use it");
    d.advance(secs(1));
    assert_eq!(d.revoked_leases, ["l1"]);
    assert!(d.lines(LogLevel::Info).contains(&"revoked the replaced lease of source a"));
    d.advance(MINUTE);
    assert_eq!(d.count(Kind::RevokeLease), 1);
}

#[test]
fn replacement_is_visible_one_overlap_before_expiry() {
    let mut d = Driver::with(overlapping(secs(40)), RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(fixed("l1", secs(100))));
    d.serve(secs(60), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(fixed("l2", HOUR)))));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn overlap_begins_when_new_credential_is_visible() {
    let mut d = Driver::with(overlapping(secs(20)), RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(fixed("l1", secs(100))));
    d.hold(Kind::Publish);
    d.advance(secs(71));
    d.read("a", Ok(fixed("l2", HOUR)));
    d.advance(MINUTE);
    assert!(d.revoked_leases.is_empty(), "l1 is still visible");
    d.release(Kind::Publish);
    d.advance(secs(19));
    assert!(d.revoked_leases.is_empty());
    d.advance(secs(2));
    assert_eq!(d.revoked_leases, ["l1"]);
}

#[test]
fn denied_revocation_is_logged_once_and_not_repeated() {
    let mut d = replaced();
    d.hold(Kind::RevokeLease);
    for next in 3..6 {
        d.advance(secs(20));
        if d.is_open(Kind::RevokeLease) {
            d.complete(Kind::RevokeLease, Some("a"), Outcome::LeaseRevoked(Err(forbidden())));
        }
        d.serve(HOUR, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(fixed(&format!("l{next}"), HOUR)))));
    }
    assert_eq!(d.count(Kind::RevokeLease), 1, "the same token may not revoke the other leases either");
    let denials = d.lines(LogLevel::Info).iter().filter(|line| line.contains("stay valid until they expire")).count();
    assert_eq!((denials, d.lines(LogLevel::Warn).len()), (1, 0), "{:?}", d.log);
    assert_eq!(d.fresh().0, ConditionStatus::True);
}

#[test]
fn failed_revocation_is_retried_a_few_times() {
    let mut d = replaced();
    d.hold(Kind::RevokeLease);
    d.serve(MINUTE * 20, |op| matches!(op, Op::RevokeLease { .. }).then(|| Outcome::LeaseRevoked(Err(unreachable()))));
    assert_eq!(d.count(Kind::RevokeLease), 5);
    assert_eq!(d.fresh().0, ConditionStatus::True);
}

#[test]
fn lease_of_rejected_reading_is_revoked_at_once() {
    let mut settings = settings(&["a"]);
    settings.outputs = vec![super::fixtures::key("a", "password", "password")];
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    let empty = Reading { data: reading(1, &[]).data, ..leased("l1", HOUR) };
    d.read("a", Ok(empty));
    assert_eq!(d.revoked_leases, ["l1"]);
}

#[test]
fn lease_that_no_set_contained_is_revoked_at_once() {
    let mut d = Driver::with(overlapping(secs(20)), RUN, None);
    d.login_ok(HOUR * 24);
    d.hold(Kind::Publish);
    d.read("a", Ok(fixed("l1", secs(100))));
    // The publication of l1 fails, and l2 and l3 replace it.
    d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
    let mut number = 1;
    d.serve(secs(200), |op| match op {
        Op::Read { .. } => {
            number += 1;
            Some(Outcome::Read(Ok(fixed(&format!("l{number}"), secs(100)))))
        }
        Op::Publish { .. } => Some(Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace)))),
        _ => None,
    });
    assert!(d.revoked_leases.starts_with(&["l1".to_owned(), "l2".to_owned()]), "{:?}", d.revoked_leases);
}

#[test]
fn lease_of_removed_source_is_revoked_after_overlap() {
    let mut with_both = overlapping(secs(20));
    with_both.sources.insert(name("b"), super::fixtures::source("secret/b"));
    let mut d = Driver::with(with_both.clone(), RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(leased("l1", HOUR)));
    d.read_ok("b", 1, &[("password", "one")]);
    let mut without = with_both;
    without.sources.remove(&name("a"));
    without.outputs.clear();
    d.config(without);
    d.advance(secs(15));
    assert!(d.revoked_leases.is_empty());
    d.advance(secs(10));
    assert_eq!(d.revoked_leases, ["l1"]);
}

#[test]
fn abandoned_read_gives_its_lease_back() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(HOUR);
    let (ticket, _) = d.take(Kind::Read, Some("a"));
    d.read_ok("b", 1, &[("password", "one")]);
    d.config(settings(&["b"]));
    d.input(crate::agent::Input::Completed(ticket, Outcome::Read(Ok(leased("l1", HOUR)))));
    assert_eq!(d.revoked_leases, ["l1"]);
}

#[test]
fn replaced_token_is_kept_for_overlap_after_publication() {
    let mut d = Driver::with(overlapping(secs(50)), RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR * 24)));
    d.serve(HOUR.mul_f64(0.71), |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        _ => None,
    });
    d.login_ok(HOUR);
    // The new credential is visible 29 s after the login, when the minimum time of the old token is almost over.
    d.hold(Kind::Publish);
    d.advance(secs(2));
    d.read("a", Ok(leased("l2", HOUR * 24)));
    d.advance(secs(27));
    d.release(Kind::Publish);
    assert_eq!(d.file("a/password"), Some("l2"));
    d.advance(secs(49));
    assert!(d.revoked.is_empty(), "an application may still use l1");
    d.advance(secs(31));
    assert_eq!((d.revoked.as_slice(), d.revoked_leases.len()), (["t1".to_owned()].as_slice(), 0));
}

#[test]
fn watched_lease_is_looked_up_and_lost_lease_is_replaced() {
    let mut settings = settings(&["a"]);
    settings.sources.get_mut(&name("a")).expect("a").watch_lease = Some(MINUTE * 5);
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(leased("l1", HOUR * 2)));
    d.serve(HOUR, |op| matches!(op, Op::LookUpLease { .. }).then(|| Outcome::LeaseLookedUp(Ok(()))));
    assert_eq!((d.count(Kind::LookUpLease), d.count(Kind::Read)), (12, 1));
    let denied = failure(FailureClass::Denied, Reason::Denied);
    d.serve(MINUTE * 5, |op| matches!(op, Op::LookUpLease { .. }).then(|| Outcome::LeaseLookedUp(Err(denied.clone()))));
    assert_eq!((d.count(Kind::LookUpLease), d.fresh().0), (13, ConditionStatus::True), "a denial says nothing");
    let lost = failure(FailureClass::Missing, Reason::LeaseLost);
    d.serve(MINUTE * 5, |op| matches!(op, Op::LookUpLease { .. }).then(|| Outcome::LeaseLookedUp(Err(lost.clone()))));
    assert_eq!(d.fresh().0, ConditionStatus::False, "the credential does not work anymore");
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", HOUR)));
    assert_eq!((d.file("a/password"), d.fresh().0), (Some("l2"), ConditionStatus::True));
}

#[test]
fn once_that_fails_leaves_revocation_to_its_token() {
    let mut d = Driver::once(&["a", "b"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    d.serve(secs(31), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(not_found()))));
    assert_eq!((d.revoked.as_slice(), d.count(Kind::RevokeLease)), (["t1".to_owned()].as_slice(), 0));
}

#[test]
fn lease_in_the_checkpoint_is_not_revoked() {
    let mut d = Driver::with(overlapping(secs(20)), Mode::Run { checkpoint: true, app_container: false }, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(fixed("l1", secs(100))));
    d.hold(Kind::Save);
    d.advance(secs(71));
    d.read("a", Ok(fixed("l2", HOUR)));
    d.complete(Kind::Save, None, Outcome::Saved(Err(failure(FailureClass::Local, Reason::NoSpace))));
    d.advance(secs(25));
    assert!(d.revoked_leases.is_empty(), "a killed process would continue with l1");
    d.release(Kind::Save);
    d.advance(MINUTE);
    assert_eq!(d.revoked_leases, ["l1"]);
}
