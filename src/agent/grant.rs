//! The lifetime of anything that expires: a token, a lease, or a credential that an engine issued with its own TTL.
//!
//! Due times are computed from these facts. No stored plan can be overwritten by a late outcome.

use std::time::Duration;

use super::time::{Elapsed, MIN_REFRESH, Now};

/// Fraction of a TTL after which a grant is renewed or replaced. About a third of the TTL remains for retries.
const RENEW_FROM: f64 = 0.55;
const RENEW_TO: f64 = 0.70;

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

/// A term that Vault granted, and when to act on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grant {
    /// Start of the current term.
    issued: Elapsed,
    /// Length of the current term.
    ttl: Duration,
    /// Length of the first term, to compare renewals with.
    first_ttl: Duration,
    renewable: bool,
    /// When to renew or replace, with the jitter drawn at the start of the term.
    due: Elapsed,
}

impl Grant {
    /// Creates a grant whose first term starts now.
    pub(super) fn new(ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        Self::term(ttl, ttl, renewable, now, salt)
    }

    /// Restores a grant of an earlier process, whose current term has `left` remaining.
    pub(super) fn resumed(first_ttl: Duration, left: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        Self::term(left, first_ttl, renewable, now, salt)
    }

    /// Returns the grant after a renewal to `ttl` from now.
    pub(super) fn renewed(&self, ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        let grows = ttl >= self.first_ttl.mul_f64(MIN_GROWTH);
        let term = Self::term(ttl, self.first_ttl, renewable && grows, now, salt);
        if grows {
            return term;
        }
        // The last term. The replacement is not delayed by the minimum interval, which applies to each first term.
        let wait = now.share(ttl.saturating_sub(MAX_ROUNDING), RENEW_FROM, RENEW_TO, salt).max(MIN_RETRY);
        Self { due: now.at.saturating_add(wait), ..term }
    }

    fn term(ttl: Duration, first_ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        // The minimum interval applies even beyond the expiry: very short TTLs must not set the request rate.
        let due = now.at.saturating_add(now.share(ttl, RENEW_FROM, RENEW_TO, salt).max(MIN_REFRESH));
        Self { issued: now.at, ttl, first_ttl, renewable, due }
    }

    pub(super) fn expires_at(&self) -> Elapsed {
        self.issued.saturating_add(self.ttl)
    }

    pub(super) fn first_ttl(&self) -> Duration {
        self.first_ttl
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

    /// When to retry after a failure whose backoff ends at `wanted`. Waits for at most half of the remaining time, so
    /// that retries continue until the expiry.
    pub(super) fn retry(&self, wanted: Elapsed, now: Elapsed) -> Elapsed {
        let left = self.expires_at().saturating_sub(now);
        if left.is_zero() { wanted } else { wanted.min(now.saturating_add((left / 2).max(MIN_RETRY))) }
    }

    /// Whether the TTL is so short that the minimum interval determines when to act.
    pub(super) fn is_short(&self) -> bool {
        self.ttl < MIN_REFRESH * 2
    }
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
            let grant = Grant::new(Duration::from_secs(ttl), true, &now(7, seed), 1);
            prop_assert!(grant.due() >= Duration::from_secs(7) + MIN_REFRESH);
            prop_assert!(ttl < 2 || grant.due() < grant.expires_at());
        }

        #[test]
        fn failed_renewal_is_retried_before_expiry(ttl in 2_u64..10_000, passed in 0_u64..10_000, wait in 0_u64..1000) {
            let grant = Grant::new(Duration::from_secs(ttl), true, &now(0, 3), 1);
            let at = Duration::from_secs(passed.min(ttl - 1));
            let retry = grant.retry(at + Duration::from_secs(wait), at);
            prop_assert!(retry < grant.expires_at());
        }
    }

    #[test]
    fn renewal_shorter_than_first_ttl_is_the_last() {
        let grant = Grant::new(Duration::from_secs(100), true, &now(0, 3), 1);
        assert_eq!(grant.renewal(), Renewal::Renew);
        assert_eq!(grant.renewed(Duration::from_secs(95), true, &now(60, 3), 1).renewal(), Renewal::Renew);
        let last = grant.renewed(Duration::from_secs(40), true, &now(120, 3), 1);
        assert_eq!((last.renewal(), last.expires_at()), (Renewal::Replace, Duration::from_secs(160)));
        let over = grant.renewed(Duration::from_secs(1), true, &now(120, 3), 1);
        assert_eq!(over.due(), Duration::from_secs(120) + MIN_RETRY, "the last second may be a rounding error");
        assert_eq!(grant.renewed(Duration::from_secs(100), false, &now(60, 3), 1).renewal(), Renewal::Replace);
    }
}
