//! Live reload. A change in the directory of the configuration file or of a template file triggers a read of all of them.
//! Only new content causes a reload.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::{self, Environment, TemplateFiles};
use crate::model::{Failure, Settings};
use crate::volume::Watch;

/// Interval of reads without a notification: inotify may be out of watches, and some file systems do not support it.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Delay between the last change and the read, so that a file that is written in several steps is read once.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Maximum delay between the first change and the read, even if the directory keeps changing.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// Maximum size of a file. A ConfigMap has at most 1 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// The kinds of files, for messages.
const CONFIGURATION: &str = "configuration";
const TEMPLATE: &str = "template";

/// Where the configuration came from, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    origin: Origin,
    content: Content,
}

/// Where the document is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// In the environment, or there is none. Cannot change.
    Fixed,
    /// In this file.
    File(PathBuf),
}

/// The document and the files that it refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Content {
    document: Option<String>,
    templates: TemplateFiles,
}

impl ConfigSource {
    /// The document in an environment variable, or none. Reads its template files.
    #[must_use]
    pub fn fixed(document: Option<String>) -> Self {
        Self { origin: Origin::Fixed, content: Content::with_templates(document) }
    }

    /// Reads a configuration file and its template files.
    ///
    /// # Errors
    /// A message with the path, if the configuration file cannot be read, is not a regular file (a named pipe could block), is
    /// not UTF-8 text, or is larger than 4 MiB.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let bytes = read(&path).map_err(|error| read_error(CONFIGURATION, &path, &error))?;
        let text = as_text(CONFIGURATION, &path, bytes)?;
        Ok(Self { origin: Origin::File(path), content: Content::with_templates(Some(text)) })
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

impl Content {
    /// Reads the template files of `document`.
    fn with_templates(document: Option<String>) -> Self {
        let content = |path: &PathBuf| {
            let bytes = read(path).map_err(|error| read_error(TEMPLATE, path, &error))?;
            as_text(TEMPLATE, path, bytes)
        };
        let paths = config::template_files(document.as_deref());
        let templates = paths.into_iter().map(|path| (path.clone(), content(&path))).collect();
        Self { document, templates }
    }
}

/// Watches the configuration file and the template files.
pub(super) struct Reload {
    files: Option<WatchedFiles>,
    environment: Box<dyn Environment + Send>,
}

/// The files and their last delivered content.
struct WatchedFiles {
    origin: Origin,
    watch: Option<Watch>,
    /// The last delivered content, or the message for a configuration file that could not be read.
    delivered: Result<Content, String>,
    /// The last content.
    content: Content,
    read_at: Instant,
    first_change: Option<Instant>,
    /// The read in flight in the blocking pool. Kept across calls, because the file system may hang and the future may
    /// be dropped.
    reading: Option<JoinHandle<io::Result<Result<Content, String>>>>,
}

impl Reload {
    pub(super) fn new(source: ConfigSource, environment: Box<dyn Environment + Send>) -> Self {
        let ConfigSource { origin, content } = source;
        let is_fixed = origin == Origin::Fixed && content.templates.is_empty();
        let files = (!is_fixed).then(|| WatchedFiles {
            watch: watch(&origin, &content),
            origin,
            delivered: Ok(content.clone()),
            content,
            // A file can have changed between its first read and the start of the watch.
            read_at: Instant::now() + DEBOUNCE,
            first_change: None,
            reading: None,
        });
        Self { files, environment }
    }

    /// Waits for content that differs from the last delivered one. Cancel safe.
    ///
    /// # Errors
    /// A message with all errors, if the document cannot be read or is invalid.
    pub(super) async fn changed(&mut self) -> Result<Box<Settings>, String> {
        let Some(files) = &mut self.files else { return std::future::pending().await };
        let Content { document, templates } = files.next().await?;
        let loaded = config::load_with(&*self.environment, document.as_deref(), &templates);
        loaded.map(Box::new).map_err(|error| error.to_string())
    }
}

impl WatchedFiles {
    /// Waits for content that differs from the last delivered one.
    ///
    /// # Errors
    /// If the configuration file cannot be read. The same error is returned once.
    async fn next(&mut self) -> Result<Content, String> {
        loop {
            let found = match self.read_when_due().await {
                Ok(found) => found,
                // A file may be missing briefly while the kubelet or an editor replaces it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => match &self.origin {
                    Origin::File(path) => Err(read_error(CONFIGURATION, path, &error)),
                    Origin::Fixed => Err(error.to_string()),
                },
            };
            if let Ok(content) = &found
                && content.templates.keys().ne(self.content.templates.keys())
            {
                self.watch = watch(&self.origin, content);
            }
            if let Ok(content) = &found {
                self.content.clone_from(content);
            }
            if self.delivered != found {
                self.delivered.clone_from(&found);
                return found;
            }
        }
    }

    /// Waits until the next read is due, and reads the files.
    async fn read_when_due(&mut self) -> io::Result<Result<Content, String>> {
        while self.reading.is_none() {
            let change = async {
                match &self.watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = change => self.read_at = read_time(&mut self.first_change, Instant::now()),
                () = sleep_until(self.read_at) => {
                    self.first_change = None;
                    self.read_at = Instant::now() + POLL_INTERVAL;
                    let (origin, last) = (self.origin.clone(), self.content.clone());
                    self.reading = Some(spawn_blocking(move || read_content(&origin, &last)));
                }
            }
        }
        let read = match &mut self.reading {
            Some(reading) => reading.await,
            None => return Err(io::ErrorKind::Interrupted.into()),
        };
        self.reading = None;
        read.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Reads the document and its template files. `last` is the last content.
fn read_content(origin: &Origin, last: &Content) -> io::Result<Result<Content, String>> {
    let document = match origin {
        Origin::Fixed => last.document.clone(),
        Origin::File(path) => match as_text(CONFIGURATION, path, read(path)?) {
            Ok(text) => Some(text),
            Err(message) => return Ok(Err(message)),
        },
    };
    let content = Content::with_templates(document);
    let was_readable = |path: &PathBuf| last.templates.get(path).is_some_and(Result::is_ok);
    let gone = |path: &PathBuf| was_readable(path) && !path.exists();
    if content.templates.keys().any(gone) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Ok(content))
}

/// When to read after a change.
fn read_time(first: &mut Option<Instant>, now: Instant) -> Instant {
    let first = *first.get_or_insert(now);
    (first + MAX_DEBOUNCE).min(now + DEBOUNCE)
}

/// Reads a regular file. Opens it without blocking, because opening a named pipe would wait for its writer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
    }
    Ok(bytes)
}

fn read_error(kind: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to read {kind} file {}: {error}", path.display())
}

fn as_text(kind: &str, path: &Path, bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes);
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let shown = path.display();
        format!("failed to read {kind} file {shown}: not UTF-8 text (first invalid byte at offset {at})")
    })
}

fn watch(origin: &Origin, content: &Content) -> Option<Watch> {
    let document = match origin {
        Origin::Fixed => None,
        Origin::File(path) => Some(path),
    };
    Watch::new(document.into_iter().chain(content.templates.keys()))
        .inspect_err(|error| {
            let (error, interval) = (Failure::chain(error), POLL_INTERVAL.as_secs());
            tracing::warn!("{error}; checking the configuration every {interval}s instead");
        })
        .ok()
}

#[cfg(test)]
mod tests;
