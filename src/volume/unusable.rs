//! Failures for an unusable output directory, each with a remedy.

use std::path::Path;

use rustix::io::Errno;

use crate::model::{Failure, FailureClass, Reason};

const STICKY: u32 = 0o1000;

/// A failure that does not resolve without a change by the user.
pub(super) fn unusable_directory(message: String) -> Failure {
    Failure::new(FailureClass::Invalid, Reason::DirectoryUnusable, message)
}

pub(super) fn creation_failed(path: &Path, errno: Errno) -> Failure {
    let shown = path.display();
    match errno {
        Errno::NOSPC | Errno::DQUOT => Failure::new(
            FailureClass::Local,
            Reason::NoSpace,
            format!("failed to create output directory {shown}: the volume is full; remove files or raise sizeLimit"),
        ),
        _ => unusable_directory(format!("failed to create output directory {shown}: {errno}{}", remedy(errno))),
    }
}

/// Remedy for an errno on the volume, as suffix of a message. Empty if there is none.
pub(super) fn remedy(errno: Errno) -> String {
    match errno {
        Errno::ROFS => "; the volume is mounted read-only: remove `readOnly: true` from the agent's volumeMount".into(),
        Errno::ACCESS | Errno::PERM => {
            format!("; make the volume writable for UID {} of keyferry", rustix::process::geteuid().as_raw())
        }
        _ => String::new(),
    }
}

pub(super) fn not_a_directory(path: &Path) -> Failure {
    let shown = path.display();
    match std::fs::read_link(path) {
        Ok(target) => unusable_directory(format!(
            "failed to use output directory {shown}: it is a symlink to {}; set directory.path (KEYFERRY_DIRECTORY) to \
             the directory itself",
            target.display()
        )),
        Err(_) => unusable_directory(format!(
            "failed to use output directory {shown}: it is a file; remove it, or set directory.path \
             (KEYFERRY_DIRECTORY) to another name"
        )),
    }
}

/// Cause if other UIDs cannot follow symlinks in a directory with this owner and mode.
///
/// With `fs.protected_symlinks=1`, only the owner of a symlink can follow it in a sticky, world-writable directory. The
/// root of a memory emptyDir is such a directory, and so is a `subPath` directory that the kubelet creates for the
/// application's mount.
pub(super) fn why_unusable(owner: u32, mode: u32, euid: u32) -> Option<String> {
    const REMEDY: &str = "containers with another UID cannot follow symlinks in it; the kubelet probably created it \
        because the application's mount was set up first, or it is the root of the volume; make keyferry the first \
        container of the pod, mount the parent volume in it, let keyferry create this subdirectory, then re-create \
        the pod";
    if owner != euid {
        return Some(format!("it is owned by UID {owner}, but keyferry runs as UID {euid}; {REMEDY}"));
    }
    (mode & STICKY != 0).then(|| format!("it has the sticky bit (mode {:04o}); {REMEDY}", mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_created_by_kubelet_is_rejected_with_remedy() {
        let why = why_unusable(0, 0o4_1777, 65532).expect("rejected");
        assert!(why.contains("UID 0") && why.contains("first container") && why.contains("parent volume"), "{why}");
        let why = why_unusable(65532, 0o4_1777, 65532).expect("rejected");
        assert!(why.contains("sticky bit (mode 1777)"), "{why}");
        assert_eq!(why_unusable(65532, 0o4_0755, 65532), None);
    }

    #[test]
    fn read_only_unwritable_or_full_volume_is_reported_with_remedy() {
        let message = creation_failed(Path::new("/vol/data"), Errno::ROFS).message;
        assert!(message.contains("/vol/data") && message.contains("remove `readOnly: true`"), "{message}");
        assert!(creation_failed(Path::new("/vol/data"), Errno::ACCESS).message.contains("UID "));
        let full = creation_failed(Path::new("/vol/data"), Errno::NOSPC);
        assert_eq!((full.class, full.reason), (FailureClass::Local, Reason::NoSpace));
        assert!(full.message.contains("sizeLimit"), "{full}");
        assert_eq!(remedy(Errno::IO), "");
    }
}
