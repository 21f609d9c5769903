//! Live reload: a change in the configuration's directory means "look again"; the content decides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::{self, Environment};
use crate::disk::Watch;
use crate::model::{Failure, Settings};

/// The net behind the watch: inotify may be out of watches, and not every file system tells.
const POLL: Duration = Duration::from_secs(30);

/// Quiet time after a tick, so that a file that is written in pieces is read once and whole.
const QUIET: Duration = Duration::from_millis(150);

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
    file: Option<(PathBuf, String)>,
    watch: Option<Watch>,
    environment: Box<dyn Environment + Send>,
    look_at: Instant,
}

impl Reload {
    pub(super) fn new(source: ConfigSource, environment: Box<dyn Environment + Send>) -> Self {
        let file = match source {
            ConfigSource::Fixed(_) => None,
            ConfigSource::File { path, text } => Some((path, text)),
        };
        let watch = file.as_ref().and_then(|(path, _)| watch(path));
        Self { file, watch, environment, look_at: Instant::now() + POLL }
    }

    /// Waits until the text differs from the last one looked at. `Err` tells all mistakes of a bad one.
    pub(super) async fn changed(&mut self) -> Result<Box<Settings>, String> {
        let Some((path, last)) = &mut self.file else { return std::future::pending().await };
        loop {
            let tick = async {
                match &mut self.watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tick => {
                    self.look_at = Instant::now() + QUIET;
                    continue;
                }
                () = sleep_until(self.look_at) => self.look_at = Instant::now() + POLL,
            }
            let text = match std::fs::read_to_string(&*path) {
                Ok(text) => text,
                // Between the kubelet's steps, or for a moment in an editor, there may be no file.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "failed to read the configuration; the old one stays");
                    continue;
                }
            };
            if text != *last {
                last.clone_from(&text);
                let parsed = config::load(&*self.environment, Some(&text));
                return parsed.map(Box::new).map_err(|mistakes| mistakes.to_string());
            }
        }
    }
}

fn watch(path: &Path) -> Option<Watch> {
    Watch::new([path])
        .inspect_err(|error| {
            tracing::warn!("{}; looking every {}s instead", Failure::chain(error), POLL.as_secs());
        })
        .ok()
}
