//! Change notifications for files that are replaced by others: credentials, CA certificates, the configuration.
//!
//! A [`Watch`] watches directories, never files: the kubelet replaces `..data` next to a file, and a watch on the file
//! itself is lost at the first rotation. A notification only means that the files must be read again. The runtime also
//! polls, because inotify is not fully reliable (network volumes, limits).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::Notify;

/// Maximum number of symlinks in one path, as in Linux (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The watch could not be created. Changes are then found by polling only.
#[derive(Debug, Error)]
#[error("failed to watch {path} for changes")]
pub struct WatchError {
    path: String,
    #[source]
    source: notify::Error,
}

/// An active watch, which ends when dropped.
pub struct Watch {
    changed: Arc<Notify>,
    // Dropping the watcher ends the watch.
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// Watches the directories through which `paths` are reached. The paths are files or directories and need not exist
    /// yet.
    ///
    /// # Errors
    /// If the system provides no watch, usually because `fs.inotify.max_user_instances` or `max_user_watches` is
    /// exhausted.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, WatchError> {
        let changed = Arc::new(Notify::new());
        let notifier = Arc::clone(&changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // Stores at most one notification, so that a burst of events counts once.
                notifier.notify_one();
            }
        })
        .map_err(|source| WatchError { path: "files".into(), source })?;
        let directories: BTreeSet<PathBuf> = paths.into_iter().flat_map(|path| directories_of(path.as_ref())).collect();
        for directory in directories {
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // The directory was just replaced. The watch on its parent or the poll detects the change.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(source) => return Err(WatchError { path: directory.display().to_string(), source }),
            }
        }
        Ok(Self { changed, _watcher: watcher })
    }

    /// Waits until something has changed since the last return. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Whether an event is a change. Ignores open and close after reading, which the agent itself causes: reading on such
/// an event would be an endless loop.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directories of the file and of every symlink in its path. In a kubelet volume, `/vol/tls/key` is reached through
/// `/vol/tls -> ..data/tls` and `/vol/..data -> ..2026…`. A watch on `/vol` detects each swap, whereas a watch on
/// `/vol/tls` alone is lost at the first swap.
fn directories_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut here = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut rest: Vec<PathBuf> = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part.as_os_str() == ".." {
            here.push("..");
            continue;
        }
        let next = here.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                found.insert(here.clone());
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ if rest.is_empty() || !next.is_dir() => {
                // The end of the path, or its first missing part, whose creation is a change.
                found.insert(here.clone());
                if next.is_dir() {
                    found.insert(next);
                }
                break;
            }
            _ => here = next,
        }
    }
    found
}

/// Components in reverse order, so that `pop` returns the next one.
fn parts(path: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    /// A kubelet volume with `token` and `tls/key`.
    struct Volume {
        root: tempfile::TempDir,
        current: String,
    }

    impl Volume {
        fn new() -> Self {
            let mut volume = Self { root: tempfile::tempdir().expect("tempdir"), current: String::new() };
            volume.swap("..2026_01_01_00_00_00.1");
            symlink("..data/token", volume.path("token")).expect("symlink");
            symlink("..data/tls", volume.path("tls")).expect("symlink");
            volume
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// As in `AtomicWriter`: new directory, `..data_tmp`, rename, remove the old directory.
        fn swap(&mut self, name: &str) {
            std::fs::create_dir_all(self.path(name).join("tls")).expect("mkdir");
            std::fs::write(self.path(name).join("token"), name).expect("write");
            std::fs::write(self.path(name).join("tls/key"), name).expect("write");
            symlink(name, self.path("..data_tmp")).expect("symlink");
            std::fs::rename(self.path("..data_tmp"), self.path("..data")).expect("rename");
            if !self.current.is_empty() {
                std::fs::remove_dir_all(self.path(&self.current)).expect("rmdir");
            }
            self.current = name.into();
        }
    }

    /// Waits for notifications until `seen` returns true.
    async fn until(watch: &Watch, seen: impl Fn() -> bool) {
        let satisfied = async {
            while !seen() {
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), satisfied).await.expect("a notification within 10 s");
    }

    async fn settle(watch: &Watch) {
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn watch_sees_repeated_kubelet_swaps() {
        for file in ["token", "tls/key"] {
            let mut volume = Volume::new();
            let watch = Watch::new([volume.path(file)]).expect("watch");
            let read = |volume: &Volume| std::fs::read_to_string(volume.path(file)).unwrap_or_default();
            for name in ["..2026_01_02_00_00_00.2", "..2026_01_03_00_00_00.3", "..2026_01_04_00_00_00.4"] {
                settle(&watch).await;
                volume.swap(name);
                // Requires a notification; a read that happens to be late enough does not count.
                tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("a notification");
                until(&watch, || read(&volume) == name).await;
            }
        }
    }

    #[tokio::test]
    async fn read_of_watched_file_is_ignored() {
        let volume = Volume::new();
        let watch = Watch::new([volume.path("token")]).expect("watch");
        settle(&watch).await;
        std::fs::read(volume.path("token")).expect("read");
        assert!(
            tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err(),
            "notification for a read"
        );
    }

    #[tokio::test]
    async fn watch_sees_file_created_later() {
        let root = tempfile::tempdir().expect("tempdir");
        let file = root.path().join("token");
        let watch = Watch::new([&file]).expect("watch");
        std::fs::write(&file, "new").expect("write");
        until(&watch, || file.exists()).await;
        settle(&watch).await;
        std::fs::write(&file, "newer").expect("write");
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("a notification");
    }

    #[test]
    fn directory_of_each_symlink_in_path_is_watched() {
        let volume = Volume::new();
        let root = volume.root.path().to_path_buf();
        let watched = directories_of(&volume.path("tls/key"));
        assert!(watched.contains(&root), "{watched:?}");
        assert!(watched.contains(&root.join("..2026_01_01_00_00_00.1/tls")), "{watched:?}");

        let elsewhere = tempfile::tempdir().expect("tempdir");
        symlink(volume.path("token"), elsewhere.path().join("link")).expect("symlink");
        let watched = directories_of(&elsewhere.path().join("link"));
        assert!(watched.contains(elsewhere.path()) && watched.contains(&root), "{watched:?}");

        symlink("loop", elsewhere.path().join("loop")).expect("symlink");
        assert!(directories_of(&elsewhere.path().join("loop")).contains(elsewhere.path()));
        assert_eq!(directories_of(&root.join("absent/deeper/file")), BTreeSet::from([root]));
    }
}
