//! Removal of what does not belong to the visible set, and of everything for an unused directory.

use rustix::fd::OwnedFd;

use super::at::{self, Entry, StepError, context};
use super::file;
use super::names::{self, DATA_LINK, MANIFEST_FILE, STATE_FILE, visible_target};
use super::publish::Publisher;
use crate::model::{Failure, FailureClass, Reason};

impl Publisher {
    /// Removes what does not belong to the visible set: steps 9 and 10 of a publication, and at start the remains of a
    /// crash. Removes nothing if it cannot determine which set is visible.
    pub(super) fn sweep(&self, after: &mut impl FnMut(u8)) -> Result<(), StepError> {
        let root = &self.directory.fd;
        let current = self.directory.current()?;
        let set = self.directory.open_current()?;
        if let Some(set) = &set {
            file::remove_file(set, &file::temporary_name(MANIFEST_FILE))?;
        }
        let entries = context("list", "the output directory", at::entries(root))?;

        // 9. Visible symlinks without a target.
        for entry in &entries {
            let has_target = match &set {
                Some(set) => context("inspect", &entry.name, at::exists(set, &entry.name))?,
                None => false,
            };
            if !has_target && is_visible_link(root, entry)? {
                context("remove symlink", &entry.name, at::remove_tree(root, &entry.name))?;
            }
        }
        after(9);

        // 10. Older sets, incomplete sets, temporary symlinks.
        for entry in &entries {
            let name = entry.name.as_str();
            let old_set = names::is_set_directory(name) && current.as_deref() != Some(name);
            if old_set || names::is_temporary(name) {
                context("remove", name, at::remove_tree(root, name))?;
            }
        }
        after(10);
        Ok(())
    }

    /// Removes all sets, the symlinks, and the state file from a directory that is no longer used. Keeps the directory
    /// and all files that keyferry did not create.
    ///
    /// # Errors
    /// `Local`/`WriteFailed` with the first entry that could not be removed. The visible set is then either complete or
    /// no longer visible.
    pub fn retire(self) -> Result<(), Failure> {
        self.remove_all().map_err(|error| {
            let shown = self.directory.path.display();
            Failure::new(
                FailureClass::Local,
                Reason::WriteFailed,
                format!(
                    "failed to remove the files of output directory {shown}, which is no longer used: {}; they hold \
                     secrets, so remove them yourself",
                    Failure::chain(&error)
                ),
            )
        })
    }

    fn remove_all(&self) -> Result<(), StepError> {
        let root = &self.directory.fd;
        // Remove the symlink of the visible set first, so that readers see the whole set or none.
        if self.directory.current()?.is_some() {
            file::remove_file(root, DATA_LINK)?;
        }
        for entry in context("list", "the output directory", at::entries(root))? {
            let name = entry.name.as_str();
            let managed = names::is_set_directory(name)
                || names::is_temporary(name)
                || name == STATE_FILE
                || is_visible_link(root, &entry)?;
            if managed {
                context("remove", name, at::remove_tree(root, name))?;
            }
        }
        Ok(())
    }
}

/// Whether an entry is a visible symlink of a set, that is, a symlink with exactly the target that keyferry gives it.
fn is_visible_link(root: &OwnedFd, entry: &Entry) -> Result<bool, StepError> {
    if !entry.kind.is_symlink() {
        return Ok(false);
    }
    let target = context("read symlink", &entry.name, at::link_target(root, &entry.name))?;
    Ok(target.is_some_and(|target| target == visible_target(&entry.name)))
}
