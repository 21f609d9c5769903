//! Notifies the application: sends a signal to a process of the pod, or an HTTP request within the pod.
//!
//! This module depends on `model` only. It makes one attempt and classifies the failure; the agent schedules retries. The
//! other two kinds of notifications need no adapter here: `volume` writes marker files, and a restart of all containers is an
//! exit of the agent.
//!
//! Nothing leaves the pod: a request goes to a loopback address or a Unix socket, and a signal to a process whose cgroup
//! belongs to the pod.

mod file;
mod http;
mod processes;
mod signal;

pub use http::{HttpNotifier, prepare};
pub use signal::send_signal;
