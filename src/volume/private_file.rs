//! A file with secrets for the next process with the same UID, written atomically.
//!
//! The file is next to the output directory, in the root of the volume, to which other containers can write. Therefore
//! keyferry follows no symlink, writes to no existing file, and does not read a file with an unexpected owner, mode, or
//! type.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::at::{StepError, context};
use super::directory::in_memory;
use super::file::{self, Attributes};
use crate::model::{Failure, FailureClass, Reason, SecretBytes};

/// Readable and writable for the agent's UID only.
const MODE: u32 = 0o600;

/// Maximum size in bytes of a file that is read. Volumes of this size are not expected.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Writes `bytes` to a temporary file and renames it to `path`.
///
/// # Errors
/// `Invalid`/`DirectoryUnusable` if the directory is not in memory and `allow_disk` is false, otherwise `Local` with
/// `NoSpace` or `WriteFailed`. The temporary file is removed.
pub fn write_private_file(path: &Path, bytes: &SecretBytes, allow_disk: bool) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: &StepError| {
        let reason = if error.errno == Errno::NOSPC { Reason::NoSpace } else { Reason::WriteFailed };
        let message = format!("failed to write checkpoint file {shown}: {}", Failure::chain(error));
        Failure::new(FailureClass::Local, reason, message)
    };
    let (directory, name) = open_parent(path).map_err(|error| failed(&error))?;
    if !allow_disk && !in_memory(&directory) {
        return Err(Failure::new(
            FailureClass::Invalid,
            Reason::DirectoryUnusable,
            format!(
                "failed to write checkpoint file {shown}: its directory is not in memory; use the emptyDir with `medium: \
                 Memory` that holds the output directory, or set directory.allowDisk: true (KEYFERRY_ALLOW_DISK)"
            ),
        ));
    }
    let attributes = Attributes { mode: Mode::from_raw_mode(MODE), group: None, sync: false };
    file::replace_file(&directory, &name, bytes.expose(), attributes).map_err(|error| failed(&error))
}

/// Reads the file at `path`; `None` if it does not exist. A file that is rejected is removed.
///
/// # Errors
/// `Local`/`CheckpointRefused` if the file does not have the owner, mode, and type that [`write_private_file`] gives it,
/// or cannot be read.
pub fn read_private_file(path: &Path) -> Result<Option<SecretBytes>, Failure> {
    read(path).map_err(|why| {
        // Otherwise, the file would also affect the next process. If it cannot be removed, it is rejected again.
        remove_private_file(path).ok();
        let message = format!("failed to use checkpoint file {}: {why}", path.display());
        Failure::new(FailureClass::Local, Reason::CheckpointRefused, message)
    })
}

/// Removes the file at `path` and the temporary file of a killed process, if they exist.
///
/// # Errors
/// `Local`/`WriteFailed`
pub fn remove_private_file(path: &Path) -> Result<(), Failure> {
    let removed = open_parent(path).and_then(|(directory, name)| {
        file::remove_file(&directory, &file::temporary_name(&name)).ok();
        file::remove_file(&directory, &name)
    });
    match removed {
        Err(error) if error.errno != Errno::NOENT => {
            let message = format!("failed to remove checkpoint file {}: {}", path.display(), Failure::chain(&error));
            Err(Failure::new(FailureClass::Local, Reason::WriteFailed, message))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<SecretBytes>, String> {
    let opened = open_parent(path).and_then(|(directory, name)| {
        // Non-blocking, because it could be a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        context("open", &name, rustix::fs::openat(&directory, name.as_str(), flags, Mode::empty()))
    });
    let fd = match opened {
        Ok(fd) => fd,
        Err(error) if error.errno == Errno::NOENT => return Ok(None),
        Err(error) => return Err(Failure::chain(&error)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| format!("failed to inspect it: {errno}"))?;
    let size = file::size(&stat);
    if let Some(why) = why_untrusted(stat.st_uid, stat.st_mode, size, rustix::process::geteuid().as_raw()) {
        return Err(why);
    }
    let content = file::read_exact_size(std::fs::File::from(fd), size);
    content.map(Some).map_err(|errno| format!("failed to read it: {errno}"))
}

/// Cause if a file with these attributes was not written by [`write_private_file`] with the same UID.
fn why_untrusted(owner: u32, mode: u32, size: u64, euid: u32) -> Option<String> {
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Some("it is not a regular file".into());
    }
    if owner != euid {
        return Some(format!(
            "it is owned by UID {owner}, but keyferry runs as UID {euid}; run both containers with the same UID"
        ));
    }
    if mode & 0o7777 != MODE {
        return Some(format!("its mode is {:04o}, expected {MODE:04o}", mode & 0o7777));
    }
    (size > MAX_BYTES).then(|| "it is larger than 64 MiB".into())
}

fn open_parent(path: &Path) -> Result<(OwnedFd, String), StepError> {
    let shown = path.display().to_string();
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    let (parent, name) = context("parse the path", &shown, parts.ok_or(Errno::INVAL))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = context("open", &parent.display().to_string(), rustix::fs::open(parent, flags, Mode::empty()))?;
    Ok((directory, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
    }

    #[test]
    fn private_file_has_mode_0600_and_is_replaced() {
        let directory = directory();
        let file = directory.path().join("checkpoint");
        write_private_file(&file, &"old".into(), true).expect("written");
        std::fs::write(directory.path().join("checkpoint.tmp"), "from a crash").expect("written");
        write_private_file(&file, &"new".into(), true).expect("written again");
        assert_eq!(std::fs::metadata(&file).expect("metadata").permissions().mode() & 0o7777, 0o600);
        assert!(!directory.path().join("checkpoint.tmp").exists());
        assert!(read_private_file(&file).expect("read").is_some_and(|bytes| bytes.expose() == b"new"));
        assert!(file.exists(), "a killed process can read it again");
        remove_private_file(&file).expect("removed");
        assert!(read_private_file(&file).expect("no file").is_none());
        remove_private_file(&file).expect("no file is not an error");
    }

    #[test]
    fn untrusted_private_file_is_rejected_and_removed() {
        let directory = directory();
        let file = directory.path().join("checkpoint");
        let secret = directory.path().join("elsewhere");
        std::fs::write(&secret, "secret").expect("written");
        symlink(&secret, &file).expect("linked");
        assert!(read_private_file(&file).is_err_and(|failure| failure.reason == Reason::CheckpointRefused));
        assert!(!file.is_symlink() && secret.exists(), "only the symlink is removed");

        std::fs::write(&file, "open to all").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
        let rejected = read_private_file(&file).err().expect("rejected");
        assert!(rejected.message.contains("its mode is 0644"), "{rejected}");
        assert!(!file.exists());

        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, fifo, Mode::from_raw_mode(0o600), 0).expect("mkfifo");
        let (sender, receiver) = std::sync::mpsc::channel();
        let place = file.clone();
        std::thread::spawn(move || sender.send(read_private_file(&place).err()));
        let rejected = receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("a result without blocking");
        assert!(rejected.is_some_and(|failure| failure.message.contains("regular file")));

        let mode = 0o10_0600;
        assert_eq!(why_untrusted(65532, mode, 10, 65532), None);
        assert!(why_untrusted(1000, mode, 10, 65532).is_some_and(|why| why.contains("UID 1000")));
        assert!(why_untrusted(65532, 0o1_0600, 0, 65532).is_some_and(|why| why.contains("regular")), "a FIFO");
    }

    #[test]
    fn failed_write_of_private_file_leaves_no_temporary_file() {
        let directory = directory();
        let failure = write_private_file(&directory.path().join("absent/checkpoint"), &"x".into(), true).err();
        assert!(failure.is_some_and(|failure| failure.message.contains("failed to open")));
        std::fs::create_dir_all(directory.path().join("checkpoint/full")).expect("made");
        let failure = write_private_file(&directory.path().join("checkpoint"), &"x".into(), true).err();
        assert!(failure.is_some_and(|failure| failure.reason == Reason::WriteFailed));
        assert!(!directory.path().join("checkpoint.tmp").exists());
    }
}
