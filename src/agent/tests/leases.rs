//! Leases end at the latest with their token, and are kept alive as long as possible.

use std::time::Duration;

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, failure, forbidden, info, lease, leased, reading, secs, unknown_token, unreachable,
};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Lease, Reason};

/// `a` holds the lease `l1` of the token `t1`, which lives for an hour.
fn holding(ttl: Duration) -> Driver {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", ttl)));
    d
}

/// The token `t1` cannot be renewed, and a login issues `t2`.
fn log_in_again(d: &mut Driver) {
    d.serve(HOUR.mul_f64(0.71), |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        _ => None,
    });
    d.login_ok(HOUR);
}

#[test]
fn a_renewable_lease_is_renewed_and_a_fixed_one_is_read_again() {
    let mut d = holding(secs(100));
    d.advance(secs(71));
    d.renew_lease("a", Ok(lease("l1", secs(100))));
    d.advance(secs(71));
    d.renew_lease("a", Ok(Lease { renewable: false, ..lease("l1", secs(100)) }));
    assert_eq!(d.file("a/password"), Some("l1"));
    d.advance(secs(71));
    d.read("a", Ok(leased("l2", secs(100))));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn a_reading_of_the_old_token_that_arrives_late_is_read_again_with_the_new_one() {
    let mut d = holding(HOUR - secs(1));
    log_in_again(&mut d);
    // The renewal was started with the old token, whose end ends the lease.
    d.renew_lease("a", Ok(lease("l1", HOUR)));
    d.advance(secs(2));
    let (ticket, op) = d.take(Kind::Read, Some("a"));
    assert_eq!(token_of(&op), "t2");
    d.input(Input::Completed(ticket, Outcome::Read(Ok(leased("l2", HOUR)))));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn the_first_reading_of_the_old_token_is_read_again_too() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    let (ticket, _) = d.take(Kind::Read, Some("a"));
    log_in_again(&mut d);
    d.input(Input::Completed(ticket, Outcome::Read(Ok(leased("l1", HOUR)))));
    d.advance(secs(2));
    d.read("a", Ok(leased("l2", HOUR)));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn a_lease_is_stale_from_the_end_of_its_token_on() {
    let mut d = holding(HOUR * 24);
    log_in_again(&mut d);
    d.advance(secs(2));
    d.serve(HOUR - secs(1) - d.at, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(d.fresh().0, ConditionStatus::True);
    assert!(d.revoked.is_empty(), "the token is kept for its lease, which is in the files");
    d.serve(secs(2), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::VaultUnreachable), "the credential in the files is dead");
}

#[test]
fn a_lease_whose_token_ended_is_stale_where_no_login_succeeds() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(secs(30));
    d.read("a", Ok(leased("l1", HOUR)));
    d.serve(secs(31), |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(failure(FailureClass::Denied, Reason::LoginRefused)))),
        _ => None,
    });
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::LoginRefused));
}

#[test]
fn a_lease_is_stale_from_the_moment_at_which_its_token_is_known_to_be_dead() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR * 9)));
    d.read_ok("b", 1, &[("password", "one")]);
    d.advance(MINUTE);
    d.read("b", Err(unknown_token()));
    assert_eq!(d.fresh().0, ConditionStatus::False);
    assert!(d.message(ConditionType::SecretsFresh).contains("source a is stale"));
    d.login_ok(HOUR);
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", HOUR)));
    assert_eq!((d.file("a/password"), d.fresh().0), (Some("l2"), ConditionStatus::True));
}

#[test]
fn a_failed_renewal_is_tried_again_before_the_end_of_the_lease() {
    let mut d = holding(secs(30));
    let mut last = Duration::ZERO;
    while d.at < secs(30) {
        if d.is_open(Kind::RenewLease) {
            let limit = crate::model::Failure {
                retry_after: Some(MINUTE * 10),
                ..failure(FailureClass::Transient, Reason::RateLimited)
            };
            d.renew_lease("a", Err(limit));
            last = d.at;
        }
        d.advance(Duration::from_millis(100));
    }
    assert!(last > secs(28), "the last try was at {last:?}");
    assert_eq!(d.fresh().0, ConditionStatus::False, "and then it is dead");
}

#[test]
fn a_refresh_leaves_a_leased_credential_alone() {
    let mut d = holding(HOUR * 9);
    for _ in 0..5 {
        d.refresh();
        d.advance(secs(1));
    }
    assert_eq!(d.count(Kind::Read), 1, "each read would make another database user");
}

#[test]
fn a_lost_lease_is_stale_at_once_and_read_again() {
    let mut d = holding(secs(100));
    d.advance(secs(71));
    d.renew_lease("a", Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    assert_eq!(d.fresh().0, ConditionStatus::False);
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", secs(100))));
    assert_eq!(d.fresh().0, ConditionStatus::True);
}

#[test]
fn a_lease_renewal_that_is_denied_leads_to_another_lease() {
    let mut d = holding(secs(100));
    d.advance(secs(71));
    d.renew_lease("a", Err(forbidden()));
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", secs(100))));
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("l2"), 1));
}

#[test]
fn an_old_token_lives_as_long_as_the_set_with_its_lease_is_the_visible_one() {
    let mut d = holding(HOUR * 24);
    d.hold(Kind::Publish);
    log_in_again(&mut d);
    d.advance(secs(2));
    d.read("a", Ok(leased("l2", HOUR)));
    for _ in 0..20 {
        if d.is_open(Kind::Publish) {
            d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
        }
        d.advance(secs(5));
    }
    assert_eq!(d.file("a/password"), Some("l1"));
    assert!(d.revoked.is_empty(), "the application uses a lease of t1");
    d.release(Kind::Publish);
    d.advance(MINUTE * 2);
    assert_eq!((d.file("a/password"), d.revoked.as_slice()), (Some("l2"), ["t1".to_owned()].as_slice()));
}

#[test]
fn a_token_and_its_lease_are_renewed_side_by_side() {
    let mut d = holding(HOUR);
    d.serve(HOUR * 10, |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(info(Some(HOUR), true)))),
        Op::RenewLease { .. } => Some(Outcome::LeaseRenewed(Ok(lease("l1", HOUR)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[])))),
        _ => None,
    });
    assert_eq!((d.count(Kind::LogIn), d.count(Kind::Read)), (1, 1));
    assert_eq!(d.fresh().0, ConditionStatus::True);
}
