//! The brain's laws over random lives: results late, out of order, failing, configuration changed, signals.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{
    FailureClass, Generation, KvEngine, Lease, LeaseId, Mirror, ObjectName, Reason, Retry, SecretType, Source,
    SourceName, TokenInfo, Version,
};

const RETRY: Retry =
    Retry { base: Duration::from_millis(500), max: Duration::from_secs(60), slow: Duration::from_secs(60) };

/// One thing that the world does.
#[derive(Debug, Clone)]
enum Act {
    /// Time passes; the driver wakes the brain at each asked-for time.
    Pass(u64),
    /// One of the effects in flight ends.
    End {
        pick: usize,
        how: How,
    },
    /// A result of an effect that ended long ago.
    Late {
        pick: usize,
        ticket: u64,
        how: How,
    },
    Config {
        variant: u8,
        login: bool,
    },
    ConfigBad,
    Refresh,
    Terminate,
}

#[derive(Debug, Clone)]
struct How {
    fails: Option<FailureClass>,
    retry_after: Option<u64>,
    number: u64,
    changed: bool,
    lease: Option<(u64, bool)>,
    ttl: Option<u64>,
}

fn how() -> impl Strategy<Value = How> {
    use FailureClass::*;
    let class =
        prop::sample::select(vec![Conflict, Denied, Local, Invalid, Missing, TokenDead, Transient, Unreachable]);
    (
        prop::option::weighted(0.4, class),
        prop::option::weighted(0.1, 0_u64..1000),
        1_u64..6,
        any::<bool>(),
        prop::option::weighted(0.2, (1_u64..3600, any::<bool>())),
        prop::option::weighted(0.8, 1_u64..7200),
    )
        .prop_map(|(fails, retry_after, number, changed, lease, ttl)| How {
            fails,
            retry_after,
            number,
            changed,
            lease,
            ttl,
        })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_u64..120_000).prop_map(Act::Pass),
        12 => (any::<usize>(), how()).prop_map(|(pick, how)| Act::End { pick, how }),
        1 => (any::<usize>(), 1_u64..200, how()).prop_map(|(pick, ticket, how)| Act::Late { pick, ticket, how }),
        1 => (0_u8..4, any::<bool>()).prop_map(|(variant, login)| Act::Config { variant, login }),
        1 => Just(Act::ConfigBad),
        1 => Just(Act::Refresh),
        1 => Just(Act::Terminate),
    ]
}

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

struct World {
    state: State,
    now: Tick,
    dice: u64,
    in_flight: Vec<Effect>,
    /// Per source and per place it is read from: the version accepted, captured by a publication, visible.
    accepted: BTreeMap<SourceName, u64>,
    captured: BTreeMap<SourceName, u64>,
    visible: BTreeMap<SourceName, u64>,
    delivered: BTreeMap<SourceName, u64>,
    generation: Generation,
    draining: bool,
    over: bool,
}

fn thing(effect: &Effect) -> String {
    match effect {
        Effect::Login { .. } => "login".into(),
        Effect::RenewToken { .. } => "renew".into(),
        Effect::Read { source, .. } | Effect::RenewLease { source, .. } => format!("source {source}"),
        Effect::Publish { .. } => "publish".into(),
        Effect::Mirror { name, .. } => format!("mirror {name}"),
        Effect::Report { .. } => "report".into(),
        Effect::Record { .. } => "record".into(),
        Effect::Revoke { .. } => "revoke".into(),
        Effect::Accept { .. } | Effect::Exit { .. } => "at once".into(),
    }
}

/// How an effect ends; `None` where nobody hears of it.
fn reply(effect: &Effect, how: &How) -> Option<(Ticket, Reply)> {
    fn either<T>(failure: Option<Failure>, value: T) -> Result<T, Failure> {
        failure.map_or(Ok(value), Err)
    }
    let failure = how.fails.map(|class| Failure {
        retry_after: how.retry_after.map(Duration::from_secs),
        ..Failure::new(class, Reason::ServerError, "failed on purpose")
    });
    let lease = how.lease.map(|(seconds, renewable)| Lease {
        id: Some(LeaseId("database/creds/x/1".into())),
        duration: Duration::from_secs(seconds),
        renewable,
    });
    let info = TokenInfo { ttl: how.ttl.map(Duration::from_secs), renewable: how.changed, accessor: None };
    Some(match effect.clone() {
        Effect::Login { ticket } => (ticket, Reply::LoggedIn(either(failure, (info, true)))),
        Effect::RenewToken { ticket, .. } => (ticket, Reply::TokenRenewed(either(failure, info))),
        Effect::Read { ticket, token, source } => {
            let version = Version { number: Some(how.number), created: None };
            let facts = ReadFacts { version, lease, changed: how.changed };
            (ticket, Reply::Read { source, token, result: either(failure, facts) })
        }
        Effect::RenewLease { ticket, token, source, .. } => {
            let lease = lease.unwrap_or(Lease { id: None, duration: Duration::from_secs(9), renewable: false });
            (ticket, Reply::LeaseRenewed { source, token, result: either(failure, lease) })
        }
        Effect::Publish { ticket, .. } => {
            let outcome = if how.changed { PublishOutcome::Swapped } else { PublishOutcome::Unchanged };
            (ticket, Reply::Published(either(failure, outcome)))
        }
        Effect::Mirror { ticket, name } => (ticket, Reply::Mirrored { name, result: either(failure, how.changed) }),
        Effect::Report { ticket, .. } => (ticket, Reply::Reported(either(failure, ()))),
        Effect::Record { ticket, .. } => (ticket, Reply::Recorded(either(failure, ()))),
        Effect::Revoke { ticket, .. } => (ticket, Reply::Revoked),
        Effect::Accept { .. } | Effect::Exit { .. } => return None,
    })
}

impl World {
    fn new(dice: u64) -> Self {
        Self {
            state: State::new(plan(0, Mode::Run)),
            now: Duration::ZERO,
            dice,
            in_flight: Vec::new(),
            accepted: BTreeMap::new(),
            captured: BTreeMap::new(),
            visible: BTreeMap::new(),
            delivered: BTreeMap::new(),
            generation: Generation::default(),
            draining: false,
            over: false,
        }
    }

    fn step(&mut self, event: Event) {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.draining |= event == Event::Terminate;
        let effects = step(&mut self.state, event, &Now { at: self.now, dice: self.dice });
        for effect in effects {
            if self.draining {
                assert!(
                    matches!(effect, Effect::Revoke { .. } | Effect::Report { .. } | Effect::Exit { .. }),
                    "new work after drain: {effect:?}"
                );
            }
            assert!(!self.over, "an effect after exit: {effect:?}");
            match effect {
                Effect::Accept { source } => {
                    let version = self.delivered[&source];
                    self.accepted.insert(source, version);
                }
                Effect::Exit { .. } => self.over = true,
                effect => {
                    let same = self.in_flight.iter().find(|other| thing(other) == thing(&effect));
                    assert!(same.is_none(), "two in flight: {same:?} and {effect:?}");
                    if let Effect::Publish { generation, .. } = &effect {
                        assert_eq!(*generation, self.state.publication.generation().unwrap_or_default().next());
                        self.captured.clone_from(&self.accepted);
                    }
                    self.in_flight.push(effect);
                }
            }
        }
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
            Effect::Read { source, .. } => {
                self.delivered.insert(source, how.number);
            }
            Effect::Publish { .. } if how.fails.is_none() => {
                for (source, old) in &self.visible {
                    let new = self.captured.get(source).unwrap_or(old);
                    assert!(new >= old, "a published set was replaced by an older one: {source} {old} -> {new}");
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
                    let keep = |map: &mut BTreeMap<SourceName, u64>| map.retain(|name, _| !moved(name));
                    keep(&mut self.visible);
                    keep(&mut self.accepted);
                    keep(&mut self.captured);
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
        let mut world = World::new(dice);
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
    }
}
