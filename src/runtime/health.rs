//! The status that probes read.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::model::lock;

/// The current status, shared by the driver, which writes it, and the listener, which reads it.
#[derive(Clone, Default)]
pub(super) struct Health(Arc<Mutex<HealthStatus>>);

/// The status of the agent at one moment. Contains no secret data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct HealthStatus {
    /// Process that wrote the status. A state file can outlive its writer.
    pub(super) pid: u32,
    /// Start of that process in clock ticks since boot, because the agent has the same PID after each container
    /// restart.
    pub(super) started: u64,
    /// Whether all required outputs are published.
    pub(super) ready: bool,
    /// Why the agent is not ready, one line per cause.
    pub(super) reasons: Vec<String>,
}

impl Health {
    /// Sets the status. Returns whether it changed.
    pub(super) fn set(&self, status: &HealthStatus) -> bool {
        let mut current = lock(&self.0);
        let differs = *current != *status;
        if differs {
            current.clone_from(status);
        }
        differs
    }

    pub(super) fn get(&self) -> HealthStatus {
        lock(&self.0).clone()
    }
}

/// Start of a process in clock ticks since boot; `None` if it is not running (`proc_pid_stat(5)`, field 22).
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name, in parentheses, may contain spaces and parentheses, so start after the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
