//! Live reload: a change in the configuration's directory means "look again"; the content decides.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::{self, Environment};
use crate::model::{Failure, Settings};
use crate::volume::Watch;

/// The net behind the watch: inotify may be out of watches, and not every file system tells.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Quiet time after a tick, so that a file that is written in pieces is read once and whole.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// The longest time from the first tick to a look, also where something in the directory changes all the time.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// More than any document has: a ConfigMap holds 1 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// Where the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// Environment variables only, or an inline document: neither can change.
    Fixed(Option<String>),
    /// A file, and the text that the settings in force came from.
    File {
        /// The file; its directory is watched.
        path: PathBuf,
        /// The text in force.
        text: String,
    },
}

impl ConfigSource {
    /// Reads the document of a file.
    ///
    /// # Errors
    /// In words, with the file's path: if it cannot be read, is not a regular file (a named pipe might never answer), is not
    /// UTF-8 text, or is larger than 4 MiB.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        match read(&path).map_err(|error| read_error(&path, &error)).and_then(|bytes| as_text(&path, bytes)) {
            Ok(text) => Ok(Self::File { path, text }),
            Err(message) => Err(message),
        }
    }

    /// The document, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Fixed(text) => text.as_deref(),
            Self::File { text, .. } => Some(text),
        }
    }
}

/// Watches the configuration.
pub(super) struct Reload {
    file: Option<WatchedFile>,
    environment: Box<dyn Environment + Send>,
}

/// The document and what is known of it.
struct WatchedFile {
    path: PathBuf,
    watch: Option<Watch>,
    /// What was given last, accepted or refused. `None`: whatever is there is news.
    delivered: Option<Delivered>,
    read_at: Instant,
    first_change: Option<Instant>,
    /// A read in the blocking pool, kept across calls: the file system may hang, and the future may be dropped.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

#[derive(PartialEq, Eq)]
enum Delivered {
    Document(Vec<u8>),
    /// The words for a file that could not be read.
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
                read_at: Instant::now() + POLL_INTERVAL,
                first_change: None,
                reading: None,
            }),
        };
        Self { file, environment }
    }

    /// Waits until there is a document other than the last one that was given. `Err` tells all mistakes of a bad one. Cancel
    /// safe.
    pub(super) async fn changed(&mut self) -> Result<Box<Settings>, String> {
        let Some(file) = &mut self.file else { return std::future::pending().await };
        let text = file.next().await?;
        config::load(&*self.environment, Some(&text)).map(Box::new).map_err(|error| error.to_string())
    }
}

impl WatchedFile {
    /// The next document that differs from the last one; `Err`: it cannot be read, said once.
    async fn next(&mut self) -> Result<String, String> {
        loop {
            let bytes = match self.read_when_due().await {
                Ok(bytes) => bytes,
                // Between the kubelet's steps, or for a moment in an editor, there may be no file.
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

    /// Waits until it is time to look, and reads.
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

/// When to look after a tick: once it is quiet, but not ever later.
fn read_time(first: &mut Option<Instant>, now: Instant) -> Instant {
    let first = *first.get_or_insert(now);
    (first + MAX_DEBOUNCE).min(now + DEBOUNCE)
}

/// Reads a regular file. Opening does not wait, as it would for the writer of a named pipe.
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
        format!("failed to read configuration file {}: not UTF-8 text (first invalid byte at offset {at})", path.display())
    })
}

fn watch(path: &Path) -> Option<Watch> {
    Watch::new([path])
        .inspect_err(|error| {
            tracing::warn!("{}; checking the configuration file every {}s instead", Failure::chain(error), POLL_INTERVAL.as_secs());
        })
        .ok()
}

#[cfg(test)]
mod tests;
