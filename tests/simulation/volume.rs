//! A simulated memory volume: each directory contains one set or none. A publication replaces the whole set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyferry::agent::PublishedSet;
use keyferry::model::{AdoptedSet, Failure, FailureClass, Reason};

#[derive(Clone)]
pub struct Visible {
    pub set: Arc<PublishedSet>,
    pub published: Timestamp,
}

#[derive(Default)]
pub struct Volume {
    pub directories: BTreeMap<PathBuf, Visible>,
    pub full: Duration,
}

impl Volume {
    /// Makes `set` visible; returns whether the visible files changed.
    pub fn publish(
        &mut self,
        path: &Path,
        set: &Arc<PublishedSet>,
        now: Duration,
        wall: Timestamp,
    ) -> Result<bool, Failure> {
        let before = self.directories.get(path);
        let swapped = before.is_none_or(|before| before.set.files != set.files);
        let recorded = |before: &Visible| before.set.manifest.notifications != set.manifest.notifications;
        if (swapped || before.is_some_and(recorded)) && self.full > now {
            return Err(Failure::new(
                FailureClass::Local,
                Reason::NoSpace,
                "failed to write files: the volume is full",
            ));
        }
        let visible = Visible { set: Arc::clone(set), published: wall };
        self.directories.insert(path.to_owned(), visible);
        Ok(swapped)
    }

    /// The set that the next process can adopt.
    pub fn adopted(&self, path: &Path) -> Option<AdoptedSet> {
        let visible = self.directories.get(path)?;
        let (files, manifest) = (visible.set.files.clone(), visible.set.manifest.clone());
        Some(AdoptedSet { files, manifest, published: visible.published })
    }
}
