//! Does the next set fit? Counted before a byte is written.

use rustix::fs::StatVfs;

use super::compare::parents;
use crate::model::{Failure, FailureClass, FileSet, Reason};

/// What one copy of a set takes from the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes, each file rounded up to whole blocks (pages on tmpfs), and a block for each directory.
    bytes: u64,
    /// Files, directories and links.
    inodes: u64,
}

impl Need {
    pub(super) fn of(set: &FileSet, block: u64) -> Self {
        let block = block.max(1);
        let files: u64 = set.files.values().map(|file| (file.bytes.len() as u64).div_ceil(block) * block).sum();
        let directories = parents(set).len() as u64 + 1;
        let tops =
            set.files.keys().map(crate::model::FilePath::top).collect::<std::collections::BTreeSet<_>>().len() as u64;
        // One more inode for the temporary link.
        Self { bytes: files + directories * block, inodes: set.files.len() as u64 + directories + tops + 1 }
    }

    /// Says no if the copy does not fit. With nothing published yet *two* copies must fit, because later ones are written
    /// beside the one in use: better to fail at the first start than at the first rotation. Later, one copy is enough.
    pub(super) fn check(self, volume: &StatVfs, first: bool) -> Result<(), Failure> {
        let copies = if first { 2 } else { 1 };
        // Zero blocks or inodes: the file system knows no limit.
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        if volume.f_blocks != 0 && self.bytes.saturating_mul(copies) > free {
            return Err(self.no_space());
        }
        if volume.f_files != 0 && self.inodes.saturating_mul(copies) > volume.f_favail {
            return Err(self.no_space());
        }
        Ok(())
    }

    /// The failure for a full volume. It tells a size for the volume in steps of 64 KiB, so that nobody can work back to
    /// the length of a secret.
    pub(super) fn no_space(self) -> Failure {
        let kibibytes = (self.bytes * 2).div_ceil(64 * 1024) * 64;
        Failure::new(
            FailureClass::Local,
            Reason::NoSpace,
            format!(
                "failed to publish files: the volume is too small for two copies of the set; \
                 give it a sizeLimit of at least {kibibytes}Ki for this directory alone; the last published set stays"
            ),
        )
    }
}

/// The limit that the user set. The size of the set is not told: with one file it is the length of a secret.
pub(super) fn within_limit(set: &FileSet, max_bytes: Option<u64>) -> Result<(), Failure> {
    match max_bytes {
        Some(max) if set.size() > max => Err(Failure::new(
            FailureClass::Local,
            Reason::NoSpace,
            format!(
                "failed to publish files: the set is larger than the configured limit of {max} bytes; the last published set stays"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{FileEntry, FilePath, SecretBytes};

    fn set(files: &[(&str, usize)]) -> FileSet {
        FileSet {
            files: files
                .iter()
                .map(|(path, len)| {
                    let bytes = Arc::new(SecretBytes::new(vec![b'x'; *len]));
                    (FilePath::new(path).expect("path"), FileEntry { bytes, mode: None, sources: BTreeSet::new() })
                })
                .collect(),
        }
    }

    #[test]
    fn a_copy_is_counted_in_whole_pages_with_its_directories() {
        let need = Need::of(&set(&[("a", 0), ("b", 1), ("tls/key", 4097)]), 4096);
        // 0 + 1 + 2 pages, the set's directory and `tls`; 3 files, 2 directories, 3 visible links, 1 temporary link.
        assert_eq!(need, Need { bytes: 5 * 4096, inodes: 9 });
    }

    #[test]
    fn the_limit_is_told_but_never_the_size_of_the_set() {
        let message = within_limit(&set(&[("a", 1237)]), Some(1000)).expect_err("too large").message;
        assert!(message.contains("1000") && !message.contains("1237"), "{message}");
        assert!(within_limit(&set(&[("a", 1000)]), Some(1000)).is_ok());
        assert!(within_limit(&set(&[("a", 1000)]), None).is_ok());
        let message = Need::of(&set(&[("a", 1237)]), 4096).no_space().message;
        assert!(message.contains("64Ki") && !message.contains("1237"), "{message}");
    }
}
