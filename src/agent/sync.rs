//! Keeps something outside the agent in sync with the desired state: the visible set, a mirrored Secret, the
//! conditions.

use super::io::Ticket;
use super::time::{Backoff, Elapsed, Now};
use crate::model::{Failure, Retry};

/// The synchronization state of one target. There is no queue: one operation applies the latest state, and the next
/// operation covers all requests that arrived in the meantime.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct SyncState {
    /// Number of requests so far.
    desired: u64,
    /// Number of the last request that a successful operation covered.
    observed: u64,
    in_flight: Option<(Ticket, u64)>,
    pub(super) backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

impl SyncState {
    /// Requests an operation because the desired state changed. Resets the backoff: the change may resolve the failure.
    pub(super) fn request(&mut self) {
        self.desired += 1;
        self.backoff.reset();
    }

    /// Requests an operation although the desired state is unchanged. Keeps the backoff.
    pub(super) fn resync(&mut self) {
        self.desired += 1;
    }

    pub(super) fn is_current(&self) -> bool {
        self.observed == self.desired && self.in_flight.is_none()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// When an operation is due; `None` if one is in flight or none is needed.
    pub(super) fn due(&self) -> Option<Elapsed> {
        (self.in_flight.is_none() && self.observed != self.desired).then_some(self.backoff.not_before)
    }

    pub(super) fn is_due(&self, at: Elapsed) -> bool {
        self.due().is_some_and(|due| due <= at)
    }

    pub(super) fn started(&mut self, ticket: Ticket) {
        self.in_flight = Some((ticket, self.desired));
    }

    /// The ticket of the operation in flight.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.in_flight.map(|(ticket, _)| ticket)
    }

    pub(super) fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.in_flight.is_some_and(|(started, _)| started == ticket)
    }

    /// Ends the operation of `ticket` with success. Returns whether it was in flight.
    pub(super) fn succeeded(&mut self, ticket: Ticket) -> bool {
        let Some((_, covers)) = self.in_flight.take_if(|(started, _)| *started == ticket) else { return false };
        self.observed = covers;
        self.backoff.reset();
        self.failure = None;
        true
    }

    /// Ends the operation of `ticket` with a failure. Returns whether it was in flight.
    pub(super) fn failed(&mut self, ticket: Ticket, failure: Failure, retry: &Retry, now: &Now, salt: u64) -> bool {
        let Some((_, covers)) = self.in_flight.take_if(|(started, _)| *started == ticket) else { return false };
        // A change that arrived in the meantime may resolve the failure, so it is applied without delay.
        if covers == self.desired {
            self.backoff.failed(&failure, retry, now, salt);
        }
        self.failure = Some(failure);
        true
    }

    /// Records that the desired state is not to be applied. Only the next request starts an attempt.
    pub(super) fn postpone(&mut self) {
        self.observed = self.desired;
    }

    /// Records that the desired state cannot be built. Only the next request starts another attempt.
    pub(super) fn impossible(&mut self, failure: Failure) {
        self.postpone();
        self.backoff.conclude();
        self.failure = Some(failure);
    }

    /// Whether a failure that is not retryable has repeated often enough to be final.
    pub(super) fn has_failed_permanently(&self) -> bool {
        self.backoff.is_conclusive() && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }
}
