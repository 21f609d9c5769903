//! `keyferry refresh`: sends a signal to the agent in the same container, for images without a shell.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::super::probe::running_agent;

/// Makes the running agent read all sources. `directory`: the agent's output directory. `new_leases`: replace leases,
/// certificates, and tokens too. Returns the PID of the agent.
///
/// # Errors
/// Why no agent received the signal, as a message.
pub fn request_refresh(directory: &Path, new_leases: bool) -> Result<u32, String> {
    let pid = running_agent(directory)?.pid;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| format!("failed to signal the agent: its PID {pid} is invalid"))?;
    let signal = if new_leases { Signal::USR1 } else { Signal::HUP };
    kill_process(process, signal).map_err(|error| format!("failed to signal the agent with PID {pid}: {error}"))?;
    Ok(pid)
}
