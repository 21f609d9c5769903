//! Restarts of all containers by the exit code of the agent.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, failure, secs};
use super::notifications::{change, left_by, named, notification, with};
use crate::agent::{Input, Mode, Outcome, exit};
use crate::model::{
    AdoptedSet, Checkpoint, ConditionStatus, ConditionType, FailureClass, Notification, NotificationTarget, Reason,
    RestartRecord, Settings,
};

const RUN: Mode = Mode::Run { checkpoint: true, app_container: false };

const INTERVAL: Duration = Duration::from_secs(60);

fn restart() -> Notification {
    Notification { target: NotificationTarget::RestartContainers, min_interval: INTERVAL, ..notification() }
}

fn configured() -> Settings {
    with(&["a"], &[("restart", restart()), ("n", notification())])
}

fn running() -> Driver {
    let mut d = Driver::with(configured(), RUN, None);
    d.login_ok(HOUR * 1000);
    d.read_ok("a", 1, &[("password", "one")]);
    d
}

/// The next process of the pod, `after` this time.
fn next(d: &Driver, after: Duration) -> Driver {
    next_with(left_by(d), d.checkpoint.clone().expect("a checkpoint"), d.at + after)
}

fn next_with(set: AdoptedSet, checkpoint: Checkpoint, at: Duration) -> Driver {
    let mut next = Driver::starting_at(configured(), RUN, Some(set), at);
    let (ticket, _) = next.take(Kind::LogIn, None);
    next.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
    next
}

fn record(d: &Driver) -> RestartRecord {
    left_by(d).manifest.notifications.restart.expect("recorded")
}

#[test]
fn changed_file_restarts_all_containers_without_another_login() {
    let mut d = running();
    change(&mut d, 2);
    d.advance(secs(2));
    assert_eq!(d.exit, Some(exit::RESTART_CONTAINERS));
    assert!(d.revoked.is_empty(), "the next process uses the token");
    assert!(d.checkpoint.as_ref().is_some_and(|saved| saved.token.is_some()));
    assert!(d.events.iter().any(|event| event.reason == Reason::ContainersRestarting));
    let record = left_by(&d).manifest.notifications;
    assert!(record.pending.is_empty(), "the restart covers all notifications: {record:?}");

    let mut next = next(&d, secs(5));
    next.read_ok("a", 2, &[("password", "of version 2")]);
    next.advance(HOUR * 2);
    assert_eq!((next.exit, next.notified.len()), (None, 0), "once per change");
}

#[test]
fn first_publication_restarts_nothing() {
    let mut d = running();
    d.advance(HOUR);
    assert_eq!(d.exit, None);
}

#[test]
fn restarts_keep_their_interval_and_the_condition_names_the_time() {
    let mut d = running();
    change(&mut d, 2);
    d.advance(secs(2));
    let mut next = next(&d, secs(5));
    next.read_ok("a", 3, &[("password", "three")]);
    assert_eq!(next.exit, None);
    let condition = next.condition(ConditionType::Notified);
    assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::Pending));
    assert!(condition.message.contains("restarted at 1970-01-01T00:01:0"), "{}", condition.message);
    next.advance(INTERVAL - secs(10));
    assert_eq!(next.exit, None);
    next.advance(secs(10));
    assert_eq!((next.exit, record(&next).early), (Some(exit::RESTART_CONTAINERS), 1));
}

/// For example, new dynamic credentials at each start because the checkpoint cannot be written.
#[test]
fn restarts_that_cause_changes_slow_down_to_one_per_hour() {
    let mut d = running();
    let mut waits = Vec::new();
    for version in 2..14 {
        change(&mut d, version);
        let start = d.at;
        d.advance(HOUR * 2);
        assert_eq!(d.exit, Some(exit::RESTART_CONTAINERS));
        let exit = Duration::try_from(record(&d).at.duration_since(jiff::Timestamp::UNIX_EPOCH)).expect("a time");
        waits.push((exit - start).as_secs() / 60);
        d = next_with(left_by(&d), d.checkpoint.clone().expect("a checkpoint"), exit + secs(4));
    }
    assert_eq!(waits, [0, 0, 1, 3, 7, 15, 31, 59, 59, 59, 59, 59]);
}

#[test]
fn changes_after_the_interval_are_not_slowed_down() {
    let mut d = running();
    for version in 2..8 {
        d.advance(INTERVAL);
        change(&mut d, version);
        d.advance(secs(2));
        assert_eq!((d.exit, record(&d).early), (Some(exit::RESTART_CONTAINERS), 0));
        d = next(&d, secs(5));
    }
}

#[test]
fn change_that_was_pending_at_a_kill_restarts_the_containers_later() {
    let mut d = running();
    change(&mut d, 2);
    let mut next = next(&d, secs(1));
    next.advance(secs(2));
    assert_eq!(next.exit, Some(exit::RESTART_CONTAINERS), "also while Vault is unavailable");
}

#[test]
fn restart_that_cannot_be_recorded_restarts_only_the_agent() {
    let mut d = running();
    change(&mut d, 2);
    d.hold(Kind::Publish);
    d.advance(secs(2));
    d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
    assert_eq!(d.exit, Some(exit::IO));
    assert!(left_by(&d).manifest.notifications.pending.contains(&named("restart")), "the next process repeats it");
}

#[test]
fn record_that_hangs_does_not_delay_the_exit_beyond_the_drain() {
    let mut d = running();
    change(&mut d, 2);
    d.hold(Kind::Publish);
    d.advance(secs(20));
    assert_eq!(d.exit, Some(exit::IO));
}

#[test]
fn pod_that_is_being_deleted_is_not_restarted() {
    let mut d = running();
    d.hold(Kind::PatchConditions);
    change(&mut d, 2);
    d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(true)));
    d.release(Kind::PatchConditions);
    d.advance(MINUTE);
    assert_eq!(d.exit, None);
}

#[test]
fn restart_waits_for_the_notifications_it_comes_after() {
    let after = Notification { after: [named("n")].into(), ..restart() };
    let mut d = Driver::with(with(&["a"], &[("restart", after), ("n", notification())]), RUN, None);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(MINUTE);
    assert_eq!(d.exit, None);
    d.release(Kind::Notify);
    d.advance(secs(2));
    assert_eq!((d.exit, d.notified.len()), (Some(exit::RESTART_CONTAINERS), 1));
}
