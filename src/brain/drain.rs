//! The end: finish what runs, revoke our token or leave it to the next process, say the last word, leave within the grace.

use super::event::{Effect, Ticket};
use super::plan::Plan;
use super::retry::{Now, Tick};
use super::{State, Tickets, report};
use crate::model::{Failure, FailureClass, Handover, Reason};

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
    Leaving { handing: Option<Ticket>, revoking: Option<Ticket>, reporting: Option<Ticket> },
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

    /// What could not be left to the next process dies with its token, and the exit code says so.
    pub(super) fn handed_over(
        &mut self,
        ticket: Ticket,
        result: Result<(), Failure>,
        to_revoke: Option<u64>,
        tickets: &mut Tickets,
        effects: &mut Vec<Effect>,
    ) {
        let Self::Draining(Drain { code, stage: Stage::Leaving { handing, revoking, .. }, .. }) = self else { return };
        if handing.take_if(|started| *started == ticket).is_none() {
            return;
        }
        if let Err(failure) = result {
            *code = exit_code(&failure);
            *revoking = to_revoke.map(|token| revoke(token, tickets, effects));
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
        // What to look at counts, not whose mistake it was.
        (Reason::DirectoryUnusable, _) => exit::IO,
        (Reason::VaultUnreachable, _) => exit::UNAVAILABLE,
        (_, FailureClass::Denied | FailureClass::TokenDead) => exit::NO_PERMISSION,
        (_, FailureClass::Missing) => exit::NO_INPUT,
        (_, FailureClass::Invalid) => exit::CONFIG,
        (_, FailureClass::Local) => exit::IO,
        (_, FailureClass::Conflict | FailureClass::Transient | FailureClass::Unreachable) => exit::UNAVAILABLE,
    }
}

/// Moves on: nothing new but hand-over, revoke, report and exit.
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
        drain.stage = leave(state, drain.code, now, effects);
    }
    if let Stage::Leaving { handing, revoking, reporting } = &mut drain.stage {
        if reporting.is_some_and(|ticket| !state.report.is_in_flight(ticket)) {
            *reporting = None;
        }
        let done = handing.is_none() && revoking.is_none() && reporting.is_none();
        if done || drain.leave_by <= now.at {
            // Nobody knows whether the next process will find something.
            let code = if handing.is_some() { exit::IO } else { drain.code };
            effects.push(Effect::Exit { code });
            state.phase = Phase::Over;
            return;
        }
    }
    state.phase = Phase::Draining(drain);
}

fn leave(state: &mut State, code: u8, now: &Now, effects: &mut Vec<Effect>) -> Stage {
    let State { plan, session, sources, publication, mirrors, report, tickets, .. } = state;
    let facts = session.to_hand_over(now.at).filter(|_| plan.hands_over() && code == exit::OK);
    let handing = facts.map(|facts| {
        let ticket = tickets.next();
        let facts = Handover { sources: sources.to_hand_over(now.at), ..facts };
        effects.push(Effect::HandOver { ticket, token: session.number(), facts });
        ticket
    });
    // After `once` the application lives on with what its leases give: they would die with the token. Where they were to be
    // handed over and are not, the next process reads anew.
    let keep_token = handing.is_some() || (plan.is_once() && !plan.hands_over() && sources.any_lease());
    let revoking = session.to_revoke(plan, now.at).filter(|_| !keep_token).map(|token| revoke(token, tickets, effects));
    let mut conditions = report::conditions(plan, session, sources, publication, mirrors, report);
    if !plan.is_once() {
        report::say_stopped(&mut conditions);
    }
    let reporting = report.last_word(plan, conditions, tickets, effects);
    Stage::Leaving { handing, revoking, reporting }
}

fn revoke(token: u64, tickets: &mut Tickets, effects: &mut Vec<Effect>) -> Ticket {
    let ticket = tickets.next();
    effects.push(Effect::Revoke { ticket, token });
    ticket
}
