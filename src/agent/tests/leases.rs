//! Leases are renewed, and expire with their token at the latest.

use std::time::Duration;

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, info, lease, leased, reading, secs, unknown_token, unreachable,
};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Lease, Reading, Reason, Validity};

/// An agent whose source `a` holds the lease `l1` of the token `t1` with a TTL of one hour.
fn holding(ttl: Duration) -> Driver {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", ttl)));
    d
}

/// Advances to the renewal of `t1`, which is denied, and logs in with `t2`.
fn log_in_again(d: &mut Driver) {
    d.serve(HOUR.mul_f64(0.71), |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        _ => None,
    });
    d.login_ok(HOUR);
}

#[test]
fn renewable_lease_is_renewed_and_non_renewable_lease_is_reread() {
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
fn late_renewal_with_old_token_is_reread_with_new_token() {
    let mut d = holding(HOUR - secs(1));
    log_in_again(&mut d);
    // The renewal was started with the old token, and the lease expires with it.
    d.renew_lease("a", Ok(lease("l1", HOUR)));
    d.advance(secs(2));
    let (ticket, op) = d.take(Kind::Read, Some("a"));
    assert_eq!(token_of(&op), "t2");
    d.input(Input::Completed(ticket, Outcome::Read(Ok(leased("l2", HOUR)))));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn late_first_reading_with_old_token_is_reread_with_new_token() {
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
fn lease_becomes_stale_when_its_token_expires() {
    let mut d = holding(HOUR * 24);
    log_in_again(&mut d);
    d.advance(secs(2));
    d.serve(HOUR - secs(1) - d.at, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(d.fresh().0, ConditionStatus::True);
    assert!(d.revoked.is_empty(), "the token is kept, because the files contain its lease");
    d.serve(secs(2), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(
        d.fresh(),
        (ConditionStatus::False, Reason::VaultUnreachable),
        "the credential in the files has expired"
    );
}

#[test]
fn lease_of_expired_token_is_stale_while_login_fails() {
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
fn lease_becomes_stale_when_its_token_is_rejected() {
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
fn failed_lease_renewal_is_retried_before_expiry() {
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
    assert!(last > secs(28), "the last attempt was at {last:?}");
    assert_eq!(d.fresh().0, ConditionStatus::False, "the lease has expired");
}

#[test]
fn lost_lease_is_stale_immediately_and_reread() {
    let mut d = holding(secs(100));
    d.advance(secs(71));
    d.renew_lease("a", Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    assert_eq!(d.fresh().0, ConditionStatus::False);
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", secs(100))));
    assert_eq!(d.fresh().0, ConditionStatus::True);
}

#[test]
fn denied_lease_renewal_reads_new_lease() {
    let mut d = holding(secs(100));
    d.advance(secs(71));
    d.renew_lease("a", Err(forbidden()));
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", secs(100))));
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("l2"), 1));
}

#[test]
fn old_token_is_kept_while_set_with_its_lease_is_visible() {
    let mut settings = super::fixtures::settings(&["a"]);
    settings.sources.get_mut(&super::fixtures::name("a")).expect("a").overlap = Some(MINUTE);
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR * 24)));
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
fn token_and_its_lease_are_both_renewed() {
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

#[test]
fn lease_that_waits_for_the_next_token_is_fresh_until_its_token_expires() {
    let mut settings = super::fixtures::settings(&["a"]);
    settings.sources.get_mut(&super::fixtures::name("a")).expect("a").max_stale = secs(10);
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    let lease = Lease { renewable: false, ..lease("l1", MINUTE * 85) };
    d.read("a", Ok(Reading { validity: Validity::Lease(lease), ..leased("l1", MINUTE) }));
    // The token's last renewal ends at minute 73 to 82, before the lease does. The login that replaces it never ends.
    d.serve(MINUTE * 72, |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(info(Some(MINUTE * 40), true)))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Err(unreachable()))),
        _ => None,
    });
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh), "the lease is due, and valid");
    d.advance(MINUTE * 11);
    assert_eq!(d.fresh().0, ConditionStatus::False, "the token has expired");
}
