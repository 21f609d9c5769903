//! Which set is visible, and when to publish the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::io::{PublishedSet, Ticket};
use super::notifications::Notifications;
use super::replaced::{LeaseInUse, LeasesInUse, ReplacedLeases};
use super::sources::Sources;
use super::store::Store;
use super::sync::SyncState;
use super::time::{Elapsed, Now};
use crate::model::{
    AdoptedSet, FileSet, Generation, LeaseId, Manifest, ManifestSource, NotificationRecord, Output, Settings,
    SourceName,
};

/// Maximum interval between two comparisons of the output directory with the visible set. An unchanged directory is only
/// read.
const RESYNC: Duration = Duration::from_secs(60);

/// The visible set and the publication in flight.
#[derive(Clone, Default)]
pub(super) struct Publication {
    pub(super) sync: SyncState,
    /// The visible set, of this process or adopted from an earlier one.
    visible: Option<Arc<PublishedSet>>,
    /// The leases of the visible set.
    leases: LeasesInUse,
    in_flight: Option<(Arc<PublishedSet>, LeasesInUse)>,
    /// Replacement of the manifest of the visible set, because the state of the notifications changed.
    pub(super) recording: SyncState,
    /// The visible set with the new manifest.
    being_recorded: Option<Arc<PublishedSet>>,
    generation: Option<Generation>,
    /// When the adopted set was published, while it is the visible one.
    adopted: Option<Timestamp>,
    /// When to publish the visible set again, in case its directory was removed or changed.
    resync: Option<Elapsed>,
}

impl Publication {
    /// Adopts the visible set of an earlier process.
    pub(super) fn adopt(&mut self, set: &AdoptedSet) {
        self.visible = Some(Arc::new(PublishedSet::new(set.files.clone(), set.manifest.clone())));
        self.adopted = Some(set.published);
    }

    /// The visible set, of this process or adopted.
    pub(super) fn visible(&self) -> Option<&Arc<PublishedSet>> {
        self.visible.as_ref()
    }

    /// The files of the visible set.
    pub(super) fn files(&self) -> Option<&FileSet> {
        self.visible.as_ref().map(|set| &set.files)
    }

    /// Number of the set that this process published last, counted from 1; `None` for an adopted set.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The sources whose visible files are those of the seed.
    pub(super) fn seeded(&self) -> impl Iterator<Item = &SourceName> {
        self.visible.iter().flat_map(|set| &set.seeded)
    }

    /// When the visible set was published, if it is an adopted one.
    pub(super) fn adopted(&self) -> Option<Timestamp> {
        self.adopted
    }

    /// The leases of the visible set and of the set in flight.
    fn leases(&self) -> impl Iterator<Item = &LeaseInUse> {
        let next = self.in_flight.iter().flat_map(|(_, leases)| leases.values());
        self.leases.values().chain(next)
    }

    /// Whether the token of that number owns a lease of the visible set or of the set in flight.
    pub(super) fn uses_token(&self, number: u64) -> bool {
        self.leases().any(|lease| lease.token == number)
    }

    /// Whether the visible set or the set in flight contains the lease.
    pub(super) fn uses_lease(&self, id: &LeaseId) -> bool {
        self.leases().any(|lease| lease.id == *id)
    }

    /// Records the start of a publication with the leases of its set.
    pub(super) fn started(&mut self, set: Arc<PublishedSet>, leases: LeasesInUse) {
        self.in_flight = Some((set, leases));
    }

    /// Makes the set in flight the visible one. `swapped`: its files differ from the previous ones. Passes the leases of
    /// the previous set to `replaced`. Returns whether it is a new generation.
    pub(super) fn published(&mut self, swapped: bool, replaced: &mut ReplacedLeases, now: &Now) -> bool {
        if let Some((set, leases)) = self.in_flight.take() {
            replaced.replace(&self.leases, &leases, now);
            (self.visible, self.leases) = (Some(set), leases);
        }
        self.adopted = None;
        let new = swapped || self.generation.is_none();
        if new {
            self.generation = Some(self.generation.unwrap_or_default().next());
        }
        new
    }

    /// The visible set with this record in its manifest, to be published in place of it.
    pub(super) fn with_record(&self, record: NotificationRecord) -> Option<Arc<PublishedSet>> {
        let mut set = PublishedSet::clone(self.visible.as_ref()?);
        set.manifest.notifications = record;
        Some(Arc::new(set))
    }

    /// Records the start of a replacement of the manifest.
    pub(super) fn recording_started(&mut self, ticket: Ticket, set: Arc<PublishedSet>) {
        self.recording.started(ticket);
        self.being_recorded = Some(set);
    }

    /// Ends the replacement of the manifest with success. The set stays adopted if it was.
    pub(super) fn recorded(&mut self, ticket: Ticket) {
        if self.recording.succeeded(ticket) {
            self.visible = self.being_recorded.take().or(self.visible.take());
        }
    }

    /// Abandons the set in flight, whose publication failed. Revokes its leases that neither the visible set nor the next one,
    /// with the leases `next`, contains.
    pub(super) fn failed(&mut self, next: &LeasesInUse, replaced: &mut ReplacedLeases, now: &Now) {
        for (source, lease) in self.in_flight.take().into_iter().flat_map(|(_, leases)| leases) {
            if !self.uses_lease(&lease.id) && !next.values().any(|held| held.id == lease.id) {
                replaced.discard(&source, lease.id, lease.token, now);
            }
        }
    }

    /// Schedules the next resync.
    pub(super) fn schedule_resync(&mut self, now: &Now) {
        self.resync = Some(now.at + now.share(RESYNC, 0.75, 1.0, 42));
    }

    /// When the visible set is due to be published again; `None` while another publication is due or in flight.
    pub(super) fn resync_due(&self) -> Option<Elapsed> {
        self.resync.filter(|_| self.sync.is_current())
    }

    /// Makes a set visible that was published to a new directory.
    pub(super) fn moved(
        &mut self,
        set: Arc<PublishedSet>,
        leases: LeasesInUse,
        replaced: &mut ReplacedLeases,
        now: &Now,
    ) {
        self.in_flight = Some((set, leases));
        self.published(true, replaced, now);
    }
}

/// Builds the set of the accepted readings. `added`: the sources of computed calls. `notifications`: with the files of the
/// visible set. `verified`: whether a trial has read the source as `settings` configure it. Otherwise, `sources` know the
/// request of the reading.
pub(super) fn set(
    settings: &Settings,
    store: &Store,
    sources: &Sources,
    added: &BTreeSet<SourceName>,
    notifications: (&Notifications, Option<&FileSet>),
    verified: impl Fn(&SourceName) -> bool,
) -> Arc<PublishedSet> {
    let files = store.files();
    let (notifications, visible) = notifications;
    let record = notifications.record_for(&files, visible);
    let mut known = BTreeMap::new();
    for (name, spec) in settings.sources.iter().filter(|(name, _)| !added.contains(*name)) {
        let held = || sources.get(name).and_then(|source| source.held.as_ref()).map(|held| held.request.clone());
        let request = if verified(name) { Some(spec.request_id()) } else { held() };
        let entry = match (store.reading(name), request) {
            (Some(reading), Some(request)) => Some(ManifestSource {
                request,
                version: reading.version.clone(),
                leased: reading.validity.lease().is_some(),
                seeded: false,
            }),
            _ => store.adopted(name).cloned(),
        };
        known.extend(entry.map(|entry| (name.clone(), entry)));
    }
    // The next process does not know the sources of computed calls before it renders the template.
    let provenance = files.files.iter().map(|(path, entry)| {
        let sources = entry.sources.iter().filter(|name| known.contains_key(*name));
        (path.clone(), sources.cloned().collect())
    });
    let provenance = provenance.collect();
    // The next process adopts all files as outdated.
    let layout = (!store.has_outdated()).then(|| layout_id(&settings.outputs));
    let server = settings.server.id();
    let manifest = Manifest { server, layout, sources: known, files: provenance, notifications: record };
    let mut set = PublishedSet::new(files, manifest);
    let is_leased = |name: &&SourceName| store.reading(name).is_some_and(|reading| reading.validity.lease().is_some());
    set.leased.extend(added.iter().filter(is_leased).cloned());
    set.computed.clone_from(added);
    Arc::new(set)
}

/// Fingerprint of the configured outputs.
pub(super) fn layout_id(outputs: &[Output]) -> String {
    let hash = digest(&SHA256, format!("{:?}", outputs.iter().map(Output::configured).collect::<Vec<_>>()).as_bytes());
    hash.as_ref().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
