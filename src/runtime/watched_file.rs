//! Files that others replace while the agent runs. A change in a directory triggers a read, and only new content counts.

use std::collections::BTreeSet;
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
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// The content of files that others replace.
pub(super) trait Content: Clone + PartialEq + Send + 'static {
    /// Where the files are.
    type Origin: Clone + Send + 'static;

    /// What messages call the files.
    fn what(origin: &Self::Origin) -> &'static str;

    /// The paths of the files. `last`: the last content, which can name further files.
    fn paths(origin: &Self::Origin, last: Option<&Self>) -> BTreeSet<PathBuf>;

    /// Reads the files. May block.
    ///
    /// # Errors
    /// `NotFound` if a file that was there is missing: it may be missing briefly while the kubelet or an editor replaces it.
    /// Otherwise the inner error, a message.
    fn read(origin: &Self::Origin, last: Option<&Self>) -> io::Result<Result<Self, String>>;
}

/// Files and their last delivered content.
pub(super) struct Watched<C: Content> {
    origin: C::Origin,
    watch: Option<Watch>,
    paths: BTreeSet<PathBuf>,
    /// The last delivered content or error.
    delivered: Option<Result<C, String>>,
    /// The last content.
    last: Option<C>,
    read_at: Instant,
    first_change: Option<Instant>,
    /// The read in flight in the blocking pool. Kept across calls, because the file system may hang and the future may
    /// be dropped.
    reading: Option<JoinHandle<io::Result<Result<C, String>>>>,
}

impl<C: Content> Watched<C> {
    /// Watches files. `delivered`: their content, if it is known. It can have changed since it was read.
    pub(super) fn new(origin: C::Origin, delivered: Option<C>) -> Self {
        let read_at = Instant::now() + if delivered.is_some() { DEBOUNCE } else { Duration::ZERO };
        let paths = C::paths(&origin, delivered.as_ref());
        Self {
            watch: watch(C::what(&origin), &paths),
            paths,
            origin,
            last: delivered.clone(),
            delivered: delivered.map(Ok),
            read_at,
            first_change: None,
            reading: None,
        }
    }

    /// Waits for content that differs from the last delivered one. Cancel safe.
    ///
    /// # Errors
    /// If the files cannot be read. The same error is returned once. A missing file is an error only if no content was
    /// delivered before.
    pub(super) async fn next(&mut self) -> Result<C, String> {
        loop {
            let found = match self.read_when_due().await {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.delivered.is_some() => continue,
                Err(error) => {
                    let what = C::what(&self.origin);
                    Err(self.paths.first().map_or(error.to_string(), |path| read_error(what, path, &error)))
                }
            };
            if let Ok(content) = &found {
                let paths = C::paths(&self.origin, Some(content));
                if paths != self.paths {
                    self.watch = watch(C::what(&self.origin), &paths);
                    self.paths = paths;
                }
                self.last = Some(content.clone());
            }
            if self.delivered.as_ref() != Some(&found) {
                self.delivered = Some(found.clone());
                return found;
            }
        }
    }

    /// Waits until the next read is due, and reads the files.
    async fn read_when_due(&mut self) -> io::Result<Result<C, String>> {
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
                    let (origin, last) = (self.origin.clone(), self.last.clone());
                    self.reading = Some(spawn_blocking(move || C::read(&origin, last.as_ref())));
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

/// One file with text.
#[derive(Clone, PartialEq)]
pub(super) struct TextFile(pub(super) String);

impl Content for TextFile {
    /// What messages call the file, and its path.
    type Origin = (&'static str, PathBuf);

    fn what((what, _): &Self::Origin) -> &'static str {
        what
    }

    fn paths((_, path): &Self::Origin, _: Option<&Self>) -> BTreeSet<PathBuf> {
        [path.clone()].into()
    }

    fn read((what, path): &Self::Origin, _: Option<&Self>) -> io::Result<Result<Self, String>> {
        read_regular(path, MAX_BYTES).map(|bytes| as_text(what, path, bytes).map(Self))
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

pub(super) fn as_text(what: &str, path: &Path, bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes);
    text.map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("failed to read {what} {}: not UTF-8 text (first invalid byte at offset {at})", path.display())
    })
}

fn watch(what: &str, paths: &BTreeSet<PathBuf>) -> Option<Watch> {
    Watch::new(paths)
        .inspect_err(|error| {
            let (error, interval) = (Failure::chain(error), POLL_INTERVAL.as_secs());
            tracing::warn!("{error}; checking the {what} every {interval}s instead");
        })
        .ok()
}
