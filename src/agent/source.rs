//! One source: its last reading, how long the reading is valid, and the next operation.

mod refresh;

use std::time::Duration;

use jiff::Timestamp;

use super::certificate::CertificateTerm;
use super::grant::{Grant, Renewal};
use super::io::Ticket;
use super::lifetime::{Lifetime, TokenView};
use super::replaced::LeaseInUse;
use super::seed::is_refusal;
use super::time::{Backoff, Elapsed, MIN_REFRESH, Now};
use crate::model::{Failure, FailureClass, Lease, LeaseId, Reading, Reason, Retry, Source, Validity, Version};
use refresh::RequestedRead;

/// Jitter of the refresh interval, so that replicas do not read in step. Below 1: `maxStale` may equal `refresh`.
const REFRESH_FROM: f64 = 0.8;
const REFRESH_TO: f64 = 0.98;

/// Delay between the scheduled rotation of a static role and the next read.
const AFTER_ROTATION: Duration = Duration::from_secs(1);

/// Number of reads of an overdue static role before their interval grows. Vault checks for due rotations every five seconds
/// (`defaultQueueTickSeconds` in its database engine), and the old password does not work after the rotation.
const PROMPT_READS: u32 = 5;

/// How long the first set waits for an optional source that fails for another reason than a missing secret.
const OPTIONAL_WAIT: Duration = Duration::from_secs(5);

/// Metadata of the last accepted reading.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    /// [`Source::request_id`] of the read.
    pub(super) request: String,
    pub(super) version: Version,
    /// Time of the read.
    issued: Elapsed,
    /// Time of the last read or lease renewal.
    pub(super) read: Elapsed,
    pub(super) read_wall: Timestamp,
    /// Time of the last lookup of the lease.
    looked_up: Elapsed,
    pub(super) lifetime: Lifetime,
    /// Whether an older version than the previous one was accepted.
    pub(super) rolled_back: bool,
    /// Jitter of the refresh interval, `0.0..1.0`.
    jitter: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    RenewLease { id: LeaseId, increment: Duration },
    LookUpLease(LeaseId),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct InFlight {
    pub(super) ticket: Ticket,
    pub(super) started: Elapsed,
    /// Number of the token for the request.
    pub(super) token: u64,
    /// Whether the operation occupies a slot of failing sources.
    pub(super) failing: bool,
}

/// The state of one source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceState {
    pub(super) spec: Source,
    pub(super) held: Option<Held>,
    /// The version that an earlier process published, until this process accepts a reading.
    pub(super) adopted: Option<Version>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) backoff: Backoff,
    pub(super) failure: Option<Failure>,
    /// Whether Vault has denied the request, or has no usable content for it, since the last success.
    pub(super) refused: bool,
    /// Number of the token of the last successful read.
    pub(super) read_with: u64,
    /// A 403 that waits for the lookup of the token of that number.
    pub(super) pending_refusal: Option<(u64, Failure)>,
    /// Since when Vault has returned an older version than the held one.
    pub(super) older_since: Option<Elapsed>,
    /// A read that was requested before it is due.
    requested: Option<RequestedRead>,
    /// Whether the last reading of this request was issued for the agent, so that another read would issue another one.
    issued: bool,
    /// Whether the last reading waits for other secrets, for which a template calls with it.
    is_waiting: bool,
    /// When the current content was requested, regardless of its version, until a later read succeeds.
    any_version_requested: Option<Elapsed>,
    /// Number of consecutive readings whose lifetime is so short that the minimum interval applies.
    short_ttls: u32,
    first_failure: Option<Elapsed>,
    last_failure: Elapsed,
}

impl SourceState {
    pub(super) fn new(spec: Source) -> Self {
        Self {
            spec,
            held: None,
            adopted: None,
            in_flight: None,
            backoff: Backoff::default(),
            failure: None,
            refused: false,
            read_with: 0,
            pending_refusal: None,
            older_since: None,
            requested: None,
            issued: false,
            is_waiting: false,
            any_version_requested: None,
            short_ttls: 0,
            first_failure: None,
            last_failure: Elapsed::ZERO,
        }
    }

    /// Whether the held reading belongs to the configured request.
    pub(super) fn is_current(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.request == self.spec.request_id())
    }

    /// The version of the held reading, or of the adopted files.
    pub(super) fn known_version(&self) -> Option<&Version> {
        let held = self.held.as_ref().filter(|_| self.is_current());
        held.map(|held| &held.version).or(self.adopted.as_ref())
    }

    pub(super) fn lease(&self) -> Option<(&LeaseId, &Grant, u64)> {
        match &self.held.as_ref()?.lifetime {
            Lifetime::Lease { id, grant, token } => Some((id, grant, *token)),
            _ => None,
        }
    }

    pub(super) fn lease_in_use(&self) -> Option<LeaseInUse> {
        let (id, grant, token) = self.lease()?;
        Some(LeaseInUse { id: id.clone(), token, overlap: grant.overlap() })
    }

    /// Whether the source fails and has no lease to keep alive. It then must not occupy the slots of other sources.
    pub(super) fn is_failing(&self) -> bool {
        self.backoff.attempts > 0 && self.lease().is_none()
    }

    /// The certificate of the held reading.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.held.as_ref()?.lifetime.grant()
    }

    pub(super) fn certificate(&self) -> Option<&CertificateTerm> {
        self.held.as_ref()?.lifetime.certificate()
    }

    /// Whether the last reading was rejected because an output cannot be rendered from it.
    fn cannot_be_rendered(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.reason == Reason::RenderFailed)
    }

    /// Whether the last reading was rejected, or waits. Vault has issued a credential for it, and would issue the next one.
    fn is_rejected(&self) -> bool {
        self.is_waiting
            || self.cannot_be_rendered()
            || self.failure.as_ref().is_some_and(|failure| failure.reason == Reason::CertificateInvalid)
    }

    /// Retries without delay after a change of the outputs, which may resolve a rendering failure.
    pub(super) fn outputs_changed(&mut self, now: &Now) {
        if self.cannot_be_rendered() {
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
    }

    /// The next operation and when it is due; `None` while one is in flight or the token is being looked up.
    pub(super) fn due(&self, tokens: &TokenView<'_>) -> Option<(Elapsed, Step)> {
        let waiting = self.pending_refusal.as_ref().is_some_and(|(token, _)| *token == tokens.token);
        if self.in_flight.is_some() || waiting {
            return None;
        }
        let (at, step) = self.planned(tokens);
        let mut not_before = self.backoff.not_before;
        if self.backoff.attempts > 0 && !self.is_rejected() {
            // A failed renewal is retried before the expiry, even if the backoff is longer.
            if let Some((_, grant, _)) = self.lease() {
                not_before = grant.retry(not_before, self.last_failure);
            } else if let Some(certificate) = self.certificate() {
                not_before = certificate.retry(not_before, self.last_failure);
            }
        }
        Some((at.max(not_before), step))
    }

    fn planned(&self, tokens: &TokenView<'_>) -> (Elapsed, Step) {
        let Some(held) = self.held.as_ref().filter(|_| self.is_current()) else {
            return (Elapsed::ZERO, Step::Read);
        };
        let next = self.scheduled(held, tokens);
        if self.is_requested_before(&next) { (Elapsed::ZERO, Step::Read) } else { next }
    }

    /// The next step for the held reading without a requested read.
    fn scheduled(&self, held: &Held, tokens: &TokenView<'_>) -> (Elapsed, Step) {
        let refresh = self.spec.refresh.mul_f64(REFRESH_FROM + (REFRESH_TO - REFRESH_FROM) * held.jitter);
        // Each consecutive short lifetime doubles the minimum wait, up to the refresh interval.
        let doublings = match held.lifetime {
            Lifetime::Rotates(_) => self.short_ttls.saturating_sub(PROMPT_READS),
            _ => self.short_ttls,
        };
        let floor = MIN_REFRESH.saturating_mul(1 << doublings.min(16)).min(self.spec.refresh.max(MIN_REFRESH));
        let due = held.lifetime.due(tokens).unwrap_or(held.read);
        match &held.lifetime {
            Lifetime::Unlimited => (held.read + refresh, Step::Read),
            Lifetime::Rotates(after) => {
                (held.read + after.saturating_add(AFTER_ROTATION).max(floor).min(refresh), Step::Read)
            }
            Lifetime::Expires(_) | Lifetime::Certificate(_) => (due.max(held.read + floor), Step::Read),
            // Vault revokes leases with their token, so read again with the active token.
            Lifetime::Lease { token, .. } if *token != tokens.token => (held.issued + floor, Step::Read),
            Lifetime::Lease { id, grant, .. } => {
                let next = match grant.renewal() {
                    Renewal::Renew => (due, Step::RenewLease { id: id.clone(), increment: grant.first_ttl() }),
                    Renewal::Replace => (due.max(held.issued + floor), Step::Read),
                };
                let look_up = self.spec.watch_lease.map(|interval| held.looked_up.max(held.read) + interval);
                look_up.filter(|at| *at < next.0).map_or(next, |at| (at, Step::LookUpLease(id.clone())))
            }
        }
    }

    /// When the held reading becomes stale.
    pub(super) fn stale_at(&self, tokens: &TokenView<'_>) -> Option<Elapsed> {
        let held = self.held.as_ref()?;
        // A credential with a long TTL is not read until it is due, so the tolerance starts then.
        let confirmed = held.lifetime.due(tokens).map_or(held.read, |due| due.max(held.read));
        let tolerated = confirmed.saturating_add(self.spec.max_stale);
        Some(held.lifetime.expires_at(tokens).map_or(tolerated, |expires_at| expires_at.min(tolerated)))
    }

    /// Accepts a reading. `rolled_back`: an older version than the previous one.
    pub(super) fn accept(
        &mut self,
        version: Version,
        validity: &Validity,
        token: u64,
        started: Elapsed,
        rolled_back: bool,
        now: &Now,
    ) {
        let mut lifetime = Lifetime::new(validity, self.spec.overlap, token, now);
        lifetime.set_renew_before(self.spec.certificate.as_ref().and_then(|wanted| wanted.renew_before));
        self.short_ttls = if lifetime.is_short() { self.short_ttls.saturating_add(1) } else { 0 };
        self.issued = validity.is_issued();
        self.answer_requests(started);
        let request = self.spec.request_id();
        let jitter = now.jitter(22);
        self.held = Some(Held {
            request,
            version,
            issued: now.at,
            read: now.at,
            read_wall: now.wall,
            looked_up: now.at,
            lifetime,
            rolled_back,
            jitter,
        });
        self.older_since = None;
        self.adopted = None;
        self.succeeded();
    }

    /// Accepts a reading of an earlier process. `left`: the remaining TTL of its credential.
    pub(super) fn restore(&mut self, reading: &Reading, left: Duration, token: u64, now: &Now) {
        self.accept(reading.version.clone(), &reading.validity, token, now.at, false, now);
        let lifetime = self.held.as_mut().map(|held| &mut held.lifetime);
        match lifetime {
            Some(Lifetime::Lease { grant, .. } | Lifetime::Expires(grant)) => *grant = grant.resumed(left, now, 25),
            Some(Lifetime::Certificate(term)) => term.resume(left, now),
            Some(Lifetime::Unlimited | Lifetime::Rotates(_)) | None => {}
        }
    }

    pub(super) fn renewed(&mut self, lease: &Lease, now: &Now) {
        let Some(held) = self.held.as_mut() else { return };
        if let Lifetime::Lease { grant, .. } = &mut held.lifetime {
            *grant = grant.renewed(lease.duration, lease.renewable, now, 24);
        }
        (held.read, held.read_wall) = (now.at, now.wall);
        self.succeeded();
    }

    /// Records a lookup of the lease. A failed lookup says nothing about the source.
    pub(super) fn lease_looked_up(&mut self, now: &Now) {
        if let Some(held) = self.held.as_mut() {
            held.looked_up = now.at;
        }
    }

    /// Applies a denied lease renewal: the next read issues another lease. `lost`: the lease no longer exists.
    pub(super) fn renewal_denied(&mut self, lost: bool, now: &Now) {
        if let Some(Held { lifetime: Lifetime::Lease { grant, .. }, .. }) = self.held.as_mut() {
            if lost {
                *grant = Grant::new(Duration::ZERO, None, false, now, 24);
            } else {
                grant.not_renewable();
            }
        }
    }

    fn succeeded(&mut self) {
        self.is_waiting = false;
        self.backoff.reset();
        self.refused = false;
        self.failure = None;
        self.pending_refusal = None;
        self.first_failure = None;
    }

    pub(super) fn failed(&mut self, failure: Failure, retry: &Retry, now: &Now) {
        self.backoff.failed(&failure, retry, now, 23);
        self.first_failure.get_or_insert(now.at);
        self.last_failure = now.at;
        self.is_waiting = false;
        self.pending_refusal = None;
        self.refused |= is_refusal(&failure);
        self.failure = Some(failure);
        if self.is_rejected() && self.spec.certificate.is_some() {
            // Each attempt leaves a certificate in Vault, so `once` does not wait for more of them.
            self.backoff.conclude();
        }
    }

    /// Applies the rejection of the token. The source did not fail itself, so it is read as soon as the next token
    /// exists.
    pub(super) fn token_rejected(&mut self) {
        self.pending_refusal = None;
        self.backoff.not_before = Elapsed::ZERO;
    }

    /// Removes all readings, which belong to another server.
    pub(super) fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight.take(), ..Self::new(self.spec.clone()) };
    }

    pub(super) fn update_spec(&mut self, spec: &Source, now: &Now) {
        if self.spec.request_id() != spec.request_id() {
            self.backoff.reset();
            (self.failure, self.pending_refusal, self.first_failure, self.older_since) = (None, None, None, None);
            (self.short_ttls, self.read_with, self.refused) = (0, 0, false);
            (self.adopted, self.issued, self.is_waiting) = (None, false, false);
        } else if spec.refresh < self.spec.refresh || spec.list != self.spec.list {
            // A list may have failed because of a maximum that has changed.
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
        self.spec = spec.clone();
        if let Some(held) = self.held.as_mut() {
            held.lifetime.set_renew_before(spec.certificate.as_ref().and_then(|wanted| wanted.renew_before));
        }
    }

    /// Whether the first set may be published without this source: it is optional, and either missing or failing for
    /// longer than the set waits.
    pub(super) fn may_be_absent(&self, at: Elapsed) -> bool {
        let absent = |failure: &Failure| {
            matches!(failure.class, FailureClass::Missing | FailureClass::Denied | FailureClass::Invalid)
        };
        !self.spec.required
            && (self.failure.as_ref().is_some_and(absent) || self.wait_ends().is_some_and(|end| end <= at))
    }

    /// When the first set stops waiting for this optional source; `None` if it does not fail.
    pub(super) fn wait_ends(&self) -> Option<Elapsed> {
        self.first_failure.filter(|_| !self.spec.required && self.held.is_none()).map(|first| first + OPTIONAL_WAIT)
    }

    /// Whether a failure that is not retryable has repeated often enough to be final.
    pub(super) fn has_failed_permanently(&self) -> bool {
        self.backoff.is_conclusive() && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }
}
