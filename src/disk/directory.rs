//! The output directory: made or opened, and checked, before anything is written to it.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::at;
use crate::model::{Directory, Failure, FailureClass, Reason};

/// `f_type` of file systems that live in memory (statfs(2)). `ramfs` has no size limit, but secrets do not reach a disk.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Everybody may enter, only we may write: the application has another UID, and what it may read is said by the files.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// The open output directory.
pub(super) struct OwnedDirectory {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    /// The volume's `fsGroup`, which our files shall have.
    pub(super) group: Option<Gid>,
    /// Mode of files without a mode of their own.
    pub(super) file_mode: u32,
}

impl OwnedDirectory {
    /// Makes or opens the directory and refuses one in which an application could not follow our links.
    pub(super) fn open(settings: &Directory) -> Result<Self, Failure> {
        let path = &settings.path;
        let refuse = |why: String| Failure::new(FailureClass::Invalid, Reason::DirectoryUnusable, why);
        let shown = path.display();
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse(format!("failed to use output directory {shown}: name a directory below a volume")));
        };
        let parent_path = if parent_path.as_os_str().is_empty() { Path::new(".") } else { parent_path };
        // O_PATH, because the parent need not be readable for us.
        let parent_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent_path, parent_flags, Mode::empty()).map_err(|errno| {
            refuse(format!(
                "failed to open {}, the parent of the output directory: {errno}; mount a memory emptyDir there",
                parent_path.display()
            ))
        })?;

        match rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOSPC) => {
                return Err(Failure::new(
                    FailureClass::Local,
                    Reason::NoSpace,
                    format!("failed to make output directory {shown}: the volume is full"),
                ));
            }
            Err(errno) => {
                return Err(refuse(format!(
                    "failed to make output directory {shown}: {errno}; the agent's own mount of the volume must be writable for it"
                )));
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => refuse(format!(
                "failed to use output directory {shown}: something that is not a directory has that name"
            )),
            _ => refuse(format!("failed to open output directory {shown}: {errno}")),
        })?;

        let stat = rustix::fs::fstat(&fd).map_err(|errno| refuse(format!("failed to look at {shown}: {errno}")))?;
        if let Some(why) = unusable(stat.st_uid, stat.st_mode, rustix::process::geteuid().as_raw()) {
            return Err(refuse(format!("failed to use output directory {shown}: {why}")));
        }
        if !settings.allow_disk && !in_memory(&fd) {
            return Err(refuse(format!(
                "failed to use output directory {shown}: it is not in memory; use an emptyDir with medium: Memory, or set allowDisk"
            )));
        }

        let parent_stat =
            rustix::fs::fstat(&parent).map_err(|errno| refuse(format!("failed to look at {shown}: {errno}")))?;
        let group = adopt_group(&fd, &stat, &parent_stat).or_else(|errno| match settings.file_mode {
            // The user said who may read; the group is then no promise of ours.
            Some(_) => Ok(None),
            None => Err(refuse(format!(
                "failed to give output directory {shown} the volume's group {}: {errno}; run the agent with that group, or set a file mode",
                parent_stat.st_gid
            ))),
        })?;
        // Said again after mkdir, because the umask took part there; said also for an old directory, because a crash may
        // have come between the two.
        rustix::fs::fchmod(&fd, DIRECTORY_MODE)
            .map_err(|errno| refuse(format!("failed to set the mode of output directory {shown}: {errno}")))?;

        let file_mode =
            settings.file_mode.map_or(if group.is_some() { 0o440 } else { 0o444 }, crate::model::Mode::bits);
        Ok(Self { fd, path: path.clone(), group, file_mode })
    }

    /// The name of the directory of the set that is visible now.
    pub(super) fn current(&self) -> Option<String> {
        at::link_target(&self.fd, super::DATA_LINK).filter(|name| super::names::is_set_directory(name))
    }
}

/// The sticky-directory trap, seen on a real node: with `fs.protected_symlinks=1` nobody but the owner follows a link in
/// a sticky, world-writable directory. A memory emptyDir's root is such a directory, and so is a `subPath` that the
/// kubelet had to make because the application's mount came first.
fn unusable(owner: u32, mode: u32, us: u32) -> Option<String> {
    const CURE: &str = "no application with another UID could follow the links in it. Probably the kubelet made it, because the \
        application's mount came first (or it is the root of the volume): the agent must be the first container of the pod, \
        mount the parent volume, and make this subdirectory itself; the pod must be made anew";
    if owner != us {
        return Some(format!("it belongs to UID {owner} and we are UID {us}; {CURE}"));
    }
    (mode & STICKY != 0).then(|| format!("it has the sticky bit (mode {:04o}); {CURE}", mode & 0o7777))
}

/// `fsGroup` shows as the setgid bit on the volume's root. Our directory does not inherit the bit (its mode is said
/// explicitly), so the group is given by hand to it and to all that is made in it.
fn adopt_group(fd: &OwnedFd, stat: &Stat, parent: &Stat) -> Result<Option<Gid>, Errno> {
    if parent.st_mode & SETGID == 0 {
        return Ok(None);
    }
    let group = Gid::from_raw(parent.st_gid);
    if stat.st_gid != parent.st_gid {
        rustix::fs::fchown(fd, None, Some(group))?;
    }
    Ok(Some(group))
}

pub(super) fn in_memory(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| {
        // The field is signed and as wide as a word; the magic numbers are 32 bits.
        #[expect(clippy::cast_sign_loss)]
        let kind = (fs.f_type as u64) & 0xffff_ffff;
        MEMORY_FILE_SYSTEMS.contains(&kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_the_kubelet_made_is_refused_with_the_cure() {
        let why = unusable(0, 0o4_1777, 65532).expect("refused");
        assert!(why.contains("UID 0") && why.contains("first container") && why.contains("parent volume"), "{why}");
        let why = unusable(65532, 0o4_1777, 65532).expect("refused");
        assert!(why.contains("sticky bit (mode 1777)"), "{why}");
        assert_eq!(unusable(65532, 0o4_0755, 65532), None);
    }
}
