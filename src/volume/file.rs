//! Creates, replaces, and reads single files. Replacement is atomic, and reading never blocks.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::at::{StepError, context};
use crate::model::SecretBytes;

/// Attributes of a new file.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    /// Permission bits, set explicitly because `open` applies the umask.
    pub(super) mode: Mode,
    /// `None` keeps the group that the file system assigns.
    pub(super) group: Option<Gid>,
    /// Whether to sync the content to the device before the file becomes visible.
    pub(super) sync: bool,
}

/// Creates the file `path` in `directory`. Fails if it exists. Other UIDs can open the file only after it is complete.
pub(super) fn create_file(
    directory: impl AsFd,
    path: &str,
    bytes: &[u8],
    attributes: Attributes,
) -> Result<(), StepError> {
    let write = || -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(directory, path, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes).map_err(|error| errno(&error))?;
        if attributes.group.is_some() {
            rustix::fs::fchown(&file, None, attributes.group)?;
        }
        rustix::fs::fchmod(&file, attributes.mode)?;
        if attributes.sync { rustix::fs::fsync(&file) } else { Ok(()) }
    };
    context("write file", path, write())
}

/// Writes `bytes` to a temporary file and renames it to `directory/name`, so that readers see either the previous or
/// the new content. Removes the temporary file on failure.
pub(super) fn replace_file(
    directory: impl AsFd,
    name: &str,
    bytes: &[u8],
    attributes: Attributes,
) -> Result<(), StepError> {
    let directory = directory.as_fd();
    let temporary = temporary_name(name);
    let replace = || -> Result<(), StepError> {
        remove_file(directory, &temporary)?;
        create_file(directory, &temporary, bytes, attributes)?;
        context("rename file", &temporary, rustix::fs::renameat(directory, temporary.as_str(), directory, name))?;
        if attributes.sync { context("sync the directory of", name, rustix::fs::fsync(directory)) } else { Ok(()) }
    };
    replace().inspect_err(|_| {
        // Report the first error only.
        remove_file(directory, &temporary).ok();
    })
}

/// Name of the temporary file of [`replace_file`]. The name is fixed, so that the next replacement removes the file of
/// a crash, which can contain secrets.
pub(super) fn temporary_name(name: &str) -> String {
    format!("{name}.tmp")
}

/// Removes a file or symlink. Succeeds if it does not exist.
pub(super) fn remove_file(directory: impl AsFd, name: &str) -> Result<(), StepError> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => context("remove", name, other),
    }
}

/// Opens a regular file for reading without blocking. A blocking `open` of a FIFO waits for a writer.
///
/// # Errors
/// `Errno::INVAL` for another file type, `Errno::LOOP` for a symlink, otherwise the errno of the system call.
pub(super) fn open_regular(directory: impl AsFd, path: &str) -> Result<(File, Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok((File::from(fd), stat))
    } else {
        Err(Errno::INVAL)
    }
}

/// Reads the first `size` bytes of a file into a buffer of exactly that size. A growing buffer would leave copies of
/// secrets in freed memory.
pub(super) fn read_exact_size(file: File, size: u64) -> Result<SecretBytes, Errno> {
    let capacity = usize::try_from(size).map_err(|_| Errno::FBIG)?;
    // `read_to_end` needs one spare byte to detect the end without growing the buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity.saturating_add(1)));
    file.take(size).read_to_end(&mut bytes).map_err(|error| errno(&error))?;
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

/// Size of a file in bytes.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fd::OwnedFd;

    use super::*;

    const PLAIN: Attributes = Attributes { mode: Mode::from_raw_mode(0o640), group: None, sync: true };

    fn open(directory: &tempfile::TempDir) -> OwnedFd {
        rustix::fs::open(directory.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open")
    }

    #[test]
    fn replaced_file_has_mode_and_no_temporary_file_remains() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fd = open(&directory);
        std::fs::write(directory.path().join("file.tmp"), "from a crash").expect("write");
        for text in ["one", "two"] {
            replace_file(&fd, "file", text.as_bytes(), PLAIN).expect("replaced");
            assert_eq!(std::fs::read_to_string(directory.path().join("file")).expect("read"), text);
        }
        let mode = std::fs::metadata(directory.path().join("file")).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn failed_replacement_keeps_previous_content() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fd = open(&directory);
        std::fs::create_dir_all(directory.path().join("file/full")).expect("mkdir");
        let error = replace_file(&fd, "file", b"new", PLAIN).expect_err("a directory has the name");
        assert!(error.to_string().contains("rename file"), "{error}");
        assert!(directory.path().join("file/full").exists() && !directory.path().join("file.tmp").exists());
        assert!(create_file(&fd, "file", b"new", PLAIN).is_err_and(|error| error.errno == Errno::EXIST));
    }

    #[test]
    fn open_regular_rejects_other_file_types() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fd = open(&directory);
        std::os::unix::fs::symlink("absent", directory.path().join("link")).expect("symlink");
        for (name, expected) in [(".", Errno::INVAL), ("link", Errno::LOOP), ("absent", Errno::NOENT)] {
            assert_eq!(open_regular(&fd, name).map(|_| ()).expect_err(name), expected, "{name}");
        }
        replace_file(&fd, "file", b"text", PLAIN).expect("written");
        let (file, stat) = open_regular(&fd, "file").expect("opened");
        assert!(read_exact_size(file, size(&stat)).expect("read").expose() == b"text");
    }
}
