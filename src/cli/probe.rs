//! `keyferry probe`: queries the agent in the same container.

use std::path::Path;
use std::process::ExitCode;

use keyferry::config::{self, ProcessEnvironment};
use keyferry::model::Listener;
use keyferry::runtime::probe;

use super::{ProbeType, output};

pub(crate) fn run(what: ProbeType, listener: Option<Listener>, directory: &Path) -> ExitCode {
    let question = match what {
        ProbeType::Startup => probe::Check::Startup,
        ProbeType::Ready => probe::Check::Ready,
        ProbeType::Live => probe::Check::Live,
    };
    output::exit_code(probe::run(question, listener, directory))
}

/// Queries an agent whose current configuration file is invalid. The agent keeps running with the previous
/// configuration; a failed probe would restart it with the invalid one.
pub(crate) fn run_without_settings(
    what: ProbeType,
    environment: ProcessEnvironment,
    document: Option<&str>,
) -> ExitCode {
    run(what, None, &config::directory(&environment, document))
}
