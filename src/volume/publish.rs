//! Making a set of files visible, all or nothing, in the layout of the kubelet's own volumes:
//!
//! ```text
//! <directory>/..2026_11_24_16_05_37.0123456789/username     the set, with its manifest
//! <directory>/..data -> ..2026_11_24_16_05_37.0123456789    what is visible now
//! <directory>/username -> ..data/username                   one link per top name
//! ```
//!
//! After the kubelet's `AtomicWriter`
//! (<https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go>), with unique temporary names
//! and a sweep, so that what a crash leaves never stands in the way:
//!
//! 1. Validate: no path is a directory of another, no visible name is taken by something that is not ours.
//! 2. Compare bytes and modes with the visible set. Equal: stop. Only modes differ: set them and stop. In both cases the
//!    manifest of the visible set is replaced first where it says something else.
//! 3. See that the new set fits beside the old one.
//! 4. Make a fresh directory, closed to others while it is filled.
//! 5. Write each file and the manifest, set group and mode explicitly (the umask must not matter), sync; sync the
//!    directories.
//! 6. Make visible links for new names. They dangle until step 8, as the kubelet's do.
//! 7. Make a temporary link to the fresh directory, under a unique name.
//! 8. Rename it over `..data`: the moment at which the whole set changes. Sync the directory.
//! 9. Remove visible links of names that are gone.
//! 10. Remove directories of older sets.
//!
//! A failure before step 8 removes what this try made and leaves the old set whole; from step 8 on the new set is
//! whole, and what could not be removed goes with the next sweep. The directory itself is never removed and made
//! again: an application that has it mounted would see an empty one from then on.

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::at::{StepError, context};
use super::compare::{self, Difference};
use super::directory::{Access, OwnedDirectory};
use super::file;
use super::manifest::{self, SetManifest, Unreadable};
use super::names::MANIFEST_FILE;
use super::unusable::{remedy, unusable_directory};
use super::space::{self, Need, Usage};
use super::write::Rollback;
use crate::model::{Directory, Failure, FailureClass, FileSet, Manifest, Reason};

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Bytes were equal; modes or groups were set right.
    ModesRepaired,
    /// A new set is visible.
    Swapped,
    /// Bytes and modes were equal; at most the manifest was replaced.
    Unchanged,
}

/// Writes sets into the one directory that it owns and has locked. Blocking.
pub struct Publisher {
    pub(super) directory: OwnedDirectory,
}

impl Publisher {
    /// Makes or opens the directory, checks that an application can use it, locks it for the life of the publisher, and
    /// sweeps what a crash left.
    ///
    /// # Errors
    /// `Invalid`/`DirectoryUnusable` where the directory cannot serve: its parent is absent, it is not ours, it is sticky,
    /// it is not in memory, another agent publishes there. `Local` where the sweep fails.
    pub fn open(settings: &Directory) -> Result<Self, Failure> {
        let publisher = Self { directory: OwnedDirectory::open(settings)? };
        publisher.sweep(&mut |_| ()).map_err(|error| publisher.write_failed(&error))?;
        Ok(publisher)
    }

    /// Makes `set` the visible set, with `manifest` beside it. `settings` may differ from those at the opening, but for the
    /// path: the modes and the limit of this call count. `now` names the set's directory and is when it was published.
    ///
    /// # Errors
    /// `Local`/`NoSpace` where it does not fit, `Local`/`WriteFailed` where a write failed, `Invalid` where the set cannot
    /// stand in this directory. In all cases the last published set is still whole.
    pub fn publish(
        &mut self,
        set: &FileSet,
        manifest: &Manifest,
        settings: &Directory,
        now: Timestamp,
    ) -> Result<Published, Failure> {
        self.publish_in_steps(set, manifest, settings, now, &mut |_| ())
    }

    /// [`Publisher::publish`], with a call of `after` behind each numbered step: the crash tests end the process there.
    #[doc(hidden)]
    pub fn publish_in_steps(
        &mut self,
        set: &FileSet,
        manifest: &Manifest,
        settings: &Directory,
        now: Timestamp,
        after: &mut impl FnMut(u8),
    ) -> Result<Published, Failure> {
        debug_assert!(set.files.keys().eq(manifest.files.keys()), "the manifest is of this set");
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
                // A file that cannot be opened to repair it is replaced below.
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

        // 3. See that it fits.
        space::check_limit(set, settings.max_bytes, published)?;
        let manifest = manifest.to_bytes();
        let (need, usage) = self.space(set, manifest.len(), published).map_err(|error| self.write_failed(&error))?;
        need.check(&usage)?;
        after(3);

        // 4. to 8. are undone as a whole.
        let mut rollback = Rollback::default();
        if let Err(error) = self.write_and_swap(set, &manifest, access, now, &mut rollback, after) {
            let failure = self.publication_failed(set, manifest.len(), published, &error);
            self.undo(&rollback);
            return Err(failure);
        }

        // 9. and 10. The new set is visible, so that a failure here is no failure of the publication.
        if let Err(error) = self.sweep(after) {
            tracing::warn!(target: "keyferry", reason = %Reason::WriteFailed, "{}; the next publication retries", Failure::chain(&error));
        }
        Ok(Published::Swapped)
    }

    /// Makes the directory again where it was removed or replaced under us.
    fn reopen_if_replaced(&mut self, settings: &Directory) -> Result<(), Failure> {
        let path = self.directory.path.display();
        if settings.path != self.directory.path {
            let other = settings.path.display();
            return Err(unusable_directory(format!("failed to publish files to {other}: the agent has output directory {path} open")));
        }
        if self.directory.is_in_place() {
            return Ok(());
        }
        let directory = OwnedDirectory::reopen(settings)?;
        tracing::warn!(
            target: "keyferry", reason = %Reason::DirectoryUnusable,
            "output directory {path} was removed while in use and has been re-created; containers that mount it by subPath \
             see an empty directory until you re-create the pod"
        );
        self.directory = directory;
        self.sweep(&mut |_| ()).map_err(|error| self.write_failed(&error))
    }

    /// Replaces the manifest of an equal set where it says something else. When the files were published stays.
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

    /// What a copy of the set needs, and what the volume has.
    fn space(&self, set: &FileSet, manifest: usize, published: bool) -> Result<(Need, Usage), StepError> {
        let root = &self.directory.fd;
        let volume = context("inspect the volume of", "the output directory", rustix::fs::fstatvfs(root))?;
        let mut found = std::collections::BTreeMap::new();
        // Only a message needs it, so that what can be counted is enough.
        compare::walk(root, "", &mut found).ok();
        // `st_blocks` counts in units of 512 bytes, whatever the block size (stat(2)).
        let blocks = found.values().map(|(_, stat)| u64::try_from(stat.st_blocks).unwrap_or(0)).sum::<u64>();
        Ok((Need::of(set, manifest, volume.f_frsize), Usage::new(&volume, blocks * 512, published)))
    }

    /// The failure of a step that needed room; the count before it does not see what others take meanwhile.
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
