//! The lifetime of anything that expires: a token, a lease, or a credential that an engine issued with its own TTL.
//!
//! Due times are computed from these facts. No stored plan can be overwritten by a late outcome.

use std::time::Duration;

use super::time::{Elapsed, MIN_REFRESH, Now};

/// Fraction of a TTL after which a grant is renewed or replaced, unless its overlap begins earlier. About a third of the TTL
/// remains for retries.
const RENEW_BY: f64 = 0.70;

/// Jitter of that time.
const JITTER_FROM: f64 = 0.78;

/// The default overlap: a tenth of the TTL, and at least this time.
const OVERLAP_FRACTION: u32 = 10;
const MIN_OVERLAP: Duration = Duration::from_secs(30);

/// A renewal to less than this fraction of the first TTL has reached the maximum TTL. The grant is replaced next.
const MIN_GROWTH: f64 = 0.9;

/// Minimum delay before a failed renewal is retried, however close the expiry is.
const MIN_RETRY: Duration = Duration::from_millis(250);

/// Vault reports TTLs in whole seconds, so a reported TTL can be up to one second too long.
const MAX_ROUNDING: Duration = Duration::from_secs(1);

/// What to do when a grant is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Extend it.
    Renew,
    /// Request a new one.
    Replace,
}

/// How long a credential with this TTL must stay valid after its successor is in use. `configured` or the default, and at
/// most half of the TTL.
pub(super) fn overlap(configured: Option<Duration>, ttl: Duration) -> Duration {
    configured.unwrap_or((ttl / OVERLAP_FRACTION).max(MIN_OVERLAP)).min(ttl / 2)
}

/// A term that Vault granted, and when to act on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grant {
    /// Start of the current term.
    issued: Elapsed,
    /// Length of the current term.
    ttl: Duration,
    /// Length of the first term, to compare renewals with.
    first_ttl: Duration,
    /// The grant is renewed or replaced at this time before its expiry, or earlier.
    overlap: Duration,
    renewable: bool,
    /// When to renew or replace, with the jitter drawn at the start of the term.
    due: Elapsed,
}

impl Grant {
    /// Creates a grant whose first term starts now. `configured`: the configured overlap.
    pub(super) fn new(ttl: Duration, configured: Option<Duration>, renewable: bool, now: &Now, salt: u64) -> Self {
        Self::term(ttl, ttl, overlap(configured, ttl), renewable, now, salt)
    }

    /// Returns the grant with `left` remaining of its current term, which an earlier process started.
    pub(super) fn resumed(&self, left: Duration, now: &Now, salt: u64) -> Self {
        Self::term(left, self.first_ttl, self.overlap, self.renewable, now, salt)
    }

    /// Returns the grant after a renewal to `ttl` from now.
    pub(super) fn renewed(&self, ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        let grows = ttl >= self.first_ttl.mul_f64(MIN_GROWTH);
        let term = Self::term(ttl, self.first_ttl, self.overlap, renewable && grows, now, salt);
        if grows {
            return term;
        }
        // The last term. The replacement is not delayed by the minimum interval, which applies to each first term.
        let wait = Self::wait(ttl.saturating_sub(MAX_ROUNDING), self.overlap, now, salt).max(MIN_RETRY);
        Self { due: now.at.saturating_add(wait), ..term }
    }

    fn term(ttl: Duration, first_ttl: Duration, overlap: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        // The minimum interval applies even beyond the expiry: very short TTLs must not set the request rate.
        let due = now.at.saturating_add(Self::wait(ttl, overlap, now, salt).max(MIN_REFRESH));
        Self { issued: now.at, ttl, first_ttl, overlap, renewable, due }
    }

    /// How long to wait in a term that starts now.
    fn wait(ttl: Duration, overlap: Duration, now: &Now, salt: u64) -> Duration {
        now.share(ttl.mul_f64(RENEW_BY).min(ttl.saturating_sub(overlap)), JITTER_FROM, 1.0, salt)
    }

    pub(super) fn expires_at(&self) -> Elapsed {
        self.issued.saturating_add(self.ttl)
    }

    pub(super) fn first_ttl(&self) -> Duration {
        self.first_ttl
    }

    /// How long the credential must stay valid after its successor is in use.
    pub(super) fn overlap(&self) -> Duration {
        self.overlap
    }

    pub(super) fn is_renewable(&self) -> bool {
        self.renewable
    }

    /// When to renew or replace the grant.
    pub(super) fn due(&self) -> Elapsed {
        self.due
    }

    pub(super) fn renewal(&self) -> Renewal {
        if self.renewable { Renewal::Renew } else { Renewal::Replace }
    }

    /// Records that renewal was denied. The grant is replaced instead.
    pub(super) fn not_renewable(&mut self) {
        self.renewable = false;
    }

    /// When to retry after a failure at `now` whose backoff ends at `wanted`.
    pub(super) fn retry(&self, wanted: Elapsed, now: Elapsed) -> Elapsed {
        retry_before(self.expires_at(), wanted, now)
    }

    /// Whether the TTL is so short that the minimum interval determines when to act.
    pub(super) fn is_short(&self) -> bool {
        self.ttl < MIN_REFRESH * 2
    }
}

/// When to retry after a failure at `now` whose backoff ends at `wanted`. Waits for at most half of the time until `ends`, so
/// that retries continue until then.
pub(super) fn retry_before(ends: Elapsed, wanted: Elapsed, now: Elapsed) -> Elapsed {
    let left = ends.saturating_sub(now);
    if left.is_zero() { wanted } else { wanted.min(now.saturating_add((left / 2).max(MIN_RETRY))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now(at: u64, seed: u64) -> Now {
        Now { at: Duration::from_secs(at), wall: jiff::Timestamp::UNIX_EPOCH, seed }
    }

    proptest! {
        #[test]
        fn grant_is_due_before_expiry_and_after_minimum_interval(ttl in 0_u64..100_000, seed: u64) {
            let grant = Grant::new(Duration::from_secs(ttl), None, true, &now(7, seed), 1);
            prop_assert!(grant.due() >= Duration::from_secs(7) + MIN_REFRESH);
            prop_assert!(ttl < 2 || grant.due() < grant.expires_at());
        }

        #[test]
        fn overlap_is_left_when_grant_is_due(
            ttl in 4_u64..100_000, last in 1_u64..100_000, configured: Option<u16>, seed: u64,
        ) {
            let (ttl, configured) = (Duration::from_secs(ttl), configured.map(|asked| Duration::from_secs(asked.into())));
            let grant = Grant::new(ttl, configured, true, &now(7, seed), 1);
            let overlap = overlap(configured, ttl);
            prop_assert!(overlap <= ttl / 2);
            prop_assert!(grant.due() + overlap <= grant.expires_at());
            // The last term can be shorter than the overlap. Then the grant is replaced at once.
            let last = grant.renewed(Duration::from_secs(last).min(ttl / 2), true, &now(7, seed), 1);
            prop_assert!(last.due() <= (last.expires_at() - overlap.min(last.ttl)).max(now(7, 0).at + MIN_RETRY));
        }

        #[test]
        fn failed_renewal_is_retried_before_expiry(ttl in 2_u64..10_000, passed in 0_u64..10_000, wait in 0_u64..1000) {
            let grant = Grant::new(Duration::from_secs(ttl), None, true, &now(0, 3), 1);
            let at = Duration::from_secs(passed.min(ttl - 1));
            let retry = grant.retry(at + Duration::from_secs(wait), at);
            prop_assert!(retry < grant.expires_at());
        }
    }

    #[test]
    fn renewal_shorter_than_first_ttl_is_the_last() {
        let grant = Grant::new(Duration::from_secs(100), None, true, &now(0, 3), 1);
        assert_eq!(grant.renewal(), Renewal::Renew);
        assert_eq!(grant.renewed(Duration::from_secs(95), true, &now(60, 3), 1).renewal(), Renewal::Renew);
        let last = grant.renewed(Duration::from_secs(40), true, &now(120, 3), 1);
        assert_eq!((last.renewal(), last.expires_at()), (Renewal::Replace, Duration::from_secs(160)));
        let over = grant.renewed(Duration::from_secs(1), true, &now(120, 3), 1);
        assert_eq!(over.due(), Duration::from_secs(120) + MIN_RETRY, "the last second may be a rounding error");
        assert_eq!(grant.renewed(Duration::from_secs(100), false, &now(60, 3), 1).renewal(), Renewal::Replace);
    }
}
