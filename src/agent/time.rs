//! Time, jitter, and the retry schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::{Failure, Retry};

/// Time since the agent's start, from a monotonic clock that also counts while the machine is suspended.
pub type Elapsed = Duration;

/// Maximum accepted `Retry-After`. A longer one is probably wrong and would silence the agent.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(600);

/// Number of fast retries before a failure that is not retryable counts as final: a policy or role that was just
/// written takes a moment to reach a standby.
const FAST_RETRIES: u32 = 3;

/// Minimum interval between two requests that TTLs or rotation times of the server can cause. Equals the minimum of
/// `refresh` in the configuration.
pub(super) const MIN_REFRESH: Duration = Duration::from_secs(1);

/// The current time and a random seed, for one call of [`Agent::handle`](super::Agent::handle).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the agent's start. All decisions use this clock.
    pub at: Elapsed,
    /// Wall clock, for messages and metrics.
    pub wall: Timestamp,
    /// Random bits, different for each call.
    pub seed: u64,
}

impl Now {
    /// Returns a pseudo-random number in `0.0..1.0`, different for each `salt` of one call.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    pub(super) fn jitter(&self, salt: u64) -> f64 {
        // The finalizer of splitmix64 derives independent numbers from one seed.
        let mut x = self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a random fraction of `span` between `low` and `high`, so that many pods do not act in step.
    pub(super) fn share(&self, span: Duration, low: f64, high: f64, salt: u64) -> Duration {
        span.mul_f64(low + (high - low) * self.jitter(salt))
    }

    /// Converts `at`, in the past or the future, to wall-clock time.
    pub(super) fn wall_at(&self, at: Elapsed) -> Timestamp {
        let ahead = SignedDuration::try_from(at.saturating_sub(self.at)).unwrap_or(SignedDuration::MAX);
        let behind = SignedDuration::try_from(self.at.saturating_sub(at)).unwrap_or(SignedDuration::MAX);
        self.wall.saturating_add(ahead).and_then(|t| t.saturating_sub(behind)).unwrap_or(Timestamp::MAX)
    }
}

/// Formats a time for messages, in UTC with seconds: `2026-11-28T05:44:08Z`.
pub(super) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Number of consecutive failures of one operation, and the earliest time of the next attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Backoff {
    pub(super) attempts: u32,
    pub(super) not_before: Elapsed,
}

impl Backoff {
    /// Counts a failure and sets the time of the next attempt: a random time below a ceiling that doubles up to `max`.
    /// After [`FAST_RETRIES`], a failure that is not retryable waits for `slow`. `Retry-After` of the server is a
    /// minimum.
    pub(super) fn failed(&mut self, failure: &Failure, retry: &Retry, now: &Now, salt: u64) {
        self.attempts = self.attempts.saturating_add(1);
        let fast = failure.class.is_retryable() || self.attempts <= FAST_RETRIES;
        let wait = if fast {
            let doubled = retry.base.saturating_mul(1_u32 << (self.attempts - 1).min(16));
            let ceiling = doubled.min(retry.max).max(retry.base);
            // At least half of the base, or a jitter of zero would cause a busy loop.
            retry.base / 2 + (ceiling - retry.base / 2).mul_f64(now.jitter(salt))
        } else {
            retry.slow / 2 + (retry.slow / 2).mul_f64(now.jitter(salt))
        };
        let asked = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
        self.not_before = now.at + if asked > wait { asked + retry.base.mul_f64(now.jitter(salt ^ 1)) } else { wait };
    }

    /// Resets the count. The next attempt may start at once.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Makes the failure final without further attempts.
    pub(super) fn conclude(&mut self) {
        self.attempts = self.attempts.max(FAST_RETRIES);
    }

    /// Whether a failure that is not retryable counts as final.
    pub(super) fn is_conclusive(&self) -> bool {
        self.attempts >= FAST_RETRIES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{FailureClass, Reason};

    const RETRY: Retry =
        Retry { base: Duration::from_millis(500), max: Duration::from_secs(60), slow: Duration::from_secs(30) };

    fn now(at: u64, seed: u64) -> Now {
        Now { at: Duration::from_secs(at), wall: Timestamp::UNIX_EPOCH, seed }
    }

    #[test]
    fn wall_time_is_relative_to_now() {
        let now = now(100, 0);
        assert_eq!(timestamp(now.wall_at(Duration::from_secs(160))), "1970-01-01T00:01:00Z");
        assert_eq!(timestamp(now.wall_at(Duration::from_secs(40))), "1969-12-31T23:59:00Z");
        assert!(now.wall_at(Duration::MAX) > now.wall);
    }

    proptest! {
        #[test]
        fn backoff_stays_between_half_base_and_ceiling(seed: u64, fails in 1_u32..200, passing: bool) {
            let class = if passing { FailureClass::Unreachable } else { FailureClass::Denied };
            let failure = Failure::new(class, Reason::VaultUnreachable, "x");
            let mut backoff = Backoff::default();
            let now = now(100, seed);
            for _ in 0..fails {
                backoff.failed(&failure, &RETRY, &now, 7);
                let wait = backoff.not_before - now.at;
                prop_assert!(wait >= RETRY.base / 2);
                let ceiling = RETRY.base * 2_u32.pow((backoff.attempts - 1).min(16));
                let bound = if passing || backoff.attempts <= FAST_RETRIES { ceiling.min(RETRY.max) } else { RETRY.slow };
                prop_assert!(wait <= bound, "{wait:?} > {bound:?}");
            }
        }

        #[test]
        fn retry_after_is_minimum_up_to_cap(seed: u64, seconds in 0_u64..100_000) {
            let failure = Failure {
                retry_after: Some(Duration::from_secs(seconds)),
                ..Failure::new(FailureClass::Transient, Reason::RateLimited, "x")
            };
            let mut backoff = Backoff::default();
            backoff.failed(&failure, &RETRY, &now(0, seed), 7);
            prop_assert!(backoff.not_before >= Duration::from_secs(seconds).min(RETRY_AFTER_CAP));
            prop_assert!(backoff.not_before <= RETRY_AFTER_CAP + RETRY.base);
        }
    }
}
