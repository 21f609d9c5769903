//! One lifetime for everything that ends: a token, a lease, or what an engine issued with a life of its own.
//!
//! What is due is computed from these facts; nothing stores a plan that a later reply could overwrite.

use std::time::Duration;

use super::time::{Elapsed, MIN_REFRESH, Now};

/// Share of a life after which it is renewed or replaced. The lower end leaves a third of it for retries.
const RENEW_FROM: f64 = 0.55;
const RENEW_TO: f64 = 0.70;

/// A renewal that gives less than this share of the first time to live has met the maximum: the next step is a replacement.
const MIN_GROWTH: f64 = 0.9;

/// Shortest wait before a failed renewal is tried again, however near the end is.
const MIN_RETRY: Duration = Duration::from_millis(250);

/// What a server that counts in whole seconds may have added to a time.
const MAX_ROUNDING: Duration = Duration::from_secs(1);

/// What to do when a grant is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Extend it.
    Renew,
    /// Ask for another one.
    Replace,
}

/// Something that ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grant {
    /// When the present term began.
    issued: Elapsed,
    /// Length of the present term.
    ttl: Duration,
    /// Length of the first term, the measure of growth.
    first_ttl: Duration,
    renewable: bool,
    /// When to act, from the jitter of the moment at which the term began.
    due: Elapsed,
}

impl Grant {
    /// A grant that begins now.
    pub(super) fn new(ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        Self::term(ttl, ttl, renewable, now, salt)
    }

    /// A grant of an earlier process, of whose present term `left` is left.
    pub(super) fn resumed(first_ttl: Duration, left: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        Self::term(left, first_ttl, renewable, now, salt)
    }

    /// The same grant after a renewal that gives it `ttl` from now.
    pub(super) fn renewed(&self, ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        let grows = ttl >= self.first_ttl.mul_f64(MIN_GROWTH);
        let term = Self::term(ttl, self.first_ttl, renewable && grows, now, salt);
        if grows {
            return term;
        }
        // The last term, of which up to a second may be missing: the server counts in whole ones. No floor, because what
        // replaces it begins a first term, which has one.
        let wait = now.share(ttl.saturating_sub(MAX_ROUNDING), RENEW_FROM, RENEW_TO, salt).max(MIN_RETRY);
        Self { due: now.at.saturating_add(wait), ..term }
    }

    fn term(ttl: Duration, first_ttl: Duration, renewable: bool, now: &Now, salt: u64) -> Self {
        // The floor wins over the end: a server that gives a second at a time must not set the pace.
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

    /// When to renew or replace it.
    pub(super) fn due(&self) -> Elapsed {
        self.due
    }

    pub(super) fn renewal(&self) -> Renewal {
        if self.renewable { Renewal::Renew } else { Renewal::Replace }
    }

    /// Renewing it was refused: from now on it is replaced.
    pub(super) fn not_renewable(&mut self) {
        self.renewable = false;
    }

    /// When to try again after a failure that asks for a wait until `wanted`: half of what is left at the latest, so that
    /// tries go on until the end whatever the schedule says.
    pub(super) fn retry(&self, wanted: Elapsed, now: Elapsed) -> Elapsed {
        let left = self.expires_at().saturating_sub(now);
        if left.is_zero() { wanted } else { wanted.min(now.saturating_add((left / 2).max(MIN_RETRY))) }
    }

    /// Whether its life is so short that the floor, not the life, sets the pace.
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
        fn a_grant_is_due_before_its_end_and_never_below_the_floor(ttl in 0_u64..100_000, seed: u64) {
            let grant = Grant::new(Duration::from_secs(ttl), true, &now(7, seed), 1);
            prop_assert!(grant.due() >= Duration::from_secs(7) + MIN_REFRESH);
            prop_assert!(ttl < 2 || grant.due() < grant.expires_at());
        }

        #[test]
        fn a_failed_renewal_is_tried_again_before_the_end(ttl in 2_u64..10_000, passed in 0_u64..10_000, wait in 0_u64..1000) {
            let grant = Grant::new(Duration::from_secs(ttl), true, &now(0, 3), 1);
            let at = Duration::from_secs(passed.min(ttl - 1));
            let retry = grant.retry(at + Duration::from_secs(wait), at);
            prop_assert!(retry < grant.expires_at());
        }
    }

    #[test]
    fn a_renewal_that_gives_less_than_the_first_term_is_the_last_one() {
        let grant = Grant::new(Duration::from_secs(100), true, &now(0, 3), 1);
        assert_eq!(grant.renewal(), Renewal::Renew);
        assert_eq!(grant.renewed(Duration::from_secs(95), true, &now(60, 3), 1).renewal(), Renewal::Renew);
        let last = grant.renewed(Duration::from_secs(40), true, &now(120, 3), 1);
        assert_eq!((last.renewal(), last.expires_at()), (Renewal::Replace, Duration::from_secs(160)));
        let over = grant.renewed(Duration::from_secs(1), true, &now(120, 3), 1);
        assert_eq!(over.due(), Duration::from_secs(120) + MIN_RETRY, "a second may be none");
        assert_eq!(grant.renewed(Duration::from_secs(100), false, &now(60, 3), 1).renewal(), Renewal::Replace);
    }
}
