//! Starts notifications, applies their outcomes, records them in the manifest, and restarts all containers.

use std::sync::Arc;

use super::io::{Op, Ticket};
use super::journal::Subject;
use super::shutdown::exit;
use super::time::{Elapsed, Now};
use super::{Agent, Parts};
use crate::model::{Failure, NotificationRecord, Reason};

impl Agent {
    /// Starts the notifications that are due, and records the current state. `is_free`: whether nothing prevents a publication
    /// to the directory.
    pub(super) fn advance_notifications(&mut self, is_free: bool, now: &Now) {
        let Parts { publication, notifications, report, .. } = &mut self.parts;
        if notifications.is_empty() && publication.visible().is_none_or(|set| is_default(&set.manifest.notifications)) {
            return;
        }
        if publication.visible().is_none() || self.mode.is_once() {
            return;
        }
        notifications.advance(now, &mut self.outbox);
        // Changes of a publication in flight are part of the restart. A pod that is being deleted is not restarted.
        let may_restart = !publication.sync.is_busy() && !publication.recording.is_busy() && !report.pod_deleting;
        if may_restart && notifications.restart_at().is_some_and(|at| at <= now.at) {
            return self.restart_containers(now);
        }
        let record = notifications.record();
        let is_recorded = publication.visible().is_some_and(|set| set.manifest.notifications == record);
        if is_recorded {
            if !publication.recording.is_busy() {
                publication.recording.postpone();
            }
            return;
        }
        // The manifest of the next set contains it anyway.
        if !publication.sync.is_current() || !is_free {
            return;
        }
        if publication.recording.is_current() {
            publication.recording.resync();
        }
        if publication.recording.is_due(now.at) {
            self.record_notifications(record);
        }
    }

    /// When [`Agent::advance_notifications`] has something to do.
    pub(super) fn notifications_wake(&self) -> Option<Elapsed> {
        let Parts { publication, notifications, .. } = &self.parts;
        if self.mode.is_once() {
            return None;
        }
        let recording = publication.recording.due().filter(|_| publication.sync.is_current());
        [recording, notifications.wake()].into_iter().flatten().min()
    }

    /// Replaces the manifest of the visible set with one that has this record. Returns whether that has started.
    fn record_notifications(&mut self, record: NotificationRecord) -> bool {
        let Parts { settings, publication, .. } = &mut self.parts;
        let Some(set) = publication.with_record(record) else { return false };
        let op = Op::Publish { directory: settings.directory.clone(), set: Arc::clone(&set) };
        let ticket = self.outbox.start(op);
        publication.recording_started(ticket, set);
        true
    }

    pub(super) fn notifications_recorded(&mut self, ticket: Ticket, result: Result<(), Failure>, now: &Now) {
        let Parts { settings, publication, .. } = &mut self.parts;
        match result {
            Ok(()) => {
                publication.recorded(ticket);
                self.journal.recovered(&Subject::Publication);
            }
            Err(failure) => {
                self.journal.failed(&Subject::Publication, &failure);
                publication.recording.failed(ticket, failure, &settings.retry, now, 62);
            }
        }
    }

    pub(super) fn notified(&mut self, ticket: Ticket, result: &Result<(), Failure>, now: &Now) {
        let Parts { settings, notifications, .. } = &mut self.parts;
        let Some(name) = notifications.notified(ticket, result, settings, now) else { return };
        let subject = Subject::Notification(name.clone());
        self.ended(&subject, result);
        if result.is_ok() {
            self.journal.info(&subject, format!("notification {name} succeeded"));
        }
    }

    /// Begins the exit that makes the kubelet restart all containers.
    fn restart_containers(&mut self, now: &Now) {
        let code = exit::RESTART_CONTAINERS;
        let message = "restarting all containers of the pod, because files have changed".to_owned();
        self.journal.warn(&Subject::Exit, Reason::ContainersRestarting, format!("{message} (exit code {code})"));
        self.parts.report.restart_event(message.clone());
        self.parts.notifications.restarting = Some(message);
        self.begin_drain(code, now);
    }

    /// Records the Event of the restart, because the logs of the containers are lost with it. Returns whether that takes more
    /// time.
    pub(super) fn announce_restart(&mut self, code: u8, now: &Now) -> bool {
        if code != exit::RESTART_CONTAINERS {
            return false;
        }
        let Parts { settings, report, .. } = &mut self.parts;
        report.record(settings, now, &mut self.outbox);
        report.has_events()
    }

    /// Records the restart as the last step before the exit. Returns whether that has started.
    pub(super) fn record_restart(&mut self, now: &Now) -> bool {
        let Parts { publication, notifications, .. } = &self.parts;
        if publication.sync.is_busy() || publication.recording.is_busy() {
            return false;
        }
        let record = notifications.record_of_restart(now);
        self.record_notifications(record)
    }

    pub(super) fn is_restart_recorded(&self) -> bool {
        let recording = &self.parts.publication.recording;
        !recording.is_busy() && recording.failure.is_none()
    }

    /// The exit code if the restart cannot be recorded. The next process would repeat the restart, so only the agent restarts,
    /// which the kubelet slows down.
    pub(super) fn restart_not_recorded(&mut self) -> u8 {
        let code = exit::IO;
        let message = format!("failed to record the restart of all containers (exit code {code})");
        self.journal.error(&Subject::Exit, Reason::WriteFailed, message);
        code
    }
}

fn is_default(record: &NotificationRecord) -> bool {
    *record == NotificationRecord::default()
}
