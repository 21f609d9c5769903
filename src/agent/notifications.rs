//! Notifies the application of changed files, after they are visible.
//!
//! Each notification has its own schedule and backoff, and none delays a read or a publication. The manifest of each set
//! records which notifications are pending, so a process that is killed leaves them to the next one: a notification succeeds at
//! least once for each change, and is repeated only if a process ends before it has recorded the success.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::io::{NotificationStatus, Op, Ticket};
use super::outbox::Outbox;
use super::sync::SyncState;
use super::time::{Elapsed, Now};
use crate::model::{
    AdoptedSet, Failure, FileSet, Notification, NotificationName, NotificationRecord, RestartRecord, Settings,
};

/// Maximum time between two restarts of all containers for changes that always come soon after the previous restart, unless
/// the configured interval is longer.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(3600);

/// All notifications.
#[derive(Default)]
pub(super) struct Notifications {
    /// `once` ends before the application starts, so it notifies only by its exit.
    is_once: bool,
    all: BTreeMap<NotificationName, NotificationState>,
    /// The files of an earlier process whose set is not adopted, until the first publication. The application may use them.
    earlier: Option<FileSet>,
    /// [`NotificationRecord::generation`] of the visible set.
    generation: u64,
    restart: Option<LastRestart>,
    /// Why all containers are being restarted; `None` until the restart begins.
    pub(super) restarting: Option<String>,
}

/// The last restart of all containers, which an earlier process initiated.
#[derive(Clone, Copy)]
struct LastRestart {
    record: RestartRecord,
    /// When this process found the record, and how long ago the restart was.
    found: Elapsed,
    age: Duration,
}

impl LastRestart {
    /// When this time since the restart has passed.
    fn after(&self, wait: Duration) -> Elapsed {
        self.found + wait.saturating_sub(self.age)
    }
}

/// One notification.
struct NotificationState {
    spec: Notification,
    sync: SyncState,
    /// Whether there was a change since the last operation started.
    is_changed: bool,
    /// Earliest time of the notification about that change.
    ready: Elapsed,
    /// The change came sooner than the minimum interval after the last restart of all containers.
    is_early: bool,
    /// Time of the last success.
    succeeded: Option<(Elapsed, Timestamp)>,
}

impl NotificationState {
    fn new(spec: Notification) -> Self {
        Self {
            spec,
            sync: SyncState::default(),
            is_changed: false,
            ready: Elapsed::ZERO,
            is_early: false,
            succeeded: None,
        }
    }

    /// Notes a change of selected files.
    fn change(&mut self, restart: Option<&LastRestart>, now: &Now, salt: u64) {
        if !self.is_changed {
            self.is_changed = true;
            self.ready = now.at + self.spec.debounce + now.share(self.spec.jitter, 0.0, 1.0, salt);
            self.is_early = restart.is_some_and(|restart| now.at < restart.after(self.spec.min_interval));
        }
        self.sync.request();
    }

    /// When the notification is due; `None` if it is in flight or nothing has changed.
    fn due(&self, restart: Option<&LastRestart>) -> Option<Elapsed> {
        let due = self.sync.due()?;
        let ready = if self.is_changed { self.ready } else { Elapsed::ZERO };
        let paced = if self.spec.is_restart() {
            restart.map(|restart| restart.after(self.restart_interval(restart)))
        } else {
            self.succeeded.map(|(at, _)| at + self.spec.min_interval)
        };
        Some(due.max(ready).max(paced.unwrap_or_default()))
    }

    /// The minimum time since the last restart. It doubles while each restart is followed by a change, as if the restart caused
    /// it: Kubernetes restarts all containers as often as an exit code demands it.
    fn restart_interval(&self, restart: &LastRestart) -> Duration {
        let interval = self.spec.min_interval;
        if !self.is_early {
            return interval;
        }
        interval.saturating_mul(1 << restart.record.early.min(16)).min(RESTART_WAIT_MAX.max(interval))
    }
}

impl Notifications {
    pub(super) fn new(specs: &BTreeMap<NotificationName, Notification>, is_once: bool) -> Self {
        let all = specs.iter().map(|(name, spec)| (name.clone(), NotificationState::new(spec.clone()))).collect();
        Self { is_once, all, ..Self::default() }
    }

    /// Applies a new configuration. A pending notification stays pending if only its settings have changed.
    pub(super) fn reconcile(&mut self, specs: &BTreeMap<NotificationName, Notification>) {
        let mut old = std::mem::take(&mut self.all);
        for (name, spec) in specs {
            let state = match old.remove(name) {
                Some(state) if state.spec == *spec => state,
                Some(state) => {
                    let mut new = NotificationState::new(spec.clone());
                    new.succeeded = state.succeeded;
                    if !state.sync.is_current() {
                        // The outcome of an operation with the old settings is ignored.
                        new.sync.request();
                        (new.is_changed, new.ready, new.is_early) = (state.is_changed, state.ready, state.is_early);
                    }
                    new
                }
                None => NotificationState::new(spec.clone()),
            };
            self.all.insert(name.clone(), state);
        }
    }

    /// Continues with the record of an earlier process, whether or not its set is adopted.
    pub(super) fn adopt(&mut self, set: &AdoptedSet, now: &Now) {
        let record = &set.manifest.notifications;
        self.generation = record.generation;
        self.restart = record.restart.map(|record| {
            // A clock that was set back must not postpone restarts.
            let age = Duration::try_from(now.wall.duration_since(record.at)).unwrap_or_default();
            LastRestart { record, found: now.at, age }
        });
        self.earlier = Some(set.files.clone());
        if self.is_once {
            return;
        }
        for (index, (name, state)) in self.all.iter_mut().enumerate() {
            if record.pending.contains(name) {
                state.change(self.restart.as_ref(), now, salt(index));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_once || self.all.is_empty()
    }

    /// The files that the application can see. `visible`: those of the visible set.
    fn files<'a>(&'a self, visible: Option<&'a FileSet>) -> Option<&'a FileSet> {
        visible.or(self.earlier.as_ref())
    }

    /// The record for a new set, which replaces the visible one.
    pub(super) fn record_for(&self, files: &FileSet, visible: Option<&FileSet>) -> NotificationRecord {
        let mut record = self.record();
        if self.all.is_empty() {
            return record;
        }
        let before = self.files(visible);
        if is_new(before, files) {
            record.generation += 1;
        }
        if !self.is_once {
            let concerned = self.all.iter().filter(|(_, state)| concerns(&state.spec, before, files));
            record.pending.extend(concerned.map(|(name, _)| name.clone()));
        }
        record
    }

    /// The record of the current state.
    pub(super) fn record(&self) -> NotificationRecord {
        if self.all.is_empty() {
            return NotificationRecord::default();
        }
        let pending = self.all.iter().filter(|(_, state)| !state.sync.is_current());
        NotificationRecord {
            generation: self.generation,
            pending: pending.map(|(name, _)| name.clone()).collect(),
            restart: self.restart.map(|restart| restart.record),
        }
    }

    /// The record for a restart of all containers. The restart also covers all other notifications.
    pub(super) fn record_of_restart(&self, now: &Now) -> NotificationRecord {
        let is_early = self.all.values().any(|state| state.spec.is_restart() && state.is_early);
        let before = self.restart.map_or(0, |restart| restart.record.early);
        let early = if is_early { before.saturating_add(1) } else { 0 };
        let restart = Some(RestartRecord { at: now.wall, early });
        NotificationRecord { generation: self.generation, pending: BTreeSet::new(), restart }
    }

    /// Notes that `files` replaced those of the visible set.
    pub(super) fn published(&mut self, files: &FileSet, visible: Option<&FileSet>, now: &Now) {
        let before = visible.or(self.earlier.as_ref());
        if is_new(before, files) {
            self.generation += 1;
        }
        if !self.is_once {
            for (index, state) in self.all.values_mut().enumerate() {
                if concerns(&state.spec, before, files) {
                    state.change(self.restart.as_ref(), now, salt(index));
                }
            }
        }
        self.earlier = None;
    }

    /// Whether a notification waits for another one.
    fn is_blocked(&self, state: &NotificationState) -> bool {
        state.spec.after.iter().any(|name| self.all.get(name).is_some_and(|other| !other.sync.is_current()))
    }

    /// The notifications that are pending, not in flight, and not blocked, with the times at which they are due.
    fn due(&self) -> impl Iterator<Item = (&NotificationName, &NotificationState, Elapsed)> {
        let idle = self.all.iter().filter(|(_, state)| !self.is_blocked(state));
        idle.filter_map(|(name, state)| Some((name, state, state.due(self.restart.as_ref())?)))
    }

    /// When the next notification is due.
    pub(super) fn wake(&self) -> Option<Elapsed> {
        self.due().map(|(.., at)| at).min()
    }

    /// When all containers are to be restarted.
    pub(super) fn restart_at(&self) -> Option<Elapsed> {
        self.due().find(|(_, state, _)| state.spec.is_restart()).map(|(.., at)| at)
    }

    /// Starts the notifications that are due, except for a restart of all containers.
    pub(super) fn advance(&mut self, now: &Now, outbox: &mut Outbox) {
        let is_due = |(_, state, at): &(&NotificationName, &NotificationState, Elapsed)| {
            *at <= now.at && !state.spec.is_restart()
        };
        let names: Vec<_> = self.due().filter(is_due).map(|(name, ..)| name.clone()).collect();
        for name in names {
            let Some(state) = self.all.get_mut(&name) else { continue };
            let notification = Box::new(state.spec.clone());
            let op = Op::Notify { name: name.clone(), notification, generation: self.generation };
            state.is_changed = false;
            state.sync.started(outbox.start(op));
        }
    }

    /// Applies the outcome of a notification; `None` if it is not in flight. Returns its name and whether it is complete.
    pub(super) fn notified(
        &mut self,
        ticket: Ticket,
        result: &Result<(), Failure>,
        settings: &Settings,
        now: &Now,
    ) -> Option<NotificationName> {
        let (name, state) = self.all.iter_mut().find(|(_, state)| state.sync.is_in_flight(ticket))?;
        match result {
            Ok(()) => {
                state.sync.succeeded(ticket);
                state.succeeded = Some((now.at, now.wall));
            }
            Err(failure) => _ = state.sync.failed(ticket, failure.clone(), &settings.retry, now, 61),
        }
        Some(name.clone())
    }

    /// The failing notifications with their failures.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&NotificationName, &Failure)> {
        self.all.iter().filter_map(|(name, state)| Some((name, state.sync.failure.as_ref()?)))
    }

    /// The status of each notification.
    pub(super) fn status(&self) -> BTreeMap<NotificationName, NotificationStatus> {
        let status = |state: &NotificationState| NotificationStatus {
            pending: !state.sync.is_current(),
            succeeded: state.succeeded.map(|(_, wall)| wall),
        };
        self.all.iter().filter(|_| !self.is_once).map(|(name, state)| (name.clone(), status(state))).collect()
    }
}

/// A salt for the jitter of each notification.
fn salt(index: usize) -> u64 {
    600 + index as u64
}

/// Whether `files` differ from `before`, the files that the application can see.
fn is_new(before: Option<&FileSet>, files: &FileSet) -> bool {
    before.is_none_or(|before| files.changes(before).next().is_some())
}

/// Whether the replacement of `before` with `files` is to be notified.
fn concerns(spec: &Notification, before: Option<&FileSet>, files: &FileSet) -> bool {
    match before {
        None => spec.at_start,
        Some(before) => files.changes(before).any(|path| spec.selects(path)),
    }
}
