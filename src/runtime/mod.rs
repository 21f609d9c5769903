//! The only tasks, sleeps, timeouts and clock reads: executes the agent's actions and turns their outcomes into inputs.
//!
//! What to do is decided in `agent`, how it is done in the adapters.
#![allow(clippy::disallowed_methods, reason = "this module owns tasks, time and signals")]

mod adapters;
mod clock;
mod driver;
mod executor;
mod health;
mod listener;
mod metrics;
mod observer;
pub mod probe;
mod production;
mod reload;
mod signals;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Environment;
use crate::model::{Failure, FailureClass, Reason, Settings};

pub use crate::agent::exit_code;
pub use reload::ConfigSource;

/// How long to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Stay, refresh, report, until a signal.
    Run,
    /// Publish and mirror once, then leave; give up after this time.
    Once(Duration),
}

/// Exit code for our own fault (`EX_SOFTWARE`).
pub const EXIT_INTERNAL_ERROR: u8 = 70;

/// Threads for what may block: files on a mount that hangs, and the resolver of names.
const BLOCKING_THREADS: usize = 8;

/// Runs the agent to its end and gives the exit code. `config` is where `settings` came from, for reloads. `checkpoint`: the
/// file in which [`Work::Once`] leaves token and leases, and from which [`Work::Run`] takes them.
///
/// # Errors
/// Only what keeps the agent from starting.
pub fn run(
    settings: Settings,
    config: ConfigSource,
    environment: Box<dyn Environment + Send>,
    work: Work,
    checkpoint: Option<PathBuf>,
) -> Result<u8, Failure> {
    let own = |what: &str, error: std::io::Error| {
        Failure::new(FailureClass::Local, Reason::WriteFailed, format!("failed to {what}: {error}"))
    };
    // SignalHandlers first: a SIGTERM that comes while we start must not be lost, least of all for PID 1, where the default
    // action does not apply.
    let signals = signals::SignalHandlers::register().map_err(|error| own("register signal handlers", error))?;
    // One thread: the agent waits nearly all of its life. What may block runs on short-lived others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .map_err(|error| own("start the async runtime", error))?;
    let start =
        driver::Start { settings: Arc::new(settings), config, environment, work, checkpoint: checkpoint.is_some() };
    let adapters = Arc::new(production::ProductionAdapters::new(checkpoint));
    let code = runtime.block_on(async {
        let signals = signals.listen().map_err(|error| own("listen for signals", error))?;
        driver::Driver::new(start, adapters).drive(signals).await
    });
    // Tasks that are still in flight (a hanging request) must not hold the process.
    runtime.shutdown_background();
    code
}
