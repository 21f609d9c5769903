//! The only spawns, sleeps, timeouts and clock reads: runs the brain's effects and turns their results into events.
//!
//! Never touches: formats, paths, policy. What to do is decided in `brain`, how it is done in the hands.
#![allow(clippy::disallowed_methods, reason = "this room owns tasks, time and signals")]

mod clock;
mod driver;
mod effects;
mod handover;
mod hands;
mod health;
mod listener;
mod metrics;
pub mod probe;
mod reload;
mod shelf;
mod signals;
mod voice;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Environment;
use crate::model::{Failure, FailureClass, Reason, Settings};

pub use crate::brain::exit_code;
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
pub const EXIT_OWN_FAULT: u8 = 70;

/// Runs the agent to its end and gives the exit code. `config` is where `settings` came from, for reloads. `handover`: the
/// file in which [`Work::Once`] leaves token and leases, and from which [`Work::Run`] takes them.
///
/// # Errors
/// Only what keeps the agent from starting; everything later is the brain's business.
pub fn run(
    settings: Settings,
    config: ConfigSource,
    environment: Box<dyn Environment + Send>,
    work: Work,
    handover: Option<PathBuf>,
) -> Result<u8, Failure> {
    let own = |what: &str, error: std::io::Error| {
        Failure::new(FailureClass::Local, Reason::WriteFailed, format!("failed to {what}: {error}"))
    };
    // Signals first: a SIGTERM that comes while we start must not be lost, least of all for PID 1, where the default
    // action does not apply.
    let signals = signals::Signals::register().map_err(|error| own("register signal handlers", error))?;
    // One thread: the agent waits nearly all of its life. Files are written on a short-lived second one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .map_err(|error| own("start the async runtime", error))?;
    let code = runtime.block_on(async {
        let signals = signals.listen().map_err(|error| own("listen for signals", error))?;
        driver::Driver::new(settings, config, environment, work, handover).await?.drive(signals).await
    });
    // Tasks that are still in flight (a hanging request) must not hold the process.
    runtime.shutdown_background();
    code
}
