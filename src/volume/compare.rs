//! Compares bytes, modes, and groups of the visible set with the desired set. Does not compare manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::at;
use super::directory::{Access, DIRECTORY_MODE, OwnedDirectory};
use super::file;
use super::names::{MANIFEST_FILE, visible_target};
use crate::model::FileSet;

/// Difference between the visible set and the desired set.
pub(super) enum Difference {
    None,
    /// Only modes or groups differ.
    Modes(Vec<Repair>),
    /// Anything else differs, or the visible set cannot be read. A new set must be published.
    Content,
}

/// A file or directory of the set with a wrong mode or group.
pub(super) struct Repair {
    name: String,
    mode: Mode,
    group: Option<Gid>,
}

impl Repair {
    pub(super) fn apply(&self, set: impl AsFd) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(set, self.name.as_str(), flags, Mode::empty())?;
        if self.group.is_some() {
            rustix::fs::fchown(&fd, None, self.group)?;
        }
        rustix::fs::fchmod(&fd, self.mode)
    }
}

/// All directories of the set below its root, parents before children.
pub(super) fn parent_directories(set: &FileSet) -> BTreeSet<&str> {
    let ends = |path: &str| path.match_indices('/').map(|(end, _)| end).collect::<Vec<_>>();
    set.files.keys().flat_map(|path| ends(path.as_str()).into_iter().map(|end| &path.as_str()[..end])).collect()
}

/// Names of the visible symlinks that the set has in the output directory.
pub(super) fn top_names(set: &FileSet) -> BTreeSet<&str> {
    set.files.keys().map(crate::model::FilePath::top).collect()
}

/// Compares the set in `current` (the target of `..data`) and the visible symlinks with `desired`.
pub(super) fn compare(directory: &OwnedDirectory, access: Access, current: &OwnedFd, desired: &FileSet) -> Difference {
    let links_match = desired.files.keys().all(|path| {
        at::link_target(&directory.fd, path.top()).is_ok_and(|target| target == Some(visible_target(path.top())))
    });
    let mut found = BTreeMap::new();
    if !links_match || walk(current, "", &mut found).is_err() {
        return Difference::Content;
    }
    // The manifest is compared separately; only its mode counts here.
    let manifest = found.remove(MANIFEST_FILE);
    found.remove(&file::temporary_name(MANIFEST_FILE));
    let directories = parent_directories(desired);
    if found.len() != directories.len() + desired.files.len() {
        return Difference::Content;
    }
    let mut repairs = Vec::new();
    let mut expect = |name: &str, stat: &Stat, mode: Mode| {
        let group_wrong = access.group.is_some_and(|group| group.as_raw() != stat.st_gid);
        if Mode::from_raw_mode(stat.st_mode) != mode || group_wrong {
            repairs.push(Repair { name: name.into(), mode, group: access.group });
        }
    };
    match rustix::fs::fstat(current) {
        Ok(stat) => expect(".", &stat, DIRECTORY_MODE),
        Err(_) => return Difference::Content,
    }
    match &manifest {
        Some((FileType::RegularFile, stat)) => expect(MANIFEST_FILE, stat, access.file_mode),
        Some(_) => return Difference::Content,
        None => {}
    }
    for name in directories {
        match found.get(name) {
            Some((FileType::Directory, stat)) => expect(name, stat, DIRECTORY_MODE),
            _ => return Difference::Content,
        }
    }
    for (path, entry) in &desired.files {
        match found.get(path.as_str()) {
            Some((FileType::RegularFile, stat)) if same_bytes(current, path.as_str(), stat, entry.bytes.expose()) => {
                let mode = entry.mode.map_or(access.file_mode, |mode| Mode::from_raw_mode(mode.bits()));
                expect(path.as_str(), stat, mode);
            }
            _ => return Difference::Content,
        }
    }
    if repairs.is_empty() { Difference::None } else { Difference::Modes(repairs) }
}

/// Collects all entries below `directory` by path, with the result of `lstat`.
pub(super) fn walk(
    directory: &OwnedFd,
    prefix: &str,
    found: &mut BTreeMap<String, (FileType, Stat)>,
) -> Result<(), Errno> {
    for entry in at::entries(directory)? {
        let path = format!("{prefix}{}", entry.name);
        if entry.kind.is_dir() {
            walk(&at::open_directory(directory, &entry.name)?, &format!("{path}/"), found)?;
        }
        found.insert(path, (entry.kind, entry.stat));
    }
    Ok(())
}

/// Reads the file in pieces, so that memory never holds a second copy of the whole secret.
fn same_bytes(set: &OwnedFd, path: &str, stat: &Stat, desired: &[u8]) -> bool {
    if file::size(stat) != desired.len() as u64 {
        return false;
    }
    let Ok((mut file, _)) = file::open_regular(set, path) else { return false };
    let mut rest = desired;
    let mut piece = Zeroizing::new([0_u8; 4096]);
    loop {
        match file.read(&mut piece[..]) {
            Ok(0) => return rest.is_empty(),
            Ok(count) => match rest.strip_prefix(&piece[..count]) {
                Some(after) => rest = after,
                None => return false,
            },
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
