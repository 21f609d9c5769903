//! Supplied tokens, which the agent cannot replace.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, failure, forbidden, info, leased, reading, secs, session};
use crate::agent::{LogLevel, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Reason, Session};

fn supplied(token: &str, left: Duration, renewable: bool) -> Session {
    Session { info: info(Some(left), renewable), self_issued: false, ..session(token, left) }
}

/// Vault with one supplied token that expires at `end` and cannot be extended. `a` is a credential with a lease.
fn serve_until(d: &mut Driver, end: Duration, time: Duration, renewable: bool) {
    let start = d.at;
    let step = Duration::from_millis(100);
    let mut lease = 0;
    while d.at < start + time {
        let left = end.saturating_sub(d.at);
        d.serve(step, |op| {
            Some(match op {
                Op::LogIn { .. } if left.is_zero() => {
                    Outcome::LoggedIn(Err(failure(FailureClass::Denied, Reason::LoginRefused)))
                }
                Op::LogIn { .. } => Outcome::LoggedIn(Ok(supplied("supplied", left, renewable))),
                Op::RenewToken { .. } => Outcome::TokenRenewed(Ok(info(Some(left), renewable))),
                Op::Read { .. } => {
                    lease += 1;
                    Outcome::Read(Ok(leased(&format!("l{lease}"), HOUR)))
                }
                Op::RenewLease { .. } => Outcome::LeaseRenewed(Ok(super::fixtures::lease("l1", left))),
                _ => return None,
            })
        });
    }
}

#[test]
fn supplied_token_near_expiry_is_checked_a_few_times() {
    for renewable in [false, true] {
        let mut d = Driver::run(&["a"]);
        serve_until(&mut d, secs(10), secs(60), renewable);
        let requests = d.count(Kind::LogIn) + d.count(Kind::RenewToken);
        assert!(requests <= 7, "{requests} requests, renewable: {renewable}");
    }
}

#[test]
fn checking_unchanged_supplied_token_issues_no_new_lease() {
    let mut d = Driver::run(&["a"]);
    serve_until(&mut d, HOUR, HOUR, false);
    assert_eq!(d.count(Kind::Read), 1);
    assert!(d.count(Kind::LogIn) < 12, "{} logins", d.count(Kind::LogIn));
    assert_eq!(d.fresh().0, ConditionStatus::True, "the lease is valid until the token expires");
    d.advance(secs(2));
    assert_eq!(d.fresh().0, ConditionStatus::False, "the lease expired with the token");
}

#[test]
fn expiry_of_non_renewable_supplied_token_is_reported_early() {
    let mut d = Driver::run(&["a"]);
    serve_until(&mut d, HOUR, secs(1), false);
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::TokenExpiring));
    assert!(d.message(ConditionType::SecretsFresh).contains("expires at 1970-01-01T01:00:00Z and cannot be renewed"));
    assert!(d.has_warning_event(Reason::TokenExpiring));
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.contains("expires at 1970-01-01T01:00:00Z")));
    let logged = d.log.len();
    serve_until(&mut d, HOUR, MINUTE * 50, false);
    assert_eq!(d.log[logged..].iter().filter(|line| line.reason == Some(Reason::TokenExpiring)).count(), 0, "once");
}

#[test]
fn supplied_token_at_its_maximum_ttl_is_reported() {
    let mut d = Driver::run(&["a"]);
    d.login(Ok(supplied("supplied", HOUR, true)));
    d.read("a", Ok(leased("l1", HOUR * 9)));
    assert_eq!(d.fresh().1, Reason::Fresh);
    d.advance(HOUR.mul_f64(0.71));
    d.renew_token(Ok(info(Some(HOUR / 2), true)));
    assert_eq!(d.fresh().1, Reason::TokenExpiring);
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.contains("cannot be renewed")));
    // Vault still calls the token renewable, but the last renewal did not extend it.
    d.advance(MINUTE * 21);
    d.login(Ok(supplied("supplied", MINUTE * 9, true)));
    assert_eq!(d.fresh().1, Reason::TokenExpiring);
    assert!(!d.is_open(Kind::RenewToken));
}

#[test]
fn supplied_token_without_lookup_permission_is_used() {
    let mut d = Driver::run(&["a"]);
    d.login(Ok(Session { info: info(None, false), lookup_denied: true, ..supplied("supplied", HOUR, false) }));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!(d.file("a/password"), Some("one"));
    let same = || Session { info: info(None, false), lookup_denied: true, ..supplied("supplied", HOUR, false) };
    d.serve(HOUR * 5, |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(same()))),
        _ => None,
    });
    assert_eq!(d.count(Kind::LookUp), 0, "the lookup is known to be denied");
    assert_eq!(d.count(Kind::LogIn), 2, "the token file may have a new token, so it is read once");
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Denied));
    d.serve(MINUTE * 2, |op| {
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(2, &[("password", "two")]))))
    });
    assert_eq!(d.file("a/password"), Some("two"));
}

#[test]
fn replaced_supplied_token_is_found_before_expiry() {
    let mut d = Driver::run(&["a"]);
    d.login(Ok(supplied("one", HOUR, false)));
    d.read("a", Ok(leased("l1", HOUR * 9)));
    d.advance(HOUR.mul_f64(0.71));
    d.login(Ok(supplied("two", HOUR * 9, false)));
    d.read("a", Ok(leased("l2", HOUR * 9)));
    assert_eq!(d.file("a/password"), Some("l2"));
    d.advance(MINUTE * 5);
    assert!(d.revoked.is_empty(), "a supplied token is not revoked");
}
