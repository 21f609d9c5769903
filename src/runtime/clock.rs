//! The only module that reads clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::adapters::Clock;
use crate::agent::Elapsed;

/// Maximum duration of one timer. Timers stop while the machine is suspended, but this clock does not, so long sleeps
/// check the clock in between.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The clocks of the machine.
pub(super) struct SystemClock {
    /// Start of the process, since boot.
    started: Duration,
}

impl SystemClock {
    pub(super) fn start() -> Self {
        Self { started: since_boot() }
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Elapsed {
        since_boot().saturating_sub(self.started)
    }

    fn wall(&self) -> jiff::Timestamp {
        wall()
    }

    async fn sleep_until(&self, at: Option<Elapsed>) {
        let Some(at) = at else { return std::future::pending().await };
        loop {
            let left = at.saturating_sub(self.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(MAX_SLEEP)).await;
        }
    }
}

/// `CLOCK_BOOTTIME`, because tokens and leases also expire while a virtual machine is suspended (`clock_gettime(2)`).
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Wall clock, for names, reports, and checkpoints: two processes have no other clock in common.
pub(super) fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Runs `work` for at most `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleep_ends_at_given_time() {
        let clock = SystemClock::start();
        let until = clock.elapsed() + Duration::from_millis(30);
        clock.sleep_until(Some(until)).await;
        assert!(clock.elapsed() >= until);
    }
}
