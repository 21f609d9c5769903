//! The writing steps of a publication: files, symlinks, and the swap.

use jiff::Timestamp;
use rustix::fd::AsFd;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::at::{self, StepError, context};
use super::compare::{self, top_names};
use super::directory::{Access, DIRECTORY_MODE};
use super::file::{self, Attributes};
use super::manifest;
use super::names::{self, DATA_LINK, MANIFEST_FILE, visible_target};
use super::publish::Publisher;
use super::unusable::unusable_directory;
use crate::model::{Failure, FailureClass, FileSet, Reason};

impl Publisher {
    /// Step 1: rejects what no retry can fix before anything is changed.
    pub(super) fn validate(&self, set: &FileSet) -> Result<(), Failure> {
        if let Some(path) =
            compare::parent_directories(set).into_iter().find(|&path| set.files.keys().any(|p| p.as_str() == path))
        {
            return Err(Failure::new(
                FailureClass::Invalid,
                Reason::RenderFailed,
                format!(
                    "failed to publish file {path}: another file needs a directory of that name; rename one of the two"
                ),
            ));
        }
        let (root, shown) = (&self.directory.fd, self.directory.path.display());
        // Target of the symlink `name`, and whether another kind of file has that name.
        let inspect = |name: &str| -> Result<(Option<String>, bool), Failure> {
            let target = at::link_target(root, name);
            let found = target.and_then(|target| Ok((at::exists(root, name)? && target.is_none(), target)));
            let (taken, target) = context("inspect", name, found).map_err(|error| self.write_failed(&error))?;
            Ok((target, taken))
        };
        if inspect(DATA_LINK)?.1 {
            return Err(unusable_directory(format!(
                "failed to publish files to {shown}: {shown}/{DATA_LINK} is not a symlink; remove it (rm -r \
                 {shown}/{DATA_LINK}), or set directory.path (KEYFERRY_DIRECTORY) to another directory"
            )));
        }
        for path in set.files.keys() {
            let top = path.top();
            let (target, taken) = inspect(top)?;
            if taken || target.is_some_and(|target| target != visible_target(top)) {
                return Err(unusable_directory(format!(
                    "failed to publish file {path}: {shown} already contains {top}, which keyferry did not create; \
                     remove it, or set directory.path (KEYFERRY_DIRECTORY) to another directory"
                )));
            }
        }
        Ok(())
    }

    /// Steps 4 to 8. Records what it creates in `rollback`, which [`Publisher::undo`] removes after a failure.
    pub(super) fn write_and_swap(
        &self,
        set: &FileSet,
        manifest: &[u8],
        access: Access,
        now: Timestamp,
        rollback: &mut Rollback,
        after: &mut impl FnMut(u8),
    ) -> Result<(), StepError> {
        let root = &self.directory.fd;

        // 4. Create a new directory.
        let name = names::fresh_directory(now);
        context("create directory", &name, rustix::fs::mkdirat(root, name.as_str(), Mode::RWXU))?;
        rollback.directory = Some(name.clone());
        let fresh = context("open directory", &name, at::open_directory(root, &name))?;
        after(4);

        // 5. Write the files. Then open the directories to other UIDs: the deepest first, the root of the set last.
        let directories = compare::parent_directories(set);
        for path in &directories {
            context("create directory", path, rustix::fs::mkdirat(&fresh, *path, Mode::RWXU))?;
        }
        for (path, entry) in &set.files {
            let mode = entry.mode.map_or(access.file_mode, |mode| Mode::from_raw_mode(mode.bits()));
            let attributes = Attributes { mode, group: access.group, sync: true };
            file::create_file(&fresh, path.as_str(), entry.bytes.expose(), attributes)?;
            after(5);
        }
        file::create_file(&fresh, MANIFEST_FILE, manifest, manifest::attributes(access))?;
        for path in directories.iter().rev() {
            context("open directory", path, at::open_directory(&fresh, path))
                .and_then(|fd| finish(path, &fd, access))?;
        }
        finish(&name, &fresh, access)?;

        // 6. Create visible symlinks for new names.
        for top in top_names(set) {
            match rustix::fs::symlinkat(visible_target(top), root, top) {
                Ok(()) => rollback.links.push(top.into()),
                // A symlink of an earlier set; step 1 has checked its target.
                Err(Errno::EXIST) => {}
                Err(errno) => return context("create symlink", top, Err(errno)),
            }
            after(6);
        }

        // 7. Create the temporary symlink.
        let link = names::temporary_link();
        context("create symlink", &link, rustix::fs::symlinkat(&name, root, link.as_str()))?;
        rollback.links.push(link.clone());
        after(7);

        // 8. Swap.
        context("rename symlink", &link, rustix::fs::renameat(root, link.as_str(), root, DATA_LINK))?;
        // From here on there is nothing to undo. A failed sync matters only if the machine crashes; the agent then
        // publishes again.
        if let Err(errno) = rustix::fs::fsync(root) {
            tracing::debug!(target: "keyferry", "failed to sync {}: {errno}", self.directory.path.display());
        }
        after(8);
        Ok(())
    }

    /// Removes what a failed publication created. The next publication or start sweeps what cannot be removed here.
    pub(super) fn undo(&self, rollback: &Rollback) {
        for name in rollback.links.iter().rev().chain(&rollback.directory) {
            if let Err(errno) = at::remove_tree(&self.directory.fd, name) {
                tracing::debug!(target: "keyferry", "failed to remove {name}: {errno}");
            }
        }
    }
}

/// Sets group and mode of a complete directory, which opens it to other UIDs, and syncs it.
fn finish(name: &str, directory: impl AsFd, access: Access) -> Result<(), StepError> {
    let directory = directory.as_fd();
    if access.group.is_some() {
        context("set the group of", name, rustix::fs::fchown(directory, None, access.group))?;
    }
    context("set the mode of", name, rustix::fs::fchmod(directory, DIRECTORY_MODE))?;
    context("sync", name, rustix::fs::fsync(directory))
}

/// What to remove if the publication fails.
#[derive(Default)]
pub(super) struct Rollback {
    directory: Option<String>,
    links: Vec<String>,
}
