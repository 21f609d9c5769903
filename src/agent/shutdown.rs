//! The end: finish what runs, report, revoke our token or leave it to the next process, exit within the grace period.

use std::time::Duration;

use super::io::{Action, Op, Ticket};
use super::journal::Subject;
use super::time::{Elapsed, Now};
use super::{Agent, conditions};
use crate::model::{Failure, FailureClass, Reason};

/// Exit codes, after `sysexits.h`.
pub mod exit {
    /// The work is done.
    pub const OK: u8 = 0;
    /// The configuration, or what it asks for, cannot work.
    pub const CONFIG: u8 = 64;
    /// What was asked for is not there.
    pub const NO_INPUT: u8 = 66;
    /// Vault or the API server is not available.
    pub const UNAVAILABLE: u8 = 69;
    /// A Secret exists that is not ours.
    pub const CANNOT_CREATE: u8 = 73;
    /// Files cannot be read or written.
    pub const IO: u8 = 74;
    /// A login or a policy refuses.
    pub const NO_PERMISSION: u8 = 77;
    /// Ended by SIGTERM before the work was done, as a shell reports it (128 + 15).
    pub const TERMINATED: u8 = 143;
}

/// Share of the drain time after which the work in flight is left alone.
const FINISH_SHARE: f64 = 0.5;

/// How long `once` waits for what is in flight when it has given up.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Share of the drain time after which the last report is left alone; the rest is for the revocation.
const REPORT_SHARE: f64 = 0.75;

/// Where in its life the agent is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Doing its work.
    Working,
    /// Leaving.
    Draining(Drain),
    /// [`Action::Exit`] was returned.
    Over,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drain {
    code: u8,
    /// Until then the work in flight may end.
    finish_by: Elapsed,
    /// Until then the last report may be answered.
    report_by: Elapsed,
    exit_by: Elapsed,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Finishing,
    /// The last report is on its way; its answer says whether the pod is being deleted. `sent`: it did not have to wait for
    /// the answer to an earlier one.
    Reporting {
        sent: bool,
    },
    /// The token is being revoked or saved.
    Leaving {
        saving: Option<Ticket>,
    },
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        *self == Self::Working
    }

    pub(super) fn wake(&self) -> Option<Elapsed> {
        match self {
            Self::Draining(drain) => Some(match drain.stage {
                Stage::Finishing => drain.finish_by,
                Stage::Reporting { .. } => drain.report_by,
                Stage::Leaving { .. } => drain.exit_by,
            }),
            Self::Working | Self::Over => None,
        }
    }
}

impl Agent {
    /// Starts to leave. The work in flight may take its share of the drain time.
    fn begin_drain(&mut self, code: u8, now: &Now) {
        self.begin_drain_within(self.parts.settings.drain.mul_f64(FINISH_SHARE), code, now);
    }

    fn begin_drain_within(&mut self, finish: Duration, code: u8, now: &Now) {
        if self.phase.is_working() {
            let drain = self.parts.settings.drain;
            self.phase = Phase::Draining(Drain {
                code,
                finish_by: now.at + finish,
                report_by: now.at + drain.mul_f64(REPORT_SHARE),
                exit_by: now.at + drain,
                stage: Stage::Finishing,
            });
        }
    }

    /// SIGTERM: the normal end of `run`, and a failure for `once`, whose work is unfinished. Before the first set, the exit
    /// code and the last line of the log say why there is none.
    pub(super) fn terminate(&mut self, now: &Now) {
        let unfinished = self.mode.is_once() || self.parts.publication.visible().is_none();
        let failure = self.parts.first_failure();
        let code = match failure {
            _ if !unfinished => exit::OK,
            Some(failure) if !self.mode.is_once() => exit_code(failure),
            _ => exit::TERMINATED,
        };
        if unfinished && self.phase.is_working() {
            let reason = failure.map_or(Reason::AgentStopped, |failure| failure.reason);
            let why = failure.map_or(String::new(), |failure| format!(": {}", failure.message));
            let before = if self.mode.is_once() { "the work was done" } else { "the first set was published" };
            let message = format!("stopped before {before}{why} (exit code {code})");
            self.journal.error(&Subject::Exit, reason, message);
        }
        self.begin_drain(code, now);
    }

    /// In `once` mode: whether the work is done, refused for good, or out of time.
    pub(super) fn finish_once(&mut self, now: &Now) {
        let Some(deadline) = self.mode.deadline() else { return };
        let parts = &self.parts;
        let publication = &parts.publication;
        let read = parts.sources.complete(now.at, |_| false);
        let published = read && publication.generation().is_some() && publication.follower.is_current();
        if published && parts.mirrors.hold(publication.generation()) {
            // The readiness of an init container is its exit.
            return self.begin_drain(exit::OK, now);
        }
        let refused = parts.sessions.is_refused()
            || parts.sources.is_refused()
            || publication.generation().is_none() && publication.follower.is_refused()
            || parts.mirrors.is_refused();
        if refused || deadline <= now.at {
            let failure = parts.first_failure().or_else(|| parts.mirrors.blocking());
            let code = failure.map_or(exit::UNAVAILABLE, exit_code);
            // To the millisecond: the clock went on between the two readings.
            let limit = deadline.saturating_sub(self.started).as_secs_f64();
            let limit = (limit * 1000.0).round() / 1000.0;
            let (reason, why) = match failure {
                Some(failure) => (failure.reason, failure.message.clone()),
                None => (Reason::VaultUnreachable, format!("no answer from {}", parts.settings.server.address)),
            };
            let message = if refused {
                format!("gave up: {why} (exit code {code})")
            } else {
                format!("gave up after {limit}s: {why} (exit code {code})")
            };
            self.journal.error(&Subject::Exit, reason, message);
            // Out of time: only a login that is about to answer is waited for, to revoke its token.
            let finish = self.parts.settings.drain.mul_f64(FINISH_SHARE).min(LAST_WAIT);
            self.begin_drain_within(finish, code, now);
        }
    }

    /// Moves on towards the exit.
    pub(super) fn advance_drain(&mut self, now: &Now) {
        let Phase::Draining(mut drain) = self.phase.clone() else { return };
        if drain.stage == Stage::Finishing {
            let parts = &self.parts;
            let busy = parts.publication.follower.is_busy()
                || parts.mirrors.is_busy()
                || parts.sessions.is_logging_in()
                || parts.report.is_busy()
                || !self.abandoned_logins.is_empty()
                || self.trial.as_ref().is_some_and(|trial| trial.publishing().or(trial.login()).is_some());
            if busy && now.at < drain.finish_by {
                return;
            }
            let sent = !self.parts.report.is_busy();
            self.last_report(now);
            drain.stage = Stage::Reporting { sent };
        }
        if drain.stage == (Stage::Reporting { sent: false }) && !self.parts.report.is_busy() && now.at < drain.report_by
        {
            self.last_report(now);
            drain.stage = Stage::Reporting { sent: true };
        }
        if matches!(drain.stage, Stage::Reporting { .. }) && (!self.parts.report.is_busy() || drain.report_by <= now.at)
        {
            drain.stage = Stage::Leaving { saving: self.leave(drain.code, now) };
        }
        if let Stage::Leaving { saving } = &drain.stage {
            let done = saving.is_none_or(|ticket| self.saved.is_some_and(|(saved, _)| saved == ticket))
                && !self.parts.sessions.is_revoking();
            if done || drain.exit_by <= now.at {
                // It is not known whether the next process will find something.
                let failed = saving.is_some() && self.saved.is_none_or(|(_, ok)| !ok);
                let code = if failed && drain.code == exit::OK { exit::IO } else { drain.code };
                self.outbox.push(Action::Exit { code });
                self.phase = Phase::Over;
                return;
            }
        }
        self.phase = Phase::Draining(drain);
    }

    fn last_report(&mut self, now: &Now) {
        let wanted = if self.mode.is_once() {
            conditions::conditions(&self.parts, now)
        } else {
            conditions::stopped(&self.parts)
        };
        let parts = &mut self.parts;
        parts.report.desired = wanted;
        parts.report.send_last(&parts.settings, now, &mut self.outbox);
    }

    /// Saves or revokes the token, or leaves it to live on for its leases.
    fn leave(&mut self, code: u8, now: &Now) -> Option<Ticket> {
        if let Some(trial) = self.trial.take() {
            if let Some(ticket) = trial.login() {
                self.abandoned_logins.insert(ticket, trial.settings);
            }
            if let Some(token) = trial.token.filter(|token| token.self_issued) {
                self.parts.sessions.revoke(&token, &mut self.outbox);
            }
        }
        if self.mode.saves()
            && code == exit::OK
            && let Some(checkpoint) = self.checkpoint(now)
        {
            let settings = std::sync::Arc::clone(&self.parts.settings);
            return Some(self.outbox.start(Op::Save { settings, checkpoint: Box::new(checkpoint) }));
        }
        if self.mode.saves() && code == exit::OK && self.parts.sessions.live(now.at).is_some() {
            let message = "nothing is saved: the token was given to this process, and the next one is given it, too";
            self.journal.info(&Subject::Save, message);
        }
        if self.parts.settings.revoke_on_exit && !self.keeps_token(code, now) {
            for token in self.parts.sessions.revocable(now.at) {
                self.parts.sessions.revoke(&token, &mut self.outbox);
            }
        }
        None
    }

    /// What could not be saved dies with its token, and the exit code says so.
    pub(super) fn save_ended(&mut self, ticket: Ticket, ok: bool, now: &Now) {
        let Phase::Draining(Drain { stage: Stage::Leaving { saving: Some(saving) }, .. }) = &self.phase else { return };
        if *saving != ticket {
            return;
        }
        self.saved = Some((ticket, ok));
        if !ok && self.parts.settings.revoke_on_exit {
            for token in self.parts.sessions.revocable(now.at) {
                self.parts.sessions.revoke(&token, &mut self.outbox);
            }
        }
    }

    /// Whether the token lives on after us. Vault revokes its leases with it, and the application may still use them.
    fn keeps_token(&self, code: u8, now: &Now) -> bool {
        let leased = self
            .parts
            .sources
            .iter()
            .any(|(_, source)| source.lease().is_some_and(|(_, grant, _)| grant.ends() > now.at));
        if !leased {
            return false;
        }
        if self.mode.is_once() {
            // The application starts after us and lives with what its leases give; where we have failed, it does not start.
            // A checkpoint that was wanted and not written leaves nothing behind.
            return code == exit::OK && !self.mode.saves();
        }
        // The application may go on: only our container is restarted, or, as an ordinary container, it ends at the same time
        // as ours and drains.
        self.mode.is_beside() || !self.parts.report.pod_deleting
    }
}

/// The exit code that tells why the work could not be done.
#[must_use]
pub fn exit_code(failure: &Failure) -> u8 {
    match (failure.reason, failure.class) {
        (Reason::Foreign | Reason::Drifted | Reason::MirrorConflict, _) => exit::CANNOT_CREATE,
        // What to look at counts, not whose mistake it was.
        (Reason::DirectoryUnusable, _) => exit::IO,
        (Reason::TlsUnusable | Reason::ListenFailed, _) => exit::CONFIG,
        (Reason::VaultUnreachable, _) => exit::UNAVAILABLE,
        (_, FailureClass::Denied | FailureClass::Forbidden | FailureClass::TokenInvalid) => exit::NO_PERMISSION,
        (_, FailureClass::Missing) => exit::NO_INPUT,
        (_, FailureClass::Invalid) => exit::CONFIG,
        (_, FailureClass::Local) => exit::IO,
        (_, FailureClass::Conflict | FailureClass::Transient | FailureClass::Unreachable) => exit::UNAVAILABLE,
    }
}
