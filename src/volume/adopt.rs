//! Adoption of the set that an earlier process published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::at::{StepError, context};
use super::compare;
use super::directory::is_owned;
use super::file;
use super::manifest::{SetManifest, Unreadable};
use super::names::MANIFEST_FILE;
use super::publish::Publisher;
use crate::model::{AdoptedSet, Failure, FailureClass, FileEntry, FilePath, FileSet, Reason, SecretBytes, SourceName};

/// Maximum size in bytes of a set that is read. Volumes of this size are not expected.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

impl Publisher {
    /// Reads the visible set. `None` if there is no set, or if its manifest is unreadable, has another format version,
    /// or does not match the files. Such a set stays visible until the next publication.
    ///
    /// # Errors
    /// `Local`/`DirectoryUnusable` if an I/O error prevents reading, so that it is unknown whether a usable set exists.
    pub fn adopt(&self) -> Result<Option<AdoptedSet>, Failure> {
        match self.read_current() {
            Ok(adopted) => Ok(adopted),
            Err(AdoptError::Damaged(why)) => {
                tracing::warn!(
                    target: "keyferry",
                    "failed to adopt the published set in {}: {why}; it stays in place until a new set is published",
                    self.directory.path.display()
                );
                Ok(None)
            }
            Err(AdoptError::Io(error)) => Err(Failure::new(
                FailureClass::Local,
                Reason::DirectoryUnusable,
                format!(
                    "failed to read the published set in {}: {}",
                    self.directory.path.display(),
                    Failure::chain(&error)
                ),
            )),
        }
    }

    fn read_current(&self) -> Result<Option<AdoptedSet>, AdoptError> {
        let Some(set) = self.directory.open_current()? else { return Ok(None) };
        let stat = context("inspect", "the published set", rustix::fs::fstat(&set))?;
        if !is_owned(&stat, FileType::Directory) {
            return Err(AdoptError::Damaged("it is owned by another UID".into()));
        }
        let SetManifest { manifest, published, modes } = SetManifest::read(&set).map_err(|error| match error {
            Unreadable::Damaged(why) => AdoptError::Damaged(why.into()),
            Unreadable::Io(errno) => adopt_error(MANIFEST_FILE, errno),
        })?;
        let mut found = BTreeMap::new();
        context("list", "the published set", compare::walk(&set, "", &mut found))?;
        found.remove(MANIFEST_FILE);
        found.retain(|_, (kind, _)| !kind.is_dir());
        if !found.keys().map(String::as_str).eq(manifest.files.keys().map(FilePath::as_str)) {
            return Err(AdoptError::Damaged("its files are not those in its manifest".into()));
        }
        if found.values().map(|(_, stat)| file::size(stat)).sum::<u64>() > MAX_BYTES {
            return Err(AdoptError::Damaged("it is larger than 64 MiB".into()));
        }
        let read = |(path, sources): (&FilePath, &BTreeSet<SourceName>)| {
            Ok((
                path.clone(),
                FileEntry { bytes: read_file(&set, path)?, mode: modes.get(path).copied(), sources: sources.clone() },
            ))
        };
        let files = manifest.files.iter().map(read).collect::<Result<_, AdoptError>>()?;
        Ok(Some(AdoptedSet { files: FileSet { files }, manifest, published }))
    }
}

/// Why the visible set cannot be adopted.
enum AdoptError {
    /// The set exists but is unusable.
    Damaged(String),
    /// The set could not be read this time.
    Io(StepError),
}

impl From<StepError> for AdoptError {
    fn from(error: StepError) -> Self {
        Self::Io(error)
    }
}

/// Classifies an errno on one file of the set. Some show that the set was changed; the others say nothing about the
/// set.
fn adopt_error(path: &str, errno: Errno) -> AdoptError {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::LOOP | Errno::ACCESS => {
            AdoptError::Damaged(format!("failed to read its file {path}: {errno}"))
        }
        _ => AdoptError::Io(StepError::new("read", path, errno)),
    }
}

fn read_file(set: &OwnedFd, path: &FilePath) -> Result<Arc<SecretBytes>, AdoptError> {
    let failed = |errno| adopt_error(path.as_str(), errno);
    let (opened, stat) = file::open_regular(set, path.as_str()).map_err(failed)?;
    if !is_owned(&stat, FileType::RegularFile) {
        return Err(AdoptError::Damaged(format!("its file {path} is owned by another UID")));
    }
    file::read_exact_size(opened, file::size(&stat)).map(Arc::new).map_err(failed)
}
