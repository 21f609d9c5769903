//! Small helpers on directory descriptors, and the error that tells which step on which name failed.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// One failed system call. Names are told, contents never.
#[derive(Debug, Error)]
#[error("failed to {verb} {name}")]
pub(super) struct StepError {
    verb: &'static str,
    name: String,
    #[source]
    pub(super) errno: Errno,
}

/// Adds to an errno what was tried on which name.
pub(super) fn told<T>(verb: &'static str, name: &str, result: Result<T, Errno>) -> Result<T, StepError> {
    result.map_err(|errno| StepError { verb, name: name.into(), errno })
}

/// Opens a directory for reading its entries; a link in its place is refused.
pub(super) fn open_directory(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// An entry of a directory, as `lstat` sees it.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: FileType,
    pub(super) stat: rustix::fs::Stat,
}

/// All entries but `.` and `..`. Names that are not UTF-8 cannot be ours and are left out.
pub(super) fn entries(directory: impl AsFd) -> Result<Vec<Entry>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone between the two calls.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        found.push(Entry { name: name.into(), kind: FileType::from_raw_mode(stat.st_mode), stat });
    }
    Ok(found)
}

/// Target of a link; `None` if the name is absent, is no link, or its target is not UTF-8.
pub(super) fn link_target(directory: impl AsFd, name: &str) -> Option<String> {
    rustix::fs::readlinkat(directory, name, Vec::new()).ok()?.into_string().ok()
}

/// Removes a file, a link, or a directory with all it holds. Never follows a link; absence is fine.
pub(super) fn remove_tree(parent: impl AsFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux answers EISDIR, POSIX allows EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let directory = open_directory(&parent, name)?;
    for entry in entries(&directory)? {
        remove_tree(&directory, &entry.name)?;
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
}
