//! Notifications of the application.

use std::collections::BTreeSet;
use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, failure, secs, settings, unreachable};
use crate::agent::{Mode, Op, Outcome};
use crate::model::{
    AdoptedSet, ConditionStatus, ConditionType, FailureClass, Glob, Notification, NotificationName, NotificationRecord,
    NotificationTarget, Reason, Settings,
};

pub(super) fn named(text: &str) -> NotificationName {
    NotificationName::new(text).expect(text)
}

/// A notification of all files by a marker file, after one second.
pub(super) fn notification() -> Notification {
    Notification {
        target: NotificationTarget::File("/notify/generation".into()),
        files: vec![],
        after: BTreeSet::new(),
        at_start: false,
        debounce: secs(1),
        jitter: Duration::ZERO,
        min_interval: Duration::ZERO,
    }
}

pub(super) fn with(sources: &[&str], all: &[(&str, Notification)]) -> Settings {
    let notify = all.iter().map(|(name, notification)| (named(name), notification.clone())).collect();
    Settings { notify, ..settings(sources) }
}

/// A running process with one notification `n`.
fn running(notification: Notification) -> Driver {
    Driver::published_with(with(&["a"], &[("n", notification)]))
}

/// Changes the secret of source `a`.
pub(super) fn change(d: &mut Driver, version: u64) {
    d.refresh();
    d.read_ok("a", version, &[("password", &format!("of version {version}"))]);
}

/// The set that the process leaves behind.
pub(super) fn left_by(d: &Driver) -> AdoptedSet {
    let set = d.set.as_ref().expect("a set");
    AdoptedSet { files: set.files.clone(), manifest: set.manifest.clone(), published: jiff::Timestamp::UNIX_EPOCH }
}

fn pending(d: &Driver) -> Vec<String> {
    left_by(d).manifest.notifications.pending.iter().map(ToString::to_string).collect()
}

fn notified(d: &Driver) -> Vec<(&str, u64)> {
    d.notified.iter().map(|(name, generation)| (name.as_str(), *generation)).collect()
}

fn condition(d: &Driver) -> (ConditionStatus, Reason) {
    let condition = d.condition(ConditionType::Notified);
    (condition.status, condition.reason)
}

#[test]
fn change_is_notified_once_after_it_is_visible() {
    let mut d = running(notification());
    d.advance(HOUR);
    assert_eq!(d.notified, [], "nothing has changed since the first publication");
    d.hold(Kind::Publish);
    change(&mut d, 2);
    d.advance(MINUTE);
    assert_eq!(d.count(Kind::Notify), 0, "the change is not visible yet");
    d.release(Kind::Publish);
    assert_eq!(pending(&d), ["n"], "the manifest that became visible with the files");
    d.advance(Duration::from_millis(900));
    assert_eq!(d.count(Kind::Notify), 0, "debounce");
    d.advance(HOUR);
    assert_eq!(notified(&d), [("n", 2)]);
    assert_eq!(pending(&d), [] as [&str; 0]);
    assert_eq!(condition(&d), (ConditionStatus::True, Reason::Notified));
}

#[test]
fn unchanged_refresh_is_not_notified() {
    let mut d = running(notification());
    d.refresh();
    d.read_ok("a", 1, &[("password", "one")]);
    // Requests in quick succession become one.
    d.advance(secs(2));
    d.refresh();
    d.read_ok("a", 2, &[("password", "one")]);
    d.advance(MINUTE);
    assert_eq!(d.notified, []);
}

#[test]
fn first_publication_is_notified_only_on_request() {
    let mut d = running(Notification { at_start: true, ..notification() });
    d.advance(secs(2));
    assert_eq!(notified(&d), [("n", 1)]);
    // The next process of the pod does not start the application.
    let mut next =
        Driver::with(with(&["a"], &[("n", Notification { at_start: true, ..notification() })]), RUN, Some(left_by(&d)));
    next.login_ok(HOUR);
    next.read_ok("a", 1, &[("password", "one")]);
    next.advance(secs(30));
    assert_eq!(next.notified, []);
}

#[test]
fn only_changes_of_selected_files_are_notified() {
    let files = vec![Glob::new("a/*").expect("a pattern")];
    let mut d = Driver::published_with(with(&["a", "b"], &[("n", Notification { files, ..notification() })]));
    d.refresh();
    d.read_ok("a", 1, &[("password", "one")]);
    d.read_ok("b", 2, &[("password", "two")]);
    d.advance(secs(10));
    assert_eq!(d.notified, []);
    d.refresh();
    d.read_ok("a", 2, &[("password", "one"), ("added", "x")]);
    d.read_ok("b", 2, &[("password", "two")]);
    d.advance(secs(10));
    assert_eq!(notified(&d), [("n", 3)], "an added file is a change");
    d.refresh();
    d.read_ok("a", 3, &[("password", "one")]);
    d.advance(secs(10));
    assert_eq!(notified(&d), [("n", 3), ("n", 4)], "and so is a removed one");
}

#[test]
fn changes_within_the_debounce_are_notified_once() {
    let mut d = running(Notification { debounce: secs(10), ..notification() });
    for version in 2..6 {
        change(&mut d, version);
        d.advance(secs(2));
    }
    d.advance(secs(20));
    assert_eq!(notified(&d), [("n", 5)]);
}

#[test]
fn change_during_a_notification_is_notified_again() {
    let mut d = running(notification());
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(secs(2));
    change(&mut d, 3);
    d.advance(secs(2));
    assert_eq!(d.count(Kind::Notify), 1, "one at a time");
    d.release(Kind::Notify);
    d.advance(MINUTE);
    assert_eq!(notified(&d), [("n", 2), ("n", 3)]);
}

#[test]
fn minimum_interval_separates_notifications() {
    let mut d = running(Notification { min_interval: MINUTE, ..notification() });
    change(&mut d, 2);
    d.advance(secs(2));
    change(&mut d, 3);
    d.advance(secs(30));
    assert_eq!(notified(&d), [("n", 2)]);
    d.advance(secs(30));
    assert_eq!(notified(&d), [("n", 2), ("n", 3)]);
}

#[test]
fn failing_notification_delays_nothing_and_is_repeated() {
    let mut d = running(notification());
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(secs(2));
    let refused = failure(FailureClass::Unreachable, Reason::NotifyFailed);
    d.complete(Kind::Notify, None, Outcome::Notified(Err(refused.clone())));
    assert_eq!(condition(&d), (ConditionStatus::False, Reason::NotifyFailed));
    assert_eq!(d.message(ConditionType::Notified), "notification n: failed with NotifyFailed");
    assert_eq!(pending(&d), ["n"]);
    assert_eq!(d.fresh().0, ConditionStatus::True);
    change(&mut d, 3);
    assert_eq!(d.file("a/password"), Some("of version 3"), "published although the notification fails");
    d.serve(MINUTE * 5, |op| {
        let fails = matches!(op, Op::Notify { .. });
        fails.then(|| Outcome::Notified(Err(refused.clone())))
    });
    assert!((5..60).contains(&d.count(Kind::Notify)), "{} attempts in 5 minutes", d.count(Kind::Notify));
    assert!(d.has_warning_event(Reason::NotifyFailed));
    d.release(Kind::Notify);
    d.advance(MINUTE * 2);
    assert_eq!(notified(&d), [("n", 3)]);
    assert_eq!(condition(&d), (ConditionStatus::True, Reason::Notified));
}

#[test]
fn notification_waits_for_those_it_comes_after() {
    let second = Notification { after: [named("first")].into(), ..notification() };
    let mut d = Driver::published_with(with(&["a"], &[("first", notification()), ("a-second", second)]));
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(secs(10));
    assert_eq!(d.count(Kind::Notify), 1);
    let refused = failure(FailureClass::Unreachable, Reason::NotifyFailed);
    d.complete(Kind::Notify, None, Outcome::Notified(Err(refused)));
    d.release(Kind::Notify);
    d.advance(MINUTE);
    assert_eq!(notified(&d), [("first", 2), ("a-second", 2)]);
}

/// The next process, after the previous one was killed.
fn next_process(d: &Driver) -> Driver {
    Driver::with(with(&["a"], &[("n", notification())]), RUN, Some(left_by(d)))
}

#[test]
fn killed_process_leaves_its_pending_notification_to_the_next_one() {
    let mut d = running(notification());
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(secs(2));
    assert!(d.is_open(Kind::Notify), "killed during the notification");

    let mut next = next_process(&d);
    next.advance(secs(2));
    assert_eq!(notified(&next), [("n", 2)], "also while Vault is unavailable");
    assert_eq!(next.agent.adopted(), Some(jiff::Timestamp::UNIX_EPOCH), "the set counts as adopted until it is read");
    assert_eq!(pending(&next), [] as [&str; 0]);

    let mut last = next_process(&next);
    last.login_ok(HOUR);
    last.read_ok("a", 2, &[("password", "of version 2")]);
    last.advance(secs(10));
    assert_eq!(last.notified, [], "not twice");
    change(&mut last, 3);
    last.advance(secs(10));
    assert_eq!(notified(&last), [("n", 3)], "the generation continues");
}

#[test]
fn change_of_the_secret_while_no_process_ran_is_notified() {
    let d = running(notification());
    let mut next = next_process(&d);
    next.login_ok(HOUR);
    next.read_ok("a", 2, &[("password", "two")]);
    next.advance(secs(2));
    assert_eq!(notified(&next), [("n", 2)]);
}

/// The application still uses the files of a set that the new configuration does not adopt.
#[test]
fn files_of_an_earlier_process_are_known_even_if_their_set_is_not_adopted() {
    let d = Driver::published_with(with(&["b"], &[("n", notification())]));
    let mut next = Driver::with(with(&["a"], &[("n", notification())]), RUN, Some(left_by(&d)));
    next.login_ok(HOUR);
    next.read_ok("a", 1, &[("password", "one")]);
    next.advance(secs(2));
    assert_eq!(notified(&next), [("n", 2)]);
}

#[test]
fn failed_record_is_repeated_and_delays_no_notification() {
    let mut d = running(notification());
    change(&mut d, 2);
    d.hold(Kind::Publish);
    d.advance(secs(1));
    assert_eq!(notified(&d), [("n", 2)]);
    d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
    assert_eq!(pending(&d), ["n"]);
    assert_eq!(d.fresh().0, ConditionStatus::True, "the files are visible");
    d.release(Kind::Publish);
    d.advance(secs(10));
    assert_eq!((pending(&d), notified(&d)), (vec![], vec![("n", 2)]));
}

#[test]
fn reload_keeps_pending_notifications_and_adds_none() {
    let mut d = running(notification());
    d.hold(Kind::Notify);
    change(&mut d, 2);
    d.advance(secs(2));
    let refused = failure(FailureClass::Denied, Reason::NotifyFailed);
    for _ in 0..5 {
        d.complete(Kind::Notify, None, Outcome::Notified(Err(refused.clone())));
        d.advance(MINUTE * 2);
    }
    d.complete(Kind::Notify, None, Outcome::Notified(Err(refused)));
    let corrected = Notification { target: NotificationTarget::File("/notify/other".into()), ..notification() };
    d.release(Kind::Notify);
    d.config(with(&["a"], &[("n", corrected), ("new", notification())]));
    d.advance(secs(2));
    assert_eq!(notified(&d), [("n", 2)], "the corrected one, at once; the new one has missed nothing");
    d.config(with(&["a"], &[]));
    d.advance(secs(2));
    assert_eq!(condition(&d), (ConditionStatus::Unknown, Reason::NotConfigured));
    assert_eq!(left_by(&d).manifest.notifications, NotificationRecord::default());
}

#[test]
fn once_notifies_only_by_its_exit() {
    let settings = with(&["a"], &[("n", Notification { at_start: true, ..notification() })]);
    let mut d = Driver::with(settings, Mode::Once { deadline: secs(30), checkpoint: false }, None);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.exit, d.count(Kind::Notify)), (Some(0), 0));
    let record = left_by(&d).manifest.notifications;
    assert_eq!((record.generation, record.pending.len()), (1, 0));
}

#[test]
fn failing_source_delays_no_notification() {
    let mut d = Driver::published_with(with(&["a", "b"], &[("n", notification())]));
    d.refresh();
    d.read("b", Err(unreachable()));
    d.read_ok("a", 2, &[("password", "two")]);
    d.advance(secs(2));
    assert_eq!(notified(&d), [("n", 2)]);
}
