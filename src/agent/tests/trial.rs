//! A new configuration is verified before it replaces the active one.

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, failure, forbidden, leased, name, not_found, reading, secs, session, settings, unknown_token,
    unreachable,
};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, EventType, FailureClass, Reason, Settings};

/// Settings with another login at the same server.
fn other_role(sources: &[&str]) -> Settings {
    let mut settings = settings(sources);
    settings.auth.mount = "other".into();
    settings
}

fn other_ca(sources: &[&str]) -> Settings {
    let mut settings = settings(sources);
    settings.server.tls.ca_file = Some("/ca.pem".into());
    settings
}

#[test]
fn new_login_is_activated_after_required_sources_are_read() {
    let mut d = Driver::published(&["a", "b"]);
    d.config(other_role(&["a", "b"]));
    d.login(Ok(session("new", HOUR)));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.agent.settings().auth.mount, "kubernetes", "b has not been read");
    assert_eq!(d.file("a/password"), Some("one"));
    d.read_ok("b", 2, &[("password", "two")]);
    assert_eq!(d.agent.settings().auth.mount, "other");
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("two"), Some("two")));
    assert!(d.events.iter().any(|event| event.reason == Reason::ConfigReloaded && event.kind == EventType::Normal));
    d.advance(secs(40));
    assert_eq!(d.revoked, ["t1"], "after the overlap");
    d.advance(secs(20));
    let (_, op) = d.take(Kind::Read, Some("a"));
    assert_eq!(token_of(&op), "new");
}

#[test]
fn failed_new_login_keeps_active_session() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login_refused();
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    assert!(d.message(ConditionType::SecretsFresh).contains("its login failed: failed with LoginRefused"));
    assert!(d.has_warning_event(Reason::ConfigRejected));
    assert!(!d.events.iter().any(|event| event.reason == Reason::ConfigReloaded));
    // The active session continues.
    d.serve(MINUTE * 10, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(failure(FailureClass::Denied, Reason::LoginRefused)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(2, &[("password", "two")])))),
        _ => None,
    });
    assert_eq!((d.file("a/password"), d.revoked.len()), (Some("two"), 0));
    assert!(d.count(Kind::LogIn) < 30, "{} logins", d.count(Kind::LogIn));
    assert_eq!(d.log.iter().filter(|line| line.reason == Some(Reason::ConfigRejected)).count(), 1);
}

#[test]
fn new_login_is_activated_when_a_retry_succeeds() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login_refused();
    d.advance(MINUTE * 2);
    d.login(Ok(session("new", HOUR)));
    while d.is_open(Kind::Read) {
        d.read_ok("a", 2, &[("password", "two")]);
    }
    assert_eq!(d.agent.settings().auth.mount, "other");
    assert_eq!((d.file("a/password"), d.fresh()), (Some("two"), (ConditionStatus::True, Reason::Fresh)));
}

#[test]
fn withdrawn_login_clears_config_rejected() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login_refused();
    d.config(settings(&["a"]));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    d.advance(MINUTE / 2);
    assert!(!d.is_open(Kind::LogIn), "the login is not retried");
}

#[test]
fn token_of_abandoned_trial_is_revoked() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login(Ok(session("new", HOUR)));
    d.config(settings(&["a"]));
    assert_eq!(d.revoked, ["new"]);
    d.read_ok("a", 9, &[("password", "of the trial")]);
    assert_eq!(d.file("a/password"), Some("one"));
}

#[test]
fn late_login_of_abandoned_trial_is_revoked() {
    for stop in [false, true] {
        let mut d = Driver::published(&["a"]);
        d.config(other_role(&["a"]));
        if stop {
            d.input(Input::Terminate);
        } else {
            d.input(Input::ConfigInvalid("nonsense".into()));
        }
        d.login(Ok(session("new", HOUR)));
        assert!(d.revoked.contains(&"new".to_owned()), "stop: {stop}");
    }
}

#[test]
fn failed_read_with_new_login_keeps_active_configuration() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login(Ok(session("new", HOUR)));
    d.read("a", Err(not_found()));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    assert!(d.message(ConditionType::SecretsFresh).contains("its verification failed: failed with SecretNotFound"));
    assert_eq!(d.agent.settings().auth.mount, "kubernetes");
}

#[test]
fn unreplicated_token_of_trial_raises_no_alarm() {
    let mut d = Driver::published(&["a"]);
    d.config(other_role(&["a"]));
    d.login(Ok(session("new", HOUR)));
    d.read("a", Err(forbidden()));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    d.advance(secs(1));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.count(Kind::LogIn)), (Some("two"), 2));
    assert!(!d.has_warning_event(Reason::ConfigRejected));
}

#[test]
fn trial_with_rejected_token_logs_in_again() {
    let mut d = Driver::published(&["a", "b"]);
    d.config(other_role(&["a", "b"]));
    d.login(Ok(session("new", HOUR)));
    d.read("a", Ok(leased("l1", HOUR)));
    // The token is confirmed, so the rejection counts.
    d.read("b", Err(unknown_token()));
    assert_eq!(d.revoked, ["new"]);
    d.advance(secs(2));
    d.login(Ok(session("newer", HOUR)));
    d.read_ok("b", 2, &[("password", "two")]);
    d.read("a", Ok(leased("l2", HOUR)));
    assert_eq!(d.file("a/password"), Some("l2"), "a lease of the rejected token does not verify the source");
}

#[test]
fn changed_connection_is_verified_by_any_response() {
    let mut d = Driver::published(&["a"]);
    d.config(other_ca(&["a"]));
    d.look_up(Err(unreachable()));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    d.advance(MINUTE);
    d.look_up(Err(forbidden()));
    assert!(d.agent.settings().server.tls.ca_file.is_some());
    assert_eq!((d.count(Kind::LogIn), d.revoked.len()), (1, 0), "the session is kept");
}

#[test]
fn changed_connection_applies_immediately_without_session() {
    let mut d = Driver::published(&["a"]);
    d.serve(HOUR * 2, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(unreachable()))),
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(unreachable()))),
        Op::Read { .. } => Some(Outcome::Read(Err(unreachable()))),
        _ => None,
    });
    d.config(other_ca(&["a"]));
    assert!(d.agent.settings().server.tls.ca_file.is_some());
    d.advance(MINUTE * 2);
    d.login_ok(HOUR);
    d.advance(MINUTE);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.file("a/password"), Some("two"));
}

#[test]
fn new_login_is_activated_while_active_one_fails() {
    let mut d = Driver::published(&["a"]);
    d.serve(HOUR * 2, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(unreachable()))),
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(unreachable()))),
        Op::Read { .. } => Some(Outcome::Read(Err(unreachable()))),
        _ => None,
    });
    d.config(other_role(&["a"]));
    d.login(Ok(session("new", HOUR)));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.fresh()), (Some("two"), (ConditionStatus::True, Reason::Fresh)));
}

#[test]
fn trial_reads_moved_source_at_new_path() {
    let mut d = Driver::published(&["a"]);
    let mut moved = other_role(&["a"]);
    moved.sources.get_mut(&name("a")).expect("a").path = "secret/moved".into();
    d.config(moved);
    d.login(Ok(session("new", HOUR)));
    d.read_ok("a", 1, &[("password", "moved")]);
    assert_eq!((d.file("a/password"), d.fresh()), (Some("moved"), (ConditionStatus::True, Reason::Fresh)));
}

#[test]
fn lagging_node_verifies_login_without_rollback() {
    let mut d = Driver::published(&["a"]);
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    d.config(other_role(&["a"]));
    d.login(Ok(session("new", HOUR)));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.agent.settings().auth.mount.as_str(), d.file("a/password")), ("other", Some("two")));
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn versions_of_another_server_are_not_compared() {
    let mut two = settings(&["a", "b"]);
    two.sources.get_mut(&name("b")).expect("b").required = false;
    let mut d = Driver::published_with(two.clone());
    d.refresh();
    for source in ["a", "b"] {
        d.read_ok(source, 7, &[("password", "seven")]);
    }
    two.server.address = "https://other:8200".into();
    d.config(two);
    d.login(Ok(session("new", HOUR)));
    d.read_ok("a", 2, &[("password", "other")]);
    d.read_ok("b", 2, &[("password", "other")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("other"), Some("other")));
}

#[test]
fn unusable_lease_of_a_trial_is_not_issued_again_and_again() {
    let mut d = Driver::published(&["b"]);
    let mut other = other_role(&["a", "b"]);
    other.outputs = vec![super::fixtures::key("a", "absent", "f")];
    d.config(other);
    let (mut issued, mut others) = (0, 1);
    d.serve(MINUTE * 30, |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("new", HOUR * 24)))),
        Op::Read { source, .. } if *source == name("a") => {
            issued += 1;
            Some(Outcome::Read(Ok(leased(&format!("l{issued}"), HOUR))))
        }
        Op::Read { .. } => {
            others += 1;
            Some(Outcome::Read(Ok(reading(others, &[("password", "two")]))))
        }
        _ => None,
    });
    assert!(issued <= 4, "{issued} leases in half an hour");
}
