//! All sources, indexed by due time, so that the cost of an event does not grow with the number of sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Op, Ticket};
use super::lifetime::TokenView;
use super::outbox::Outbox;
use super::replaced::LeasesInUse;
use super::source::{InFlight, SourceState, Step};
use super::time::{Elapsed, Now};
use super::token::Token;
use crate::model::{Failure, Settings, Source, SourceName};

/// All sources.
#[derive(Clone, Default)]
pub(super) struct Sources {
    all: BTreeMap<SourceName, SourceState>,
    entries: BTreeMap<SourceName, Entry>,
    due: BTreeSet<(Elapsed, SourceName)>,
    turning_stale: BTreeSet<(Elapsed, SourceName)>,
    /// Sources whose last accepted reading has exceeded its tolerance or has expired.
    stale: BTreeSet<SourceName>,
    failing: BTreeSet<SourceName>,
    /// Sources without a reading of the configured request.
    unread: BTreeSet<SourceName>,
    in_flight: BTreeMap<Ticket, SourceName>,
    failing_in_flight: usize,
    /// Operations in flight for sources that a reload removed or moved. Their outcomes are ignored, and the next
    /// operation of the same name waits for their end.
    orphans: BTreeMap<Ticket, Orphan>,
    /// Sources whose status may have changed since the last [`Sources::take_changed`].
    changed: BTreeSet<SourceName>,
}

/// An operation whose outcome is ignored.
#[derive(Debug, Clone)]
struct Orphan {
    source: SourceName,
    /// Number of the token for the request.
    token: u64,
}

/// The index entries of one source.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entry {
    due: Option<Elapsed>,
    stale_at: Option<Elapsed>,
}

impl Sources {
    pub(super) fn new(specs: &BTreeMap<SourceName, Source>) -> Self {
        let all = specs.iter().map(|(name, spec)| (name.clone(), SourceState::new(spec.clone()))).collect();
        Self { all, unread: specs.keys().cloned().collect(), ..Self::default() }
    }

    pub(super) fn get(&self, name: &SourceName) -> Option<&SourceState> {
        self.all.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SourceName, &SourceState)> {
        self.all.iter()
    }

    /// Sources whose last accepted reading has exceeded its tolerance or has expired.
    pub(super) fn stale(&self) -> &BTreeSet<SourceName> {
        &self.stale
    }

    /// Sources whose last operation failed.
    pub(super) fn failing(&self) -> &BTreeSet<SourceName> {
        &self.failing
    }

    /// Sources that have not been read since the start, or since a reload changed their request.
    pub(super) fn unread(&self) -> &BTreeSet<SourceName> {
        &self.unread
    }

    pub(super) fn take_changed(&mut self) -> BTreeSet<SourceName> {
        std::mem::take(&mut self.changed)
    }

    /// Changes one source and updates its index entries.
    pub(super) fn update<T>(
        &mut self,
        name: &SourceName,
        tokens: &TokenView<'_>,
        change: impl FnOnce(&mut SourceState) -> T,
    ) -> Option<T> {
        let result = change(self.all.get_mut(name)?);
        self.index(name, tokens);
        Some(result)
    }

    /// Changes all sources and updates their index entries.
    pub(super) fn update_all(&mut self, tokens: &TokenView<'_>, mut change: impl FnMut(&SourceName, &mut SourceState)) {
        for (name, source) in &mut self.all {
            change(name, source);
        }
        let names: Vec<_> = self.all.keys().cloned().collect();
        for name in names {
            self.index(&name, tokens);
        }
    }

    fn index(&mut self, name: &SourceName, tokens: &TokenView<'_>) {
        let source = self.all.get(name);
        let entry = Entry {
            due: source.and_then(|source| source.due(tokens)).map(|(at, _)| at),
            stale_at: source.and_then(|source| source.stale_at(tokens)),
        };
        let fails = source.is_some_and(|source| source.failure.is_some());
        if fails {
            self.failing.insert(name.clone())
        } else {
            self.failing.remove(name)
        };
        let unread = source.is_some_and(|source| !source.is_current());
        if unread {
            self.unread.insert(name.clone())
        } else {
            self.unread.remove(name)
        };
        let old = self.entries.insert(name.clone(), entry.clone()).unwrap_or_default();
        if old.due != entry.due {
            Self::move_to(&mut self.due, name, old.due, entry.due);
        }
        if old.stale_at != entry.stale_at {
            Self::move_to(&mut self.turning_stale, name, old.stale_at, entry.stale_at);
            // The next `notice_stale` adds the source again if it is still stale.
            self.stale.remove(name);
        }
        self.changed.insert(name.clone());
    }

    fn move_to(
        set: &mut BTreeSet<(Elapsed, SourceName)>,
        name: &SourceName,
        from: Option<Elapsed>,
        to: Option<Elapsed>,
    ) {
        if let Some(at) = from {
            set.remove(&(at, name.clone()));
        }
        if let Some(at) = to {
            set.insert((at, name.clone()));
        }
    }

    /// Marks the sources that have become stale by `at`.
    pub(super) fn notice_stale(&mut self, at: Elapsed) {
        while let Some(first) = self.turning_stale.first().filter(|(when, _)| *when <= at).cloned() {
            self.turning_stale.remove(&first);
            self.stale.insert(first.1.clone());
            self.changed.insert(first.1);
        }
    }

    /// Applies new specifications. Unchanged sources keep their state, and changed ones keep their last reading.
    pub(super) fn reconcile(&mut self, specs: &BTreeMap<SourceName, Source>, tokens: &TokenView<'_>, now: &Now) {
        let gone: Vec<_> = self.all.keys().filter(|name| !specs.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(source) = self.all.remove(&name) {
                self.abandon(&name, source.in_flight);
            }
            self.index(&name, tokens);
            self.entries.remove(&name);
            self.stale.remove(&name);
            self.failing.remove(&name);
        }
        for (name, spec) in specs {
            let moved = self.all.get(name).is_some_and(|source| source.spec.request_id() != spec.request_id());
            match self.all.get_mut(name) {
                Some(source) => {
                    source.update_spec(spec, now);
                    let in_flight = if moved { source.in_flight.take() } else { None };
                    self.abandon(name, in_flight);
                }
                None => _ = self.all.insert(name.clone(), SourceState::new(spec.clone())),
            }
            self.index(name, tokens);
        }
    }

    fn abandon(&mut self, name: &SourceName, in_flight: Option<InFlight>) {
        if let Some(flight) = in_flight {
            self.in_flight.remove(&flight.ticket);
            self.failing_in_flight -= usize::from(flight.failing);
            self.orphans.insert(flight.ticket, Orphan { source: name.clone(), token: flight.token });
        }
    }

    /// Abandons every operation in flight, because their session is no longer used.
    pub(super) fn abandon_all(&mut self, tokens: &TokenView<'_>) {
        for (ticket, name) in std::mem::take(&mut self.in_flight) {
            if let Some(flight) = self.all.get_mut(&name).and_then(|source| source.in_flight.take()) {
                self.orphans.insert(ticket, Orphan { source: name, token: flight.token });
            }
        }
        self.failing_in_flight = 0;
        self.update_all(tokens, |_, _| {});
    }

    /// The source and the number of the token of an abandoned operation that has not ended.
    pub(super) fn abandoned(&self, ticket: Ticket) -> Option<(SourceName, u64)> {
        self.orphans.get(&ticket).map(|orphan| (orphan.source.clone(), orphan.token))
    }

    /// Ends the operation of `ticket`. Returns its source and details, unless the operation was abandoned.
    pub(super) fn ended(&mut self, ticket: Ticket) -> Option<(SourceName, InFlight)> {
        self.orphans.remove(&ticket);
        let name = self.in_flight.remove(&ticket)?;
        let flight = self.all.get_mut(&name)?.in_flight.take()?;
        self.failing_in_flight -= usize::from(flight.failing);
        Some((name, flight))
    }

    /// Number of operations that may run concurrently. Failing sources may use half of them, so at least two.
    fn slots(settings: &Settings) -> usize {
        settings.concurrency.max(2)
    }

    /// Starts operations that are due: healthy sources first, then by expiry of their credential, then by due time.
    pub(super) fn advance(
        &mut self,
        settings: &Arc<Settings>,
        token: &Token,
        tokens: &TokenView<'_>,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        if self.in_flight.len() >= Self::slots(settings) {
            return;
        }
        let due = self.due.iter().take_while(|(at, _)| *at <= now.at);
        let due = due.filter_map(|(at, name)| {
            let source = self.all.get(name)?;
            let busy = self.orphans.values().any(|orphan| orphan.source == *name);
            let expires_at =
                source.held.as_ref().and_then(|held| held.lifetime.expires_at(tokens)).unwrap_or(Elapsed::MAX);
            (!busy).then(|| (source.is_failing(), expires_at, *at, name))
        });
        // Before the first set, all sources are due. Sorting them for each free slot would take most of the start.
        let (mut healthy, mut failing): (Vec<_>, Vec<_>) = due.partition(|(failing, ..)| !failing);
        let free = Self::slots(settings).saturating_sub(self.in_flight.len());
        let free_for_failing = (Self::slots(settings) / 2).saturating_sub(self.failing_in_flight);
        keep_smallest(&mut healthy, free);
        keep_smallest(&mut failing, free_for_failing.min(free - healthy.len()));
        let next: Vec<_> =
            healthy.into_iter().chain(failing).map(|(failing, .., name)| (failing, name.clone())).collect();
        for (failing, name) in next {
            let Some((_, step)) = self.all.get(&name).and_then(|source| source.due(tokens)) else { continue };
            let (settings, token_value, source) = (Arc::clone(settings), token.value.clone(), name.clone());
            let op = match step {
                Step::Read => Op::Read { settings, token: token_value, source },
                Step::RenewLease { id, increment } => {
                    Op::RenewLease { settings, token: token_value, source, lease: id, increment }
                }
                Step::LookUpLease(id) => Op::LookUpLease { settings, token: token_value, source, lease: id },
            };
            let ticket = outbox.start(op);
            self.failing_in_flight += usize::from(failing);
            self.in_flight.insert(ticket, name.clone());
            let flight = InFlight { ticket, started: now.at, token: token.number, failing };
            self.update(&name, tokens, |source| source.in_flight = Some(flight));
        }
    }

    /// The leases of the accepted readings.
    pub(super) fn leases(&self) -> LeasesInUse {
        self.all.iter().filter_map(|(name, source)| Some((name.clone(), source.lease_in_use()?))).collect()
    }

    /// When the next source becomes due. Sources that are already due wait for a slot, not for a time.
    pub(super) fn wake(&self, at: Elapsed) -> Option<Elapsed> {
        self.due.iter().map(|(when, _)| *when).find(|when| *when > at)
    }

    /// When the next source becomes stale.
    pub(super) fn next_stale(&self) -> Option<Elapsed> {
        self.turning_stale.first().map(|(at, _)| *at)
    }

    /// Whether the first set is complete: every source is read, adopted, or optional and absent.
    pub(super) fn complete(&self, at: Elapsed, adopted: impl Fn(&SourceName) -> bool) -> bool {
        let mut unread = self.unread.iter().filter_map(|name| self.all.get_key_value(name));
        unread.all(|(name, source)| adopted(name) || source.may_be_absent(at))
    }

    fn failed(&self) -> impl Iterator<Item = &SourceState> {
        self.failing.iter().filter_map(|name| self.all.get(name))
    }

    /// When the first set stops waiting for the next optional source.
    pub(super) fn next_wait_end(&self, at: Elapsed) -> Option<Elapsed> {
        self.failed().filter_map(SourceState::wait_ends).filter(|until| *until > at).min()
    }

    /// The failure that blocks the first set; one that is not retryable takes precedence.
    pub(super) fn blocking(&self) -> Option<&Failure> {
        let missing = self.failed().filter(|source| source.spec.required && !source.is_current());
        missing.filter_map(|source| source.failure.as_ref()).max_by_key(|failure| !failure.class.is_retryable())
    }

    /// Whether a required source has failed permanently.
    pub(super) fn has_failed_permanently(&self) -> bool {
        self.failed().any(|source| source.spec.required && !source.is_current() && source.has_failed_permanently())
    }
}

/// Keeps the `count` smallest items, in order.
fn keep_smallest<T: Ord>(items: &mut Vec<T>, count: usize) {
    if count < items.len() {
        items.select_nth_unstable(count);
        items.truncate(count);
    }
    items.sort();
}
