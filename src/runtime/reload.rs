//! Live reload of the configuration file. Only new content causes a reload.

use std::path::PathBuf;

use super::watched_file::{WatchedFile, read_text};
use crate::config::{self, Environment};
use crate::model::Settings;

/// What messages call the file.
const WHAT: &str = "configuration file";

/// Where the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// Environment variables, and the inline document if there is one. Cannot change.
    Fixed(Option<String>),
    /// A configuration file.
    File {
        /// Path of the file. Its directory is watched.
        path: PathBuf,
        /// Content that the initial settings were parsed from.
        text: String,
    },
}

impl ConfigSource {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// A message with the path, if the file cannot be read, is not a regular file (a named pipe could block), is not
    /// UTF-8 text, or is larger than 4 MiB.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        read_text(WHAT, &path).map(|text| Self::File { path, text })
    }

    /// The content of the document; `None` without one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Fixed(text) => text.as_deref(),
            Self::File { text, .. } => Some(text),
        }
    }
}

/// Watches the configuration file.
pub(super) struct Reload {
    file: Option<WatchedFile>,
    environment: Box<dyn Environment + Send>,
}

impl Reload {
    pub(super) fn new(source: ConfigSource, environment: Box<dyn Environment + Send>) -> Self {
        let file = match source {
            ConfigSource::Fixed(_) => None,
            ConfigSource::File { path, text } => Some(WatchedFile::new(WHAT, path, Some(text))),
        };
        Self { file, environment }
    }

    /// Waits for a document that differs from the last delivered one. Cancel safe.
    ///
    /// # Errors
    /// A message with all errors, if the document cannot be read or is invalid.
    pub(super) async fn changed(&mut self) -> Result<Box<Settings>, String> {
        let Some(file) = &mut self.file else { return std::future::pending().await };
        let text = file.next().await?;
        config::load(&*self.environment, Some(&text)).map(Box::new).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
