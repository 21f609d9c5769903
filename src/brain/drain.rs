//! The end: finish what runs, revoke our token, say the last word, leave within the grace.

use super::event::{Effect, Ticket};
use super::plan::Plan;
use super::retry::{Now, Tick};
use super::{State, report};
use crate::model::{Failure, FailureClass, Reason};

/// Exit codes, after `sysexits.h`.
mod exit {
    pub(super) const OK: u8 = 0;
    pub(super) const CONFIG: u8 = 64;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const CANNOT_CREATE: u8 = 73;
    pub(super) const IO: u8 = 74;
    pub(super) const NO_PERMISSION: u8 = 77;
    /// As a shell tells a death by SIGTERM (128 + 15).
    pub(super) const TERMINATED: u8 = 143;
}

/// Part of the drain time that the work in flight may take; the rest is for revoke and report.
const FINISH_PART: f64 = 0.5;

/// Where in its life the agent is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Doing its job.
    Working,
    /// Told to stop, or done.
    Draining(Drain),
    /// `Exit` was asked for.
    Over,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drain {
    code: u8,
    /// Until then the work in flight may end.
    finish_by: Tick,
    leave_by: Tick,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Finishing,
    Leaving { revoking: Option<Ticket>, reporting: Option<Ticket> },
}

impl Phase {
    pub(super) fn is_working(&self) -> bool {
        *self == Self::Working
    }

    /// When a leaving agent has something to do.
    pub(super) fn wake(&self) -> Option<Tick> {
        match self {
            Self::Draining(drain) => Some(match drain.stage {
                Stage::Finishing => drain.finish_by,
                Stage::Leaving { .. } => drain.leave_by,
            }),
            Self::Working | Self::Over => None,
        }
    }

    pub(super) fn begin_drain(&mut self, plan: &Plan, now: &Now) {
        // To be told to stop is the normal end of `run`; `once` has then not done what it was started for, and the next
        // container must not start as if it had.
        self.begin(if plan.is_once() { exit::TERMINATED } else { exit::OK }, plan, now);
    }

    fn begin(&mut self, code: u8, plan: &Plan, now: &Now) {
        if self.is_working() {
            *self = Self::Draining(Drain {
                code,
                finish_by: now.at + plan.drain.mul_f64(FINISH_PART),
                leave_by: now.at + plan.drain,
                stage: Stage::Finishing,
            });
        }
    }

    pub(super) fn revoked(&mut self, ticket: Ticket) {
        if let Self::Draining(Drain { stage: Stage::Leaving { revoking, .. }, .. }) = self {
            revoking.take_if(|started| *started == ticket);
        }
    }
}

/// In `once` mode: whether the work is done, refused for good, or out of time.
pub(super) fn finish_once(state: &mut State, now: &Now) {
    let Some(deadline) = state.plan.deadline() else { return };
    let State { plan, phase, session, sources, publication, mirrors, .. } = state;
    let generation = publication.generation();
    if publication.is_current() && mirrors.hold(generation) {
        // The readiness of an init container is its exit; a last report is sent on the way out.
        phase.begin(exit::OK, plan, now);
    } else if session.refused_for_good()
        || sources.refused_for_good()
        || publication.refused_for_good()
        || mirrors.refused_for_good()
        || deadline <= now.at
    {
        let failure = [
            session.failure.as_ref().filter(|_| !session.is_live(now.at)),
            sources.blocking(),
            publication.failure.as_ref(),
            mirrors.blocking(),
        ];
        phase.begin(failure.into_iter().flatten().next().map_or(exit::UNAVAILABLE, exit_code), plan, now);
    }
}

/// The exit code that tells why the work could not be done.
#[must_use]
pub fn exit_code(failure: &Failure) -> u8 {
    match (failure.reason, failure.class) {
        (Reason::Foreign, _) => exit::CANNOT_CREATE,
        (_, FailureClass::Denied | FailureClass::TokenDead) => exit::NO_PERMISSION,
        (_, FailureClass::Missing) => exit::NO_INPUT,
        (_, FailureClass::Invalid) => exit::CONFIG,
        (_, FailureClass::Local) => exit::IO,
        (_, FailureClass::Conflict | FailureClass::Transient | FailureClass::Unreachable) => exit::UNAVAILABLE,
    }
}

/// Moves on: nothing new but revoke, report and exit.
pub(super) fn advance(state: &mut State, now: &Now, effects: &mut Vec<Effect>) {
    let Phase::Draining(mut drain) = state.phase.clone() else { return };
    if drain.stage == Stage::Finishing {
        let busy = state.publication.in_flight()
            || state.mirrors.in_flight()
            || state.session.logging_in()
            || state.report.busy();
        if busy && now.at < drain.finish_by {
            return;
        }
        drain.stage = leave(state, now, effects);
    }
    if let Stage::Leaving { revoking, reporting } = &mut drain.stage {
        if reporting.is_some_and(|ticket| !state.report.is_in_flight(ticket)) {
            *reporting = None;
        }
        if (revoking.is_none() && reporting.is_none()) || drain.leave_by <= now.at {
            effects.push(Effect::Exit { code: drain.code });
            state.phase = Phase::Over;
            return;
        }
    }
    state.phase = Phase::Draining(drain);
}

fn leave(state: &mut State, now: &Now, effects: &mut Vec<Effect>) -> Stage {
    let State { plan, session, sources, publication, mirrors, report, tickets, .. } = state;
    // After `once` the application lives on with what its leases give: they would die with the token.
    let keep_token = plan.is_once() && sources.any_lease();
    let revoking = session.to_revoke(plan, now.at).filter(|_| !keep_token).map(|token| {
        let ticket = tickets.next();
        effects.push(Effect::Revoke { ticket, token });
        ticket
    });
    let mut conditions = report::conditions(plan, session, sources, publication, mirrors, report);
    if !plan.is_once() {
        report::say_stopped(&mut conditions);
    }
    let reporting = report.last_word(plan, conditions, tickets, effects);
    Stage::Leaving { revoking, reporting }
}
