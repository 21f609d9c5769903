//! The output directory: created or opened, checked, and locked before the first write.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::at::{self, StepError, context};
use super::unusable::{creation_failed, not_a_directory, remedy, unusable_directory, why_unusable};
use super::{lock, names};
use crate::model::{Directory, Failure};

/// `f_type` of tmpfs and ramfs (statfs(2)), which keep files in memory. ramfs has no size limit.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Any UID can enter the directory, but only the agent can write to it. The mode of each file controls who can read it.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

const SETGID: u32 = 0o2000;

/// The open and locked output directory.
pub(super) struct OwnedDirectory {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    /// `fsGroup` of the volume. Files get this group if the agent has permission to set it.
    volume_group: Option<Gid>,
}

/// Group and mode of the files in a set.
#[derive(Clone, Copy)]
pub(super) struct Access {
    /// `None` keeps the group that the file system assigns.
    pub(super) group: Option<Gid>,
    /// Mode of files without a configured mode.
    pub(super) file_mode: Mode,
}

impl Drop for OwnedDirectory {
    fn drop(&mut self) {
        lock::unlock(&self.fd);
    }
}

impl OwnedDirectory {
    /// Creates or opens the directory, checks it, and locks it. Removes a directory that it created but that failed a
    /// check.
    ///
    /// # Errors
    /// `Invalid`/`DirectoryUnusable`, for example if applications could not follow symlinks in the directory.
    /// `Local`/`NoSpace` if the directory cannot be created because the volume is full.
    pub(super) fn open(settings: &Directory) -> Result<Self, Failure> {
        let path = &settings.path;
        let shown = path.display();
        let (Some(parent_path), Some(name)) = (parent(path), path.file_name()) else {
            return Err(unusable_directory(format!(
                "failed to use output directory {shown}: expected a directory below a volume mount, such as \
                 /var/secrets/data"
            )));
        };
        // O_PATH does not require permission to read the parent.
        let parent_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent_path, parent_flags, Mode::empty()).map_err(|errno| {
            unusable_directory(format!(
                "failed to open {}, the parent of output directory {shown}: {errno}; mount an emptyDir with `medium: \
                 Memory` there",
                parent_path.display()
            ))
        })?;
        let created = match rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(creation_failed(path, errno)),
        };
        Self::check_and_lock(settings, &parent, name.as_ref()).inspect_err(|_| {
            if created {
                // If another agent uses the directory by now, it is not empty and the removal fails.
                rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).ok();
            }
        })
    }

    fn check_and_lock(settings: &Directory, parent: &OwnedFd, name: &Path) -> Result<Self, Failure> {
        let path = &settings.path;
        let shown = path.display();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => not_a_directory(path),
            _ => unusable_directory(format!("failed to open output directory {shown}: {errno}{}", remedy(errno))),
        })?;
        let inspect_failed =
            |errno: Errno| unusable_directory(format!("failed to inspect output directory {shown}: {errno}"));
        let stat = rustix::fs::fstat(&fd).map_err(inspect_failed)?;
        let parent_stat = rustix::fs::fstat(parent).map_err(inspect_failed)?;
        if let Some(why) = why_unusable(stat.st_uid, stat.st_mode, rustix::process::geteuid().as_raw()) {
            return Err(unusable_directory(format!("failed to use output directory {shown}: {why}")));
        }
        check_medium(settings, &fd)?;
        lock::lock(&fd, &stat).map_err(|locked| {
            let who = locked.pid.map_or_else(|| "another agent".into(), |pid| format!("another agent (PID {pid})"));
            unusable_directory(format!(
                "failed to lock output directory {shown}: {who} publishes to it; give each agent its own directory"
            ))
        })?;
        // For `fsGroup` the kubelet sets the setgid bit on the root of the volume.
        let volume_group = (parent_stat.st_mode & SETGID != 0).then(|| Gid::from_raw(parent_stat.st_gid));
        // From here on, dropping `directory` releases the lock.
        let directory = Self { fd, path: path.clone(), volume_group };
        directory.access(settings)?;
        // Set explicitly: mkdir applies the umask, and an earlier process may have crashed in between.
        rustix::fs::fchmod(&directory.fd, DIRECTORY_MODE).map_err(|errno| {
            unusable_directory(format!("failed to set the mode of output directory {shown}: {errno}{}", remedy(errno)))
        })?;
        Ok(directory)
    }

    /// Returns group and mode of files for the current `settings`. Also sets the volume's group on the directory, whose
    /// mode has no setgid bit.
    pub(super) fn access(&self, settings: &Directory) -> Result<Access, Failure> {
        check_medium(settings, &self.fd)?;
        let group = self.set_volume_group().or_else(|(group, errno)| match settings.file_mode {
            // Read permission follows from the configured mode, not from the group.
            Some(_) => Ok(None),
            None => Err(unusable_directory(format!(
                "failed to set the group of output directory {} to {group}, the group of the volume: {errno}; add \
                 group {group} to the agent's container, or set directory.fileMode",
                self.path.display(),
                group = group.as_raw()
            ))),
        })?;
        let default = if group.is_some() { 0o440 } else { 0o444 };
        let file_mode = Mode::from_raw_mode(settings.file_mode.map_or(default, crate::model::Mode::bits));
        Ok(Access { group, file_mode })
    }

    fn set_volume_group(&self) -> Result<Option<Gid>, (Gid, Errno)> {
        let Some(group) = self.volume_group else { return Ok(None) };
        match rustix::fs::fstat(&self.fd) {
            Ok(stat) if stat.st_gid == group.as_raw() => Ok(Some(group)),
            _ => rustix::fs::fchown(&self.fd, None, Some(group)).map(|()| Some(group)).map_err(|errno| (group, errno)),
        }
    }

    /// Whether the path still names the open directory. Returns true if this cannot be determined.
    pub(super) fn is_in_place(&self) -> bool {
        let Ok(open) = rustix::fs::fstat(&self.fd) else { return true };
        if open.st_nlink == 0 {
            return false;
        }
        match rustix::fs::lstat(&self.path) {
            Ok(named) => (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino),
            Err(errno) => errno != Errno::NOENT,
        }
    }

    /// Opens the directory that the path names now, after the open one was removed or replaced.
    ///
    /// # Errors
    /// As [`OwnedDirectory::open`], and `Invalid`/`DirectoryUnusable` if the parent, that is the volume, no longer
    /// exists.
    pub(super) fn reopen(settings: &Directory) -> Result<Self, Failure> {
        if let Some(parent) = parent(&settings.path)
            && rustix::fs::stat(parent).is_err_and(|errno| errno == Errno::NOENT)
        {
            return Err(unusable_directory(format!(
                "failed to re-create output directory {}: its parent {} no longer exists; re-create the pod",
                settings.path.display(),
                parent.display()
            )));
        }
        Self::open(settings)
    }

    /// Name of the directory of the visible set. `None` if no set is visible.
    ///
    /// # Errors
    /// If `..data` cannot be read, so that it is unknown whether a set is visible.
    pub(super) fn current(&self) -> Result<Option<String>, StepError> {
        let target = context("read symlink", super::DATA_LINK, at::link_target(&self.fd, super::DATA_LINK))?;
        Ok(target.filter(|name| names::is_set_directory(name)))
    }

    /// Opens the visible set. `None` if no set is visible.
    ///
    /// # Errors
    /// If the set exists but cannot be opened, or if this is unknown.
    pub(super) fn open_current(&self) -> Result<Option<OwnedFd>, StepError> {
        let Some(name) = self.current()? else { return Ok(None) };
        match at::open_directory(&self.fd, &name) {
            // Missing or not a directory, so not a set.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            opened => context("open directory", &name, opened).map(Some),
        }
    }
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn check_medium(settings: &Directory, fd: &OwnedFd) -> Result<(), Failure> {
    if settings.allow_disk || in_memory(fd) {
        return Ok(());
    }
    Err(unusable_directory(format!(
        "failed to use output directory {}: it is not in memory; use an emptyDir with `medium: Memory`, or set \
         directory.allowDisk: true (KEYFERRY_ALLOW_DISK)",
        settings.path.display()
    )))
}

pub(super) fn in_memory(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| {
        // The field is signed and as wide as a word; the magic numbers are 32 bits.
        #[expect(clippy::cast_sign_loss)]
        let kind = (fs.f_type as u64) & 0xffff_ffff;
        MEMORY_FILE_SYSTEMS.contains(&kind)
    })
}

/// Whether a stat is of type `kind` and owned by the effective UID of the agent.
pub(super) fn is_owned(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind && stat.st_uid == rustix::process::geteuid().as_raw()
}
