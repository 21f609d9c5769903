//! A set of files that becomes visible as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{FilePath, Mode, SecretBytes, SourceName, Version};

/// One file to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The exact content. Shared, because the mirror takes the same bytes.
    pub bytes: Arc<SecretBytes>,
    /// Permission bits asked for; `None` takes the directory's default.
    pub mode: Option<Mode>,
    /// The sources whose readings the content was made from; never empty.
    pub sources: BTreeSet<SourceName>,
}

/// All files of one publication. The constructor of the layout (config) has made sure that no two paths collide, but for
/// files named after the keys of a secret, which render checks.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// Content by path.
    pub files: BTreeMap<FilePath, FileEntry>,
}

impl FileSet {
    /// Sum of all contents in bytes; what one copy needs in the volume, without rounding to pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }
}

/// Number of a published set, counted from 1 in the life of the agent process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is remembered of a published set beside its files, in the set itself, so that the next process can adopt it. Holds
/// no value and nothing to guess one by: names, versions and the layout as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Fingerprint of the outputs that the set was made by.
    pub layout: String,
    /// The sources that the set was made from.
    pub sources: BTreeMap<SourceName, ManifestSource>,
    /// For each file the sources that it was made from.
    pub files: BTreeMap<FilePath, BTreeSet<SourceName>>,
}

/// One source of a published set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestSource {
    /// [`Source::request_id`](super::Source::request_id) of what was read.
    pub request: String,
    /// What was read.
    pub version: Version,
    /// Whether it came with a lease, which a set of an earlier process may have outlived.
    pub leased: bool,
}

/// The set that an earlier process left visible.
#[derive(Clone, Default)]
pub struct AdoptedSet {
    /// Its files.
    pub files: FileSet,
    /// What was remembered of it.
    pub manifest: Manifest,
    /// When it was published.
    pub published: jiff::Timestamp,
}
