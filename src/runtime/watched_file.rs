//! A file that others replace while the agent runs. A change in its directory triggers a read, and only new content
//! counts.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::model::Failure;
use crate::volume::Watch;

/// Interval of reads without a notification: inotify may be out of watches, and some file systems do not support it.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Delay between the last change and the read, so that a file that is written in several steps is read once.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(150);

/// Maximum delay between the first change and the read, even if the directory keeps changing.
pub(super) const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// Maximum size. A ConfigMap has at most 1 MiB, and the annotations of a pod have 256 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// A file and its last delivered content.
pub(super) struct WatchedFile {
    /// What messages call the file.
    what: &'static str,
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

impl WatchedFile {
    /// Watches a file. `delivered`: its content, if it is known. It can have changed since it was read.
    pub(super) fn new(what: &'static str, path: PathBuf, delivered: Option<String>) -> Self {
        let read_at = Instant::now() + if delivered.is_some() { DEBOUNCE } else { Duration::ZERO };
        Self {
            what,
            watch: watch(what, &path),
            path,
            delivered: delivered.map(|text| Delivered::Document(text.into_bytes())),
            read_at,
            first_change: None,
            reading: None,
        }
    }

    /// Waits for content that differs from the last delivered one. Cancel safe.
    ///
    /// # Errors
    /// If the file cannot be read. The same error is returned once. A missing file is an error only if no content was
    /// delivered before.
    pub(super) async fn next(&mut self) -> Result<String, String> {
        loop {
            let bytes = match self.read_when_due().await {
                Ok(bytes) => bytes,
                // The file may be missing briefly while the kubelet or an editor replaces it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.delivered.is_some() => continue,
                Err(error) => {
                    let message = read_error(self.what, &self.path, &error);
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
                return as_text(self.what, &self.path, bytes);
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
                    self.reading = Some(spawn_blocking(move || read_regular(&path, MAX_BYTES)));
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

/// Reads a file as text. `what`: what messages call it.
///
/// # Errors
/// A message with the path, if the file cannot be read, is not a regular file (a named pipe could block), is not UTF-8
/// text, or is larger than 4 MiB.
pub(super) fn read_text(what: &str, path: &Path) -> Result<String, String> {
    let bytes = read_regular(path, MAX_BYTES).map_err(|error| read_error(what, path, &error))?;
    as_text(what, path, bytes)
}

/// When to read after a change.
pub(super) fn read_time(first: &mut Option<Instant>, now: Instant) -> Instant {
    let first = *first.get_or_insert(now);
    (first + MAX_DEBOUNCE).min(now + DEBOUNCE)
}

/// Reads a regular file of at most `limit` bytes. Opens it without blocking, because opening a named pipe would wait for
/// its writer.
///
/// # Errors
/// The I/O error, `InvalidInput` for another type of file, and `FileTooLarge`.
pub(super) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // One allocation for the whole content: a buffer that grows would leave copies in freed memory.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let shown = if limit < 1 << 20 { format!("{} KiB", limit >> 10) } else { format!("{} MiB", limit >> 20) };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {shown}")));
    }
    Ok(bytes)
}

fn read_error(what: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to read {what} {}: {error}", path.display())
}

fn as_text(what: &str, path: &Path, bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes);
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("failed to read {what} {}: not UTF-8 text (first invalid byte at offset {at})", path.display())
    })
}

fn watch(what: &str, path: &Path) -> Option<Watch> {
    Watch::new([path])
        .inspect_err(|error| {
            let (error, interval) = (Failure::chain(error), POLL_INTERVAL.as_secs());
            tracing::warn!("{error}; checking the {what} every {interval}s instead");
        })
        .ok()
}
