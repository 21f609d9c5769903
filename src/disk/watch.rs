//! "Look again" ticks. What happened is not told, because it cannot be trusted: contents decide.

use std::path::Path;
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::model::{Failure, FailureClass, Reason};

/// A watch on the directories of files. The kubelet swaps a link in the directory; a watch on the file itself would be
/// gone after the first swap.
pub struct Watch {
    ticks: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches the directory of each file.
    ///
    /// # Errors
    /// If the system has no watches left, or a directory is absent; the caller then looks from time to time.
    pub fn new(files: &[&Path]) -> Result<Self, Failure> {
        let failure = |what: &Path, error: &notify::Error| {
            let message = format!("failed to watch {}: {}", what.display(), Failure::chain(error));
            Failure::new(FailureClass::Local, Reason::WriteFailed, message)
        };
        let ticks = Arc::new(Notify::new());
        let tell = Arc::clone(&ticks);
        // Reading the file is an event too; it must not become a tick, or each look would cause the next.
        let tell = move |event: Result<notify::Event, notify::Error>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                tell.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(tell).map_err(|error| failure(Path::new("files"), &error))?;
        for file in files {
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            watcher.watch(directory, RecursiveMode::NonRecursive).map_err(|error| failure(directory, &error))?;
        }
        Ok(Self { ticks, _watcher: watcher })
    }

    /// Waits for the next tick; many events may be one tick.
    pub async fn tick(&mut self) {
        self.ticks.notified().await;
    }
}
