//! `keyferry refresh`: makes the agent in the same container read all sources now.

use std::path::Path;
use std::process::ExitCode;

use keyferry::config::{self, ProcessEnvironment};
use keyferry::runtime;

use super::output;

/// Signals the agent, and prints what it does now. `new_leases`: replace leases, certificates, and tokens too.
pub(crate) fn run(directory: &Path, new_leases: bool) -> ExitCode {
    match runtime::request_refresh(directory, new_leases) {
        Ok(pid) => {
            let what = if new_leases { " and replaces leases, certificates, and tokens" } else { "" };
            output::print(&format!("the agent (PID {pid}) refreshes its sources now{what}; its log shows the result"))
        }
        Err(reason) => output::exit_code(Err(reason)),
    }
}

/// [`run`] while the current configuration file is invalid. The agent keeps running with the previous configuration.
pub(crate) fn run_without_settings(
    environment: ProcessEnvironment,
    document: Option<&str>,
    new_leases: bool,
) -> ExitCode {
    run(&config::directory(&environment, document), new_leases)
}
