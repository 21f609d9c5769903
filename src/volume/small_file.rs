//! Small files without secrets in the output directory, replaced atomically.

use std::io::{self, Read};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::at::StepError;
use super::file::{self, Attributes};

/// Maximum size in bytes that is read. Actual files are far smaller.
const MAX_BYTES: u64 = 64 * 1024;

/// Not synced, because the content has no use after a crash of the machine.
const ATTRIBUTES: Attributes = Attributes { mode: Mode::from_raw_mode(0o600), group: None, sync: false };

/// Writes `bytes` to a temporary file (mode 0600) and renames it to `directory/name`. Readers see either the previous
/// or the new content.
///
/// # Errors
/// The I/O error of the first step that failed. The temporary file is removed.
pub fn replace_small_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    file::replace_file(open(directory)?, name, bytes, ATTRIBUTES).map_err(as_io_error)
}

/// Reads `directory/name` without blocking. `None` if the file or the directory does not exist.
///
/// # Errors
/// Any other I/O error, and `InvalidData` if it is not a regular file or is larger than 64 KiB.
pub fn read_small_file(directory: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match open(directory).map(|directory| file::open_regular(directory, name)) {
        Ok(Ok((file, _))) => file,
        Ok(Err(Errno::INVAL)) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")),
        Ok(Err(Errno::NOENT)) => return Ok(None),
        Ok(Err(errno)) => return Err(errno.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 64 KiB"));
    }
    Ok(Some(bytes))
}

/// Removes `directory/name`. Succeeds if the file or the directory does not exist.
///
/// # Errors
/// Any other I/O error.
pub fn remove_small_file(directory: &Path, name: &str) -> io::Result<()> {
    match open(directory) {
        Ok(directory) => file::remove_file(directory, name).map_err(as_io_error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(Into::into)
}

fn as_io_error(error: StepError) -> io::Error {
    io::Error::new(io::Error::from(error.errno).kind(), error)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType};

    use super::*;

    #[test]
    fn small_file_round_trips_and_absence_is_none() {
        let directory = tempfile::tempdir().expect("tempdir");
        assert_eq!(read_small_file(directory.path(), "state").expect("absent"), None);
        assert_eq!(read_small_file(&directory.path().join("absent"), "state").expect("absent"), None);
        replace_small_file(directory.path(), "state", b"one").expect("written");
        replace_small_file(directory.path(), "state", b"two").expect("replaced");
        assert_eq!(read_small_file(directory.path(), "state").expect("read"), Some(b"two".to_vec()));
        remove_small_file(directory.path(), "state").expect("removed");
        remove_small_file(directory.path(), "state").expect("absence is fine");
        remove_small_file(&directory.path().join("absent"), "state").expect("absence is fine");
        assert!(replace_small_file(&directory.path().join("absent"), "state", b"x").is_err());
    }

    #[test]
    fn fifo_is_rejected_without_blocking() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fifo = directory.path().join("state");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("mkfifo");
        let (sender, receiver) = std::sync::mpsc::channel();
        let place = directory.path().to_path_buf();
        std::thread::spawn(move || sender.send(read_small_file(&place, "state")));
        let read = receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("a result without blocking");
        assert_eq!(read.expect_err("rejected").kind(), io::ErrorKind::InvalidData);
        replace_small_file(directory.path(), "state", b"replaced").expect("replaced");
        assert_eq!(read_small_file(directory.path(), "state").expect("read"), Some(b"replaced".to_vec()));
    }
}
