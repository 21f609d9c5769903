//! Finds and reads the configuration file.

use std::path::PathBuf;

use keyferry::config::{self, DocumentLocation, ProcessEnvironment};
use keyferry::runtime::ConfigSource;

use super::ConfiguredCommand;

/// Reads the configuration file, if there is one. `file` is the value of `--config`.
pub(crate) fn find(
    file: Option<PathBuf>,
    command: &ConfiguredCommand,
    environment: ProcessEnvironment,
) -> Result<ConfigSource, String> {
    match config::document_location(&environment, file) {
        None => Ok(ConfigSource::fixed(None)),
        Some(DocumentLocation::Inline(text)) => Ok(ConfigSource::fixed(Some(text))),
        // `check` also accepts a pipe: keyferry check --config <(helm template ...).
        Some(DocumentLocation::File(path)) if matches!(command, ConfiguredCommand::Check) => {
            std::fs::read_to_string(&path)
                .map(|text| ConfigSource::fixed(Some(text)))
                .map_err(|error| format!("failed to read configuration {}: {error}", path.display()))
        }
        Some(DocumentLocation::File(path)) => ConfigSource::read(path),
    }
}
