//! Leases that the visible set no longer contains. An application that has just read the previous set may still use such a
//! credential, so it is kept for its overlap. Then its lease is revoked, so that users do not accumulate in a database.
//!
//! The revocation is best effort. If a policy denies it, the lease expires by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Op, Ticket};
use super::outbox::Outbox;
use super::time::{Backoff, Elapsed, Now};
use super::token::Token;
use crate::model::{Failure, FailureClass, LeaseId, Settings, SourceName};

/// Maximum number of attempts to revoke one lease.
const MAX_ATTEMPTS: u32 = 5;

/// Maximum number of concurrent revocations.
const CONCURRENCY: usize = 4;

/// A lease in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaseInUse {
    pub(super) id: LeaseId,
    /// Number of the token that owns the lease.
    pub(super) token: u64,
    /// How long the credential must stay valid after its successor is visible.
    pub(super) overlap: Duration,
}

/// Leases in use, by source.
pub(super) type LeasesInUse = BTreeMap<SourceName, LeaseInUse>;

/// A replaced lease.
#[derive(Clone)]
struct ReplacedLease {
    source: SourceName,
    id: LeaseId,
    token: u64,
    /// Revoked at this time, or later.
    keep_until: Elapsed,
    revoking: Option<Ticket>,
    backoff: Backoff,
}

impl ReplacedLease {
    fn due(&self) -> Elapsed {
        self.keep_until.max(self.backoff.not_before)
    }

    /// Whether a request with the token of that number can revoke the lease. `denied`: a token that may not. A child token
    /// revokes itself.
    fn is_revocable(&self, token: u64, denied: Option<u64>) -> bool {
        self.token == token && (denied != Some(token) || matches!(self.id, LeaseId::Token(_)))
    }
}

/// How the revocation of a replaced lease ended.
pub(super) enum Revocation {
    Done,
    /// No policy allows it.
    Denied {
        failure: Failure,
        /// Whether it is the first denial in this process.
        first: bool,
    },
    Failed(Failure),
}

/// All replaced leases that are not revoked yet.
#[derive(Clone, Default)]
pub(super) struct ReplacedLeases {
    all: Vec<ReplacedLease>,
    /// Number of the last token that is not allowed to revoke leases.
    denied: Option<u64>,
    /// Whether a child token was not allowed to revoke itself.
    child_denied: bool,
}

impl ReplacedLeases {
    /// Keeps the leases of `before` that `in_use` does not contain for their overlap, then revokes them.
    pub(super) fn replace(&mut self, before: &LeasesInUse, in_use: &LeasesInUse, now: &Now) {
        // Almost all leases are kept, each by its source. Only a reload gives a lease to a source of another name.
        let is_kept = |source: &SourceName, id: &LeaseId| {
            in_use.get(source).is_some_and(|lease| lease.id == *id) || in_use.values().any(|lease| lease.id == *id)
        };
        for (source, lease) in before.iter().filter(|(source, lease)| !is_kept(source, &lease.id)) {
            self.add(source, lease.id.clone(), lease.token, now.at.saturating_add(lease.overlap));
        }
    }

    /// Revokes a lease that no set contained.
    pub(super) fn discard(&mut self, source: &SourceName, id: LeaseId, token: u64, now: &Now) {
        self.add(source, id, token, now.at);
    }

    fn add(&mut self, source: &SourceName, id: LeaseId, token: u64, keep_until: Elapsed) {
        if !self.all.iter().any(|lease| lease.id == id) {
            let (source, backoff) = (source.clone(), Backoff::default());
            self.all.push(ReplacedLease { source, id, token, keep_until, revoking: None, backoff });
        }
    }

    /// Whether an application may still use a lease of the token of that number.
    pub(super) fn uses_token(&self, number: u64, at: Elapsed) -> bool {
        self.all.iter().any(|lease| lease.token == number && lease.keep_until > at)
    }

    /// When the next revocation with the token of that number is due.
    pub(super) fn wake(&self, number: u64) -> Option<Elapsed> {
        let is_revocable = |lease: &&ReplacedLease| lease.is_revocable(number, self.denied);
        let waiting = self.all.iter().filter(|lease| lease.revoking.is_none()).filter(is_revocable);
        waiting.map(ReplacedLease::due).min()
    }

    /// Starts the revocations that are due, unless the checkpoint may still contain the leases (`is_saved`): the next process would
    /// publish a revoked one. Drops the leases of other tokens, which are revoked with their token.
    pub(super) fn advance(
        &mut self,
        settings: &Arc<Settings>,
        token: Option<&Token>,
        is_saved: bool,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        let Self { all, denied, .. } = self;
        let may_revoke = |lease: &ReplacedLease| token.is_some_and(|token| lease.is_revocable(token.number, *denied));
        all.retain(|lease| lease.keep_until > now.at || lease.revoking.is_some() || may_revoke(lease));
        let Some(token) = token.filter(|_| is_saved) else { return };
        let busy = all.iter().filter(|lease| lease.revoking.is_some()).count();
        let due = all.iter_mut().filter(|lease| lease.revoking.is_none() && lease.due() <= now.at);
        for lease in due.take(CONCURRENCY.saturating_sub(busy)) {
            let op = Op::RevokeLease {
                settings: Arc::clone(settings),
                token: token.value.clone(),
                source: lease.source.clone(),
                lease: lease.id.clone(),
            };
            lease.revoking = Some(outbox.start(op));
        }
    }

    /// Ends a revocation. Returns its source and how it ended; `None` if it is retried or was not in flight.
    pub(super) fn revoked(
        &mut self,
        ticket: Ticket,
        result: Result<(), Failure>,
        settings: &Settings,
        now: &Now,
    ) -> Option<(SourceName, Revocation)> {
        let index = self.all.iter().position(|lease| lease.revoking == Some(ticket))?;
        let lease = &mut self.all[index];
        let ended = match result {
            Ok(()) => Revocation::Done,
            Err(failure) => {
                lease.backoff.failed(&failure, &settings.retry, now, 26);
                if failure.class.is_retryable() && lease.backoff.attempts < MAX_ATTEMPTS {
                    lease.revoking = None;
                    return None;
                }
                if matches!(failure.class, FailureClass::Forbidden | FailureClass::Denied) {
                    let first = match lease.id {
                        LeaseId::Id(_) => self.denied.replace(lease.token).is_none(),
                        LeaseId::Token(_) => !std::mem::replace(&mut self.child_denied, true),
                    };
                    Revocation::Denied { failure, first }
                } else {
                    Revocation::Failed(failure)
                }
            }
        };
        let lease = self.all.swap_remove(index);
        Some((lease.source, ended))
    }
}
