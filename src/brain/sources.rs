//! When to read which source and which lease to renew.

mod handover;

use std::collections::BTreeMap;

use super::Tickets;
use super::event::{Effect, ReadFacts, Ticket};
use super::plan::Plan;
use super::retry::{Backoff, Now, Tick};
use crate::model::{Failure, FailureClass, Lease, Reason, Source, SourceName, Version};

/// Part of a lease after which it is renewed, or read anew where it cannot be.
const LEASE_FROM: f64 = 0.55;
const LEASE_TO: f64 = 0.70;

/// A renewed lease shorter than this part of the first one has met its maximum: the next step is a new read.
const STILL_GROWS: f64 = 0.9;

/// Spread of the refresh interval, so that replicas do not ask in step.
const REFRESH_FROM: f64 = 0.9;
const REFRESH_TO: f64 = 1.1;

/// All sources.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sources {
    all: BTreeMap<SourceName, SourceState>,
    /// Requests for sources that have since been removed or moved: their results are not wanted, and until they end there
    /// is no second one under the same name.
    orphans: BTreeMap<SourceName, Ticket>,
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceState {
    spec: Source,
    held: Option<Held>,
    /// When the next operation is due, and what it is.
    next: Tick,
    work: Work,
    in_flight: Option<Ticket>,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

/// The last good reading.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    version: Version,
    lease: Option<Lease>,
    /// When the lease is over.
    ends: Option<Tick>,
    /// From when on it counts as stale.
    stale_at: Tick,
    /// Whether that time has been noticed.
    stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    Read,
    Renew,
}

impl SourceState {
    fn new(spec: Source, now: Tick) -> Self {
        Self {
            spec,
            held: None,
            next: now,
            work: Work::Read,
            in_flight: None,
            backoff: Backoff::default(),
            failure: None,
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.stale)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn version(&self) -> Option<&Version> {
        self.held.as_ref().map(|held| &held.version)
    }

    fn is_due(&self, now: Tick) -> bool {
        self.in_flight.is_none() && self.next <= now
    }

    fn refused_for_good(&self) -> bool {
        self.backoff.is_settled() && self.failure.as_ref().is_some_and(|failure| !failure.class.is_passing())
    }

    fn keep(&mut self, version: Version, lease: Option<Lease>, renewed: bool, now: &Now) {
        let first = self.held.as_ref().and_then(|held| held.lease.as_ref()).map(|lease| lease.duration);
        (self.next, self.work) = match &lease {
            Some(lease) => {
                let grows = !renewed || first.is_none_or(|first| lease.duration >= first.mul_f64(STILL_GROWS));
                let renew = lease.renewable && lease.id.is_some() && grows;
                let at = now.fraction_of(lease.duration, LEASE_FROM, LEASE_TO, 21);
                (at, if renew { Work::Renew } else { Work::Read })
            }
            None => (now.fraction_of(self.spec.refresh, REFRESH_FROM, REFRESH_TO, 22), Work::Read),
        };
        // A lease is over when it is over, whatever the tolerance.
        let tolerated = self.next + self.spec.max_stale;
        let ends = lease.as_ref().map(|lease| now.at + lease.duration);
        let stale_at = ends.map_or(tolerated, |end| tolerated.min(end));
        // The first duration stays the measure of growth.
        let lease = match (renewed, lease, first) {
            (true, Some(lease), Some(first)) => Some(Lease { duration: first, ..lease }),
            (_, lease, _) => lease,
        };
        self.held = Some(Held { version, lease, ends, stale_at, stale: false });
        self.failure = None;
        self.backoff.reset();
    }

    fn fail(&mut self, failure: Failure, plan: &Plan, now: &Now) {
        if failure.class == FailureClass::TokenDead {
            // The session's fault, not the source's: read again as soon as there is a token.
            self.next = now.at;
        } else {
            self.backoff.failed(&failure, &plan.retry, now, 23);
            self.next = self.backoff.not_before;
        }
        self.failure = Some(failure);
    }
}

impl Sources {
    pub(super) fn new(plan: &Plan) -> Self {
        let state = |(name, spec): (&SourceName, &Source)| (name.clone(), SourceState::new(spec.clone(), Tick::ZERO));
        Self { all: plan.sources.iter().map(state).collect(), orphans: BTreeMap::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SourceName, &SourceState)> {
        self.all.iter()
    }

    /// Takes over a new plan: unchanged sources keep what they have. Whether the set of sources changed.
    pub(super) fn reconcile(&mut self, plan: &Plan, now: &Now) -> bool {
        let mut changed = false;
        let mut old = std::mem::take(&mut self.all);
        for (name, spec) in &plan.sources {
            let state = match old.remove(name) {
                Some(mut state) if state.spec.same_place(spec) => {
                    if state.spec != *spec {
                        state.spec = spec.clone();
                        // A shorter interval must not wait for the old, longer one.
                        if state.held.as_ref().is_some_and(|held| held.lease.is_none()) && state.failure.is_none() {
                            state.next = now.at;
                        }
                        changed = true;
                    }
                    state
                }
                moved => {
                    changed = true;
                    if let Some(ticket) = moved.and_then(|state| state.in_flight) {
                        self.orphans.insert(name.clone(), ticket);
                    }
                    SourceState::new(spec.clone(), now.at)
                }
            };
            self.all.insert(name.clone(), state);
        }
        changed |= !old.is_empty();
        self.orphans.extend(old.into_iter().filter_map(|(name, state)| Some((name, state.in_flight?))));
        changed
    }

    /// Ends the request of `ticket`: its source, if the result is still wanted.
    fn ended(&mut self, ticket: Ticket, name: &SourceName) -> Option<&mut SourceState> {
        if self.orphans.get(name) == Some(&ticket) {
            self.orphans.remove(name);
        }
        let source = self.all.get_mut(name).filter(|source| source.in_flight == Some(ticket))?;
        source.in_flight = None;
        Some(source)
    }

    /// Notices what has become stale.
    pub(super) fn grow_stale(&mut self, now: &Now) {
        for held in self.all.values_mut().filter_map(|source| source.held.as_mut()) {
            held.stale |= held.stale_at <= now.at;
        }
    }

    /// Whether the first set can be published: every required source has been read, every other at least tried.
    pub(super) fn complete(&self) -> bool {
        self.all.values().all(|source| source.is_held() || (!source.spec.required && source.failure.is_some()))
    }

    /// The failure that keeps the first set away.
    pub(super) fn blocking(&self) -> Option<&Failure> {
        let missing = self.all.values().filter(|source| source.spec.required && !source.is_held());
        missing.filter_map(|source| source.failure.as_ref()).max_by_key(|failure| !failure.class.is_passing())
    }

    pub(super) fn refused_for_good(&self) -> bool {
        self.all.values().any(|source| source.spec.required && !source.is_held() && source.refused_for_good())
    }

    pub(super) fn any_lease(&self) -> bool {
        self.all.values().any(|source| source.held.as_ref().is_some_and(|held| held.lease.is_some()))
    }

    pub(super) fn refresh_now(&mut self, now: &Now) {
        for source in self.all.values_mut() {
            source.next = now.at;
            source.work = Work::Read;
        }
    }

    /// A new token is in use. Leases belong to the token that asked for them and end with it: they are read anew.
    pub(super) fn new_token(&mut self, now: &Now) {
        for source in self.all.values_mut() {
            let leased = source.held.as_ref().is_some_and(|held| held.lease.as_ref().is_some_and(|l| l.id.is_some()));
            if leased {
                source.next = now.at;
                source.work = Work::Read;
            }
        }
    }

    /// Slots for sources that fail: never all of them, so that a hanging one does not delay the others.
    fn slots_for_failing(plan: &Plan) -> usize {
        (plan.concurrency / 2).max(1)
    }

    pub(super) fn slots_free(&self, plan: &Plan) -> bool {
        self.all.values().filter(|source| source.in_flight.is_some()).count() < plan.concurrency
    }

    /// Starts what is due: healthy sources first, the longest waiting first.
    pub(super) fn advance(
        &mut self,
        plan: &Plan,
        session: u64,
        now: &Now,
        tickets: &mut Tickets,
        effects: &mut Vec<Effect>,
    ) {
        let busy = |failing: bool, all: &BTreeMap<SourceName, SourceState>| {
            all.values().filter(|s| s.in_flight.is_some() && (!failing || s.backoff.attempts > 0)).count()
        };
        let (mut running, mut failing) = (busy(false, &self.all), busy(true, &self.all));
        let mut due: Vec<_> =
            self.all.iter_mut().filter(|(name, s)| s.is_due(now.at) && !self.orphans.contains_key(*name)).collect();
        due.sort_by_key(|(_, source)| (source.backoff.attempts > 0, source.next));
        for (name, source) in due {
            let fails = source.backoff.attempts > 0;
            if running >= plan.concurrency || (fails && failing >= Self::slots_for_failing(plan)) {
                continue;
            }
            running += 1;
            failing += usize::from(fails);
            let ticket = tickets.next();
            source.in_flight = Some(ticket);
            let lease = source.held.as_ref().and_then(|held| held.lease.as_ref());
            effects.push(match (source.work, lease) {
                (Work::Renew, Some(Lease { id: Some(id), duration, .. })) => Effect::RenewLease {
                    ticket,
                    token: session,
                    source: name.clone(),
                    lease: id.clone(),
                    increment: *duration,
                },
                _ => Effect::Read { ticket, token: session, source: name.clone() },
            });
        }
    }

    /// When something becomes due, or stale.
    pub(super) fn wake(&self, plan: &Plan, now: Tick) -> Option<Tick> {
        let failing = self.all.values().filter(|s| s.in_flight.is_some() && s.backoff.attempts > 0).count();
        let may_fail = failing < Self::slots_for_failing(plan);
        let idle = self.all.values().filter(|s| s.in_flight.is_none() && (s.backoff.attempts == 0 || may_fail));
        idle.map(|source| source.next).filter(|at| *at > now).min()
    }

    /// When a held reading becomes stale.
    pub(super) fn next_stale(&self) -> Option<Tick> {
        let held = self.all.values().filter_map(|source| source.held.as_ref());
        held.filter(|held| !held.stale).map(|held| held.stale_at).min()
    }

    /// Takes in a reading. Whether the content to publish changed.
    pub(super) fn read(
        &mut self,
        ticket: Ticket,
        name: &SourceName,
        result: Result<ReadFacts, Failure>,
        plan: &Plan,
        now: &Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(source) = self.ended(ticket, name) else { return false };
        match result {
            Ok(facts) if source.version().is_some_and(|held| facts.version.is_older_than(held)) => {
                let message = format!(
                    "failed to refresh source {name}: the server answered with an older version than the one in use, \
                     as a standby that lags behind does"
                );
                source.fail(Failure::new(FailureClass::Transient, Reason::OlderVersion, message), plan, now);
                false
            }
            Ok(facts) => {
                let first = !source.is_held();
                source.keep(facts.version, facts.lease, false, now);
                effects.push(Effect::Accept { source: name.clone() });
                first || facts.changed
            }
            Err(failure) => {
                // An optional source that is not there on its first try changes what can be published: nothing waits for it.
                let first_miss = !source.is_held() && source.failure.is_none() && !source.spec.required;
                source.fail(failure, plan, now);
                first_miss
            }
        }
    }

    pub(super) fn lease_renewed(
        &mut self,
        ticket: Ticket,
        name: &SourceName,
        result: Result<Lease, Failure>,
        plan: &Plan,
        now: &Now,
    ) {
        let Some(source) = self.ended(ticket, name) else { return };
        match (result, source.held.clone()) {
            (Ok(lease), Some(held)) => source.keep(held.version, Some(lease), true, now),
            (Ok(_), None) => source.next = now.at,
            (Err(failure), _) => {
                // Refused or lost: a new read gives a new lease. Otherwise renew again, as long as the lease lives.
                if !failure.class.is_passing() {
                    source.work = Work::Read;
                }
                let lost = failure.class == FailureClass::Missing;
                source.fail(failure, plan, now);
                if lost {
                    source.next = now.at;
                }
            }
        }
    }
}

#[cfg(test)]
impl Sources {
    /// A failing source never delays another, and each is retried within its bound.
    pub(super) fn check_law(&self, plan: &Plan, live: bool, now: Tick) {
        let bound = plan.retry.max.max(plan.retry.slow).max(std::time::Duration::from_secs(600)) + plan.retry.base;
        let failing = self.all.values().filter(|s| s.in_flight.is_some() && s.backoff.attempts > 0).count();
        assert!(failing < plan.concurrency, "failing sources took the slots of others");
        for (name, source) in &self.all {
            if source.failure.is_some() && source.in_flight.is_none() {
                assert!(source.next <= now + bound, "source {name} is not retried within its bound: {source:#?}");
            }
            let healthy = source.backoff.attempts == 0 && source.is_due(now) && !self.orphans.contains_key(name);
            if live && healthy {
                assert!(!self.slots_free(plan), "source {name} is due, there is a slot, and nothing happens");
            }
        }
    }
}
