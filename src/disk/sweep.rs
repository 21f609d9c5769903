//! Removes what does not belong to the visible set: old sets, half-written ones, links whose file is gone.

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::directory::remove_tree;
use super::{DATA, Publisher, RESERVED, STATE_FILE, failed};
use crate::model::Failure;

impl Publisher {
    /// Runs at start, after a crash it may find anything, and after each swap.
    pub(super) fn sweep(&self) -> Result<(), Failure> {
        let root = &self.directory.fd;
        let current = self.directory.link(DATA);
        for name in self.directory.names()? {
            if name == DATA || name.starts_with(STATE_FILE) || current.as_ref() == Some(&name) {
                continue;
            }
            let ours = name.starts_with(RESERVED) || self.is_stale_link(&name, current.as_deref());
            if ours {
                remove_tree(root, &name).map_err(|error| failed(&format!("remove leftover {name}"), error))?;
            }
        }
        // A link to nothing would make every reader fail in a way that looks like a set.
        if current.is_some_and(|target| !is_directory(root, &target)) {
            fs::unlinkat(root, DATA, AtFlags::empty())
                .map_err(|error| failed("remove the dangling data link", error))?;
        }
        Ok(())
    }

    /// Only links into `..data` are ours; a file that somebody else put there is left alone.
    fn is_stale_link(&self, name: &str, current: Option<&str>) -> bool {
        let ours = self.directory.link(name).is_some_and(|target| target == format!("{DATA}/{name}"));
        let there = current.is_some_and(|current| {
            fs::statat(&self.directory.fd, format!("{current}/{name}"), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        });
        ours && !there
    }
}

fn is_directory(root: &std::os::fd::OwnedFd, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(root, name, flags, Mode::empty()).is_ok()
}
