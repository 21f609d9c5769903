//! One publisher per directory: `flock` on the directory itself. The kernel releases the lock when the process ends for
//! any reason, so that there is no stale lock file after a crash.

use rustix::fd::AsFd;
use rustix::fs::{FlockOperation, Stat};
use rustix::io::Errno;

/// Error: another open descriptor holds the lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Locked {
    /// The process that holds the lock, if it is visible in the agent's PID namespace. Containers of one Pod usually
    /// have separate PID namespaces.
    pub(super) pid: Option<u32>,
}

/// Locks an open directory until [`unlock`] or until the last copy of its descriptor is closed.
pub(super) fn lock(directory: impl AsFd, stat: &Stat) -> Result<(), Locked> {
    match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
            Err(Locked { pid: holder(&locks, stat) })
        }
        // Some network file systems do not support locks on directories. Publishing works without (`allowDisk`).
        Err(errno) => {
            tracing::warn!(
                target: "keyferry",
                "failed to lock the output directory: {errno}; make sure that no other agent publishes to it"
            );
            Ok(())
        }
    }
}

/// Releases the lock immediately. Closing the descriptor does not release it while a child process that is being
/// started still has a copy of the descriptor.
pub(super) fn unlock(directory: impl AsFd) {
    if let Err(errno) = rustix::fs::flock(directory, FlockOperation::Unlock) {
        tracing::debug!(target: "keyferry", "failed to unlock the output directory: {errno}");
    }
}

/// PID of the process that holds the lock, from the text of `/proc/locks` (`proc_locks(5)`):
/// `1: FLOCK ADVISORY WRITE 925 fe:00:10888842 0 EOF`, with device numbers in hexadecimal. A process in another PID
/// namespace has PID 0 or no line.
fn holder(locks: &str, stat: &Stat) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let file = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, _, pid, place, ..] if place == file => pid.parse().ok().filter(|pid| *pid != 0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rustix::fd::OwnedFd;
    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn open(directory: &tempfile::TempDir) -> (OwnedFd, Stat) {
        let fd = rustix::fs::open(directory.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        let stat = rustix::fs::fstat(&fd).expect("stat");
        (fd, stat)
    }

    #[test]
    fn second_lock_fails_until_first_is_released() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("tempdir");
        let (first, stat) = open(&directory);
        let (second, _) = open(&directory);
        assert_eq!(lock(&first, &stat), Ok(()));
        assert_eq!(lock(&second, &stat), Err(Locked { pid: Some(std::process::id()) }));
        let copy = rustix::io::dup(&first).expect("dup");
        unlock(&first);
        assert_eq!(lock(&second, &stat), Ok(()), "a copy of the descriptor does not keep the lock");
        drop(copy);
    }

    #[test]
    fn holder_is_process_with_flock_on_same_inode() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (_, mut stat) = open(&directory);
        stat.st_dev = rustix::fs::makedev(0, 0x2d);
        stat.st_ino = 77;
        let line = |kind: &str, pid: &str, place: &str| format!("1: {kind} ADVISORY  WRITE {pid} {place} 0 EOF\n");
        let locks = [
            line("FLOCK", "1", "00:2d:7"),
            line("POSIX", "2", "00:2d:77"),
            line("-> FLOCK", "3", "00:2d:77"),
            line("FLOCK", "4", "00:2d:77"),
        ];
        assert_eq!(holder(&locks.concat(), &stat), Some(4));
        assert_eq!(holder(&line("FLOCK", "0", "00:2d:77"), &stat), None, "in another PID namespace");
        assert_eq!(holder("", &stat), None);
    }
}
