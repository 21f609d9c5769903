//! `keyferry schema`: prints the JSON Schema of the configuration file.

use std::process::ExitCode;

use keyferry::config;

use super::output;

pub(crate) fn run() -> ExitCode {
    output::print(config::SCHEMA.trim_end())
}
