//! What probes are told.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Shared between the driver, which writes, and the listener, which reads.
#[derive(Clone, Default)]
pub(super) struct Health(Arc<Mutex<HealthStatus>>);

/// The agent's status at one moment. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct HealthStatus {
    /// Process that wrote it; a state file outlives its writer.
    pub(super) pid: u32,
    /// When that process started, in clock ticks since the boot: in a container the agent always has the same pid.
    pub(super) started: u64,
    /// Whether all required outputs are published.
    pub(super) ready: bool,
    /// Why not, one line each.
    pub(super) reasons: Vec<String>,
}

impl Health {
    /// Takes over a new status. Whether it differs from the last.
    pub(super) fn set(&self, status: &HealthStatus) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *current != *status;
        if differs {
            current.clone_from(status);
        }
        differs
    }

    pub(super) fn get(&self) -> HealthStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When a process started, `None` if it does not run (`proc_pid_stat(5)`, field 22).
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it do not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
