//! When to send conditions and Events: only on a change, and at a limited rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Op, Ticket};
use super::outbox::Outbox;
use super::sync::SyncState;
use super::time::{Backoff, Elapsed, Now};
use crate::model::{
    Condition, ConditionStatus, ConditionType, EventType, Failure, FailureClass, Generation, PodEvent, Reason, Settings,
};

/// Minimum delay after a denied report or Event. RBAC rules may be added later, but that does not justify frequent
/// requests.
const DENIED_RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// Minimum interval between two reports that differ only in their messages.
const MIN_TEXT_INTERVAL: Duration = Duration::from_secs(5);

/// Time after the start at which the conditions are sent again, even if the API server confirmed them. A request of the
/// previous process can arrive late and overwrite them. The API server ends each request after a minute
/// (<https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>, `--request-timeout`).
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Maximum number of attempts for one Event. Events are best effort.
const MAX_EVENT_ATTEMPTS: u32 = 3;

/// Reported and pending conditions and Events.
#[derive(Clone, Default)]
pub(super) struct Report {
    sync: SyncState,
    /// The conditions that the API server confirmed last; empty if unknown.
    reported: Vec<Condition>,
    pub(super) desired: Vec<Condition>,
    sent: Vec<Condition>,
    last_sent: Option<Elapsed>,
    /// When the conditions are sent again, even if they are confirmed. `None` after that.
    repeat: Option<Elapsed>,
    /// Whether the API server reported that the pod is being deleted.
    pub(super) pod_deleting: bool,
    /// The pending Event of each subject. A newer one replaces it.
    events: BTreeMap<EventKey, PodEvent>,
    recording: Option<(Ticket, EventKey, PodEvent)>,
    record_backoff: Backoff,
    announced: Option<Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EventKey {
    Condition(ConditionType),
    Config,
    Mirror,
    Restart,
    Token,
}

impl Report {
    /// Schedules one more report of the conditions after the start of the process.
    pub(super) fn repeat_later(&mut self, now: &Now) {
        self.repeat = Some(now.at + REPEAT_AFTER);
    }

    /// Sends everything again: a new configuration may name another pod, and permissions may have changed.
    pub(super) fn reset(&mut self) {
        self.reported.clear();
        self.last_sent = None;
        self.sync.request();
        self.record_backoff.reset();
    }

    pub(super) fn config_event(&mut self, kind: EventType, reason: Reason, message: String) {
        self.events.insert(EventKey::Config, PodEvent { kind, reason, message });
    }

    pub(super) fn mirror_event(&mut self, kind: EventType, reason: Reason, message: String) {
        self.events.insert(EventKey::Mirror, PodEvent { kind, reason, message });
    }

    pub(super) fn token_event(&mut self, message: String) {
        let event = PodEvent { kind: EventType::Warning, reason: Reason::TokenExpiring, message };
        self.events.insert(EventKey::Token, event);
    }

    pub(super) fn restart_event(&mut self, message: String) {
        let event = PodEvent { kind: EventType::Normal, reason: Reason::ContainersRestarting, message };
        self.events.insert(EventKey::Restart, event);
    }

    /// Whether an Event is pending or in flight.
    pub(super) fn has_events(&self) -> bool {
        self.recording.is_some() || !self.events.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.sync.is_busy()
    }

    /// Takes the current conditions and adds Events for changes.
    pub(super) fn update(&mut self, desired: Vec<Condition>, generation: Option<Generation>) {
        self.note_transitions(&desired, generation);
        self.desired = desired;
    }

    fn report_due(&self, settings: &Settings) -> Option<Elapsed> {
        if !settings.status.conditions || self.sync.is_busy() {
            return None;
        }
        let statuses = |conditions: &[Condition]| conditions.iter().map(|c| (c.kind, c.status)).collect::<Vec<_>>();
        let same = statuses(&self.desired) == statuses(&self.reported);
        let damped = self.last_sent.filter(|_| same).map_or(Elapsed::ZERO, |at| at + MIN_TEXT_INTERVAL);
        let due = damped.max(self.sync.backoff.not_before);
        if self.desired == self.reported { self.repeat.map(|at| at.max(due)) } else { Some(due) }
    }

    pub(super) fn wake(&self, settings: &Settings) -> Option<Elapsed> {
        let record = settings.status.events && self.recording.is_none() && !self.events.is_empty();
        let record = record.then_some(self.record_backoff.not_before);
        [self.report_due(settings), record].into_iter().flatten().min()
    }

    pub(super) fn advance(&mut self, settings: &Arc<Settings>, now: &Now, outbox: &mut Outbox) {
        if self.report_due(settings).is_some_and(|at| at <= now.at) {
            self.send(settings, now, outbox);
        }
        self.record(settings, now, outbox);
    }

    /// Records the next Event if it is due.
    pub(super) fn record(&mut self, settings: &Arc<Settings>, now: &Now, outbox: &mut Outbox) {
        if !settings.status.events {
            self.events.clear();
        } else if self.recording.is_none()
            && self.record_backoff.not_before <= now.at
            && let Some((key, event)) = self.events.pop_first()
        {
            let op = Op::RecordEvent { settings: Arc::clone(settings), event: event.clone() };
            self.recording = Some((outbox.start(op), key, event));
        }
    }

    /// Sends the last conditions of a process without delay, if they differ from the reported ones.
    pub(super) fn send_last(&mut self, settings: &Arc<Settings>, now: &Now, outbox: &mut Outbox) -> bool {
        let send = settings.status.conditions && !self.sync.is_busy() && self.desired != self.reported;
        if send {
            self.send(settings, now, outbox);
        }
        send
    }

    fn send(&mut self, settings: &Arc<Settings>, now: &Now, outbox: &mut Outbox) {
        let op = Op::PatchConditions { settings: Arc::clone(settings), conditions: self.desired.clone() };
        self.sync.started(outbox.start(op));
        self.sent.clone_from(&self.desired);
        self.last_sent = Some(now.at);
        self.repeat.take_if(|at| *at <= now.at);
    }

    /// Adds an Event for each change of status or reason, and for each new set.
    fn note_transitions(&mut self, desired: &[Condition], generation: Option<Generation>) {
        for new in desired {
            let old = self.desired.iter().find(|old| old.kind == new.kind);
            let same = old.is_some_and(|old| old.status == new.status && old.reason == new.reason);
            // No Event: nothing happened yet, or the Event of the new set covers the change.
            let silent =
                matches!(new.reason, Reason::Pending | Reason::NotConfigured | Reason::Published | Reason::Adopted)
                    || (new.reason == Reason::Seeded && new.kind != ConditionType::SecretsFresh)
                    || (new.reason == Reason::Notified
                        && old.is_none_or(|old| matches!(old.reason, Reason::Pending | Reason::NotConfigured)))
                    || (new.reason == Reason::Fresh
                        && old.is_none_or(|old| matches!(old.reason, Reason::Pending | Reason::Adopted)));
            if same || silent {
                continue;
            }
            let good = new.status == ConditionStatus::True
                && !matches!(new.reason, Reason::TokenExpiring | Reason::InvalidKey | Reason::ListenFailed);
            let kind = if good { EventType::Normal } else { EventType::Warning };
            let event = PodEvent { kind, reason: new.reason, message: new.message.clone() };
            self.events.insert(EventKey::Condition(new.kind), event);
        }
        if let Some(generation) = generation.filter(|_| generation != self.announced) {
            self.announced = Some(generation);
            let message = format!("published generation {generation} of the files");
            let event = PodEvent { kind: EventType::Normal, reason: Reason::Published, message };
            self.events.insert(EventKey::Condition(ConditionType::SecretsReady), event);
        }
    }

    /// Applies the outcome of a report; `None` if it is not in flight.
    pub(super) fn reported(
        &mut self,
        ticket: Ticket,
        result: Result<bool, Failure>,
        settings: &Settings,
        now: &Now,
    ) -> Option<Result<(), Failure>> {
        match result {
            Ok(deleting) => self.sync.succeeded(ticket).then(|| {
                self.pod_deleting |= deleting;
                self.reported = std::mem::take(&mut self.sent);
                Ok(())
            }),
            Err(failure) => self.sync.failed(ticket, failure.clone(), &settings.retry, now, 51).then(|| {
                if matches!(failure.class, FailureClass::Unreachable | FailureClass::Transient) {
                    // The patch may have been applied without a response, so the reported conditions are unknown.
                    self.reported.clear();
                }
                delay_retry(&mut self.sync.backoff, &failure, now);
                Err(failure)
            }),
        }
    }

    /// Applies the outcome of an Event; `None` if it is not in flight.
    pub(super) fn recorded(
        &mut self,
        ticket: Ticket,
        result: Result<(), Failure>,
        settings: &Settings,
        now: &Now,
    ) -> Option<Result<(), Failure>> {
        let (_, key, event) = self.recording.take_if(|(started, ..)| *started == ticket)?;
        match &result {
            Ok(()) => self.record_backoff.reset(),
            Err(failure) => {
                self.record_backoff.failed(failure, &settings.retry, now, 52);
                delay_retry(&mut self.record_backoff, failure, now);
                if failure.class.is_retryable() && self.record_backoff.attempts < MAX_EVENT_ATTEMPTS {
                    self.events.entry(key).or_insert(event);
                }
            }
        }
        Some(result)
    }
}

/// Delays the retry of a failure that needs a change of permissions or configuration.
fn delay_retry(backoff: &mut Backoff, failure: &Failure, now: &Now) {
    use FailureClass::{Denied, Invalid, Local, Missing};
    if matches!(failure.class, Denied | Invalid | Local | Missing) {
        backoff.not_before = backoff.not_before.max(now.at + DENIED_RETRY_INTERVAL);
    }
}
