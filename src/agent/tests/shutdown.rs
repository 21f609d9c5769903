//! Shutdown of `run`: what it finishes, reports, and revokes.

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, failure, forbidden, info, leased, not_found, secs, settings, unreachable};
use crate::agent::{Input, Mode, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Reason};

/// An agent whose source `a` holds a lease.
fn holding(mode: Mode) -> Driver {
    let mut d = Driver::with(settings(&["a"]), mode, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    d.hold(Kind::PatchConditions);
    d
}

#[test]
fn agent_restart_keeps_leases() {
    let mut d = holding(RUN);
    d.input(Input::Terminate);
    d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(false)));
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
}

#[test]
fn pod_deletion_revokes_token_with_leases() {
    let mut d = holding(RUN);
    d.input(Input::Terminate);
    assert!(d.revoked.is_empty(), "the response to the last report states whether the pod is being deleted");
    d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(true)));
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(0), ["t1".to_owned()].as_slice()));
}

#[test]
fn denied_report_keeps_leases() {
    let mut d = holding(RUN);
    d.input(Input::Terminate);
    d.complete(
        Kind::PatchConditions,
        None,
        Outcome::ConditionsPatched(Err(failure(FailureClass::Denied, Reason::Forbidden))),
    );
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
}

#[test]
fn ordinary_container_keeps_leases_while_application_drains() {
    let mut d = holding(Mode::Run { checkpoint: false, app_container: true });
    d.input(Input::Terminate);
    d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(true)));
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
}

#[test]
fn token_without_leases_is_always_revoked() {
    for mode in [RUN, Mode::Run { checkpoint: false, app_container: true }] {
        let mut d = Driver::with(settings(&["a"]), mode, None);
        d.login_ok(HOUR);
        d.read_ok("a", 1, &[("password", "one")]);
        d.input(Input::Terminate);
        assert_eq!((d.exit, d.revoked.as_slice()), (Some(0), ["t1".to_owned()].as_slice()));
    }
}

#[test]
fn token_is_kept_if_revoke_on_exit_is_off() {
    let mut keep = settings(&["a"]);
    keep.revoke_on_exit = false;
    let mut d = Driver::published_with(keep);
    d.input(Input::Terminate);
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
}

#[test]
fn shutdown_publishes_then_reports_then_revokes() {
    let mut d = Driver::published(&["a"]);
    for kind in [Kind::Publish, Kind::PatchConditions, Kind::Revoke] {
        d.hold(kind);
    }
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    d.input(Input::Terminate);
    assert!(!d.is_open(Kind::PatchConditions) && !d.is_open(Kind::Revoke));
    d.complete(Kind::Publish, None, Outcome::Published(Ok(true)));
    assert!(!d.is_open(Kind::Revoke));
    d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(true)));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::AgentStopped));
    assert_eq!(
        d.message(ConditionType::SecretsFresh),
        "the agent has stopped; the published files remain but are no longer refreshed"
    );
    assert_eq!(d.exit, None);
    d.complete(Kind::Revoke, None, Outcome::Revoked(Ok(())));
    assert_eq!(d.exit, Some(0));
}

#[test]
fn shutdown_starts_no_new_work() {
    let mut d = Driver::published(&["a", "b"]);
    d.hold(Kind::PatchConditions);
    d.advance(MINUTE);
    let started = |d: &Driver| [Kind::LogIn, Kind::Read, Kind::Publish, Kind::Mirror].map(|kind| d.count(kind));
    let before = started(&d);
    d.input(Input::Terminate);
    d.read_ok("a", 2, &[("password", "two")]);
    d.refresh();
    d.config(settings(&["a"]));
    d.advance(secs(1));
    assert_eq!(started(&d), before);
}

#[test]
fn shutdown_without_answers_ends_within_drain_time() {
    let mut d = Driver::published(&["a"]);
    for kind in [Kind::Publish, Kind::PatchConditions, Kind::Revoke] {
        d.hold(kind);
    }
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    d.input(Input::Terminate);
    d.advance(secs(7));
    assert_eq!(d.exit, None);
    d.advance(secs(1));
    assert_eq!(d.exit, Some(0));
    assert_eq!(d.count(Kind::Revoke), 1, "a hanging report leaves time for the revocation");
}

#[test]
fn hanging_report_leaves_time_for_revocation() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::PatchConditions);
    d.input(Input::Terminate);
    d.advance(secs(8));
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(0), ["t1".to_owned()].as_slice()));
}

#[test]
fn login_in_flight_at_sigterm_is_revoked() {
    let mut d = Driver::run(&["a"]);
    d.input(Input::Terminate);
    assert_eq!(d.exit, None);
    d.login_ok(HOUR);
    assert_eq!(d.revoked, ["t1"]);
}

#[test]
fn exit_code_before_first_set_matches_blocking_failure() {
    let mut d = Driver::run(&["a"]);
    d.input(Input::Terminate);
    d.advance(secs(8));
    assert_eq!(d.exit, Some(143));
    assert_eq!(d.message(ConditionType::SecretsFresh), "the agent has stopped before the first set was published");

    let mut d = Driver::run(&["a"]);
    d.login(Err(unreachable()));
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(69));

    let mut d = Driver::run(&["a"]);
    d.login_refused();
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(77));

    let mut d = Driver::run(&["a"]);
    d.login(Err(failure(FailureClass::Invalid, Reason::TlsUnusable)));
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(64));

    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    d.read("a", Err(not_found()));
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(66));
}

#[test]
fn sigterm_after_first_set_exits_with_zero_despite_failures() {
    let mut d = Driver::published(&["a"]);
    d.advance(MINUTE);
    d.read("a", Err(forbidden()));
    d.look_up(Ok(info(Some(HOUR), true)));
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(0));
}

#[test]
fn shutdown_revokes_retired_tokens_too() {
    let mut d = Driver::published(&["a"]);
    d.advance(HOUR.mul_f64(0.71));
    d.renew_token(Err(failure(FailureClass::Denied, Reason::Denied)));
    d.login_ok(HOUR);
    d.input(Input::Terminate);
    assert_eq!(d.revoked, ["t2", "t1"]);
}

#[test]
fn login_that_completes_during_last_report_is_revoked() {
    let mut d = Driver::run(&["a"]);
    d.hold(Kind::PatchConditions);
    d.input(Input::Terminate);
    d.advance(secs(5));
    d.login_ok(HOUR);
    d.advance(secs(3));
    assert!(d.exit.is_some());
    assert_eq!(d.revoked, ["t1"]);
}
