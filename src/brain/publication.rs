//! When to make the accepted readings visible.

use super::Tickets;
use super::event::{Effect, PublishOutcome, Ticket};
use super::plan::Plan;
use super::retry::{Backoff, Now, Tick};
use crate::model::{Failure, Generation};

/// What is visible and what should be.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Publication {
    /// Counts up with each accepted change of content or layout.
    wanted: u64,
    /// The last `wanted` that a publication has covered.
    covered: u64,
    generation: Option<Generation>,
    in_flight: Option<(Ticket, u64)>,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

impl Publication {
    /// The visible set, if there is one.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether all that is known is visible.
    pub(super) fn is_current(&self) -> bool {
        self.generation.is_some() && self.covered == self.wanted && self.in_flight.is_none()
    }

    pub(super) fn refused_for_good(&self) -> bool {
        self.generation.is_none()
            && self.backoff.attempts > 0
            && self.failure.as_ref().is_some_and(|failure| !failure.class.is_passing())
    }

    /// Content or layout changed; an earlier failure may not apply any more.
    pub(super) fn want_again(&mut self, now: &Now) {
        self.wanted += 1;
        self.backoff = Backoff { attempts: 0, not_before: now.at };
    }

    pub(super) fn wake(&self, complete: bool) -> Option<Tick> {
        let due = complete && self.in_flight.is_none() && self.covered != self.wanted;
        due.then_some(self.backoff.not_before)
    }

    pub(super) fn advance(&mut self, complete: bool, now: &Now, tickets: &mut Tickets, effects: &mut Vec<Effect>) {
        if self.wake(complete).is_some_and(|at| at <= now.at) {
            let ticket = tickets.next();
            self.in_flight = Some((ticket, self.wanted));
            effects.push(Effect::Publish { ticket, generation: self.generation.unwrap_or_default().next() });
        }
    }

    /// Whether a new set is visible.
    pub(super) fn published(
        &mut self,
        ticket: Ticket,
        result: Result<PublishOutcome, Failure>,
        plan: &Plan,
        now: &Now,
    ) -> bool {
        let Some((_, covers)) = self.in_flight.filter(|(started, _)| *started == ticket) else { return false };
        self.in_flight = None;
        match result {
            Ok(outcome) => {
                self.covered = covers;
                self.failure = None;
                self.backoff.reset();
                let new = outcome == PublishOutcome::Swapped || self.generation.is_none();
                if new {
                    self.generation = Some(self.generation.unwrap_or_default().next());
                }
                new
            }
            Err(failure) => {
                // A change that came meanwhile is tried at once, it may be the cure.
                if covers == self.wanted {
                    self.backoff.failed(&failure, &plan.retry, now, 31);
                }
                self.failure = Some(failure);
                false
            }
        }
    }
}
