//! A small file without secrets beside the published set, replaced as a whole.

use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::names;

/// More than any of our small files has; a guard for the reader.
const MAX_BYTES: u64 = 64 * 1024;

/// Writes `bytes` to a temporary file (mode 0600) and renames it over `directory/name`. A reader sees the old or the new
/// content whole. Not synced: after a crash of the machine the content is worthless anyway.
///
/// # Errors
/// The I/O error of the first step that failed; nothing is left behind.
pub fn replace_small_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = open(directory)?;
    let temporary = names::temporary_file(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = std::fs::File::from(rustix::fs::openat(&directory, temporary.as_str(), flags, mode)?);
    let done = file
        .write_all(bytes)
        .and_then(|()| Ok(rustix::fs::renameat(&directory, temporary.as_str(), &directory, name)?));
    if done.is_err() {
        // The first error is the one to tell; the next start sweeps what stays.
        rustix::fs::unlinkat(&directory, temporary.as_str(), AtFlags::empty()).ok();
    }
    done
}

/// The content of `directory/name`, `None` if it or the directory is absent.
///
/// # Errors
/// Any other I/O error, or a file that is too large to be ours.
pub fn read_small_file(directory: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let opened = open(directory).and_then(|directory| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
    });
    let file = match opened {
        Ok(fd) => std::fs::File::from(fd),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
    }
    Ok(Some(bytes))
}

/// Removes `directory/name`; absence of it or of the directory is fine.
///
/// # Errors
/// Any other I/O error.
pub fn remove_small_file(directory: &Path, name: &str) -> io::Result<()> {
    let removed = open(directory).and_then(|fd| Ok(rustix::fs::unlinkat(fd, name, AtFlags::empty())?));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open(directory: &Path) -> Result<OwnedFd, io::Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno: Errno| errno.into())
}
