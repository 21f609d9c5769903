//! What a denied request means for a token, and when tokens are renewed, replaced, and revoked.

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, info, leased, name, reading, secs, session, settings, unknown_token,
    unreachable,
};
use crate::agent::{Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Reason, Session};

/// Vault with a role without the policy `default`: reads of `a` succeed, reads of `b` and lookups are denied.
fn without_default_policy(op: &Op) -> Option<Outcome> {
    Some(match op {
        Op::LogIn { .. } => Outcome::LoggedIn(Ok(session("again", HOUR))),
        Op::LookUp { .. } => Outcome::LookedUp(Err(forbidden())),
        Op::Read { source, .. } if source.as_str() == "a" => Outcome::Read(Ok(reading(1, &[("password", "one")]))),
        Op::Read { .. } => Outcome::Read(Err(forbidden())),
        _ => return None,
    })
}

#[test]
fn token_without_default_policy_works() {
    let mut settings = settings(&["a", "b"]);
    settings.sources.get_mut(&name("b")).expect("b").required = false;
    let mut d = Driver::with(settings, RUN, None);
    d.serve(MINUTE * 20, without_default_policy);
    assert_eq!((d.count(Kind::LogIn), d.count(Kind::LookUp)), (1, 1));
    assert!(d.count(Kind::Read) < 75, "{} reads", d.count(Kind::Read));
    assert_eq!(d.file("a/password"), Some("one"));
    let line = d.log.iter().find(|line| line.reason == Some(Reason::Denied)).expect("the missing policy is logged");
    for words in ["a policy is missing", "auth/token/lookup-self", "secret/data/b"] {
        assert!(line.message.contains(words), "{}", line.message);
    }
}

#[test]
fn token_without_any_read_permission_causes_no_login_loop() {
    let mut d = Driver::run(&["b"]);
    d.serve(HOUR / 3, without_default_policy);
    assert_eq!(d.count(Kind::LogIn), 1, "another token would be denied, too");
    assert_eq!(d.ready(), (ConditionStatus::False, Reason::Denied));
}

#[test]
fn denied_source_causes_no_second_login() {
    let mut d = Driver::run(&["a", "b"]);
    d.serve(MINUTE * 30, |op| match op {
        Op::Read { source, .. } if source.as_str() == "a" => Some(Outcome::Read(Ok(leased("l", HOUR)))),
        op => without_default_policy(op),
    });
    assert_eq!(d.count(Kind::LogIn), 1);
}

#[test]
fn revoked_token_without_lookup_permission_is_replaced_after_repeated_denials() {
    let mut d = Driver::published(&["a"]);
    d.serve(MINUTE * 30, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("again", HOUR)))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Err(forbidden()))),
        Op::Read { .. } if token_of(op) == "t1" => Some(Outcome::Read(Err(forbidden()))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(2, &[("password", "two")])))),
        _ => None,
    });
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("two"), 2));
    // A removed policy causes one login, too, but not a second one.
    d.serve(MINUTE * 30, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("and again", HOUR)))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Err(forbidden()))),
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(info(Some(HOUR), true)))),
        _ => None,
    });
    assert_eq!(d.count(Kind::LogIn), 3);
}

#[test]
fn standby_that_does_not_know_token_is_retried_with_same_token() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    d.serve(secs(3), |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Err(unknown_token()))),
        _ => None,
    });
    assert!(d.count(Kind::Read) > 2);
    assert!(
        d.lines(crate::agent::LogLevel::Warn).is_empty(),
        "the failure is expected for a short time: {:?}",
        d.lines(crate::agent::LogLevel::Warn)
    );
    d.serve(secs(5), |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        _ => None,
    });
    assert_eq!(d.file("a/password"), Some("one"));
    assert_eq!((d.count(Kind::LogIn), d.revoked.len()), (1, 0));
}

/// Regression test: one lagging standby of several caused a login every second or two.
#[test]
fn new_token_that_only_some_nodes_know_is_kept() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read("b", Err(unknown_token()));
    d.serve(secs(10), |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        _ => None,
    });
    assert_eq!(d.file("b/password"), Some("one"));
    assert_eq!((d.count(Kind::LogIn), d.revoked.len()), (1, 0));
}

#[test]
fn new_token_that_stays_unknown_is_replaced_and_revoked() {
    let mut d = Driver::run(&["a"]);
    let mut issued = 0;
    d.serve(MINUTE * 10, |op| match op {
        Op::LogIn { .. } => {
            issued += 1;
            Some(Outcome::LoggedIn(Ok(session(&format!("t{issued}"), HOUR))))
        }
        Op::Read { .. } => Some(Outcome::Read(Err(unknown_token()))),
        _ => None,
    });
    let logins = d.count(Kind::LogIn);
    assert!((2..25).contains(&logins), "{logins} logins in ten minutes");
    assert!(d.revoked.len() >= logins - 1, "the tokens may be valid");
}

#[test]
fn confirmed_token_is_replaced_when_vault_no_longer_knows_it() {
    let mut d = Driver::published(&["a", "b"]);
    d.advance(MINUTE);
    d.read("a", Err(forbidden()));
    d.read("b", Err(forbidden()));
    assert_eq!(d.count(Kind::LookUp), 1, "one lookup for both sources");
    d.look_up(Err(unknown_token()));
    assert_eq!(d.revoked, ["t1"], "the token may be valid: a lagging node does not know it");
    d.login_ok(HOUR);
    for source in ["a", "b"] {
        let (ticket, op) = d.take(Kind::Read, Some(source));
        assert_eq!(token_of(&op), "t2");
        d.input(crate::agent::Input::Completed(ticket, Outcome::Read(Ok(reading(2, &[("password", "two")])))));
    }
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn denied_read_with_valid_token_names_missing_policy() {
    let mut d = Driver::published(&["a", "b"]);
    d.advance(MINUTE);
    d.read("b", Err(forbidden()));
    d.look_up(Ok(info(Some(HOUR), true)));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.file("a/password"), Some("two"));
    let message = d.message(ConditionType::SecretsFresh);
    assert!(
        message.contains(
            "the token is valid, so the path is wrong, or this policy rule is missing: path \"secret/data/b\""
        ),
        "{message}"
    );
    assert!(message.contains("within its staleness tolerance until 1970-01-01T00:05:00Z"), "{message}");
    assert_eq!(d.count(Kind::LogIn), 1);
}

#[test]
fn failed_lookup_keeps_token_and_retries_read() {
    let mut d = Driver::published(&["a"]);
    d.advance(MINUTE);
    d.read("a", Err(forbidden()));
    d.look_up(Err(unreachable()));
    d.advance(secs(1));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("two"), 1));
}

#[test]
fn source_is_read_with_new_token_while_lookup_of_old_one_is_in_flight() {
    let mut d = Driver::published(&["a"]);
    d.advance(secs(3600 - 30));
    while d.is_open(Kind::RenewToken) {
        d.renew_token(Err(failure(FailureClass::Denied, Reason::Denied)));
    }
    d.read("a", Err(forbidden()));
    assert!(d.is_open(Kind::LookUp));
    d.login_ok(HOUR);
    assert!(d.is_reading("a"), "the lookup of the first token does not affect the second one");
    d.look_up(Err(unknown_token()));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("two"), 2));
}

#[test]
fn token_is_renewed_then_replaced_near_maximum_ttl() {
    let mut d = Driver::published(&["a"]);
    d.advance(HOUR.mul_f64(0.71));
    d.renew_token(Ok(info(Some(HOUR), true)));
    d.advance(HOUR.mul_f64(0.71));
    // Near the maximum TTL, a renewal grants less than the first TTL.
    d.renew_token(Ok(info(Some(secs(1000)), true)));
    d.advance(secs(710));
    d.login_ok(HOUR);
    assert!(d.revoked.is_empty(), "the old token is kept for a short time");
    d.advance(MINUTE);
    assert_eq!(d.revoked, ["t1"]);
}

#[test]
fn unreachable_renewal_is_retried_until_token_expires() {
    let mut d = Driver::published(&["a"]);
    let mut tries = vec![];
    while d.at < HOUR {
        if d.is_open(Kind::RenewToken) {
            tries.push(d.at);
            d.renew_token(Err(unreachable()));
        }
        d.advance(secs(1));
    }
    assert!(tries.len() > 10 && tries[tries.len() - 1] > HOUR - secs(5), "{tries:?}");
    assert!(d.is_open(Kind::LogIn), "a login follows");
}

#[test]
fn token_with_denied_renewal_is_replaced_by_login() {
    let mut d = Driver::published(&["a"]);
    d.advance(HOUR.mul_f64(0.71));
    d.renew_token(Err(failure(FailureClass::Denied, Reason::Denied)));
    d.login_ok(HOUR);
}

#[test]
fn denied_login_backs_off_while_reads_succeed() {
    let mut d = Driver::published(&["a"]);
    d.advance(HOUR.mul_f64(0.71));
    d.renew_token(Err(failure(FailureClass::Denied, Reason::Denied)));
    let before = d.count(Kind::LogIn);
    d.serve(MINUTE * 5, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(failure(FailureClass::Denied, Reason::LoginRefused)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        _ => None,
    });
    assert!(d.count(Kind::LogIn) - before < 15, "{} logins", d.count(Kind::LogIn) - before);
}

#[test]
fn tokens_that_expire_immediately_cause_no_login_loop() {
    let mut d = Driver::run(&["a"]);
    let mut issued = 0;
    d.serve(MINUTE * 10, |op| match op {
        Op::LogIn { .. } => {
            issued += 1;
            Some(Outcome::LoggedIn(Ok(session(&format!("t{issued}"), secs(0)))))
        }
        _ => None,
    });
    assert!(d.count(Kind::LogIn) < 40, "{} logins", d.count(Kind::LogIn));
}

#[test]
fn token_without_expiry_is_not_renewed() {
    let mut d = Driver::run(&["a"]);
    d.login(Ok(Session { info: info(None, false), ..session("root", HOUR) }));
    d.serve(HOUR * 48, |op| {
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))))
    });
    assert_eq!((d.count(Kind::LogIn), d.count(Kind::RenewToken)), (1, 0));
}

/// Vault revokes leases with their token and notifies no client. A pod that only has leases sends no request until the next
/// renewal, which can be many minutes away.
#[test]
fn token_with_leases_is_looked_up_between_renewals() {
    let mut d = Driver::run(&["a"]);
    let mut revoked = false;
    let vault = |op: &Op, revoked: bool| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(if revoked { Err(unreachable()) } else { Ok(session("t", HOUR)) })),
        Op::Read { .. } => Some(Outcome::Read(Ok(leased("l", HOUR)))),
        Op::LookUp { .. } => {
            Some(Outcome::LookedUp(if revoked { Err(unknown_token()) } else { Ok(info(Some(HOUR), true)) }))
        }
        _ => None,
    };
    d.serve(MINUTE * 6, |op| vault(op, revoked));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    let lookups = d.count(Kind::LookUp);
    assert!((2..=3).contains(&lookups), "{lookups} lookups");
    revoked = true;
    d.serve(MINUTE * 3, |op| vault(op, revoked));
    assert_eq!(d.fresh().0, ConditionStatus::False, "the credentials in the files are revoked");
}
