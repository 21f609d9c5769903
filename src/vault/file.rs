//! Credential and PEM files: regular files only, opened without blocking.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use thiserror::Error;
use zeroize::Zeroizing;

/// Minimum buffer size, because some file systems report a size of 0 for files with content.
const MIN_BUFFER: usize = 4 * 1024;

/// The reason why a file cannot be read.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("{}", io_cause(.0))]
    Io(#[from] io::Error),
    #[error("expected a regular file, found {0}; check the path")]
    NotRegular(&'static str),
    #[error("the file is larger than {} KiB; check the path", .0 / 1024)]
    TooLarge(usize),
    #[error("the file changed while it was read")]
    Changed,
}

fn io_cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist; check the path and the volume mounts".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; make the file readable for the UID or fsGroup of keyferry".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Reads a regular file of at most `limit` bytes into one buffer, which is zeroed on drop.
///
/// Opens the file without blocking: a FIFO would block the thread until another process writes to it.
pub(super) fn read(file: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let descriptor = open(file, flags, Mode::empty()).map_err(io::Error::from)?;
    let stat = fstat(&descriptor).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(FileError::NotRegular("a directory")),
        FileType::Fifo => return Err(FileError::NotRegular("a FIFO")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(FileError::NotRegular("a device")),
        _ => return Err(FileError::NotRegular("a special file")),
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(FileError::TooLarge(limit));
    }
    // One byte more than expected detects a file that has grown since.
    let mut bytes = Zeroizing::new(vec![0; size.max(MIN_BUFFER).min(limit) + 1]);
    let mut open = File::from(descriptor);
    let mut length = 0;
    while let Some(free) = bytes.get_mut(length..).filter(|free| !free.is_empty()) {
        match open.read(free) {
            Ok(0) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(if length > limit { FileError::TooLarge(limit) } else { FileError::Changed })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    #[test]
    fn read_rejects_non_regular_files_without_blocking() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "content").expect("written");
        symlink("file", path("link")).expect("linked");
        for name in ["file", "link"] {
            assert_eq!(read(&path(name), 7).expect(name).as_slice(), b"content");
        }
        let refused = |name: &str, limit| read(&path(name), limit).expect_err(name).to_string();
        assert_eq!(refused("file", 6), "the file is larger than 0 KiB; check the path");
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        assert_eq!(refused("fifo", 9), "expected a regular file, found a FIFO; check the path");
        assert_eq!(refused(".", 9), "expected a regular file, found a directory; check the path");
        assert_eq!(refused("absent", 9), "the file does not exist; check the path and the volume mounts");
    }
}
