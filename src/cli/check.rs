//! `keyferry check`: reports whether the configuration is valid.

use std::process::ExitCode;

use super::output;

/// Confirms a configuration that `main` has loaded without an error.
pub(crate) fn run() -> ExitCode {
    output::print("configuration is valid")
}
