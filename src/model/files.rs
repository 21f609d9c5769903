//! Sets of files, which become visible as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{FilePath, Mode, NotificationRecord, SecretBytes, SourceName, Version};

/// One file to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The exact content. Shared with the mirrored Secrets.
    pub bytes: Arc<SecretBytes>,
    /// Permission bits; `None` is the default of the directory.
    pub mode: Option<Mode>,
    /// The sources that the content is rendered from. At least one.
    pub sources: BTreeSet<SourceName>,
}

/// All files of one publication. No two paths collide: `config` checks configured paths, and `render` checks paths that come
/// from the keys of a secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// Content by path.
    pub files: BTreeMap<FilePath, FileEntry>,
}

impl FileSet {
    /// Total size of all contents in bytes, without rounding to pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }
}

/// Number of a published set. Each agent process counts from 1; 0 before its first publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The next number.
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

/// Description of a published set, stored in the set, so that the next process can adopt it. Contains names, versions and
/// the configured layout, and no value, length or hash of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// [`VaultServer::id`](super::VaultServer::id). Versions of different servers cannot be compared.
    pub server: String,
    /// Fingerprint of the configured outputs; `None` if the set contains files of other outputs.
    pub layout: Option<String>,
    /// The sources that the set is rendered from.
    pub sources: BTreeMap<SourceName, ManifestSource>,
    /// The sources of each file.
    pub files: BTreeMap<FilePath, BTreeSet<SourceName>>,
    /// Which notifications of the application are pending.
    pub notifications: NotificationRecord,
}

impl Manifest {
    /// Whether both describe the same files of the same sources.
    #[must_use]
    pub fn has_same_sources(&self, other: &Self) -> bool {
        let Self { server, layout, sources, files, notifications: _ } = self;
        (server, layout, sources, files) == (&other.server, &other.layout, &other.sources, &other.files)
    }

    /// The sources whose files are those of the seed.
    pub fn seeded(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.iter().filter(|(_, source)| source.seeded).map(|(name, _)| name)
    }
}

/// One source of a published set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestSource {
    /// [`Source::request_id`](super::Source::request_id) of the reading.
    pub request: String,
    /// Version of the reading.
    pub version: Version,
    /// Whether the reading has a lease, which can have expired since.
    pub leased: bool,
    /// Whether the files are those of the seed, so that their version is unknown.
    pub seeded: bool,
}

/// Content of the files in the directory of a [`Seed`](super::Seed), by name.
pub type SeedData = BTreeMap<String, Arc<SecretBytes>>;

/// The visible set of an earlier process.
#[derive(Clone, Default)]
pub struct AdoptedSet {
    /// The files of the set.
    pub files: FileSet,
    /// The description stored in the set.
    pub manifest: Manifest,
    /// Time of the publication.
    pub published: jiff::Timestamp,
}
