//! `keyferry refresh`: sends SIGHUP to the agent in the same container, for images without a shell.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::probe::running_agent;

/// Makes the running agent read all sources without a lease. `directory`: the agent's output directory.
///
/// # Errors
/// Why no agent received the signal, as a message.
pub fn request_refresh(directory: &Path) -> Result<(), String> {
    let pid = running_agent(directory)?.pid;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| format!("failed to signal the agent: its PID {pid} is invalid"))?;
    kill_process(process, Signal::HUP).map_err(|error| format!("failed to signal the agent with PID {pid}: {error}"))
}
