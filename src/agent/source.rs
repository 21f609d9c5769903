//! One source: what was read of it, until when that is good, and what to do about it next.

use std::time::Duration;

use jiff::Timestamp;

use super::grant::{Grant, Renewal};
use super::io::Ticket;
use super::time::{Backoff, Elapsed, MIN_REFRESH, Now};
use crate::model::{Failure, FailureClass, Lease, LeaseId, Reading, Reason, Retry, Source, Validity, Version};

/// Spread of the refresh interval, so that replicas do not ask in step. Not above 1: `maxStale` may equal `refresh`.
const REFRESH_FROM: f64 = 0.8;
const REFRESH_TO: f64 = 0.98;

/// A static role is read this long after the server said it would rotate.
const AFTER_ROTATION: Duration = Duration::from_secs(1);

/// How much earlier than its token a lease seems to end because the server counts in seconds.
const MAX_TRUNCATION: Duration = Duration::from_secs(2);

/// How long the first set waits for an optional source whose failure does not say that it is absent.
const OPTIONAL_WAIT: Duration = Duration::from_secs(5);

/// When the token behind a number ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenExpiry {
    Never,
    At(Elapsed),
}

/// What the schedule of a source depends on beside the source itself.
pub(super) struct TokenView<'a> {
    /// Number of the token in use, 0 without one.
    pub(super) token: u64,
    /// When a token ends; for one that is gone, when it went.
    pub(super) token_expiry: &'a dyn Fn(u64) -> TokenExpiry,
}

/// What is valid for how long.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lifetime {
    /// Until it changes.
    Unlimited,
    /// Until the server rotates it, after this time.
    Rotates(Duration),
    /// Issued with a life of its own.
    Expires(Grant),
    /// A lease, which ends at the latest with the token of that number.
    Lease { id: LeaseId, grant: Grant, token: u64 },
}

impl Lifetime {
    pub(super) fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Expires(grant) | Self::Lease { grant, .. } => Some(grant),
            Self::Unlimited | Self::Rotates(_) => None,
        }
    }
}

/// The last good reading, without its content.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeldReading {
    /// [`Source::request_id`] of what was read.
    pub(super) request: String,
    pub(super) version: Version,
    /// When it was read.
    issued: Elapsed,
    /// The last time at which the server confirmed it: by a read, or by a renewal of its lease.
    pub(super) read: Elapsed,
    pub(super) read_wall: Timestamp,
    pub(super) lifetime: Lifetime,
    /// It is older than what was held before and was accepted as the truth.
    pub(super) rolled_back: bool,
    /// Jitter of the refresh interval, in `0.0..1.0`.
    jitter: f64,
}

/// What to do about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    RenewLease { id: LeaseId, increment: Duration },
}

/// An operation that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InFlight {
    pub(super) ticket: Ticket,
    pub(super) started: Elapsed,
    /// Number of the token that it was started with.
    pub(super) token: u64,
    /// Whether it holds one of the slots of failing sources.
    pub(super) failing: bool,
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceState {
    pub(super) spec: Source,
    pub(super) held: Option<HeldReading>,
    /// The version that an earlier process made visible, until this one holds a reading.
    pub(super) adopted: Option<Version>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) backoff: Backoff,
    pub(super) failure: Option<Failure>,
    /// Number of the token with which it was last read.
    pub(super) read_with: u64,
    /// A refusal that waits for what the server says about the token of that number.
    pub(super) pending_refusal: Option<(u64, Failure)>,
    /// Since when the server answers with an older version than the one held.
    pub(super) older_since: Option<Elapsed>,
    /// When a refresh was asked for that no read has served yet.
    refresh_requested: Option<Elapsed>,
    /// When what is there now was asked for, whatever its version.
    any_version_requested: Option<Elapsed>,
    /// Readings in a row whose life is so short that only the floor keeps the pace.
    short_lifetimes: u32,
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
            read_with: 0,
            pending_refusal: None,
            older_since: None,
            refresh_requested: None,
            any_version_requested: None,
            short_lifetimes: 0,
            first_failure: None,
            last_failure: Elapsed::ZERO,
        }
    }

    /// Whether a reading of what the configuration asks for is held.
    pub(super) fn is_current(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.request == self.spec.request_id())
    }

    /// The version of what is visible: of the reading held, or of one that an earlier process published.
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

    /// Whether it fails and nothing of value depends on a quick retry: it may not take the slots of others.
    pub(super) fn is_failing(&self) -> bool {
        self.backoff.attempts > 0 && self.lease().is_none()
    }

    /// Whether it was read, but what depends on it cannot be made of that.
    fn cannot_be_rendered(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.reason == Reason::RenderFailed)
    }

    /// The outputs have changed, which may be the cure.
    pub(super) fn outputs_changed(&mut self, now: &Now) {
        if self.cannot_be_rendered() {
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
    }

    /// When something is to be done, and what.
    pub(super) fn due(&self, tokens: &TokenView<'_>) -> Option<(Elapsed, Step)> {
        let waiting = self.pending_refusal.as_ref().is_some_and(|(token, _)| *token == tokens.token);
        if self.in_flight.is_some() || waiting {
            return None;
        }
        let (at, step) = self.planned(tokens);
        let not_before = match self.lease() {
            // A failed renewal is tried again before the end, whatever the schedule says.
            Some((_, grant, _)) if self.backoff.attempts > 0 && !self.cannot_be_rendered() => {
                grant.retry(self.backoff.not_before, self.last_failure)
            }
            _ => self.backoff.not_before,
        };
        Some((at.max(not_before), step))
    }

    fn planned(&self, tokens: &TokenView<'_>) -> (Elapsed, Step) {
        let Some(held) = self.held.as_ref().filter(|_| self.is_current()) else {
            return (Elapsed::ZERO, Step::Read);
        };
        if self.refresh_requested.is_some() && !matches!(held.lifetime, Lifetime::Lease { .. }) {
            return (Elapsed::ZERO, Step::Read);
        }
        let refresh = self.spec.refresh.mul_f64(REFRESH_FROM + (REFRESH_TO - REFRESH_FROM) * held.jitter);
        // Lives below the floor double the wait each time, up to the refresh interval.
        let floor = MIN_REFRESH.saturating_mul(1 << self.short_lifetimes.min(16)).min(self.spec.refresh.max(MIN_REFRESH));
        match &held.lifetime {
            Lifetime::Unlimited => (held.read + refresh, Step::Read),
            Lifetime::Rotates(after) => {
                (held.read + after.saturating_add(AFTER_ROTATION).max(floor).min(refresh), Step::Read)
            }
            Lifetime::Expires(grant) => (grant.due().max(held.read + floor), Step::Read),
            // Vault revokes leases with the token that asked for them.
            Lifetime::Lease { token, .. } if *token != tokens.token => (held.issued + floor, Step::Read),
            Lifetime::Lease { id, grant, token } => match grant.renewal() {
                Renewal::Renew => (grant.due(), Step::RenewLease { id: id.clone(), increment: grant.first_ttl() }),
                Renewal::Replace => match (tokens.token_expiry)(*token) {
                    // Another lease of that token would not live longer. The next token brings the next lease.
                    TokenExpiry::At(end) if end <= grant.expires_at().saturating_add(MAX_TRUNCATION) => {
                        (end.max(held.issued + floor), Step::Read)
                    }
                    _ => (grant.due().max(held.issued + floor), Step::Read),
                },
            },
        }
    }

    /// When what is held is of no use any more, whatever the tolerance: its lease, its token or its own life is over.
    pub(super) fn expires_at(&self, tokens: &TokenView<'_>) -> Option<Elapsed> {
        match &self.held.as_ref()?.lifetime {
            Lifetime::Unlimited | Lifetime::Rotates(_) => None,
            Lifetime::Expires(grant) => Some(grant.expires_at()),
            Lifetime::Lease { grant, token, .. } => Some(match (tokens.token_expiry)(*token) {
                TokenExpiry::Never => grant.expires_at(),
                TokenExpiry::At(end) => grant.expires_at().min(end),
            }),
        }
    }

    /// From when on what is held counts as stale.
    pub(super) fn stale_at(&self, tokens: &TokenView<'_>) -> Option<Elapsed> {
        let held = self.held.as_ref()?;
        // Between two reads of a long life there is nothing to confirm.
        let confirmed = held.lifetime.grant().map_or(held.read, |grant| grant.due().max(held.read));
        let tolerated = confirmed.saturating_add(self.spec.max_stale);
        Some(self.expires_at(tokens).map_or(tolerated, |expires_at| expires_at.min(tolerated)))
    }

    /// Takes a good reading. `rolled_back`: it is older than the one before.
    pub(super) fn accept(
        &mut self,
        version: Version,
        validity: &Validity,
        token: u64,
        started: Elapsed,
        rolled_back: bool,
        now: &Now,
    ) {
        let lifetime = match validity {
            Validity::Unlimited => Lifetime::Unlimited,
            Validity::Rotates(after) => Lifetime::Rotates(*after),
            Validity::Expires(after) => Lifetime::Expires(Grant::new(*after, false, now, 21)),
            Validity::Lease(Lease { id, duration, renewable }) => {
                Lifetime::Lease { id: id.clone(), grant: Grant::new(*duration, *renewable, now, 21), token }
            }
        };
        let short = match &lifetime {
            Lifetime::Rotates(after) => after.is_zero(),
            lifetime => lifetime.grant().is_some_and(Grant::is_short),
        };
        self.short_lifetimes = if short { self.short_lifetimes.saturating_add(1) } else { 0 };
        self.refresh_requested.take_if(|asked| *asked <= started);
        self.any_version_requested.take_if(|asked| *asked <= started);
        let request = self.spec.request_id();
        let jitter = now.jitter(22);
        self.held = Some(HeldReading {
            request,
            version,
            issued: now.at,
            read: now.at,
            read_wall: now.wall,
            lifetime,
            rolled_back,
            jitter,
        });
        self.older_since = None;
        self.adopted = None;
        self.succeeded();
    }

    /// Takes a reading of an earlier process. Without a lease it may be of any age, so it is read again at once; a lease is
    /// kept, because a read would issue another one.
    pub(super) fn restore(&mut self, reading: &Reading, lease_left: Option<Duration>, token: u64, now: &Now) {
        self.accept(reading.version.clone(), &reading.validity, token, now.at, false, now);
        if let (Some(HeldReading { lifetime: Lifetime::Lease { grant, .. }, .. }), Some(left)) = (self.held.as_mut(), lease_left) {
            *grant = Grant::resumed(grant.first_ttl(), left, grant.is_renewable(), now, 25);
        } else {
            self.refresh(now);
        }
    }

    /// Takes the renewal of its lease.
    pub(super) fn renewed(&mut self, lease: &Lease, now: &Now) {
        let Some(held) = self.held.as_mut() else { return };
        if let Lifetime::Lease { grant, .. } = &mut held.lifetime {
            *grant = grant.renewed(lease.duration, lease.renewable, now, 24);
        }
        (held.read, held.read_wall) = (now.at, now.wall);
        self.succeeded();
    }

    /// Renewing its lease was refused: a read gives another lease. `lost`: the lease has ended.
    pub(super) fn renewal_denied(&mut self, lost: bool, now: &Now) {
        if let Some(HeldReading { lifetime: Lifetime::Lease { grant, .. }, .. }) = self.held.as_mut() {
            if lost {
                *grant = Grant::new(Duration::ZERO, false, now, 24);
            } else {
                grant.not_renewable();
            }
        }
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.failure = None;
        self.pending_refusal = None;
        self.first_failure = None;
    }

    pub(super) fn failed(&mut self, failure: Failure, retry: &Retry, now: &Now) {
        self.backoff.failed(&failure, retry, now, 23);
        self.first_failure.get_or_insert(now.at);
        self.last_failure = now.at;
        self.pending_refusal = None;
        self.failure = Some(failure);
    }

    /// Its token was rejected: not its own failure, so it waits for the next token and no longer.
    pub(super) fn token_rejected(&mut self) {
        self.pending_refusal = None;
        self.backoff.not_before = Elapsed::ZERO;
    }

    /// Asks for a read now. A leased source is left alone: a read would issue another credential and abandon the lease.
    pub(super) fn refresh(&mut self, now: &Now) {
        if self.lease().is_none() {
            self.refresh_requested = Some(now.at);
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
    }

    /// Asks for what is there now, even if it is older than what is held: a person wants it, or it is another server.
    pub(super) fn refresh_whatever_version(&mut self, now: &Now) {
        self.any_version_requested = Some(now.at);
        self.refresh(now);
    }

    /// Whether a read that started at `started` may give an older version, because it was asked for.
    pub(super) fn accepts_older(&self, started: Elapsed) -> bool {
        self.any_version_requested.is_some_and(|asked| asked <= started)
    }

    /// Forgets what was read: it is of another server.
    pub(super) fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight.take(), ..Self::new(self.spec.clone()) };
    }

    /// Takes over a changed specification.
    pub(super) fn update_spec(&mut self, spec: &Source, now: &Now) {
        if self.spec.request_id() != spec.request_id() {
            self.backoff.reset();
            (self.failure, self.pending_refusal, self.first_failure, self.older_since) = (None, None, None, None);
            (self.short_lifetimes, self.read_with) = (0, 0);
            self.adopted = None;
        } else if spec.refresh < self.spec.refresh {
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
        self.spec = spec.clone();
    }

    /// Whether a first set may be published without it: it is optional, and known to be absent or waited for long enough.
    pub(super) fn may_be_absent(&self, at: Elapsed) -> bool {
        let absent = |failure: &Failure| {
            matches!(failure.class, FailureClass::Missing | FailureClass::Denied | FailureClass::Invalid)
        };
        !self.spec.required
            && (self.failure.as_ref().is_some_and(absent) || self.wait_ends().is_some_and(|end| end <= at))
    }

    /// Until when the first set waits for an optional source that fails.
    pub(super) fn wait_ends(&self) -> Option<Elapsed> {
        self.first_failure.filter(|_| !self.spec.required && self.held.is_none()).map(|first| first + OPTIONAL_WAIT)
    }

    /// Whether the server's refusal has been repeated often enough to be believed.
    pub(super) fn has_failed_permanently(&self) -> bool {
        self.backoff.is_conclusive() && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }
}
