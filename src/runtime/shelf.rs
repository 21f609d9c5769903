//! Where secret bytes wait between a read and a publication. The brain only knows their names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{FileSet, Reading, Settings, SourceName, VaultToken, Version};

/// Accepted and just delivered readings, tokens, and the published set.
#[derive(Default)]
pub(super) struct Shelf {
    accepted: BTreeMap<SourceName, Arc<Reading>>,
    delivered: BTreeMap<SourceName, Arc<Reading>>,
    tokens: BTreeMap<u64, VaultToken>,
    published: Option<Arc<PublishedSet>>,
}

/// The visible set and what a mirror needs to know of it.
pub(super) struct PublishedSet {
    /// All files.
    pub(super) all: FileSet,
    /// Without the files of sources with leases.
    pub(super) unleased: FileSet,
    /// What each source held.
    pub(super) versions: BTreeMap<SourceName, Version>,
}

impl Shelf {
    /// Keeps a reading until the brain accepts it. Whether it differs from the accepted one.
    pub(super) fn deliver(&mut self, source: SourceName, reading: Arc<Reading>) -> bool {
        let changed = self.accepted.get(&source).is_none_or(|old| old.data != reading.data);
        self.delivered.insert(source, reading);
        changed
    }

    pub(super) fn accept(&mut self, source: &SourceName) {
        if let Some(reading) = self.delivered.remove(source) {
            self.accepted.insert(source.clone(), reading);
        }
    }

    /// Drops what was delivered and not accepted.
    pub(super) fn forget_delivered(&mut self) {
        self.delivered.clear();
    }

    pub(super) fn readings(&self) -> BTreeMap<SourceName, Arc<Reading>> {
        self.accepted.clone()
    }

    /// Keeps the token of a login under the number of its ticket.
    pub(super) fn keep_token(&mut self, number: u64, token: VaultToken) {
        self.tokens.insert(number, token);
    }

    /// The token of a session; older ones are not needed any more.
    pub(super) fn token(&mut self, number: u64) -> Option<VaultToken> {
        self.tokens.retain(|kept, _| *kept >= number);
        self.tokens.get(&number).cloned()
    }

    pub(super) fn publish(&mut self, set: PublishedSet) {
        self.published = Some(Arc::new(set));
    }

    pub(super) fn published(&self) -> Option<Arc<PublishedSet>> {
        self.published.clone()
    }

    /// Forgets readings of sources that are gone or are read from another place now.
    pub(super) fn reconcile(&mut self, old: &Settings, new: &Settings) {
        let moved: BTreeSet<_> = self
            .accepted
            .keys()
            .filter(|name| match (old.sources.get(name), new.sources.get(name)) {
                (Some(old), Some(new)) => !old.same_place(new),
                _ => true,
            })
            .cloned()
            .collect();
        self.accepted.retain(|name, _| !moved.contains(name));
    }
}
