//! When to bring the mirrored Secrets in line with the published set. The two may lag, never disagree.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Tickets;
use super::event::{Effect, Ticket};
use super::plan::Plan;
use super::retry::{Backoff, Now, Tick};
use crate::model::{Failure, Generation, Mirror, ObjectName};

/// How often a mirrored Secret is looked at though nothing changed: somebody may have edited or deleted it.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// All mirrored Secrets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mirrors {
    all: BTreeMap<ObjectName, MirrorState>,
    /// Writes of mirrors that have since been removed or changed; until they end there is no second one to the same Secret.
    orphans: BTreeMap<ObjectName, Ticket>,
}

/// One mirrored Secret.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MirrorState {
    spec: Mirror,
    /// The generation that the Secret holds.
    pub(super) holds: Option<Generation>,
    pub(super) superseded: bool,
    /// Not equal to `holds`, or due for a look.
    next: Tick,
    in_flight: Option<(Ticket, Generation)>,
    /// Something changed while the effect was in flight.
    again: bool,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

impl MirrorState {
    fn new(spec: Mirror, now: Tick) -> Self {
        Self {
            spec,
            holds: None,
            superseded: false,
            next: now,
            in_flight: None,
            again: false,
            backoff: Backoff::default(),
            failure: None,
        }
    }
}

impl Mirrors {
    pub(super) fn new(plan: &Plan) -> Self {
        let state = |(name, spec): (&ObjectName, &Mirror)| (name.clone(), MirrorState::new(spec.clone(), Tick::ZERO));
        Self { all: plan.mirrors.iter().map(state).collect(), orphans: BTreeMap::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &MirrorState)> {
        self.all.iter()
    }

    pub(super) fn reconcile(&mut self, plan: &Plan, now: &Now) {
        let mut old = std::mem::take(&mut self.all);
        for (name, spec) in &plan.mirrors {
            let state = match old.remove(name) {
                Some(state) if state.spec == *spec => state,
                changed => {
                    if let Some((ticket, _)) = changed.and_then(|state| state.in_flight) {
                        self.orphans.insert(name.clone(), ticket);
                    }
                    MirrorState::new(spec.clone(), now.at)
                }
            };
            self.all.insert(name.clone(), state);
        }
        self.orphans.extend(old.into_iter().filter_map(|(name, state)| Some((name, state.in_flight?.0))));
    }

    /// Whether all hold this generation.
    pub(super) fn hold(&self, generation: Option<Generation>) -> bool {
        self.all.values().all(|mirror| mirror.holds == generation && mirror.failure.is_none())
    }

    pub(super) fn in_flight(&self) -> bool {
        self.all.values().any(|mirror| mirror.in_flight.is_some())
    }

    /// The failure that keeps a mirror away, the lasting one first.
    pub(super) fn blocking(&self) -> Option<&Failure> {
        let failures = self.all.values().filter_map(|mirror| mirror.failure.as_ref());
        failures.max_by_key(|failure| !failure.class.is_passing())
    }

    pub(super) fn refused_for_good(&self) -> bool {
        self.all.values().any(|mirror| {
            mirror.backoff.is_settled() && mirror.failure.as_ref().is_some_and(|failure| !failure.class.is_passing())
        })
    }

    pub(super) fn look_again(&mut self, now: &Now) {
        for mirror in self.all.values_mut() {
            mirror.next = now.at;
            mirror.again = mirror.in_flight.is_some();
            mirror.backoff = Backoff { attempts: 0, not_before: now.at };
        }
    }

    pub(super) fn wake(&self, generation: Option<Generation>) -> Option<Tick> {
        generation?;
        let idle = self.all.iter().filter(|(name, m)| m.in_flight.is_none() && !self.orphans.contains_key(*name));
        idle.map(|(_, mirror)| mirror.next).min()
    }

    pub(super) fn advance(
        &mut self,
        generation: Option<Generation>,
        now: &Now,
        tickets: &mut Tickets,
        effects: &mut Vec<Effect>,
    ) {
        let Some(generation) = generation else { return };
        for (name, mirror) in &mut self.all {
            if mirror.in_flight.is_none() && mirror.next <= now.at && !self.orphans.contains_key(name) {
                let ticket = tickets.next();
                mirror.in_flight = Some((ticket, generation));
                mirror.again = false;
                effects.push(Effect::Mirror { ticket, name: name.clone() });
            }
        }
    }

    pub(super) fn mirrored(
        &mut self,
        ticket: Ticket,
        name: &ObjectName,
        result: Result<bool, Failure>,
        plan: &Plan,
        now: &Now,
    ) {
        if self.orphans.get(name) == Some(&ticket) {
            self.orphans.remove(name);
        }
        let Some(mirror) = self.all.get_mut(name) else { return };
        let Some((_, generation)) = mirror.in_flight.filter(|(started, _)| *started == ticket) else { return };
        mirror.in_flight = None;
        match result {
            Ok(superseded) => {
                mirror.holds = Some(generation);
                mirror.superseded = superseded;
                mirror.failure = None;
                mirror.backoff.reset();
                mirror.next = now.fraction_of(LOOK_AGAIN, 0.9, 1.1, 41);
            }
            Err(failure) => {
                mirror.backoff.failed(&failure, &plan.retry, now, 42);
                mirror.next = mirror.backoff.not_before;
                mirror.failure = Some(failure);
            }
        }
        if std::mem::take(&mut mirror.again) {
            mirror.next = now.at;
        }
    }
}
