//! The one clock.

use std::time::Duration;

use crate::brain::{Now, Tick};

/// Time since the agent's start, and the dice.
pub(super) struct Clock(tokio::time::Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(super) fn tick(&self) -> Tick {
        self.0.elapsed()
    }

    pub(super) fn now(&self) -> Now {
        Now { at: self.tick(), dice: fastrand::u64(..) }
    }

    /// Sleeps until `tick`, or for ever.
    pub(super) async fn sleep_until(&self, tick: Option<Tick>) {
        match tick {
            Some(tick) => tokio::time::sleep_until(self.0 + tick).await,
            None => std::future::pending().await,
        }
    }
}

/// Wall clock, for names and reports, and for the times of a hand-over, since two processes have no other clock in common.
/// Decisions depend on what is left by it at the moment of taking, and on nothing later.
pub(super) fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Runs `work` for at most `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
