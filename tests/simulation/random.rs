//! Random values from one seed.

use std::time::Duration;

/// A random number generator. The same seed produces the same world.
pub struct Random(fastrand::Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// `true` with a probability of `percent`.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.0.u8(..100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.0.usize(..from.len())]
    }

    /// Between `low` and `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.0.u64(low..=high))
    }

    /// Between `low` and `high` seconds.
    pub fn seconds(&mut self, low: u64, high: u64) -> Duration {
        self.millis(low * 1000, high * 1000)
    }

    /// An exponentially distributed time with this mean, like the gaps between independent events.
    pub fn gap(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.0.f64()).ln())
    }
}
