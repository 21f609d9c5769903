//! `keyferry refresh`: makes the agent in the same container read all sources without a lease.

use std::path::Path;
use std::process::ExitCode;

use keyferry::config::{self, ProcessEnvironment};
use keyferry::runtime;

use super::output;

pub(crate) fn run(directory: &Path) -> ExitCode {
    output::exit_code(runtime::request_refresh(directory))
}

/// [`run`] while the current configuration file is invalid. The agent keeps running with the previous configuration.
pub(crate) fn run_without_settings(environment: ProcessEnvironment, document: Option<&str>) -> ExitCode {
    run(&config::directory(&environment, document))
}
