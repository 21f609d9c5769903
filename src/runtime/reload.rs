//! Live reload. A change in the directory of the configuration file or of a template file triggers a read of all of them.
//! Only new content causes a reload.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::watched_file::{Content, MAX_BYTES, Watched, as_text, read_regular, read_text};
use crate::config::{self, Environment, TemplateFiles};
use crate::model::Settings;

/// What messages call the files.
const CONFIGURATION: &str = "configuration file";
const TEMPLATE: &str = "template file";

/// Where the configuration came from, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    origin: Origin,
    content: Documents,
}

/// Where the document is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// In the environment, or there is none. Cannot change.
    Fixed,
    /// In this file.
    File(PathBuf),
}

/// The document and its template files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Documents {
    document: Option<String>,
    templates: TemplateFiles,
}

impl ConfigSource {
    /// The document in an environment variable, or none. Reads its template files.
    #[must_use]
    pub fn fixed(document: Option<String>) -> Self {
        Self { origin: Origin::Fixed, content: Documents::with_templates(document) }
    }

    /// Reads a configuration file and its template files.
    ///
    /// # Errors
    /// A message with the path, if the configuration file cannot be read, is not a regular file (a named pipe could block), is
    /// not UTF-8 text, or is larger than 4 MiB.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let text = read_text(CONFIGURATION, &path)?;
        Ok(Self { origin: Origin::File(path), content: Documents::with_templates(Some(text)) })
    }

    /// The content of the document; `None` without one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.content.document.as_deref()
    }

    /// The content of the template files.
    #[must_use]
    pub fn templates(&self) -> &TemplateFiles {
        &self.content.templates
    }
}

impl Documents {
    /// Reads the template files of `document`.
    fn with_templates(document: Option<String>) -> Self {
        let paths = config::template_files(document.as_deref());
        let templates = paths.into_iter().map(|path| (path.clone(), read_text(TEMPLATE, &path))).collect();
        Self { document, templates }
    }
}

impl Content for Documents {
    type Origin = Origin;

    fn what(_: &Origin) -> &'static str {
        CONFIGURATION
    }

    fn paths(origin: &Origin, last: Option<&Self>) -> BTreeSet<PathBuf> {
        let document = match origin {
            Origin::Fixed => None,
            Origin::File(path) => Some(path),
        };
        document.into_iter().chain(last.into_iter().flat_map(|last| last.templates.keys())).cloned().collect()
    }

    fn read(origin: &Origin, last: Option<&Self>) -> io::Result<Result<Self, String>> {
        let document = match origin {
            Origin::Fixed => last.and_then(|last| last.document.clone()),
            Origin::File(path) => match as_text(CONFIGURATION, path, read_regular(path, MAX_BYTES)?) {
                Ok(text) => Some(text),
                Err(message) => return Ok(Err(message)),
            },
        };
        let found = Self::with_templates(document);
        let was_readable =
            |path: &PathBuf| last.is_some_and(|last| last.templates.get(path).is_some_and(Result::is_ok));
        if found.templates.keys().any(|path| was_readable(path) && !path.exists()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Ok(found))
    }
}

/// Watches the configuration file and the template files.
pub(super) struct Reload {
    files: Option<Watched<Documents>>,
    environment: Box<dyn Environment + Send>,
}

impl Reload {
    pub(super) fn new(source: ConfigSource, environment: Box<dyn Environment + Send>) -> Self {
        let ConfigSource { origin, content } = source;
        let is_fixed = origin == Origin::Fixed && content.templates.is_empty();
        Self { files: (!is_fixed).then(|| Watched::new(origin, Some(content))), environment }
    }

    /// Waits for content that differs from the last delivered one. Cancel safe.
    ///
    /// # Errors
    /// A message with all errors, if the document cannot be read or is invalid.
    pub(super) async fn changed(&mut self) -> Result<Box<Settings>, String> {
        let Some(files) = &mut self.files else { return std::future::pending().await };
        let Documents { document, templates } = files.next().await?;
        let loaded = config::load_with(&*self.environment, document.as_deref(), &templates);
        loaded.map(Box::new).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
