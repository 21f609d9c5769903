//! Publishes a set of files atomically, in the layout of the kubelet's volumes:
//!
//! ```text
//! <directory>/..2026_11_24_16_05_37.0123456789/username     the set, with its manifest
//! <directory>/..data -> ..2026_11_24_16_05_37.0123456789    the visible set
//! <directory>/username -> ..data/username                   one symlink per top-level name
//! ```
//!
//! The steps follow the kubelet's `AtomicWriter`
//! (<https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go>). Unique temporary names
//! and a sweep ensure that the remains of a crash never block a later publication.
//!
//! 1. Validate: no path is a directory of another, and no visible name is used by a file that keyferry did not create.
//! 2. Compare bytes and modes with the visible set. If all are equal, stop. If only modes differ, set them and stop. In
//!    both cases replace a different manifest first.
//! 3. Check that the new set fits next to the visible one.
//! 4. Create a new directory, closed to other UIDs until it is complete.
//! 5. Write and sync each file and the manifest, with explicit group and mode, because the umask must not matter. Sync
//!    the directories.
//! 6. Create visible symlinks for new names. As in the kubelet's volumes, they dangle until step 8.
//! 7. Create a temporary symlink to the new directory, with a unique name.
//! 8. Rename it to `..data`, which changes the whole set at once. Sync the directory.
//! 9. Remove visible symlinks of names that the set no longer has.
//! 10. Remove the directories of older sets.
//!
//! A failure before step 8 removes what this attempt created and keeps the previous set complete. From step 8 on, the
//! new set is complete, and the next sweep removes what remains. The output directory itself is never re-created while
//! it exists: an application that has mounted it would see an empty directory.

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::at::{StepError, context};
use super::compare::{self, Difference};
use super::directory::{Access, OwnedDirectory};
use super::file;
use super::manifest::{self, SetManifest, Unreadable};
use super::names::MANIFEST_FILE;
use super::space::{self, Need, Usage};
use super::unusable::{remedy, unusable_directory};
use super::write::Rollback;
use crate::model::{Directory, Failure, FailureClass, FileSet, Manifest, Reason};

/// Result of a successful publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Bytes were equal. Modes or groups were corrected.
    ModesRepaired,
    /// A new set is visible.
    Swapped,
    /// Bytes and modes were equal. At most the manifest was replaced.
    Unchanged,
}

/// Publishes sets to one output directory, which it keeps locked. All methods block.
pub struct Publisher {
    pub(super) directory: OwnedDirectory,
}

impl Publisher {
    /// Creates or opens the directory, checks it, locks it until the publisher is dropped, and sweeps the remains of a
    /// crash.
    ///
    /// # Errors
    /// `Invalid`/`DirectoryUnusable` if the parent does not exist, or the directory has another owner, is sticky, is
    /// not in memory, or is locked by another agent. `Local` if the directory cannot be created for lack of space, or
    /// the sweep fails.
    pub fn open(settings: &Directory) -> Result<Self, Failure> {
        let publisher = Self { directory: OwnedDirectory::open(settings)? };
        publisher.sweep(&mut |_| ()).map_err(|error| publisher.write_failed(&error))?;
        Ok(publisher)
    }

    /// Publishes `set` with `manifest`. Uses modes and limit from `settings`, which must have the path given to
    /// [`Publisher::open`]. `now` is the time of publication, and part of the name of the set's directory.
    ///
    /// # Errors
    /// `Local`/`NoSpace` if the set does not fit, `Local`/`WriteFailed` if a write failed, `Invalid` if the set or the
    /// directory is unsuitable. In all cases the last published set is still complete.
    pub fn publish(
        &mut self,
        set: &FileSet,
        manifest: &Manifest,
        settings: &Directory,
        now: Timestamp,
    ) -> Result<Published, Failure> {
        self.publish_in_steps(set, manifest, settings, now, &mut |_| ())
    }

    /// [`Publisher::publish`] with a call of `after` after each numbered step. Crash tests end the process there.
    #[doc(hidden)]
    pub fn publish_in_steps(
        &mut self,
        set: &FileSet,
        manifest: &Manifest,
        settings: &Directory,
        now: Timestamp,
        after: &mut impl FnMut(u8),
    ) -> Result<Published, Failure> {
        debug_assert!(set.files.keys().eq(manifest.files.keys()), "the manifest belongs to this set");
        self.reopen_if_replaced(settings)?;
        let access = self.directory.access(settings)?;
        let manifest = SetManifest::new(manifest, set, now);

        // 1. Validate.
        self.validate(set)?;

        // 2. Compare.
        let current = self.directory.open_current().map_err(|error| self.write_failed(&error))?;
        let published = current.is_some();
        if let Some(current) = &current {
            let done = match compare::compare(&self.directory, access, current, set) {
                Difference::None => Some(Published::Unchanged),
                // If a repair fails, the whole set is replaced below.
                Difference::Modes(repairs) => {
                    repairs.iter().all(|repair| repair.apply(current).is_ok()).then_some(Published::ModesRepaired)
                }
                Difference::Content => None,
            };
            if let Some(done) = done {
                self.update_manifest(current, set, manifest, access)?;
                return Ok(done);
            }
        }
        after(2);

        // 3. Check the space.
        space::check_limit(set, settings.max_bytes, published)?;
        let manifest = manifest.to_bytes();
        let (need, usage) = self.space(set, manifest.len(), published).map_err(|error| self.write_failed(&error))?;
        need.check(&usage)?;
        after(3);

        // 4. to 8. Undone together on failure.
        let mut rollback = Rollback::default();
        if let Err(error) = self.write_and_swap(set, &manifest, access, now, &mut rollback, after) {
            let failure = self.publication_failed(set, manifest.len(), published, &error);
            self.undo(&rollback);
            return Err(failure);
        }

        // 9. and 10. The new set is visible, so a failure here does not fail the publication.
        if let Err(error) = self.sweep(after) {
            tracing::warn!(
                target: "keyferry", reason = %Reason::WriteFailed,
                "{}; the next publication retries", Failure::chain(&error)
            );
        }
        Ok(Published::Swapped)
    }

    /// Opens or creates the directory again if it was removed or replaced while in use.
    fn reopen_if_replaced(&mut self, settings: &Directory) -> Result<(), Failure> {
        let path = self.directory.path.display();
        if settings.path != self.directory.path {
            let other = settings.path.display();
            return Err(unusable_directory(format!(
                "failed to publish files to {other}: the agent has output directory {path} open"
            )));
        }
        if self.directory.is_in_place() {
            return Ok(());
        }
        let directory = OwnedDirectory::reopen(settings)?;
        tracing::warn!(
            target: "keyferry", reason = %Reason::DirectoryUnusable,
            "output directory {path} was removed while in use and has been re-created; containers that mount it by \
             subPath see an empty directory until you re-create the pod"
        );
        self.directory = directory;
        self.sweep(&mut |_| ()).map_err(|error| self.write_failed(&error))
    }

    /// Replaces the manifest of an equal set if it differs. Keeps the time of publication.
    fn update_manifest(
        &self,
        current: &OwnedFd,
        set: &FileSet,
        mut manifest: SetManifest,
        access: Access,
    ) -> Result<(), Failure> {
        match SetManifest::read(current) {
            Ok(old) => {
                manifest.published = old.published;
                if manifest == old {
                    return Ok(());
                }
            }
            Err(Unreadable::Damaged(_)) => {}
            Err(Unreadable::Io(errno)) => {
                return Err(self.write_failed(&StepError::new("read", MANIFEST_FILE, errno)));
            }
        }
        let bytes = manifest.to_bytes();
        file::replace_file(current, MANIFEST_FILE, &bytes, manifest::attributes(access))
            .map_err(|error| self.publication_failed(set, bytes.len(), true, &error))
    }

    /// Space that one copy of the set needs, and the current usage of the volume.
    fn space(&self, set: &FileSet, manifest: usize, published: bool) -> Result<(Need, Usage), StepError> {
        let root = &self.directory.fd;
        let volume = context("inspect the volume of", "the output directory", rustix::fs::fstatvfs(root))?;
        let mut found = std::collections::BTreeMap::new();
        // Needed for messages only, so an incomplete count is acceptable.
        compare::walk(root, "", &mut found).ok();
        // The unit of `st_blocks` is 512 bytes for every block size (stat(2)).
        let blocks = found.values().map(|(_, stat)| u64::try_from(stat.st_blocks).unwrap_or(0)).sum::<u64>();
        Ok((Need::of(set, manifest, volume.f_frsize), Usage::new(&volume, blocks * 512, published)))
    }

    /// Failure of a writing step. A full volume is possible even after step 3, because other containers write too.
    fn publication_failed(&self, set: &FileSet, manifest: usize, published: bool, error: &StepError) -> Failure {
        match error.errno {
            Errno::NOSPC | Errno::DQUOT => self
                .space(set, manifest, published)
                .map_or_else(|error| self.write_failed(&error), |(need, usage)| need.no_space(&usage)),
            _ => self.write_failed(error),
        }
    }

    pub(super) fn write_failed(&self, error: &StepError) -> Failure {
        Failure::new(
            FailureClass::Local,
            Reason::WriteFailed,
            format!(
                "failed to publish files to {}: {}{}",
                self.directory.path.display(),
                Failure::chain(error),
                remedy(error.errno)
            ),
        )
    }
}
