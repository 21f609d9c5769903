//! Conditions and Events: content, size, and rate.

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, failure, reading, secs, settings, unreachable};
use crate::agent::{Input, LogLevel, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, EventType, Failure, FailureClass, Reason};

#[test]
fn condition_names_first_sources_and_counts_rest() {
    let names: Vec<_> = (0..100).map(|n| format!("source-{n:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut d = Driver::published_with(settings(&names));
    let long = "x".repeat(5000);
    d.serve(MINUTE * 10, |op| {
        let failure = || Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, long.clone());
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(failure())))
    });
    let message = d.message(ConditionType::SecretsFresh);
    assert!(message.contains("source-000") && message.ends_with("and 97 more"), "{message}");
    assert!(message.len() < 1300, "{} bytes", message.len());
    assert!(d.count(Kind::PatchConditions) < 130, "{} reports", d.count(Kind::PatchConditions));
}

#[test]
fn message_only_changes_are_reported_at_limited_rate() {
    let mut d = Driver::published(&["a"]);
    let before = d.count(Kind::PatchConditions);
    let mut words = 0;
    d.serve(MINUTE, |op| {
        words += 1;
        let failure = Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, format!("cause {words}"));
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(failure)))
    });
    d.serve(MINUTE, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert!(d.count(Kind::PatchConditions) - before <= 24, "{} reports", d.count(Kind::PatchConditions) - before);
}

/// Regression test: a late request of the previous process had overwritten the conditions.
#[test]
fn conditions_are_repeated_once_after_start() {
    let mut d = Driver::published(&["a"]);
    let fresh = |op: &Op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))));
    d.serve(secs(50), fresh);
    let before = d.count(Kind::PatchConditions);
    d.serve(secs(15), fresh);
    assert_eq!(d.count(Kind::PatchConditions) - before, 1);
    d.serve(HOUR, fresh);
    assert_eq!(d.count(Kind::PatchConditions) - before, 1);
}

#[test]
fn missing_api_token_is_logged_once() {
    let mut d = Driver::run(&["a"]);
    d.hold(Kind::PatchConditions);
    d.hold(Kind::RecordEvent);
    d.login_ok(HOUR * 24);
    d.read_ok("a", 1, &[("password", "one")]);
    let local = || failure(FailureClass::Local, Reason::CredentialUnreadable);
    let before = d.count(Kind::PatchConditions);
    for _ in 0..60 {
        while d.is_open(Kind::PatchConditions) {
            d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Err(local())));
        }
        while d.is_open(Kind::RecordEvent) {
            d.complete(Kind::RecordEvent, None, Outcome::EventRecorded(Err(local())));
        }
        d.serve(MINUTE, |op| {
            matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))))
        });
    }
    assert!(
        d.count(Kind::PatchConditions) - before <= 8,
        "{} reports in an hour",
        d.count(Kind::PatchConditions) - before
    );
    assert!(d.lines(LogLevel::Warn).len() <= 2, "{:?}", d.lines(LogLevel::Warn));
    assert!(d.agent.is_ready(), "the files are not affected");
}

#[test]
fn condition_names_failure_within_tolerance() {
    let mut d = Driver::published(&["a"]);
    d.advance(MINUTE);
    d.read("a", Err(unreachable()));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    let message = d.message(ConditionType::SecretsFresh);
    assert_eq!(
        message,
        "source a: within its staleness tolerance until 1970-01-01T00:05:00Z; last operation failed: failed with \
         VaultUnreachable"
    );
}

#[test]
fn repeated_failure_logs_one_line_and_recovery_another() {
    let mut d = Driver::published(&["a"]);
    d.serve(MINUTE * 4, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(d.lines(LogLevel::Warn), ["failed with VaultUnreachable"]);
    d.serve(MINUTE, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")])))));
    assert!(d.lines(LogLevel::Info).iter().any(|line| line.starts_with("recovered after")));
}

#[test]
fn outage_at_start_is_reason_of_ready_condition() {
    let mut d = Driver::run(&["a"]);
    assert_eq!(d.ready(), (ConditionStatus::False, Reason::Pending));
    d.login(Err(unreachable()));
    assert_eq!(d.ready(), (ConditionStatus::False, Reason::VaultUnreachable));
    assert_eq!(d.fresh(), (ConditionStatus::Unknown, Reason::Pending));
    assert!(d.has_warning_event(Reason::VaultUnreachable));
}

#[test]
fn full_volume_keeps_previous_set_and_is_reported() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
    assert_eq!((d.ready().0, d.fresh()), (ConditionStatus::True, (ConditionStatus::False, Reason::NoSpace)));
    d.release(Kind::Publish);
    d.advance(secs(2));
    assert_eq!((d.file("a/password"), d.fresh().0), (Some("two"), ConditionStatus::True));
}

#[test]
fn nothing_is_sent_if_conditions_and_events_are_off() {
    let mut quiet = settings(&["a"]);
    (quiet.status.conditions, quiet.status.events) = (false, false);
    let mut d = Driver::with(quiet, RUN, None);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.count(Kind::PatchConditions), d.count(Kind::RecordEvent)), (0, 0));
}

#[test]
fn listener_that_cannot_be_opened_after_reload_is_reported_until_it_is() {
    let mut d = Driver::published(&["a"]);
    let taken = || Failure::new(FailureClass::Local, Reason::ListenFailed, "failed to listen on :8250: port in use");
    for _ in 0..3 {
        d.input(Input::Listening(Err(taken())));
    }
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::ListenFailed));
    assert!(d.message(ConditionType::SecretsFresh).contains("port in use"));
    let lines = d.log.iter().filter(|line| line.reason == Some(Reason::ListenFailed)).count();
    assert_eq!(lines, 1, "the failure is logged once");
    let warned = d.events.iter().any(|event| event.reason == Reason::ListenFailed && event.kind == EventType::Warning);
    assert!(warned, "{:?}", d.events);
    d.input(Input::Listening(Ok(())));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}
