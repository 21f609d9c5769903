//! Small helpers on directory descriptors, and the error that tells which step on which name failed.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// One failed system call: what was tried on which name. Never holds content.
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

/// Adds to an errno what was tried on which name.
pub(super) fn context<T>(verb: &'static str, name: &str, result: Result<T, Errno>) -> Result<T, StepError> {
    result.map_err(|errno| StepError::new(verb, name, errno))
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
///
/// # Errors
/// Any other errno: where the link cannot be read, that there is none is not known.
pub(super) fn link_target(directory: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(target) => Ok(target.into_string().ok()),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether `name` exists, without following a link.
///
/// # Errors
/// Any errno but ENOENT.
pub(super) fn exists(directory: impl AsFd, name: &str) -> Result<bool, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
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
