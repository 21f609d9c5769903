//! Removing what belongs to no visible set, and in the end everything.

use rustix::fd::OwnedFd;

use super::at::{self, Entry, StepError, context};
use super::file;
use super::names::{self, DATA_LINK, MANIFEST_FILE, STATE_FILE, visible_target};
use super::publish::Publisher;
use crate::model::{Failure, FailureClass, Reason};

impl Publisher {
    /// Removes what belongs to no visible set: steps 9 and 10, and at start the traces of a crash anywhere. Where it cannot
    /// find out which set is visible, it removes nothing.
    pub(super) fn sweep(&self, after: &mut impl FnMut(u8)) -> Result<(), StepError> {
        let root = &self.directory.fd;
        let current = self.directory.current()?;
        let set = self.directory.open_current()?;
        if let Some(set) = &set {
            file::remove_file(set, &file::temporary_name(MANIFEST_FILE))?;
        }
        let entries = context("list", "the output directory", at::entries(root))?;

        // 9. Visible links that lead nowhere.
        for entry in &entries {
            let alive = match &set {
                Some(set) => context("inspect", &entry.name, at::exists(set, &entry.name))?,
                None => false,
            };
            if !alive && is_visible_link(root, entry)? {
                context("remove symlink", &entry.name, at::remove_tree(root, &entry.name))?;
            }
        }
        after(9);

        // 10. Older sets, half-written sets, temporary links.
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

    /// Removes the visible set, all other sets, the links and the state file, for a directory that is no longer used. Leaves
    /// the directory itself, and what is not ours in it.
    ///
    /// # Errors
    /// `Local`/`WriteFailed` with what could not be removed. The set is then no longer visible, or untouched.
    pub fn retire(self) -> Result<(), Failure> {
        self.remove_all().map_err(|error| {
            let shown = self.directory.path.display();
            Failure::new(
                FailureClass::Local,
                Reason::WriteFailed,
                format!(
                    "failed to remove the files of output directory {shown}, which is no longer used: {}; they hold secrets, so \
                     remove them yourself",
                    Failure::chain(&error)
                ),
            )
        })
    }

    fn remove_all(&self) -> Result<(), StepError> {
        let root = &self.directory.fd;
        // First the link that makes the set visible: a reader sees the whole set or none.
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

/// Whether an entry is a visible link of ours: only links of exactly our form are.
fn is_visible_link(root: &OwnedFd, entry: &Entry) -> Result<bool, StepError> {
    if !entry.kind.is_symlink() {
        return Ok(false);
    }
    let target = context("read symlink", &entry.name, at::link_target(root, &entry.name))?;
    Ok(target.is_some_and(|target| target == visible_target(&entry.name)))
}
