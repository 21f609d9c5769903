//! Helpers for directory descriptors, and the error of one failed system call.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// A failed system call, with the operation and the name of the file. Contains no file content.
#[derive(Debug, Error)]
#[error("failed to {verb} {name}")]
pub(super) struct StepError {
    verb: &'static str,
    name: String,
    #[source]
    pub(super) errno: Errno,
}

impl StepError {
    pub(super) fn new(verb: &'static str, name: &str, errno: Errno) -> Self {
        Self { verb, name: name.into(), errno }
    }
}

/// Adds operation and name to an errno.
pub(super) fn context<T>(verb: &'static str, name: &str, result: Result<T, Errno>) -> Result<T, StepError> {
    result.map_err(|errno| StepError::new(verb, name, errno))
}

/// Opens a directory for listing. Fails for a symlink.
pub(super) fn open_directory(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A directory entry with the result of `lstat`.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: FileType,
    pub(super) stat: rustix::fs::Stat,
}

/// All entries except `.` and `..`. Skips names that are not UTF-8, because keyferry creates none.
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
            // Removed between the two calls.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        found.push(Entry { name: name.into(), kind: FileType::from_raw_mode(stat.st_mode), stat });
    }
    Ok(found)
}

/// Target of a symlink. `None` if the name does not exist, is not a symlink, or has a target that is not UTF-8.
///
/// # Errors
/// Any other errno. An unreadable symlink must not count as missing.
pub(super) fn link_target(directory: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(target) => Ok(target.into_string().ok()),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether `name` exists, without following a symlink.
///
/// # Errors
/// Any errno except ENOENT.
pub(super) fn exists(directory: impl AsFd, name: &str) -> Result<bool, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes a file, a symlink, or a directory with its content. Never follows symlinks. Succeeds if `name` does not
/// exist.
pub(super) fn remove_tree(parent: impl AsFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux returns EISDIR for a directory; POSIX also allows EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let directory = open_directory(&parent, name)?;
    for entry in entries(&directory)? {
        remove_tree(&directory, &entry.name)?;
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_link_is_an_error_not_absence() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("file"), "x").expect("write");
        let fd = rustix::fs::open(directory.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        assert_eq!(link_target(&fd, "absent"), Ok(None));
        assert_eq!(link_target(&fd, "file"), Ok(None));
        let unreadable = "x".repeat(300);
        assert_eq!(link_target(&fd, &unreadable), Err(Errno::NAMETOOLONG));
        assert_eq!(exists(&fd, &unreadable), Err(Errno::NAMETOOLONG));
        assert_eq!((exists(&fd, "file"), exists(&fd, "absent")), (Ok(true), Ok(false)));
    }
}
