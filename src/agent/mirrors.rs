//! Keeps the mirrored Secrets in sync with the published set. A Secret can lag behind it but never contradicts it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::io::{MirrorRequest, MirrorResult, Op, PublishedSet, Ticket};
use super::outbox::Outbox;
use super::sources::Sources;
use super::sync::SyncState;
use super::time::{Elapsed, Now};
use crate::model::{Failure, Generation, Mirror, ObjectName, Reason, Settings, SourceName, Version};
use crate::render;

/// Maximum interval between two comparisons of a mirrored Secret, which another client may have edited or deleted.
/// Jitter shortens it by up to a quarter, so the Secret is restored within a minute.
const RESYNC: Duration = Duration::from_secs(55);

/// Initial and maximum wait before a Secret is taken from another configuration that also writes it. The wait doubles.
const CLAIM_WAIT: Duration = Duration::from_secs(600);
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(3600);

/// All mirrored Secrets.
#[derive(Clone, Default)]
pub(super) struct Mirrors {
    all: BTreeMap<ObjectName, MirrorState>,
    /// Writes in flight of mirrors that a reload removed or changed. A Secret is written again only after they end.
    orphans: BTreeMap<Ticket, ObjectName>,
}

/// One mirrored Secret.
#[derive(Clone)]
pub(super) struct MirrorState {
    spec: Mirror,
    pub(super) sync: SyncState,
    /// The generation that the Secret was last confirmed to hold.
    holds: Option<Generation>,
    pub(super) confirmed: Option<(Elapsed, Timestamp)>,
    /// Since when the Secret has held a newer version of another replica.
    pub(super) superseded: Option<Elapsed>,
    in_flight: Option<Generation>,
    resync: Option<Elapsed>,
    /// When the Secret may be taken from another configuration; `None` after this configuration wrote it.
    claim_at: Option<Elapsed>,
    conflicts: u32,
    /// The last time at which another configuration was found to have written the Secret.
    conflict: Option<Elapsed>,
    /// The sources in the last request.
    contributors: BTreeSet<SourceName>,
    /// Their requests, which identify the configuration.
    requests: Vec<String>,
}

impl MirrorState {
    fn new(spec: Mirror) -> Self {
        let mut sync = SyncState::default();
        sync.request();
        Self {
            spec,
            sync,
            holds: None,
            confirmed: None,
            superseded: None,
            in_flight: None,
            resync: None,
            claim_at: Some(Elapsed::ZERO),
            conflicts: 0,
            conflict: None,
            contributors: BTreeSet::new(),
            requests: Vec::new(),
        }
    }
}

/// The outcome of a mirror operation.
pub(super) struct MirrorAnswer {
    pub(super) name: ObjectName,
    pub(super) result: Result<MirrorResult, Failure>,
    /// Whether the Secret was confirmed before this operation.
    pub(super) confirmed_before: bool,
    /// Sources of which another replica has a newer version.
    pub(super) outdated: BTreeSet<SourceName>,
}

impl Mirrors {
    pub(super) fn new(specs: &BTreeMap<ObjectName, Mirror>) -> Self {
        let all = specs.iter().map(|(name, spec)| (name.clone(), MirrorState::new(spec.clone()))).collect();
        Self { all, orphans: BTreeMap::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &MirrorState)> {
        self.all.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn reconcile(&mut self, specs: &BTreeMap<ObjectName, Mirror>) {
        let mut old = std::mem::take(&mut self.all);
        for (name, spec) in specs {
            let state = match old.remove(name) {
                Some(state) if state.spec == *spec => state,
                changed => {
                    self.orphan(name, changed);
                    MirrorState::new(spec.clone())
                }
            };
            self.all.insert(name.clone(), state);
        }
        for (name, state) in old {
            self.orphan(&name, Some(state));
        }
    }

    fn orphan(&mut self, name: &ObjectName, state: Option<MirrorState>) {
        if let Some(ticket) = state.and_then(|state| state.sync.ticket()) {
            self.orphans.insert(ticket, name.clone());
        }
    }

    /// Whether every Secret holds this generation, or a newer version of another replica.
    pub(super) fn are_current(&self, generation: Option<Generation>) -> bool {
        let holds = |mirror: &MirrorState| mirror.holds == generation || mirror.superseded.is_some();
        self.all.values().all(|mirror| holds(mirror) && mirror.sync.failure.is_none())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.all.values().any(|mirror| mirror.sync.is_busy())
    }

    /// The failure that blocks a mirror; one that is not retryable takes precedence.
    pub(super) fn blocking(&self) -> Option<&Failure> {
        let failures = self.all.values().filter_map(|mirror| mirror.sync.failure.as_ref());
        failures.max_by_key(|failure| !failure.class.is_retryable())
    }

    pub(super) fn has_failed_permanently(&self) -> bool {
        self.all.values().any(|mirror| mirror.sync.has_failed_permanently())
    }

    /// Requests a comparison of all Secrets: the published set changed, or a refresh was requested.
    pub(super) fn request(&mut self) {
        for mirror in self.all.values_mut() {
            mirror.sync.request();
        }
    }

    /// When the next operation is due.
    pub(super) fn wake(&self) -> Option<Elapsed> {
        let orphaned = |name: &ObjectName| self.orphans.values().any(|orphan| orphan == name);
        let idle = self.all.iter().filter(|(name, mirror)| !mirror.sync.is_busy() && !orphaned(name));
        idle.filter_map(|(_, mirror)| mirror.sync.due().or(mirror.resync)).min()
    }

    /// Starts operations that are due. Returns the mirrors that cannot be built.
    pub(super) fn advance(
        &mut self,
        settings: &Arc<Settings>,
        visible: &Arc<PublishedSet>,
        generation: Option<Generation>,
        sources: &Sources,
        now: &Now,
        outbox: &mut Outbox,
    ) -> Vec<(ObjectName, Failure)> {
        let mut failed = Vec::new();
        for (name, mirror) in &mut self.all {
            if mirror.resync.is_some_and(|at| at <= now.at) && mirror.sync.is_current() {
                mirror.sync.resync();
            }
            if !mirror.sync.is_due(now.at) || self.orphans.values().any(|orphan| orphan == name) {
                continue;
            }
            mirror.resync = None;
            let generation = generation.unwrap_or_default();
            match mirror.request_for(name, visible, generation, sources, now) {
                // The files of the seed are not mirrored back. The next set requests a comparison.
                Ok(None) => mirror.sync.postpone(),
                Ok(Some(content)) => {
                    let op =
                        Op::Mirror { settings: Arc::clone(settings), name: name.clone(), content: Box::new(content) };
                    mirror.sync.started(outbox.start(op));
                    mirror.in_flight = Some(generation);
                }
                // The data cannot be built. Only another set or another configuration can resolve this.
                Err(failure) => {
                    mirror.sync.impossible(failure.clone());
                    failed.push((name.clone(), failure));
                }
            }
        }
        failed
    }

    /// Applies the outcome of an operation; `None` if the operation is unknown or was abandoned.
    pub(super) fn mirrored(
        &mut self,
        ticket: Ticket,
        result: Result<MirrorResult, Failure>,
        settings: &Settings,
        now: &Now,
    ) -> Option<MirrorAnswer> {
        self.orphans.remove(&ticket);
        let (name, mirror) = self.all.iter_mut().find(|(_, mirror)| mirror.sync.is_in_flight(ticket))?;
        let generation = mirror.in_flight.take();
        let confirmed_before = mirror.confirmed.is_some();
        let mut outdated = BTreeSet::new();
        match &result {
            Ok(result) => {
                mirror.sync.succeeded(ticket);
                mirror.resync = Some(now.at + now.share(RESYNC, 0.75, 1.0, 41));
                if *result == MirrorResult::Superseded {
                    if mirror.superseded.is_none() {
                        outdated.clone_from(&mirror.contributors);
                    }
                    mirror.superseded.get_or_insert(now.at);
                } else {
                    (mirror.holds, mirror.superseded) = (generation, None);
                    mirror.confirmed = Some((now.at, now.wall));
                    mirror.claim_at = None;
                    if mirror.conflict.take_if(|at| *at + CLAIM_WAIT_MAX * 2 <= now.at).is_some() {
                        mirror.conflicts = 0;
                    }
                }
            }
            Err(failure) => {
                let waiting = mirror.claim_at.is_some_and(|at| at > now.at);
                if failure.reason == Reason::MirrorConflict && !waiting {
                    // Two configurations must not overwrite each other in a loop.
                    mirror.conflict = Some(now.at);
                    let wait = CLAIM_WAIT.saturating_mul(1 << mirror.conflicts.min(8)).min(CLAIM_WAIT_MAX);
                    mirror.conflicts = mirror.conflicts.saturating_add(1);
                    mirror.claim_at = Some(now.at + wait);
                }
                mirror.sync.failed(ticket, failure.clone(), &settings.retry, now, 42);
            }
        }
        Some(MirrorAnswer { name: name.clone(), result, confirmed_before, outdated })
    }
}

impl MirrorState {
    /// Builds the desired content of the Secret. `None` if a file of it is one of the seed.
    fn request_for(
        &mut self,
        name: &ObjectName,
        visible: &PublishedSet,
        generation: Generation,
        sources: &Sources,
        now: &Now,
    ) -> Result<Option<MirrorRequest>, Failure> {
        let has_read =
            |source: &SourceName| visible.manifest.sources.contains_key(source) || visible.computed.contains(source);
        let rendered = render::mirror_data(&self.spec, name, &visible.files, &visible.leased, has_read)?;
        if visible.seeded.iter().any(|source| rendered.sources.contains(source)) {
            return Ok(None);
        }
        let of = |source: &SourceName| {
            let known = visible.manifest.sources.get(source)?;
            Some((source.clone(), (known.request.clone(), known.version.clone())))
        };
        let mut versions: BTreeMap<_, _> = rendered.sources.iter().filter_map(of).collect();
        if self.spec.keys.is_empty() {
            // The requests of a Secret with all files depend only on the configuration, not on which optional sources
            // exist now: replicas recognize their own configuration by them.
            let is_copied = |source: &SourceName| {
                !visible.leased.contains(source) && !visible.computed.contains(source) && !source.is_token_file()
            };
            for (source, state) in sources.iter().filter(|(source, _)| is_copied(source)) {
                // A source without files has a version if it has been read.
                let absent = || (state.spec.request_id(), Version::default());
                versions.entry(source.clone()).or_insert_with(|| of(source).map_or_else(absent, |(_, known)| known));
            }
        }
        let requests: Vec<_> = versions.values().map(|(request, _)| request.clone()).collect();
        if requests != self.requests {
            self.requests = requests;
            (self.claim_at, self.conflicts) = (Some(Elapsed::ZERO), 0);
        }
        self.contributors.clone_from(&rendered.sources);
        let states = || rendered.sources.iter().filter_map(|source| sources.get(source));
        let rolled_back = states().any(|source| source.held.as_ref().is_some_and(|held| held.rolled_back));
        let tolerance = states().map(|source| source.spec.max_stale).max().unwrap_or_default();
        let for_long = self.superseded.is_some_and(|since| since + tolerance <= now.at);
        Ok(Some(MirrorRequest {
            mirror: self.spec.clone(),
            data: rendered.data,
            versions,
            accept_older: rolled_back || for_long,
            claim: self.claim_at.is_some_and(|at| at <= now.at),
            generation,
        }))
    }
}
