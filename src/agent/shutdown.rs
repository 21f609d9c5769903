//! The end: finish what runs, report, revoke our token or leave it to the next process, exit within the grace period.

use super::Tickets;
use super::io::{Action, Op, Ticket};
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

/// Share of the drain time that the work in flight may take; the rest is for report and revocation.
const FINISH_SHARE: f64 = 0.5;

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
    exit_by: Elapsed,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Finishing,
    /// The last report is on its way; its answer says whether the pod is being deleted. `sent`: it did not have to wait for
    /// the answer to an earlier one.
    Reporting { sent: bool },
    /// The token is being revoked or saved.
    Leaving { saving: Option<Ticket> },
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        *self == Self::Working
    }

    pub(super) fn wake(&self) -> Option<Elapsed> {
        match self {
            Self::Draining(drain) => Some(match drain.stage {
                Stage::Finishing => drain.finish_by,
                Stage::Reporting { .. } | Stage::Leaving { .. } => drain.exit_by,
            }),
            Self::Working | Self::Over => None,
        }
    }
}

impl Agent {
    /// Starts to leave.
    pub(super) fn begin_drain(&mut self, code: u8, now: &Now) {
        if self.phase.is_working() {
            let drain = self.parts.settings.drain;
            self.phase = Phase::Draining(Drain {
                code,
                finish_by: now.at + drain.mul_f64(FINISH_SHARE),
                exit_by: now.at + drain,
                stage: Stage::Finishing,
            });
        }
    }

    /// SIGTERM: the normal end of `run`, and a failure for `once`, whose work is unfinished. Before the first set, the exit
    /// code says why there is none.
    pub(super) fn terminate(&mut self, now: &Now) {
        let unfinished = self.mode.is_once() || self.parts.publication.visible().is_none();
        let code = match self.parts.first_failure() {
            _ if !unfinished => exit::OK,
            Some(failure) if !self.mode.is_once() => exit_code(failure),
            _ => exit::TERMINATED,
        };
        self.begin_drain(code, now);
    }

    /// In `once` mode: whether the work is done, refused for good, or out of time.
    pub(super) fn finish_once(&mut self, now: &Now) {
        let Some(deadline) = self.mode.deadline() else { return };
        let parts = &self.parts;
        let publication = &parts.publication;
        let published = publication.generation().is_some() && publication.follower.is_current();
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
            let limit = deadline.saturating_sub(self.started);
            let (reason, why) = match failure {
                Some(failure) => (failure.reason, failure.message.clone()),
                None => (Reason::VaultUnreachable, "no answer from Vault".to_owned()),
            };
            let message = if refused {
                format!("gave up: {why} (exit code {code})")
            } else {
                format!("gave up after {}s: {why} (exit code {code})", limit.as_secs_f32())
            };
            self.journal.error(&super::journal::Subject::Login, reason, message);
            self.begin_drain(code, now);
        }
    }

    /// Moves on towards the exit.
    pub(super) fn advance_drain(&mut self, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) {
        let Phase::Draining(mut drain) = self.phase.clone() else { return };
        if drain.stage == Stage::Finishing {
            let parts = &self.parts;
            let busy = parts.publication.follower.is_busy()
                || parts.mirrors.is_busy()
                || parts.sessions.is_logging_in()
                || parts.report.is_busy()
                || self.trial.as_ref().is_some_and(|trial| trial.publishing().is_some());
            if busy && now.at < drain.finish_by {
                return;
            }
            let sent = !self.parts.report.is_busy();
            self.last_report(now, tickets, actions);
            drain.stage = Stage::Reporting { sent };
        }
        if drain.stage == (Stage::Reporting { sent: false }) && !self.parts.report.is_busy() && now.at < drain.exit_by {
            self.last_report(now, tickets, actions);
            drain.stage = Stage::Reporting { sent: true };
        }
        if matches!(drain.stage, Stage::Reporting { .. }) && (!self.parts.report.is_busy() || drain.exit_by <= now.at) {
            drain.stage = Stage::Leaving { saving: self.leave(drain.code, now, tickets, actions) };
        }
        if let Stage::Leaving { saving } = &drain.stage {
            let done = saving.is_none_or(|ticket| self.saved.is_some_and(|(saved, _)| saved == ticket))
                && !self.parts.sessions.is_revoking();
            if done || drain.exit_by <= now.at {
                // It is not known whether the next process will find something.
                let failed = saving.is_some() && self.saved.is_none_or(|(_, ok)| !ok);
                let code = if failed && drain.code == exit::OK { exit::IO } else { drain.code };
                actions.push(Action::Exit { code });
                self.phase = Phase::Over;
                return;
            }
        }
        self.phase = Phase::Draining(drain);
    }

    fn last_report(&mut self, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) {
        let wanted = if self.mode.is_once() {
            conditions::conditions(&self.parts, now)
        } else {
            conditions::stopped(&self.parts)
        };
        let parts = &mut self.parts;
        parts.report.desired = wanted;
        parts.report.send_last(&parts.settings, now, tickets, actions);
    }

    /// Saves or revokes the token, or leaves it to live on for its leases.
    fn leave(&mut self, code: u8, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) -> Option<Ticket> {
        if let Some(token) = self.trial.take().and_then(|trial| trial.token).filter(|token| token.self_issued) {
            self.parts.sessions.revoke(&token, tickets, actions);
        }
        if self.mode.saves() && code == exit::OK
            && let Some(checkpoint) = self.checkpoint(now)
        {
            let settings = std::sync::Arc::clone(&self.parts.settings);
            return Some(tickets.start(Op::Save { settings, checkpoint: Box::new(checkpoint) }, actions));
        }
        if self.parts.settings.revoke_on_exit && !self.keeps_token(code, now) {
            for token in self.parts.sessions.revocable(now.at) {
                self.parts.sessions.revoke(&token, tickets, actions);
            }
        }
        None
    }

    /// What could not be saved dies with its token, and the exit code says so.
    pub(super) fn save_ended(&mut self, ticket: Ticket, ok: bool, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) {
        let Phase::Draining(Drain { stage: Stage::Leaving { saving: Some(saving) }, .. }) = &self.phase else { return };
        if *saving != ticket {
            return;
        }
        self.saved = Some((ticket, ok));
        if !ok && self.parts.settings.revoke_on_exit {
            for token in self.parts.sessions.revocable(now.at) {
                self.parts.sessions.revoke(&token, tickets, actions);
            }
        }
    }

    /// Whether the token lives on after us. Vault revokes its leases with it, and the application may still use them.
    fn keeps_token(&self, code: u8, now: &Now) -> bool {
        let leased = self.parts.sources.iter().any(|(_, source)| source.lease().is_some_and(|(_, grant, _)| grant.ends() > now.at));
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
        (_, FailureClass::Denied | FailureClass::Forbidden | FailureClass::TokenDead) => exit::NO_PERMISSION,
        (_, FailureClass::Missing) => exit::NO_INPUT,
        (_, FailureClass::Invalid) => exit::CONFIG,
        (_, FailureClass::Local) => exit::IO,
        (_, FailureClass::Conflict | FailureClass::Transient | FailureClass::Unreachable) => exit::UNAVAILABLE,
    }
}
