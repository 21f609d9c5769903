//! The brain's laws over random lives: results late, out of order, failing, configuration changed, signals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Condition, FailureClass, Generation, KvEngine, Mirror, ObjectName, Reason, Retry, SecretType, Source, SourceName,
    Version,
};

mod acts;
mod once;
mod quiet;

use acts::{Act, How, act, handed_source, reply, thing, token_of};

const RETRY: Retry =
    Retry { base: Duration::from_millis(500), max: Duration::from_secs(60), slow: Duration::from_secs(60) };

pub(super) fn plan(variant: u8, mode: Mode) -> Plan {
    let source = |path: &str, required| Source {
        path: path.into(),
        mount: None,
        engine: KvEngine::Detect,
        version: None,
        refresh: Duration::from_secs(60),
        max_stale: Duration::from_secs(30),
        required,
    };
    let name = |n: &str| SourceName::new(n).expect("a name");
    let mut sources = BTreeMap::from([(name("a"), source("secret/a", true)), (name("b"), source("secret/b", false))]);
    if variant & 1 == 1 {
        sources.insert(name("c"), source("secret/c", true));
        sources.insert(name("a"), source("secret/moved", true));
    }
    let mirror = Mirror {
        secret_type: SecretType::Opaque,
        keys: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner: None,
        allow_leased: variant & 2 == 2,
    };
    Plan {
        mode,
        sources,
        layout: Vec::new(),
        mirrors: BTreeMap::from([(ObjectName::new("top-secret-ks").expect("a name"), mirror)]),
        retry: RETRY,
        concurrency: 2,
        revoke_on_exit: true,
        conditions: true,
        events: true,
        drain: Duration::from_secs(5),
    }
}

/// The version of a reading, and a number that is new whenever its content is.
type Content = (u64, u64);

struct World {
    state: State,
    now: Tick,
    dice: u64,
    steps: u64,
    in_flight: Vec<Effect>,
    /// Per source and per place it is read from: what was accepted, captured by a publication, visible.
    accepted: BTreeMap<SourceName, Content>,
    captured: BTreeMap<SourceName, Content>,
    visible: BTreeMap<SourceName, Content>,
    /// The last answer to a read: the version, and whether its content was said to differ.
    delivered: BTreeMap<SourceName, (u64, bool)>,
    /// The generation that each mirror in flight has taken, and the newest that was written.
    mirroring: BTreeMap<Ticket, Generation>,
    mirrored: BTreeMap<ObjectName, Generation>,
    /// The conditions that were sent last.
    told: Vec<Condition>,
    /// Tokens up to this one are dead, or belong to a server that is no longer the one.
    void: u64,
    generation: Generation,
    draining: bool,
    over: bool,
    /// How the process ended, and what became of its token.
    code: Option<u8>,
    token: BTreeSet<&'static str>,
}

impl World {
    fn new(dice: u64, mode: Mode) -> Self {
        Self {
            state: State::new(plan(0, mode)),
            now: Duration::ZERO,
            dice,
            steps: 0,
            in_flight: Vec::new(),
            accepted: BTreeMap::new(),
            captured: BTreeMap::new(),
            visible: BTreeMap::new(),
            delivered: BTreeMap::new(),
            mirroring: BTreeMap::new(),
            mirrored: BTreeMap::new(),
            told: Vec::new(),
            void: 0,
            generation: Generation::default(),
            draining: false,
            over: false,
            code: None,
            token: BTreeSet::new(),
        }
    }

    fn step(&mut self, event: Event) {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.steps += 1;
        self.draining |= event == Event::Terminate;
        let effects = step(&mut self.state, event, &Now { at: self.now, dice: self.dice });
        for effect in effects {
            if self.draining {
                assert!(
                    matches!(
                        effect,
                        Effect::Revoke { .. } | Effect::Report { .. } | Effect::Exit { .. } | Effect::HandOver { .. }
                    ),
                    "new work after drain: {effect:?}"
                );
            }
            assert!(!self.over, "an effect after exit: {effect:?}");
            assert!(token_of(&effect).is_none_or(|token| token > self.void), "a void token is used: {effect:?}");
            match effect {
                Effect::Accept { source } => {
                    let (version, changed) = self.delivered[&source];
                    let same = self.accepted.get(&source).filter(|_| !changed).map(|(_, content)| *content);
                    self.accepted.insert(source, (version, same.unwrap_or(self.steps)));
                }
                Effect::Exit { code } => (self.over, self.code) = (true, Some(code)),
                effect => {
                    let same = self.in_flight.iter().find(|other| thing(other) == thing(&effect));
                    assert!(same.is_none(), "two in flight: {same:?} and {effect:?}");
                    if let Effect::Publish { generation, .. } = &effect {
                        assert_eq!(*generation, self.state.publication.generation().unwrap_or_default().next());
                        self.captured.clone_from(&self.accepted);
                    }
                    match effect {
                        Effect::HandOver { .. } => _ = self.token.insert("handing over"),
                        Effect::Revoke { .. } => _ = self.token.insert("revoking"),
                        _ => {}
                    }
                    if let Effect::Mirror { ticket, .. } = &effect {
                        self.mirroring.insert(*ticket, self.state.publication.generation().unwrap_or_default());
                    }
                    self.in_flight.push(effect);
                }
            }
        }
        // `once` ends by itself.
        self.draining |= !self.state.phase.is_working();
        self.check();
    }

    fn check(&self) {
        let State { session, sources, .. } = &self.state;
        if self.draining {
            return;
        }
        session.check_law(self.now);
        sources.check_law(&self.state.plan, session.is_live(self.now), self.now);
        let generation = self.state.publication.generation().unwrap_or_default();
        assert!(generation >= self.generation, "generations go forward");
        for (name, mirror) in self.state.mirrors.iter() {
            assert!(mirror.holds <= self.mirrored.get(name).copied(), "mirror {name} holds what was never written");
        }
    }

    /// Lets time pass, waking the brain when it asked for it.
    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        let mut rounds = 0;
        while let Some(wake) = self.state.wake_at(self.now).filter(|wake| *wake <= until) {
            assert!(wake > self.now, "a wake-up that is not in the future");
            self.now = wake;
            let (before, effects) = (self.state.clone(), self.in_flight.len());
            self.step(Event::Woke);
            let moved = self.state != before || self.in_flight.len() != effects || self.over;
            assert!(moved, "woken for nothing at {wake:?}: {:#?}", self.state);
            rounds += 1;
            assert!(rounds < 10_000, "a storm of wake-ups");
        }
        self.now = until;
    }

    fn end(&mut self, pick: usize, how: &How) {
        if self.in_flight.is_empty() {
            return;
        }
        let effect = self.in_flight.remove(pick % self.in_flight.len());
        let Some((ticket, reply)) = reply(&effect, how) else { return };
        match effect {
            Effect::Login { .. } if how.handed => _ = self.delivered.insert(handed_source(), (how.number, true)),
            Effect::HandOver { .. } if how.fails.is_none() => _ = self.token.insert("handed over"),
            Effect::Read { source, token, .. } => {
                self.delivered.insert(source, (how.number, how.changed));
                // A leaving agent does not listen any more, and may revoke in vain.
                let dead = how.fails == Some(FailureClass::TokenDead) && !self.draining;
                self.void = self.void.max(if dead { token } else { 0 });
            }
            Effect::Mirror { ticket, name } => {
                let taken = self.mirroring.remove(&ticket).filter(|_| how.fails.is_none());
                let written = self.mirrored.get(&name).copied().max(taken);
                self.mirrored.extend(written.map(|generation| (name, generation)));
            }
            Effect::Report { conditions, .. } if how.fails.is_none() => self.told = conditions,
            Effect::Publish { .. } if how.fails.is_none() => {
                for (source, old) in &self.visible {
                    let new = self.captured.get(source).unwrap_or(old);
                    assert!(new >= old, "a published set was replaced by an older one: {source} {old:?} -> {new:?}");
                }
                self.visible.clone_from(&self.captured);
            }
            _ => {}
        }
        self.step(Event::Reply(ticket, reply));
    }

    /// A result that is like one that is awaited, but of an effect that ended long ago: it changes nothing.
    fn late(&mut self, pick: usize, ticket: Ticket, how: &How) {
        let live = |effect: &Effect| format!("{effect:?}").contains(&format!("{ticket:?}"));
        if self.in_flight.is_empty() || self.in_flight.iter().any(live) {
            return;
        }
        let Some((_, mut reply)) = reply(&self.in_flight[pick % self.in_flight.len()], how) else { return };
        // What it tells of its token is true whenever it comes; here it is a token that nobody knows.
        if let Reply::Read { token, .. } | Reply::LeaseRenewed { token, .. } = &mut reply {
            *token = u64::MAX;
        }
        self.step(Event::Woke);
        let before = self.state.clone();
        self.step(Event::Reply(ticket, reply.clone()));
        assert!(self.state == before, "a late result changed something: {reply:?}");
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Pass(millis) => self.pass(*millis),
            Act::End { pick, how } => self.end(*pick, how),
            Act::Late { pick, ticket, how } => self.late(*pick, Ticket(*ticket), how),
            Act::Config { variant, login } => {
                // A source that is read from another place starts a new history.
                if !self.draining {
                    let new = plan(*variant, Mode::Run);
                    let moved = |name: &SourceName| {
                        self.state.plan.sources.get(name).map(|s| &s.path) != new.sources.get(name).map(|s| &s.path)
                    };
                    let keep = |map: &mut BTreeMap<SourceName, Content>| map.retain(|name, _| !moved(name));
                    keep(&mut self.visible);
                    keep(&mut self.accepted);
                    keep(&mut self.captured);
                }
                if *login && !self.draining {
                    let login = self.in_flight.iter().filter_map(|effect| match effect {
                        Effect::Login { ticket } => Some(ticket.0),
                        _ => None,
                    });
                    self.void = login.chain([self.void, self.state.session.number()]).max().unwrap_or_default();
                }
                let plan = Box::new(plan(*variant, Mode::Run));
                self.step(Event::ConfigChanged { plan, login_changed: *login });
            }
            Act::ConfigBad => self.step(Event::ConfigRejected { message: "sources.a.pth: unknown key".into() }),
            Act::Refresh => self.step(Event::RefreshNow),
            Act::Terminate => self.step(Event::Terminate),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_in_every_life(dice: u64, acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new(dice, Mode::Run);
        world.step(Event::Woke);
        for act in &acts {
            if world.over {
                break;
            }
            world.act(act);
        }
        if world.draining && !world.over {
            world.pass(10_000);
            prop_assert!(world.over, "drain did not end within its time");
        }
        if !world.draining {
            world.all_goes_well();
        }
    }
}
