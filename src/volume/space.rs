//! Checks before the first write whether the next set fits in the volume.

use rustix::fs::StatVfs;

use super::compare::{parent_directories, top_names};
use crate::model::{Failure, FailureClass, FileSet, Reason};

const KIB: u64 = 1024;

/// Sizes of sets in messages are rounded up to this many bytes, so that no message reveals the length of a secret.
const STEP: u64 = 32 * KIB;

/// Space that one copy of a set needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes: each file rounded up to whole blocks (pages on tmpfs), and one block per directory.
    bytes: u64,
    /// Inodes of files, directories, and symlinks.
    inodes: u64,
}

/// Current usage of a volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Capacity in bytes; `None` if unlimited.
    total: Option<u64>,
    free: u64,
    /// Capacity in inodes; `None` if unlimited.
    total_inodes: Option<u64>,
    free_inodes: u64,
    /// Bytes used by the output directory.
    own_bytes: u64,
    /// Whether a set is visible. The first publication requires space for *two* copies, because a later set is written
    /// next to the visible one: the check then fails at the first start and not at the first rotation.
    published: bool,
}

impl Usage {
    pub(super) fn new(volume: &StatVfs, own_bytes: u64, published: bool) -> Self {
        Self {
            // Zero blocks or inodes mean that the file system has no limit.
            total: (volume.f_blocks != 0).then(|| volume.f_blocks.saturating_mul(volume.f_frsize)),
            free: volume.f_bavail.saturating_mul(volume.f_frsize),
            total_inodes: (volume.f_files != 0).then_some(volume.f_files),
            free_inodes: volume.f_favail,
            own_bytes,
            published,
        }
    }

    fn copies(&self) -> u64 {
        if self.published { 1 } else { 2 }
    }
}

impl Need {
    /// Counts files, directories, and symlinks of `set`, and a manifest of `manifest` bytes. `block` is the block size
    /// in bytes.
    pub(super) fn of(set: &FileSet, manifest: usize, block: u64) -> Self {
        let block = block.max(1);
        let lengths = set.files.values().map(|file| file.bytes.len()).chain([manifest]);
        let files: u64 = lengths.map(|length| (length as u64).div_ceil(block) * block).sum();
        let directories = parent_directories(set).len() as u64 + 1;
        // The manifest, and one inode for the temporary link.
        let inodes = set.files.len() as u64 + directories + top_names(set).len() as u64 + 2;
        Self { bytes: files + directories * block, inodes }
    }

    /// Fails if the required number of copies does not fit.
    pub(super) fn check(self, usage: &Usage) -> Result<(), Failure> {
        let copies = usage.copies();
        let too_large = usage.total.is_some() && self.bytes.saturating_mul(copies) > usage.free;
        let too_many = usage.total_inodes.is_some() && self.inodes.saturating_mul(copies) > usage.free_inodes;
        if too_large || too_many { Err(self.no_space(usage)) } else { Ok(()) }
    }

    /// Failure for a full volume, with the current usage and a remedy.
    pub(super) fn no_space(self, usage: &Usage) -> Failure {
        let copies = usage.copies();
        let needed = (self.bytes * copies).next_multiple_of(STEP * copies);
        let cause = match (usage.total, usage.total_inodes) {
            (Some(total), _) if self.bytes * 2 > total => format!(
                "the volume cannot hold two copies of the set; set sizeLimit to at least {}Ki for this directory alone",
                (self.bytes * 2).next_multiple_of(STEP * 2) / KIB
            ),
            (_, Some(total)) if self.inodes * copies > usage.free_inodes => format!(
                "not enough inodes in the volume: {} needed, {} of {total} free; remove files that keyferry did not \
                 create",
                self.inodes * copies,
                usage.free_inodes
            ),
            (Some(total), _) => {
                let used = total.saturating_sub(usage.free);
                // Rounded down to hide the exact size of keyferry's files, which is the rest of the sum.
                let others = used.saturating_sub(usage.own_bytes) / (16 * KIB) * 16;
                let (free, size) = (usage.free / KIB, total / KIB);
                let size_limit = (used + needed).next_multiple_of(STEP * 2) / KIB;
                let (taken, remedy) = if others == 0 {
                    (String::new(), "raise sizeLimit")
                } else {
                    (
                        format!(", at least {others} KiB used by files that keyferry did not create"),
                        "remove them or raise sizeLimit",
                    )
                };
                format!(
                    "not enough space in the volume: {} KiB needed, {free} of {size} KiB free{taken}; {remedy} to \
                     {size_limit}Ki",
                    needed / KIB
                )
            }
            (None, _) => "not enough space in the volume; remove files that keyferry did not create".into(),
        };
        Failure::new(
            FailureClass::Local,
            Reason::NoSpace,
            format!("failed to publish files: {cause}{}", unchanged_note(usage.published)),
        )
    }
}

/// Checks the configured limit. The message omits the size of the set, which for one file is the length of a secret.
pub(super) fn check_limit(set: &FileSet, max_bytes: Option<u64>, published: bool) -> Result<(), Failure> {
    match max_bytes {
        Some(max) if set.size() > max => Err(Failure::new(
            FailureClass::Local,
            Reason::NoSpace,
            format!(
                "failed to publish files: the set is larger than directory.maxBytes ({max} bytes); raise it{}",
                unchanged_note(published)
            ),
        )),
        _ => Ok(()),
    }
}

fn unchanged_note(published: bool) -> &'static str {
    if published { "; the last published set is unchanged" } else { "" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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

    fn usage(total: u64, free: u64, own_bytes: u64, published: bool) -> Usage {
        Usage {
            total: Some(total * KIB),
            free: free * KIB,
            total_inodes: None,
            free_inodes: 0,
            own_bytes: own_bytes * KIB,
            published,
        }
    }

    #[test]
    fn need_counts_pages_directories_and_manifest() {
        let need = Need::of(&set(&[("a", 0), ("b", 1), ("tls/key", 4097)]), 300, 4096);
        // Pages: 0 + 1 + 2 for the files, 1 for the manifest, 2 for the directories. Inodes: 3 files, 1 manifest, 2
        // directories, 3 visible symlinks, 1 temporary symlink.
        assert_eq!(need, Need { bytes: 6 * 4096, inodes: 10 });
    }

    #[test]
    fn limit_error_shows_limit_but_not_set_size() {
        let message = check_limit(&set(&[("a", 1237)]), Some(1000), true).expect_err("too large").message;
        assert!(message.contains("1000") && !message.contains("1237"), "{message}");
        assert!(message.ends_with("raise it; the last published set is unchanged"), "{message}");
        assert!(check_limit(&set(&[("a", 1000)]), Some(1000), true).is_ok());
        assert!(check_limit(&set(&[("a", 1000)]), None, true).is_ok());
        let message = check_limit(&set(&[("a", 1237)]), Some(1000), false).expect_err("too large").message;
        assert!(message.ends_with("raise it"), "{message}");
    }

    #[test]
    fn full_volume_is_reported_with_space_used_by_other_files() {
        let need = Need::of(&set(&[("a", 1237)]), 300, 4096);
        let failure = need.check(&usage(256, 0, 12, true)).expect_err("full");
        assert_eq!(
            failure.message,
            "failed to publish files: not enough space in the volume: 32 KiB needed, 0 of 256 KiB free, at least 240 \
             KiB used by files that keyferry did not create; remove them or raise sizeLimit to 320Ki; the last \
             published set is unchanged"
        );
        let message = need.check(&usage(256, 8, 0, false)).expect_err("full").message;
        assert!(message.contains("64 KiB needed, 8 of 256 KiB free, at least 240 KiB used by"), "{message}");
        assert!(message.ends_with("raise sizeLimit to 320Ki"), "nothing is published yet: {message}");
        let message = need.check(&usage(256, 0, 256, true)).expect_err("full").message;
        assert!(message.contains("0 of 256 KiB free; raise sizeLimit to"), "{message}");
    }

    #[test]
    fn small_volume_is_reported_with_required_size_limit() {
        let need = Need::of(&set(&[("a", 1_000_000)]), 300, 4096);
        let message = need.check(&usage(1024, 1024, 0, false)).expect_err("too small").message;
        assert_eq!(
            message,
            "failed to publish files: the volume cannot hold two copies of the set; set sizeLimit to at least 1984Ki \
             for this directory alone"
        );
        assert!(need.check(&usage(1984, 1984, 0, false)).is_ok());
    }

    #[test]
    fn inodes_are_checked_if_volume_limits_them() {
        let need = Need::of(&set(&[("a", 1)]), 300, 4096);
        let mut usage = usage(1024, 1024, 0, true);
        usage.total_inodes = Some(30);
        usage.free_inodes = 3;
        let message = need.check(&usage).expect_err("no inodes").message;
        assert!(message.contains("not enough inodes in the volume: 5 needed, 3 of 30 free"), "{message}");
        (usage.total, usage.total_inodes) = (None, None);
        assert!(need.check(&usage).is_ok(), "a volume without limits");
    }
}
