//! The owned directory: made once, never removed, checked before the first file is written.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::failed;
use crate::model::{self, Directory, Failure, FailureClass, Reason};

/// Others must be able to enter and list; the files have their own modes.
const DIRECTORY_MODE: u32 = 0o755;

/// `f_type` of file systems in memory (`linux/magic.h`).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Default for a directory whose volume has no `fsGroup`: the directory is ours, its reader another UID.
const WORLD_READABLE: u32 = 0o444;
/// Default where `fsGroup` gives the pod's containers a common group.
const GROUP_READABLE: u32 = 0o440;

/// An opened, checked directory.
pub(super) struct Owned {
    pub(super) fd: OwnedFd,
    /// Group to give to files, where the volume has an `fsGroup`.
    pub(super) group: Option<u32>,
    pub(super) default_mode: u32,
}

impl Owned {
    /// Makes the directory if it is absent, and checks that readers of another UID will be able to follow links in it.
    pub(super) fn open(settings: &Directory) -> Result<Self, Failure> {
        let path = &settings.path;
        let shown = path.display();
        let unusable = |why: String| Failure::new(FailureClass::Invalid, Reason::DirectoryUnusable, why);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
        let parent_stat = fs::stat(parent).map_err(|error| {
            let cause = std::io::Error::from(error);
            unusable(format!("failed to open the volume {}: {cause}; mount a memory emptyDir there", parent.display()))
        })?;
        match fs::mkdir(path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(&format!("make directory {shown}"), error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            fs::open(path, flags, Mode::empty()).map_err(|error| failed(&format!("open directory {shown}"), error))?;
        let stat = fs::fstat(&fd).map_err(|error| failed(&format!("look at directory {shown}"), error))?;
        let us = rustix::process::geteuid().as_raw();
        let sticky = stat.st_mode & 0o1000 != 0;
        if stat.st_uid != us || sticky {
            return Err(unusable(format!(
                "failed to use directory {shown}: it is owned by UID {} with mode {:04o}, and this is UID {us}; applications \
                 could not follow links in it (fs.protected_symlinks). Most likely the application's mount was made \
                 first, so that the kubelet made the directory: put keyferry before it, with a startup probe, mount \
                 the volume itself in keyferry and only the subdirectory, by subPath, in the application",
                stat.st_uid,
                stat.st_mode & 0o7777,
            )));
        }
        if !settings.allow_disk {
            let kind =
                fs::fstatfs(&fd).map_err(|error| failed(&format!("look at the file system of {shown}"), error))?;
            #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "f_type differs between architectures")]
            if !IN_MEMORY.contains(&(kind.f_type as i64)) {
                return Err(unusable(format!(
                    "failed to use directory {shown}: it is not in memory, and secrets would stay on the node's disk; use \
                     an emptyDir with medium: Memory, or set directory.allowDisk"
                )));
            }
        }
        let group = (parent_stat.st_mode & 0o2000 != 0).then_some(parent_stat.st_gid);
        if let Some(group) = group {
            let _ = fs::chownat(&fd, "", None, Some(fs::Gid::from_raw(group)), AtFlags::EMPTY_PATH);
        }
        let mode = Mode::from_raw_mode(DIRECTORY_MODE);
        fs::fchmod(&fd, mode).map_err(|error| failed(&format!("set the mode of directory {shown}"), error))?;
        let default_mode = if group.is_some() { GROUP_READABLE } else { WORLD_READABLE };
        Ok(Self { fd, group, default_mode: settings.file_mode.map_or(default_mode, model::Mode::bits) })
    }

    /// Names in the directory.
    pub(super) fn names(&self) -> Result<Vec<String>, Failure> {
        let entries = fs::Dir::read_from(&self.fd).map_err(|error| failed("list the output directory", error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list the output directory", error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Where a link points, `None` if it is absent or not a link.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        fs::readlinkat(&self.fd, name, Vec::new()).ok()?.into_string().ok()
    }

    pub(super) fn sync(&self) -> Result<(), Failure> {
        fs::fsync(&self.fd).map_err(|error| failed("sync the output directory", error))
    }
}

/// Removes a directory with everything in it; links are not followed.
pub(super) fn remove_tree(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP) => return fs::unlinkat(parent, name, AtFlags::empty()),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_string_lossy().into_owned();
        if child == "." || child == ".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            remove_tree(&directory, &child)?;
        } else {
            fs::unlinkat(&directory, child.as_str(), AtFlags::empty())?;
        }
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
