//! Bringing something outside in line with the latest wanted state: the visible set, a mirrored Secret, the conditions.

use super::io::Ticket;
use super::time::{Backoff, Elapsed, Now};
use crate::model::{Failure, Retry};

/// One thing that follows the agent's state. There is no queue: an operation brings it to the latest state, and what is
/// requested meanwhile is covered by the next one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct SyncState {
    /// Counts requests.
    desired: u64,
    /// The last request that a successful operation has covered.
    observed: u64,
    in_flight: Option<(Ticket, u64)>,
    pub(super) backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

impl SyncState {
    /// The wanted state changed; an earlier failure may not apply any more.
    pub(super) fn request(&mut self) {
        self.desired += 1;
        self.backoff.reset();
    }

    /// The state is to be compared again though it did not change; the pace of retries stays.
    pub(super) fn resync(&mut self) {
        self.desired += 1;
    }

    pub(super) fn is_current(&self) -> bool {
        self.observed == self.desired && self.in_flight.is_none()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// When an operation is due.
    pub(super) fn due(&self) -> Option<Elapsed> {
        (self.in_flight.is_none() && self.observed != self.desired).then_some(self.backoff.not_before)
    }

    pub(super) fn is_due(&self, at: Elapsed) -> bool {
        self.due().is_some_and(|due| due <= at)
    }

    pub(super) fn started(&mut self, ticket: Ticket) {
        self.in_flight = Some((ticket, self.desired));
    }

    /// The operation in flight.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.in_flight.map(|(ticket, _)| ticket)
    }

    pub(super) fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.in_flight.is_some_and(|(started, _)| started == ticket)
    }

    /// Ends the operation of `ticket` well; whether it was the one in flight.
    pub(super) fn succeeded(&mut self, ticket: Ticket) -> bool {
        let Some((_, covers)) = self.in_flight.take_if(|(started, _)| *started == ticket) else { return false };
        self.observed = covers;
        self.backoff.reset();
        self.failure = None;
        true
    }

    /// Ends the operation of `ticket` with a failure; whether it was the one in flight.
    pub(super) fn failed(&mut self, ticket: Ticket, failure: Failure, retry: &Retry, now: &Now, salt: u64) -> bool {
        let Some((_, covers)) = self.in_flight.take_if(|(started, _)| *started == ticket) else { return false };
        // A change that came meanwhile may be the cure, so it is tried at once.
        if covers == self.desired {
            self.backoff.failed(&failure, retry, now, salt);
        }
        self.failure = Some(failure);
        true
    }

    /// The wanted state cannot be made: to try it again is of use only after the next request.
    pub(super) fn impossible(&mut self, failure: Failure) {
        self.observed = self.desired;
        self.backoff.conclude();
        self.failure = Some(failure);
    }

    /// Whether a refusal has been repeated often enough to be believed.
    pub(super) fn has_failed_permanently(&self) -> bool {
        self.backoff.is_conclusive() && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }
}
