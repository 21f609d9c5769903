//! "Look again" ticks for files that others replace: credentials, CA files, the configuration.
//!
//! Watched are directories, never the files: the kubelet replaces `..data` beside them, and a watch on a file is gone
//! after the first rotation. An event only says *look again*; contents decide, and the runtime's slow poll stands behind
//! it, because inotify is not fully reliable (network volumes, limits).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::Notify;

/// More links than this in one path are a loop; Linux gives up after as many (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The watch could not be set, so that only the slow poll is left.
#[derive(Debug, Error)]
#[error("failed to watch {path} for changes")]
pub struct WatchError {
    path: String,
    #[source]
    source: notify::Error,
}

/// A running watch; ends when dropped.
pub struct Watch {
    changed: Arc<Notify>,
    // Held, because dropping it ends the watch.
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// Watches the directories through which `paths` (files or directories, which may be absent yet) are reached.
    ///
    /// # Errors
    /// Where the system gives no watch: `fs.inotify.max_user_instances` or `max_user_watches` is used up, mostly.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, WatchError> {
        let changed = Arc::new(Notify::new());
        let notifier = Arc::clone(&changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // Keeps at most one tick: a burst is one reason to look.
                notifier.notify_one();
            }
        })
        .map_err(|source| WatchError { path: "files".into(), source })?;
        let directories: BTreeSet<PathBuf> = paths.into_iter().flat_map(|path| directories_of(path.as_ref())).collect();
        for directory in directories {
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // Replaced just now: its parent is watched too, or the poll sees it.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(source) => return Err(WatchError { path: directory.display().to_string(), source }),
            }
        }
        Ok(Self { changed, _watcher: watcher })
    }

    /// Returns when something changed since the last return. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Our own reading of the files makes events too (open, close); to take them as news would be an endless loop.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directory of the file and of every link on the way to it. With a kubelet volume, `/vol/tls/key` is reached over
/// `/vol/tls -> ..data/tls` and `/vol/..data -> ..2026…`: a watch on `/vol` sees each swap, a watch on `/vol/tls` alone would
/// die with the first.
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
                // The end, or the first part that is absent: its appearance is news.
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

/// Components in reverse order, to be taken from the end.
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

        /// As `AtomicWriter` does it: new directory, `..data_tmp`, rename, remove the old directory.
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

    /// Waits for ticks until `seen` holds.
    async fn until(watch: &Watch, seen: impl Fn() -> bool) {
        let looked = async {
            while !seen() {
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), looked).await.expect("a tick within 10 s");
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
                // A real tick, not only a look that happens to come late enough.
                tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("tick");
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
        assert!(tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err(), "tick for a read");
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
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("tick");
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
