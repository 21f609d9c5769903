//! Live reload. A change in the directory of the configuration file triggers a read. Only new content causes a reload.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::{self, Environment};
use crate::model::{Failure, Settings};
use crate::volume::Watch;

/// Interval of reads without a notification: inotify may be out of watches, and some file systems do not support it.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Delay between the last change and the read, so that a file that is written in several steps is read once.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Maximum delay between the first change and the read, even if the directory keeps changing.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// Maximum size of a configuration file. A ConfigMap has at most 1 MiB.
const MAX_BYTES: u64 = 4 << 20;

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
        match read(&path).map_err(|error| read_error(&path, &error)).and_then(|bytes| as_text(&path, bytes)) {
            Ok(text) => Ok(Self::File { path, text }),
            Err(message) => Err(message),
        }
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

/// The configuration file and its last delivered content.
struct WatchedFile {
    path: PathBuf,
    watch: Option<Watch>,
    /// The last delivered content or error.
    delivered: Option<Delivered>,
    read_at: Instant,
    first_change: Option<Instant>,
    /// The read in flight in the blocking pool. Kept across calls, because the file system may hang and the future may
    /// be dropped.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

#[derive(PartialEq, Eq)]
enum Delivered {
    Document(Vec<u8>),
    /// The message for a file that could not be read.
    Unreadable(String),
}

impl Reload {
    pub(super) fn new(source: ConfigSource, environment: Box<dyn Environment + Send>) -> Self {
        let file = match source {
            ConfigSource::Fixed(_) => None,
            ConfigSource::File { path, text } => Some(WatchedFile {
                watch: watch(&path),
                path,
                delivered: Some(Delivered::Document(text.into_bytes())),
                // The file can have changed between its first read and the start of the watch.
                read_at: Instant::now() + DEBOUNCE,
                first_change: None,
                reading: None,
            }),
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

impl WatchedFile {
    /// Waits for a document that differs from the last delivered one.
    ///
    /// # Errors
    /// If the file cannot be read. The same error is returned once.
    async fn next(&mut self) -> Result<String, String> {
        loop {
            let bytes = match self.read_when_due().await {
                Ok(bytes) => bytes,
                // The file may be missing briefly while the kubelet or an editor replaces it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let message = read_error(&self.path, &error);
                    let current = Delivered::Unreadable(message.clone());
                    if self.delivered.replace(current) != Some(Delivered::Unreadable(message.clone())) {
                        return Err(message);
                    }
                    continue;
                }
            };
            let current = Delivered::Document(bytes.clone());
            if self.delivered.as_ref() != Some(&current) {
                self.delivered = Some(current);
                return as_text(&self.path, bytes);
            }
        }
    }

    /// Waits until the next read is due, and reads the file.
    async fn read_when_due(&mut self) -> io::Result<Vec<u8>> {
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
                    let path = self.path.clone();
                    self.reading = Some(spawn_blocking(move || read(&path)));
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

fn read_error(path: &Path, error: &io::Error) -> String {
    format!("failed to read configuration file {}: {error}", path.display())
}

fn as_text(path: &Path, bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes);
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let shown = path.display();
        format!("failed to read configuration file {shown}: not UTF-8 text (first invalid byte at offset {at})")
    })
}

fn watch(path: &Path) -> Option<Watch> {
    Watch::new([path])
        .inspect_err(|error| {
            let (error, interval) = (Failure::chain(error), POLL_INTERVAL.as_secs());
            tracing::warn!("{error}; checking the configuration file every {interval}s instead");
        })
        .ok()
}

#[cfg(test)]
mod tests;
