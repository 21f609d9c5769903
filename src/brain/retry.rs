//! Time as the brain sees it, and the one retry schedule.

use std::time::Duration;

use crate::model::{Failure, Retry};

/// Time since the agent's start, by a clock that never goes back.
pub type Tick = Duration;

/// Longest `Retry-After` that is honoured; beyond it a wrong header would silence the agent.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(600);

/// Attempts that get the quick schedule even where waiting seldom helps: a standby may not know a fresh token or a fresh
/// policy yet (OpenBao 2.5 and Vault Enterprise read from standbys).
const QUICK_ATTEMPTS: u32 = 3;

/// The moment of a step: what time it is, and the dice that were thrown for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the agent's start.
    pub at: Tick,
    /// Random bits, new for each step.
    pub dice: u64,
}

impl Now {
    /// A number in `0.0..1.0`; different for each `salt` of one step.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    fn roll(&self, salt: u64) -> f64 {
        // splitmix64's finaliser: one throw of the dice gives many independent numbers.
        let mut x = self.dice ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time between `low` and `high` times `span` from now, so that many pods do not move in step.
    pub(super) fn fraction_of(&self, span: Duration, low: f64, high: f64, salt: u64) -> Tick {
        self.at + span.mul_f64(low + (high - low) * self.roll(salt))
    }
}

/// Failures in a row of one thing, and when it may be tried again.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Backoff {
    pub(super) attempts: u32,
    pub(super) not_before: Tick,
}

impl Backoff {
    /// Counts a failure and sets the time of the next try: full jitter below a ceiling that doubles; the slow ceiling where
    /// waiting a little does not help; never before the server's `Retry-After`.
    pub(super) fn failed(&mut self, failure: &Failure, retry: &Retry, now: &Now, salt: u64) {
        self.attempts = self.attempts.saturating_add(1);
        let quick = failure.class.is_passing() || self.attempts <= QUICK_ATTEMPTS;
        let wait = if quick {
            let doubled = retry.base.saturating_mul(1_u32 << (self.attempts - 1).min(16));
            let ceiling = doubled.min(retry.max).max(retry.base);
            // Not below half the base: a jitter of zero would be a busy loop.
            retry.base / 2 + (ceiling - retry.base / 2).mul_f64(now.roll(salt))
        } else {
            retry.slow / 2 + (retry.slow / 2).mul_f64(now.roll(salt))
        };
        let asked = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
        self.not_before = now.at + if asked > wait { asked + retry.base.mul_f64(now.roll(salt ^ 1)) } else { wait };
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Whether the server's refusal has been heard often enough to be believed.
    pub(super) fn is_settled(&self) -> bool {
        self.attempts >= QUICK_ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{FailureClass, Reason};

    const RETRY: Retry =
        Retry { base: Duration::from_millis(500), max: Duration::from_secs(60), slow: Duration::from_secs(30) };

    proptest! {
        #[test]
        fn a_wait_is_never_zero_and_never_beyond_its_ceiling(dice: u64, fails in 1_u32..200, passing: bool) {
            let class = if passing { FailureClass::Unreachable } else { FailureClass::Denied };
            let failure = Failure::new(class, Reason::VaultUnreachable, "x");
            let mut backoff = Backoff::default();
            let now = Now { at: Duration::from_secs(100), dice };
            for _ in 0..fails {
                backoff.failed(&failure, &RETRY, &now, 7);
                let wait = backoff.not_before - now.at;
                prop_assert!(wait >= RETRY.base / 2);
                let ceiling = RETRY.base * 2_u32.pow((backoff.attempts - 1).min(16));
                let bound = if passing || backoff.attempts <= QUICK_ATTEMPTS { ceiling.min(RETRY.max) } else { RETRY.slow };
                prop_assert!(wait <= bound, "{wait:?} > {bound:?}");
            }
        }

        #[test]
        fn retry_after_is_a_lower_bound_with_a_cap(dice: u64, seconds in 0_u64..100_000) {
            let failure = Failure {
                retry_after: Some(Duration::from_secs(seconds)),
                ..Failure::new(FailureClass::Transient, Reason::RateLimited, "x")
            };
            let mut backoff = Backoff::default();
            let now = Now { at: Duration::ZERO, dice };
            backoff.failed(&failure, &RETRY, &now, 7);
            prop_assert!(backoff.not_before >= Duration::from_secs(seconds).min(RETRY_AFTER_CAP));
            prop_assert!(backoff.not_before <= RETRY_AFTER_CAP + RETRY.base);
        }
    }
}
