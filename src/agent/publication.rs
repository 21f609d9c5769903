//! When to make the accepted readings visible, and what is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::sync::SyncState;
use super::io::PublishedSet;
use super::sources::Sources;
use super::store::Store;
use crate::model::{AdoptedSet, Generation, Manifest, ManifestSource, Output, Settings, SourceName};

/// What is visible and what should be.
#[derive(Clone, Default)]
pub(super) struct Publication {
    pub(super) sync: SyncState,
    /// The visible set, of this process or adopted from an earlier one.
    visible: Option<Arc<PublishedSet>>,
    /// Numbers of the tokens on which leases of the visible set hang.
    tokens: BTreeSet<u64>,
    in_flight: Option<(Arc<PublishedSet>, BTreeSet<u64>)>,
    generation: Option<Generation>,
    /// When the adopted set was published, as long as it is the visible one.
    adopted: Option<Timestamp>,
}

impl Publication {
    /// Starts from the set that an earlier process left.
    pub(super) fn adopt(&mut self, set: &AdoptedSet) {
        let leased = set.manifest.sources.iter().filter(|(_, source)| source.leased).map(|(name, _)| name.clone());
        self.visible = Some(Arc::new(PublishedSet {
            files: set.files.clone(),
            manifest: set.manifest.clone(),
            leased: leased.collect(),
        }));
        self.adopted = Some(set.published);
    }

    /// The visible set, if one is known.
    pub(super) fn visible(&self) -> Option<&Arc<PublishedSet>> {
        self.visible.as_ref()
    }

    /// Number of the visible set in the life of this process; `None` also for an adopted one.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// When the visible set was published, if an earlier process did it.
    pub(super) fn adopted(&self) -> Option<Timestamp> {
        self.adopted
    }

    /// Whether a lease of the visible set, or of one that is about to be, hangs on the token of that number.
    pub(super) fn uses_token(&self, number: u64) -> bool {
        let next = self.in_flight.as_ref().is_some_and(|(_, tokens)| tokens.contains(&number));
        next || self.tokens.contains(&number)
    }

    /// `tokens`: those on which leases of the set hang.
    pub(super) fn started(&mut self, set: Arc<PublishedSet>, tokens: BTreeSet<u64>) {
        self.in_flight = Some((set, tokens));
    }

    /// The set in flight is visible. `swapped`: its files differ from those before. Whether it is a new generation.
    pub(super) fn published(&mut self, swapped: bool) -> bool {
        if let Some((set, tokens)) = self.in_flight.take() {
            (self.visible, self.tokens) = (Some(set), tokens);
        }
        self.adopted = None;
        let new = swapped || self.generation.is_none();
        if new {
            self.generation = Some(self.generation.unwrap_or_default().next());
        }
        new
    }

    /// Takes over a set that was made visible in another directory.
    pub(super) fn moved(&mut self, set: Arc<PublishedSet>, tokens: BTreeSet<u64>) {
        self.in_flight = Some((set, tokens));
        self.published(true);
    }
}

/// The set that the accepted readings make. `proved`: whether the reading of a source is one of what `settings` ask for that
/// `sources` do not hold yet, because a trial has read it.
pub(super) fn set(
    settings: &Settings,
    store: &Store,
    sources: &Sources,
    verified: impl Fn(&SourceName) -> bool,
    before: Option<&Arc<PublishedSet>>,
) -> Arc<PublishedSet> {
    let files = store.files();
    let mut known = BTreeMap::new();
    for (name, spec) in &settings.sources {
        let held = || sources.get(name).and_then(|source| source.held.as_ref()).map(|held| held.request.clone());
        let request = if verified(name) { Some(spec.request_id()) } else { held() };
        let entry = match (store.reading(name), request) {
            (Some(reading), Some(request)) => Some(ManifestSource {
                request,
                version: reading.version.clone(),
                leased: reading.validity.lease().is_some(),
            }),
            // Its files are still those of an earlier process.
            _ if store.has_adopted(name) => before.and_then(|set| set.manifest.sources.get(name).cloned()),
            _ => None,
        };
        known.extend(entry.map(|entry| (name.clone(), entry)));
    }
    let leased = known.iter().filter(|(_, source)| source.leased).map(|(name, _)| name.clone()).collect();
    let provenance = files.files.iter().map(|(path, entry)| (path.clone(), entry.sources.clone())).collect();
    let manifest = Manifest { layout: layout_id(&settings.outputs), sources: known, files: provenance };
    Arc::new(PublishedSet { files, manifest, leased })
}

/// Fingerprint of the outputs as configured, equal for equal outputs only.
pub(super) fn layout_id(outputs: &[Output]) -> String {
    let hash = digest(&SHA256, format!("{outputs:?}").as_bytes());
    hash.as_ref().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
