//! Shutdown: finishes operations in flight, reports, saves or revokes the token, and exits within the drain time.

use std::time::Duration;

use super::io::{Action, Ticket};
use super::journal::Subject;
use super::source::SourceState;
use super::time::{Elapsed, Now};
use super::{Agent, Parts, conditions};
use crate::model::{Failure, FailureClass, LeaseId, Reason};

/// Exit codes, after `sysexits.h`.
pub mod exit {
    /// Success.
    pub const OK: u8 = 0;
    /// Invalid configuration or request (`EX_USAGE`).
    pub const CONFIG: u8 = 64;
    /// Secret not found (`EX_NOINPUT`).
    pub const NO_INPUT: u8 = 66;
    /// Vault or the API server is unavailable (`EX_UNAVAILABLE`).
    pub const UNAVAILABLE: u8 = 69;
    /// Internal error (`EX_SOFTWARE`).
    pub const INTERNAL: u8 = 70;
    /// The target Secret of a mirror exists and is not managed by keyferry (`EX_CANTCREAT`).
    pub const CANNOT_CREATE: u8 = 73;
    /// Files cannot be read or written (`EX_IOERR`).
    pub const IO: u8 = 74;
    /// A login or a request was denied (`EX_NOPERM`).
    pub const NO_PERMISSION: u8 = 77;
    /// All containers of the pod are to be restarted, because files have changed. No other failure has this code, which the
    /// pod maps to the action `RestartAllContainers`.
    pub const RESTART_CONTAINERS: u8 = 88;
    /// Stopped by SIGTERM before the work was done (128 + 15, as a shell reports it).
    pub const TERMINATED: u8 = 143;
}

/// Fraction of the drain time that operations in flight may take.
const FINISH_SHARE: f64 = 0.5;

/// How long `once` waits for operations in flight after it has given up, or has used the seed.
const GIVE_UP_WAIT: Duration = Duration::from_millis(500);

/// Fraction of the drain time after which the agent no longer waits for the last report. The rest is for the
/// revocation.
const REPORT_SHARE: f64 = 0.75;

/// Life-cycle phase of the agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Normal operation.
    Working,
    /// Stopping.
    Draining(Drain),
    /// [`Action::Exit`] was returned.
    Exited,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drain {
    code: u8,
    /// Deadline for operations in flight.
    finish_by: Elapsed,
    /// Deadline for the last report.
    report_by: Elapsed,
    exit_by: Elapsed,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Finishing,
    /// The last report is in flight. Its response states whether the pod is being deleted. `sent` is false while the
    /// report waits for an earlier one to end.
    Reporting {
        sent: bool,
    },
    /// The token is being revoked or saved.
    ReleasingToken {
        saving: Option<Ticket>,
    },
    /// The restart of all containers is being recorded, so that the next process does not repeat it.
    RecordingRestart,
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
                Stage::ReleasingToken { .. } | Stage::RecordingRestart => drain.exit_by,
            }),
            Self::Working | Self::Exited => None,
        }
    }
}

impl Agent {
    /// Begins the shutdown. Operations in flight may take their share of the drain time.
    pub(super) fn begin_drain(&mut self, code: u8, now: &Now) {
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

    /// Handles SIGTERM, which is a clean exit for `run` but a failure for `once`, whose work is unfinished. If `run`
    /// stops before its first set, the exit code and the last log line name the cause.
    pub(super) fn terminate(&mut self, now: &Now) {
        let unfinished = self.mode.is_once() || self.parts.publication.visible().is_none();
        let failure = self.parts.blocking_failure();
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

    /// Ends `once` when its work is done, has failed permanently, or has reached its deadline.
    pub(super) fn finish_once(&mut self, now: &Now) {
        let Some(deadline) = self.mode.deadline() else { return };
        let parts = &self.parts;
        let publication = &parts.publication;
        let read = parts.sources.complete(now.at, |_| false);
        let published = read && publication.generation().is_some() && publication.sync.is_current();
        if published && parts.mirrors.are_current(publication.generation()) {
            // The exit of the init container signals that the files are ready.
            return self.begin_drain(exit::OK, now);
        }
        let give_up = parts.settings.drain.mul_f64(FINISH_SHARE).min(GIVE_UP_WAIT);
        if self.is_seeded() && publication.generation().is_some() && publication.sync.is_current() {
            // The point of a seed is that the pod starts without Vault.
            return self.begin_drain_within(give_up, exit::OK, now);
        }
        let refused = parts.sessions.has_failed_permanently()
            || parts.sources.has_failed_permanently()
            || publication.generation().is_none() && publication.sync.has_failed_permanently()
            || parts.mirrors.has_failed_permanently();
        if refused || deadline <= now.at {
            let failure = parts.blocking_failure().or_else(|| parts.mirrors.blocking());
            let code = failure.map_or(exit::UNAVAILABLE, exit_code);
            // Rounded to milliseconds, because the deadline and the start were read from the clock separately.
            let limit = deadline.saturating_sub(self.started).as_secs_f64();
            let limit = (limit * 1000.0).round() / 1000.0;
            let address = &parts.settings.server.address;
            let (reason, why) = match failure {
                Some(failure) => (failure.reason, failure.message.clone()),
                None if published => (
                    Reason::ApiUnavailable,
                    "no answer from the API server; check that the pod can reach it".to_owned(),
                ),
                None => {
                    (Reason::VaultUnreachable, format!("no answer from {address}; check that the pod can reach it"))
                }
            };
            let message = if refused {
                format!("gave up: {why} (exit code {code})")
            } else {
                format!("gave up after {limit}s: {why} (exit code {code})")
            };
            self.journal.error(&Subject::Exit, reason, message);
            // Wait only briefly: a login that completes now issues a token that must be revoked.
            self.begin_drain_within(give_up, code, now);
        }
    }

    /// Advances the shutdown.
    pub(super) fn advance_drain(&mut self, now: &Now) {
        let Phase::Draining(mut drain) = self.phase.clone() else { return };
        if drain.stage == Stage::Finishing {
            let is_announcing = self.announce_restart(drain.code, now);
            let parts = &self.parts;
            let busy = is_announcing
                || parts.publication.sync.is_busy()
                || parts.publication.recording.is_busy()
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
            drain.stage = Stage::ReleasingToken { saving: self.release_token(drain.code, now) };
        }
        if let Stage::ReleasingToken { saving } = &drain.stage {
            let done = (saving.is_none() || self.saved.is_some()) && !self.parts.sessions.is_revoking();
            if done || drain.exit_by <= now.at {
                // The next container would find no checkpoint, so the exit code of `once` reports a failure.
                let failed = self.mode.is_once() && saving.is_some() && self.saved != Some(true);
                let code = if failed && drain.code == exit::OK { exit::IO } else { drain.code };
                if code == exit::RESTART_CONTAINERS && drain.exit_by > now.at && self.record_restart(now) {
                    drain.stage = Stage::RecordingRestart;
                    self.phase = Phase::Draining(drain);
                    return;
                }
                let code = if code == exit::RESTART_CONTAINERS { self.restart_not_recorded() } else { code };
                self.outbox.push(Action::Exit { code });
                self.phase = Phase::Exited;
                return;
            }
        }
        if drain.stage == Stage::RecordingRestart
            && (!self.parts.publication.recording.is_busy() || drain.exit_by <= now.at)
        {
            let code = if self.is_restart_recorded() { drain.code } else { self.restart_not_recorded() };
            self.outbox.push(Action::Exit { code });
            self.phase = Phase::Exited;
            return;
        }
        self.phase = Phase::Draining(drain);
    }

    fn last_report(&mut self, now: &Now) {
        let wanted = if self.mode.is_once() {
            conditions::conditions(&self.parts, now)
        } else {
            conditions::stopped(&self.parts, now)
        };
        let parts = &mut self.parts;
        parts.report.desired = wanted;
        parts.report.send_last(&parts.settings, now, &mut self.outbox);
    }

    /// Saves the token, revokes it, or keeps it because of its leases.
    fn release_token(&mut self, code: u8, now: &Now) -> Option<Ticket> {
        if let Some(trial) = self.trial.take() {
            self.end_session_of(&trial);
        }
        let is_used = self.keeps_token(code, now);
        let keeps_token = is_used || !self.parts.settings.revoke_on_exit;
        if keeps_token && !is_used {
            self.revoke_child_tokens(now);
        }
        if !keeps_token {
            self.revoke_tokens(now);
        }
        // A save that hangs, or a checkpoint that was not restored yet. The next process asks Vault about its token.
        if !self.mode.has_checkpoint() || self.parts.saving.is_busy() || self.parts.sessions.is_restoring() {
            return None;
        }
        if self.mode.is_once()
            && code == exit::OK
            && self.parts.sessions.live(now.at).is_some_and(|token| !token.self_issued)
        {
            let message =
                "the Vault token is not saved, because it was supplied; supply it to the next container as well";
            self.journal.info(&Subject::Save, message);
        }
        Some(self.save(keeps_token, now))
    }

    /// Revokes the tokens that the agent created. Their parent stays valid, so Vault does not revoke them.
    fn revoke_child_tokens(&mut self, now: &Now) {
        let live = |source: &SourceState| match source.lease()? {
            (LeaseId::Token(child), grant, _) if grant.expires_at() > now.at => Some(child.clone()),
            _ => None,
        };
        let children = self.parts.sources.iter().filter_map(|(name, source)| Some((name.clone(), live(source)?)));
        for (name, child) in children.collect::<Vec<_>>() {
            let message = format!("the Vault token of keyferry stays valid; revoking the token of {name}");
            self.journal.info(&Subject::Revocation, message);
            let Parts { settings, sessions, .. } = &mut self.parts;
            sessions.revoke(settings, &child, &mut self.outbox);
            // It must not be part of a checkpoint.
            self.update(&name, |source| source.renewal_denied(true, now));
        }
    }

    /// Whether the exit waits for the save with this ticket.
    pub(super) fn is_releasing(&self, ticket: Ticket) -> bool {
        matches!(&self.phase, Phase::Draining(Drain { stage: Stage::ReleasingToken { saving: Some(saving) }, .. })
            if *saving == ticket)
    }

    /// Handles the end of the last save. If it failed, no other process knows the token of `once`, so it is revoked.
    pub(super) fn last_save_ended(&mut self, ok: bool, now: &Now) {
        self.saved = Some(ok);
        if !ok && self.mode.is_once() && self.parts.settings.revoke_on_exit {
            self.revoke_tokens(now);
        }
    }

    fn revoke_tokens(&mut self, now: &Now) {
        for token in self.parts.sessions.revocable(now.at) {
            self.parts.sessions.revoke_issued(&token, &mut self.outbox);
        }
    }

    /// Whether to keep the token after the exit: Vault revokes leases with their token, and the application may still
    /// use them.
    fn keeps_token(&self, code: u8, now: &Now) -> bool {
        let leased = self
            .parts
            .sources
            .iter()
            .any(|(_, source)| source.lease().is_some_and(|(_, grant, _)| grant.expires_at() > now.at));
        // The next container continues with the token.
        if self.mode.is_once() && self.mode.has_checkpoint() {
            return code == exit::OK;
        }
        // All containers restart in the same pod, and the next process continues with the token.
        if code == exit::RESTART_CONTAINERS && self.mode.has_checkpoint() && !self.parts.report.pod_deleting {
            return true;
        }
        if !leased {
            return false;
        }
        if self.mode.is_once() {
            // After success, the application starts and uses the leases. After a failure it does not start.
            return code == exit::OK;
        }
        // The application may continue to run: only the agent's container restarts, or, next to an agent in an ordinary
        // container, the application drains while the agent stops.
        self.mode.is_app_container() || !self.parts.report.pod_deleting
    }
}

/// Returns the exit code for the failure that ended the process.
#[must_use]
pub fn exit_code(failure: &Failure) -> u8 {
    match (failure.reason, failure.class) {
        (Reason::Foreign | Reason::Drifted | Reason::MirrorConflict, _) => exit::CANNOT_CREATE,
        (Reason::Internal, _) => exit::INTERNAL,
        // These reasons point to what an operator has to check, whatever their class is.
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
