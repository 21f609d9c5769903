//! Executes the agent's actions and passes their outcomes back as inputs. The only module with tasks, sleeps, timeouts,
//! and clocks.
//!
//! `agent` decides what to do. The adapters decide how.
#![allow(clippy::disallowed_methods, reason = "this module owns tasks, time and signals")]

mod adapters;
mod blocking;
mod checkpoint_file;
mod clock;
mod driver;
mod executor;
mod health;
mod listener;
mod metrics;
mod notifier;
mod observer;
mod preview;
pub mod probe;
mod production;
mod refresh;
mod reload;
mod signals;
#[cfg(test)]
mod tests;
mod watched_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Environment;
use crate::model::{Failure, FailureClass, Reason, Settings};

pub use crate::agent::{exit, exit_code};
pub use crate::render::ListedFile;
pub use preview::{preview, preview_sample};
pub use refresh::request_refresh;
pub use reload::ConfigSource;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Publish, refresh, and report until a signal arrives.
    Run {
        /// The container is an ordinary one next to the application, not a sidecar.
        app_container: bool,
    },
    /// Publish and mirror once, then exit. Give up after this time, counted from the start.
    Once(Duration),
}

/// Maximum number of threads for blocking calls: file systems and name resolution.
const BLOCKING_THREADS: usize = 8;

/// Runs the agent until it exits, and returns the exit code. `config` is the origin of `settings`, for reloads.
/// `checkpoint` is the file in which each process saves its token and credentials for the next one.
///
/// # Errors
/// If the agent cannot start: signals, the listener, or the output directory.
pub fn run(
    settings: Settings,
    config: ConfigSource,
    environment: Box<dyn Environment + Send>,
    work: Work,
    checkpoint: Option<PathBuf>,
) -> Result<u8, Failure> {
    let start_failure = |what: &str, error: std::io::Error| {
        Failure::new(FailureClass::Local, Reason::Internal, format!("failed to {what}: {error}"))
    };
    // Register signals first, so that no SIGTERM is lost during the start. For PID 1, the default action does not
    // apply.
    let signals =
        signals::SignalHandlers::register().map_err(|error| start_failure("register signal handlers", error))?;
    // One thread is enough, because the agent mostly waits. Blocking calls run in short-lived threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .map_err(|error| start_failure("start the async runtime", error))?;
    let start =
        driver::Start { settings: Arc::new(settings), config, environment, work, checkpoint: checkpoint.is_some() };
    let adapters = Arc::new(production::ProductionAdapters::new(checkpoint));
    // On the heap, like the futures of requests in `production`.
    let code = runtime.block_on(Box::pin(async {
        let signals = signals.listen().map_err(|error| start_failure("listen for signals", error))?;
        driver::Driver::new(start, adapters).drive(signals).await
    }));
    // Do not wait for tasks that are still in flight, such as a hanging request.
    runtime.shutdown_background();
    code
}
