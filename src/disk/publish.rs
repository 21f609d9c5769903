//! The publication itself. Every crash point leaves the old or the new set whole.
//!
//! 1. Compare bytes and modes with the visible set; stop if equal, repair modes if only they differ.
//! 2. Check the size: two copies must fit.
//! 3. Make a fresh directory `..<timestamp>.<random>`.
//! 4. Write every file, set its mode (the umask must not matter), sync it; sync the directories.
//! 5. Make the visible links that are missing; they dangle until step 7, which nobody minds.
//! 6. Make a link with a unique name that points at the fresh directory.
//! 7. Rename it over `..data`: here the whole set changes.
//! 8. Remove visible links whose file is gone, and the old directory.
//!
//! What a crash leaves behind is swept when the publisher is opened.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Owned, remove_tree};
use super::{DATA, RESERVED, failed};
use crate::model::{Directory, Failure, FailureClass, FileEntry, FilePath, FileSet, Reason};

/// Room that a file or directory takes in a tmpfs beside its pages, rounded up.
const ENTRY_OVERHEAD: u64 = 1024;

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// A new set is visible.
    Swapped,
    /// The same bytes were there; modes were repaired.
    ModesRepaired,
    /// The same set was there.
    Unchanged,
}

/// The one writer of the output directory.
pub struct Publisher {
    pub(super) directory: Owned,
    max_bytes: Option<u64>,
    crash_at: Option<u8>,
}

impl Publisher {
    /// Makes and checks the directory, and sweeps what a crash left.
    ///
    /// # Errors
    /// `DirectoryUnusable` if readers of another UID could not use it, or it is not in memory; `WriteFailed` otherwise.
    pub fn open(settings: &Directory) -> Result<Self, Failure> {
        let directory = Owned::open(settings)?;
        let publisher = Self { directory, max_bytes: settings.max_bytes, crash_at: None };
        publisher.sweep()?;
        Ok(publisher)
    }

    /// For tests: end the process, as a crash would, before this step of the algorithm.
    #[doc(hidden)]
    pub fn crash_at(&mut self, step: u8) {
        self.crash_at = Some(step);
    }

    fn step(&self, step: u8) {
        if self.crash_at == Some(step) {
            std::process::abort();
        }
    }

    /// Makes `set` visible, all or nothing. `now` names the fresh directory.
    ///
    /// # Errors
    /// `NoSpace` or `WriteFailed`; the old set is then whole and in place.
    pub fn publish(&mut self, set: &FileSet, now: Timestamp) -> Result<Published, Failure> {
        self.step(1);
        if let Some(outcome) = self.compare(set)? {
            self.link_visible(set)?;
            return Ok(outcome);
        }
        self.step(2);
        self.check_size(set)?;
        self.step(3);
        let fresh = format!("{RESERVED}{}.{:08x}", now.strftime("%Y_%m_%d_%H_%M_%S"), fastrand::u32(..));
        self.write_and_swap(set, &fresh).inspect_err(|_| {
            // Half a set is of no use, and its room may be what is missing.
            let _ = remove_tree(&self.directory.fd, &fresh);
            let _ = self.sweep();
        })?;
        self.step(8);
        self.sweep()?;
        self.step(9);
        Ok(Published::Swapped)
    }

    fn write_and_swap(&self, set: &FileSet, fresh: &str) -> Result<(), Failure> {
        let root = &self.directory.fd;
        let made = self.make_directory(root, fresh)?;
        self.step(4);
        let mut directories = BTreeSet::new();
        for (path, file) in &set.files {
            for (at, _) in path.as_str().match_indices('/') {
                let directory = &path.as_str()[..at];
                if directories.insert(directory.to_owned()) {
                    self.make_directory(&made, directory)?;
                }
            }
            self.write(&made, path, file)?;
        }
        for directory in &directories {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let synced = fs::openat(&made, directory.as_str(), flags, Mode::empty()).and_then(fs::fsync);
            synced.map_err(|error| failed(&format!("sync directory {directory}"), error))?;
        }
        fs::fsync(&made).map_err(|error| failed("sync the fresh directory", error))?;
        self.step(5);
        self.link_visible(set)?;
        self.step(6);
        let temporary = format!("{RESERVED}data_{:08x}", fastrand::u32(..));
        fs::symlinkat(fresh, root, temporary.as_str()).map_err(|error| failed("make the new data link", error))?;
        self.step(7);
        fs::renameat(root, temporary.as_str(), root, DATA).map_err(|error| failed("swap the data link", error))?;
        self.directory.sync()
    }

    /// Step 1. `None` if the bytes differ.
    fn compare(&self, set: &FileSet) -> Result<Option<Published>, Failure> {
        let Some(current) = self.directory.link(DATA) else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(current) = fs::openat(&self.directory.fd, current.as_str(), flags, Mode::empty()) else {
            return Ok(None);
        };
        let mut there = BTreeSet::new();
        let listed = list(&current, "", &mut there);
        let wanted: BTreeSet<_> = set.files.keys().map(|path| path.as_str().to_owned()).collect();
        if listed.is_err() || there != wanted {
            return Ok(None);
        }
        let mut repair = Vec::new();
        for (path, file) in &set.files {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(opened) = fs::openat(&current, path.as_str(), flags, Mode::empty()) else { return Ok(None) };
            let Ok(stat) = fs::fstat(&opened) else { return Ok(None) };
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if size != file.bytes.len() as u64 || !same_bytes(&opened, file.bytes.expose()) {
                return Ok(None);
            }
            let group = self.directory.group.is_none_or(|group| group == stat.st_gid);
            if stat.st_mode & 0o7777 != self.mode_of(file) || !group {
                repair.push((path, opened, self.mode_of(file)));
            }
        }
        if repair.is_empty() {
            return Ok(Some(Published::Unchanged));
        }
        for (path, opened, mode) in repair {
            self.own(&opened, mode).map_err(|error| failed(&format!("repair the mode of file {path}"), error))?;
        }
        Ok(Some(Published::ModesRepaired))
    }

    /// Step 2. The old set is still there while the new one is written.
    fn check_size(&self, set: &FileSet) -> Result<(), Failure> {
        let shortage = |why: String| Failure::new(FailureClass::Local, Reason::NoSpace, why);
        if let Some(limit) = self.max_bytes.filter(|limit| set.size() > *limit) {
            return Err(shortage(format!(
                "failed to publish files: the set is larger than directory.maxBytes ({limit} bytes); the old set stays"
            )));
        }
        let Ok(volume) = fs::fstatvfs(&self.directory.fd) else { return Ok(()) };
        // A tmpfs without a limit says that it has no blocks at all.
        if volume.f_blocks == 0 {
            return Ok(());
        }
        let page = volume.f_frsize.max(1);
        let rounded = |file: &FileEntry| (file.bytes.len() as u64).div_ceil(page) * page + ENTRY_OVERHEAD;
        let needed: u64 = set.files.values().map(rounded).sum::<u64>() + ENTRY_OVERHEAD;
        let free = volume.f_bavail * page;
        if needed > free {
            let total = volume.f_blocks * page;
            return Err(shortage(format!(
                "failed to publish files: two copies of the set must fit, and the volume of {total} bytes has {free} bytes \
                 left where {needed} are needed; the old set stays; give the volume a sizeLimit of at least {} bytes",
                total - free + needed,
            )));
        }
        Ok(())
    }

    fn make_directory(&self, parent: impl AsFd, path: &str) -> Result<OwnedFd, Failure> {
        let error = |error| failed(&format!("make directory {path}"), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::mkdirat(&parent, path, Mode::from_raw_mode(0o700)).map_err(error)?;
        let made = fs::openat(&parent, path, flags, Mode::empty()).map_err(error)?;
        self.own(&made, 0o755).map_err(error)?;
        Ok(made)
    }

    fn write(&self, parent: &OwnedFd, path: &FilePath, file: &FileEntry) -> Result<(), Failure> {
        let error = |error| failed(&format!("write file {path}"), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = fs::openat(parent, path.as_str(), flags, Mode::from_raw_mode(0o600)).map_err(error)?;
        let mut rest = file.bytes.expose();
        while !rest.is_empty() {
            match rustix::io::write(&opened, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        self.own(&opened, self.mode_of(file)).map_err(error)?;
        fs::fsync(&opened).map_err(error)
    }

    /// Sets group, then mode: a change of owner may clear mode bits.
    fn own(&self, opened: &OwnedFd, mode: u32) -> Result<(), Errno> {
        if let Some(group) = self.directory.group {
            fs::fchown(opened, None, Some(Gid::from_raw(group)))?;
        }
        fs::fchmod(opened, Mode::from_raw_mode(mode))
    }

    fn mode_of(&self, file: &FileEntry) -> u32 {
        file.mode.map_or(self.directory.default_mode, crate::model::Mode::bits)
    }

    /// Step 5. A link that points elsewhere, or a stray file under a name of ours, is replaced.
    fn link_visible(&self, set: &FileSet) -> Result<(), Failure> {
        let root = &self.directory.fd;
        let tops: BTreeSet<_> = set.files.keys().map(FilePath::top).collect();
        for top in tops {
            let target = format!("{DATA}/{top}");
            if self.directory.link(top).is_some_and(|there| there == target) {
                continue;
            }
            let temporary = format!("{RESERVED}link_{:08x}", fastrand::u32(..));
            let linked = fs::symlinkat(target.as_str(), root, temporary.as_str())
                .and_then(|()| fs::renameat(root, temporary.as_str(), root, top));
            linked.map_err(|error| {
                let _ = fs::unlinkat(root, temporary.as_str(), AtFlags::empty());
                failed(&format!("make the visible link {top}"), error)
            })?;
        }
        Ok(())
    }
}

/// All files below `directory`, as paths.
fn list(directory: &OwnedFd, prefix: &str, into: &mut BTreeSet<String>) -> Result<(), Errno> {
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{prefix}{name}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(directory, name.as_str(), flags, Mode::empty()) {
            Ok(inner) => list(&inner, &format!("{path}/"), into)?,
            Err(_) => {
                into.insert(path);
            }
        }
    }
    Ok(())
}

fn same_bytes(opened: &OwnedFd, wanted: &[u8]) -> bool {
    let mut buffer = zeroize::Zeroizing::new([0_u8; 4096]);
    let mut rest = wanted;
    loop {
        match rustix::io::read(opened, &mut buffer[..]) {
            Ok(0) => return rest.is_empty(),
            Ok(read) => match rest.strip_prefix(&buffer[..read]) {
                Some(more) => rest = more,
                None => return false,
            },
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
