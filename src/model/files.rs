//! A set of files that becomes visible as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{FilePath, Mode, SecretBytes};

/// One file to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The exact content. Shared, because the mirror takes the same bytes.
    pub bytes: Arc<SecretBytes>,
    /// Permission bits asked for; `None` takes the directory's default.
    pub mode: Option<Mode>,
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
