//! Creates a world from its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config_file::{ConfigFile, LISTS, PKI, spec};
use super::random::Random;
use super::secrets::{Kind, PathFaults, Secret, Shape};
use super::server::{Role, Server, ServerFaults};
use super::world::{Event, Pod, World};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// The world of `seed`, before its first event.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let large = seed % 97 == 13;
        let protected = seed % 4 == 1;
        let seeded = seed % 4 == 2 && !large;
        let count = if large { 100 } else { random.below(6) + 1 };
        let mut kinds: Vec<_> = (0..count).map(|_| kind(&mut random)).collect();
        if large {
            // With TTLs of seconds, nearly all events of all worlds would be readings of this one.
            kinds = kinds.into_iter().map(longer).collect();
        }
        if protected {
            kinds[0] = Kind::Versioned;
        }
        if seeded {
            // A required source with a lease or certificate cannot be in a seed.
            for kind in kinds.iter_mut().filter(|kind| matches!(kind, Kind::Leased { .. } | Kind::Certificate(_))) {
                *kind = Kind::Versioned;
            }
        }
        let mut servers = BTreeMap::new();
        for name in ["a", "b"] {
            servers.insert(name, server(name, &kinds, &mut random));
        }
        let mut config = config_file(&kinds, &mut random);
        config.seed = seeded;
        config.adapt_to_seed();
        if protected {
            config.sources.insert("s0".into(), spec("secret/s0", &mut random));
        }
        if large {
            for spec in config.sources.values_mut() {
                (spec.refresh, spec.max_stale) = (300, 300);
            }
            config.timeout = 2;
        }
        let pod = match random.below(100) {
            0..60 => Pod::Sidecar,
            60..85 => Pod::InitThenContainer,
            _ => Pod::Once,
        };
        let pod = if protected || large { Pod::Sidecar } else { pod };
        let mut world = Self::assemble(random, servers, config, pod);
        let random = &mut world.random;
        world.has_checkpoint = random.chance(50);
        // A process that restarts the containers needs its checkpoint.
        world.config.restart = seed % 8 == 7 && pod == Pod::Sidecar && world.has_checkpoint;
        world.fault_gap = SECOND * *random.pick(&[10, 40, 150, 600]);
        world.write_gap = SECOND * *random.pick(&[5, 30, 200]);
        world.exotic = random.chance(60);
        world.protected = protected;
        let faults = world.fault_gap * 60;
        world.calm_at = if large { SECOND * 300 } else { faults.clamp(SECOND * 900, SECOND * 3600) };
        if large {
            world.fault_gap = SECOND;
        }
        if world.config.role.is_none() {
            world.give_token();
        }
        world.start_secrets();
        let (gap, calm_at) = (world.fault_gap, world.calm_at);
        world.schedule(SECOND, Event::Start);
        world.schedule(SECOND * 2 + gap, Event::Disturb);
        world.schedule(SECOND * 2, Event::Write);
        world.schedule(calm_at, Event::Calm);
        world
    }

    fn start_secrets(&mut self) {
        for name in ["a", "b"] {
            let paths: Vec<_> = self.servers[name].secrets.keys().cloned().collect();
            for path in paths {
                let numbers = self.random.below(20) as u64 + 1;
                self.servers.get_mut(name).expect("it exists").secrets.get_mut(&path).expect("it exists").number =
                    numbers;
                self.write_secret(name, &path);
            }
        }
    }
}

fn kind(random: &mut Random) -> Kind {
    match random.below(12) {
        0..4 => Kind::Versioned,
        4 => Kind::List,
        10 | 11 => Kind::Certificate(SECOND * *random.pick(&[5, 30, 120, 600])),
        5..8 => {
            let ttl = SECOND * *random.pick(&[3, 10, 30, 120, 600]);
            Kind::Leased { ttl, max_ttl: ttl * *random.pick(&[1, 2, 5]), renewable: random.chance(70) }
        }
        8 => Kind::Expires(SECOND * *random.pick(&[5, 20, 300])),
        _ => Kind::Rotates(SECOND * *random.pick(&[10, 60, 600])),
    }
}

/// The kind with a TTL or period of at least five minutes.
fn longer(kind: Kind) -> Kind {
    let least = SECOND * 300;
    match kind {
        Kind::Versioned | Kind::List => kind,
        Kind::Leased { ttl, max_ttl, renewable } => {
            Kind::Leased { ttl: ttl.max(least), max_ttl: max_ttl.max(least), renewable }
        }
        Kind::Expires(life) => Kind::Expires(life.max(least)),
        Kind::Rotates(period) => Kind::Rotates(period.max(least)),
        Kind::Certificate(life) => Kind::Certificate(life.max(least)),
    }
}

fn role(random: &mut Random) -> Role {
    let ttl = SECOND * *random.pick(&[20, 60, 300, 3600]);
    let max_ttl = ttl * *random.pick(&[1, 3, 10]);
    Role {
        ttl,
        max_ttl,
        renewable: random.chance(70),
        default_policy: random.chance(75),
        lease_policy: random.chance(50),
    }
}

fn server(name: &'static str, kinds: &[Kind], random: &mut Random) -> Server {
    let mut secrets = BTreeMap::new();
    for (index, kind) in kinds.iter().enumerate() {
        let path = path(index, *kind);
        for path in [path.clone(), format!("{path}b")] {
            let secret = Secret {
                kind: *kind,
                states: Vec::new(),
                shape: Shape::Good,
                faults: PathFaults::default(),
                number: 0,
                rotates_at: Duration::ZERO,
            };
            secrets.insert(path, secret);
        }
    }
    Server {
        name,
        roles: BTreeMap::from([("web", role(random)), ("api", role(random))]),
        secrets,
        tokens: BTreeMap::new(),
        leases: BTreeMap::new(),
        faults: ServerFaults::default(),
        reports_invalid_token: random.chance(50),
        authority: "/ca-1.pem",
        retry_after: Duration::ZERO,
        asked_to_wait: Duration::ZERO,
        given: None,
        counter: 0,
    }
}

/// The path of a secret, a list, or a role of the PKI engine.
fn path(index: usize, kind: Kind) -> String {
    match kind {
        Kind::List => format!("{LISTS}s{index}"),
        Kind::Certificate(_) => format!("{PKI}{}/s{index}", if index.is_multiple_of(2) { "issue" } else { "sign" }),
        _ => format!("secret/s{index}"),
    }
}

fn config_file(kinds: &[Kind], random: &mut Random) -> ConfigFile {
    let source = |(index, kind): (usize, &Kind)| (format!("s{index}"), spec(&path(index, *kind), random));
    let sources = kinds.iter().enumerate().map(source).collect();
    ConfigFile {
        address: "a",
        authority: "/ca-1.pem",
        role: if random.chance(85) { Some("web") } else { None },
        sources,
        directory: "/run/one",
        mirrors: random.below(3),
        retry: (*random.pick(&[100, 500]), *random.pick(&[5, 30, 60]), *random.pick(&[5, 30, 60])),
        concurrency: random.below(5) as u64 + 1,
        timeout: *random.pick(&[2, 10]),
        drain: *random.pick(&[2, 5, 20]),
        revoke_on_exit: random.chance(85),
        seed: false,
        template: random.chance(40),
        notifications: random.below(4),
        restart: false,
    }
}
