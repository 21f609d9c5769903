//! Making a set of files visible, all or nothing, in the layout of the kubelet's own volumes:
//!
//! ```text
//! <directory>/..2026_11_24_16_05_37.0123456789/username     the set
//! <directory>/..data -> ..2026_11_24_16_05_37.0123456789    what is visible now
//! <directory>/username -> ..data/username                   one link per top name
//! ```
//!
//! After the kubelet's `AtomicWriter`
//! (<https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go>), with unique temporary names
//! and a sweep, so that what a crash leaves never stands in the way:
//!
//! 1. Validate: no path is a directory of another, no visible name is taken by something that is not ours.
//! 2. Compare bytes and modes with the visible set. Equal: stop. Only modes differ: set them and stop.
//! 3. See that the new set fits beside the old one.
//! 4. Make a fresh directory, closed to others while it is filled.
//! 5. Write each file, set its group and mode explicitly (the umask must not matter), sync it; sync the directories.
//! 6. Make visible links for new names. They dangle until step 8, as the kubelet's do.
//! 7. Make a temporary link to the fresh directory, under a unique name.
//! 8. Rename it over `..data`: the moment at which the whole set changes. Sync the directory.
//! 9. Remove visible links of names that are gone.
//! 10. Remove directories of older sets.
//!
//! A failure before step 8 removes what this try made and leaves the old set whole; from step 8 on the new set is
//! whole, and what could not be removed goes with the next sweep. The directory itself is never removed or made anew: an
//! application that has it mounted would see an empty one from then on.

use std::collections::BTreeSet;
use std::io::Write;

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::DATA_LINK;
use super::at::{self, StepError, told};
use super::compare::{self, Difference};
use super::directory::{DIRECTORY_MODE, OwnedDirectory};
use super::names::{self, visible_target};
use super::space::{self, Need};
use crate::model::{Directory, Failure, FailureClass, FileSet, Reason};

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Bytes were equal; modes or groups were set right.
    ModesRepaired,
    /// A new set is visible.
    Swapped,
    /// Bytes and modes were equal: nothing was touched.
    Unchanged,
}

impl Published {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModesRepaired => "modes_repaired",
            Self::Swapped => "swapped",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Writes sets into the one directory that it owns. Blocking; at most one may exist per directory.
pub struct Publisher {
    directory: OwnedDirectory,
    max_bytes: Option<u64>,
    crash_at: Option<u8>,
}

impl Publisher {
    /// Makes or opens the directory, checks that an application can use it, and sweeps what a crash left.
    ///
    /// # Errors
    /// `Invalid`/`DirectoryUnusable` where the directory cannot serve: its parent is absent, it is not ours, it is sticky,
    /// it is not in memory. `Local` where the sweep fails.
    pub fn open(settings: &Directory) -> Result<Self, Failure> {
        let directory = OwnedDirectory::open(settings)?;
        let publisher = Self { directory, max_bytes: settings.max_bytes, crash_at: None };
        publisher.sweep().map_err(|error| publisher.write_failed(&error))?;
        Ok(publisher)
    }

    /// Makes `set` the visible set. `now` only names its directory.
    ///
    /// # Errors
    /// `Local`/`NoSpace` where it does not fit, `Local`/`WriteFailed` where a write failed, `Invalid` where the set cannot
    /// stand in this directory. In all cases the last published set is still whole.
    pub fn publish(&mut self, set: &FileSet, now: Timestamp) -> Result<Published, Failure> {
        // 1. Validate.
        self.validate(set)?;

        // 2. Compare.
        let current = self.directory.current().and_then(|name| at::open_directory(&self.directory.fd, &name).ok());
        if let Some(current) = &current {
            match compare::compare(&self.directory, current, set) {
                Difference::None => return Ok(Published::Unchanged),
                Difference::Modes(repairs) => {
                    // A file that cannot be opened to repair it is replaced below.
                    if repairs.iter().all(|repair| repair.apply(current).is_ok()) {
                        return Ok(Published::ModesRepaired);
                    }
                }
                Difference::Content => {}
            }
        }
        self.step(2);

        // 3. See that it fits.
        space::within_limit(set, self.max_bytes)?;
        let volume = told("look at the volume of", "the output directory", rustix::fs::fstatvfs(&self.directory.fd))
            .map_err(|error| self.write_failed(&error))?;
        let need = Need::of(set, volume.f_frsize);
        need.check(&volume, current.is_none())?;
        self.step(3);

        // 4. to 8. are undone as a whole.
        let mut made = Made::default();
        if let Err(error) = self.write_and_swap(set, now, &mut made) {
            self.undo(&made);
            return Err(match error.errno {
                Errno::NOSPC | Errno::DQUOT => need.no_space(),
                _ => self.write_failed(&error),
            });
        }

        // 9. and 10. The new set is visible, so that a failure here is no failure of the publication.
        if let Err(error) = self.sweep() {
            tracing::warn!(target: "keyferry", reason = %Reason::WriteFailed, "{}; the next publication tries again", Failure::chain(&error));
        }
        Ok(Published::Swapped)
    }

    /// Aborts the process after a numbered step, for the crash tests.
    #[doc(hidden)]
    pub fn crash_at(&mut self, step: u8) {
        self.crash_at = Some(step);
    }

    fn step(&self, number: u8) {
        if self.crash_at == Some(number) {
            std::process::abort();
        }
    }

    fn validate(&self, set: &FileSet) -> Result<(), Failure> {
        let refuse = |reason, why: String| Err(Failure::new(FailureClass::Invalid, reason, why));
        if let Some(path) = compare::parents(set).into_iter().find(|&path| set.files.keys().any(|p| p.as_str() == path))
        {
            return refuse(
                Reason::RenderFailed,
                format!("failed to publish file {path}: another file needs a directory of the same name"),
            );
        }
        let directory = &self.directory;
        if rustix::fs::statat(&directory.fd, DATA_LINK, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            && at::link_target(&directory.fd, DATA_LINK).is_none()
        {
            return refuse(
                Reason::DirectoryUnusable,
                format!("failed to publish files to {}: {DATA_LINK} there is not a link", directory.path.display()),
            );
        }
        for path in set.files.keys() {
            let top = path.top();
            let free = match at::link_target(&directory.fd, top) {
                Some(target) => target == visible_target(top),
                None => matches!(rustix::fs::statat(&directory.fd, top, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)),
            };
            if !free {
                return refuse(
                    Reason::DirectoryUnusable,
                    format!(
                        "failed to publish file {path}: {} has something else of the name {top}, which is not ours to replace; remove it or choose another directory",
                        directory.path.display()
                    ),
                );
            }
        }
        Ok(())
    }

    fn write_and_swap(&self, set: &FileSet, now: Timestamp, undo: &mut Made) -> Result<(), StepError> {
        let root = &self.directory.fd;

        // 4. Fresh directory.
        let name = names::fresh_directory(now);
        told("make directory", &name, rustix::fs::mkdirat(root, name.as_str(), Mode::RWXU))?;
        undo.directory = Some(name.clone());
        let fresh = told("open directory", &name, at::open_directory(root, &name))?;
        self.step(4);

        // 5. Files, then their directories from the deepest up, then the root of the set, which opens it to others.
        let directories = compare::parents(set);
        for path in &directories {
            told("make directory", path, rustix::fs::mkdirat(&fresh, *path, Mode::RWXU))?;
        }
        for (path, entry) in &set.files {
            let mode = entry.mode.map_or(self.directory.file_mode, crate::model::Mode::bits);
            told("write file", path.as_str(), self.write(&fresh, path.as_str(), entry.bytes.expose(), mode))?;
            self.step(5);
        }
        for path in directories.iter().rev() {
            told("open directory", path, at::open_directory(&fresh, path)).and_then(|fd| self.finish(path, &fd))?;
        }
        self.finish(&name, &fresh)?;

        // 6. Visible links for new names.
        for top in tops(set) {
            match rustix::fs::symlinkat(visible_target(top), root, top) {
                Ok(()) => undo.links.push(top.into()),
                // It was ours already: step 1 has looked.
                Err(Errno::EXIST) => {}
                Err(errno) => return told("make link", top, Err(errno)),
            }
            self.step(6);
        }

        // 7. Temporary link.
        let link = names::temporary_link();
        told("make link", &link, rustix::fs::symlinkat(&name, root, link.as_str()))?;
        undo.links.push(link.clone());
        self.step(7);

        // 8. The swap.
        told("rename link", &link, rustix::fs::renameat(root, link.as_str(), root, DATA_LINK))?;
        // Nothing to undo from here on; a sync that fails matters only if the machine dies, and the agent starts over then.
        if let Err(errno) = rustix::fs::fsync(root) {
            tracing::debug!(target: "keyferry", "failed to sync {}: {errno}", self.directory.path.display());
        }
        self.step(8);
        Ok(())
    }

    fn write(&self, set: &OwnedFd, path: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(rustix::fs::openat(set, path, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if self.directory.group.is_some() {
            rustix::fs::fchown(&file, None, self.directory.group)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::fsync(&file)
    }

    fn finish(&self, name: &str, directory: &OwnedFd) -> Result<(), StepError> {
        if self.directory.group.is_some() {
            told("set the group of", name, rustix::fs::fchown(directory, None, self.directory.group))?;
        }
        told("set the mode of", name, rustix::fs::fchmod(directory, DIRECTORY_MODE))?;
        told("sync", name, rustix::fs::fsync(directory))
    }

    /// Best effort: what stays is swept at the next publication or start.
    fn undo(&self, made: &Made) {
        for name in made.links.iter().rev().chain(&made.directory) {
            if let Err(errno) = at::remove_tree(&self.directory.fd, name) {
                tracing::debug!(target: "keyferry", "failed to remove {name}: {errno}");
            }
        }
    }

    /// Removes what belongs to no visible set: steps 9 and 10, and at start the traces of a crash anywhere.
    fn sweep(&self) -> Result<(), StepError> {
        let root = &self.directory.fd;
        let current = self.directory.current();
        let set = current.as_ref().and_then(|name| at::open_directory(root, name).ok());
        let entries = told("list", "the output directory", at::entries(root))?;

        // 9. Visible links that lead nowhere. Only links of exactly our form are ours.
        for entry in entries.iter().filter(|entry| entry.kind.is_symlink()) {
            let name = entry.name.as_str();
            let ours = at::link_target(root, name).is_some_and(|target| target == visible_target(name));
            let alive =
                set.as_ref().is_some_and(|set| rustix::fs::statat(set, name, AtFlags::SYMLINK_NOFOLLOW).is_ok());
            if ours && !alive {
                told("remove link", name, at::remove_tree(root, name))?;
            }
        }
        self.step(9);

        // 10. Older sets, half-written sets, temporary links.
        for entry in &entries {
            let name = entry.name.as_str();
            let old_set = names::is_set_directory(name) && current.as_deref() != Some(name);
            if old_set || names::is_temporary(name) {
                told("remove", name, at::remove_tree(root, name))?;
            }
        }
        self.step(10);
        Ok(())
    }

    fn write_failed(&self, error: &StepError) -> Failure {
        Failure::new(
            FailureClass::Local,
            Reason::WriteFailed,
            format!("failed to publish files to {}: {}", self.directory.path.display(), Failure::chain(error)),
        )
    }
}

/// What one try has made so far.
#[derive(Default)]
struct Made {
    directory: Option<String>,
    links: Vec<String>,
}

fn tops(set: &FileSet) -> BTreeSet<&str> {
    set.files.keys().map(crate::model::FilePath::top).collect()
}
