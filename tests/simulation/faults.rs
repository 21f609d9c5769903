//! Faults, and actions of users and operators.

use std::rc::Rc;
use std::time::Duration;

use jiff::SignedDuration;
use keyferry::agent::Input;
use keyferry::model::Version;

use super::secrets::{Content, Kind, Shape, list_id, version};
use super::server::{Role, timestamp};
use super::world::{Event, Phase, World};

impl World {
    /// A random end time for the next fault.
    pub fn until(&mut self) -> Duration {
        let mean = Duration::from_secs(*self.random.pick(&[2, 15, 90, 400]));
        self.now + self.random.gap(mean)
    }

    pub fn any_server(&mut self) -> &'static str {
        if self.random.chance(80) { self.config_server() } else { "b" }
    }

    pub fn config_server(&self) -> &'static str {
        if self.config.address == "b" { "b" } else { "a" }
    }

    pub fn any_path(&mut self, server: &str) -> String {
        let used: Vec<_> = self.config.sources.values().map(|spec| spec.path.clone()).collect();
        let protected = |path: &String| self.protected && path.starts_with("secret/s0");
        let paths = &self.servers[server].secrets;
        let pool: Vec<_> = if self.random.chance(80) && !self.protected {
            used
        } else {
            paths.keys().filter(|path| !protected(path)).cloned().collect()
        };
        let fallback = paths.keys().next_back().cloned().expect("each server has secrets");
        if pool.is_empty() { fallback } else { self.random.pick(&pool).clone() }
    }

    /// Injects a fault or an action of a user.
    pub fn disturb(&mut self) {
        let until = self.until();
        match self.random.below(100) {
            0..40 => self.disturb_path(until),
            40..58 => self.disturb_cluster(until),
            _ if self.protected => self.disturb_path(until),
            58..76 => self.disturb_server(until),
            76..82 => self.disturb_tokens(),
            82..88 => self.edit_config(),
            88..90 => self.request_refresh(),
            90..93 if self.config.seed => self.replace_pod(),
            90..93 => self.kill(),
            93..95 => self.terminate_alone(),
            95 => self.disturb_application(until),
            96 => {
                self.note(|| "volume is full".into());
                self.volume.full = until;
            }
            _ => {
                let seconds = self.random.below(7200);
                self.wall_shift += SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0) - 3600);
                self.note(|| "wall clock jumps".into());
                self.schedule(until, Event::SetClock);
            }
        }
    }

    /// The pod starts on another node, often while Vault is away.
    fn replace_pod(&mut self) {
        self.kill();
        self.note(|| "the pod starts on another node".into());
        self.new_pod();
        self.initialized = false;
        let until = self.now + self.random.seconds(150, 600);
        let name = self.config_server();
        let choice = self.random.below(6);
        let faults = &mut self.servers.get_mut(name).expect("a server").faults;
        match choice {
            0 => faults.unreachable = until,
            1 => faults.sealed = until,
            2 => faults.frozen = until,
            3 => faults.login_denied = until,
            _ => {}
        }
    }

    fn disturb_path(&mut self, until: Duration) {
        let name = self.any_server();
        let path = self.any_path(name);
        let choice = self.random.below(13);
        if choice >= 8 && self.disturb_certificate(name, &path, until) {
            return;
        }
        let what = [
            "denied",
            "hangs",
            "broken",
            "zero",
            "hangs",
            "hangs",
            "shape",
            "deleted",
            "recreated",
            "restored",
            "skewed",
            "revoked",
            "previous version deleted",
        ];
        self.note(|| format!("{name}:{path} {} until {:.1}", what[choice], until.as_secs_f64()));
        let now = self.now;
        let wall = timestamp(now);
        let server = self.servers.get_mut(name).expect("a server");
        let secret = server.secrets.get_mut(&path).expect("a secret");
        match choice {
            0 => secret.faults.denied = until,
            2 => secret.faults.broken = until,
            3 => secret.faults.zero = until,
            1 | 4 | 5 => secret.faults.hangs = until,
            6 => {
                secret.shape = *self.random.pick(&[Shape::Good, Shape::NoPassword, Shape::OddKey]);
                self.write_secret(name, &path);
            }
            7 => secret.push(now, None),
            8 if secret.kind == Kind::Versioned => {
                secret.number = 0;
                self.write_secret(name, &path);
            }
            9 if matches!(secret.kind, Kind::Versioned | Kind::List) => {
                let index = self.random.below(secret.states.len());
                let old = secret.states[index].content.clone();
                if let Some(old) = old {
                    secret.number = old.version.number.unwrap_or(1);
                    secret.push(now, Some(old));
                }
            }
            10 if secret.kind == Kind::Versioned => {
                secret.number += 1;
                let skew = SignedDuration::from_secs(i64::try_from(self.random.below(1200)).unwrap_or(0) - 600);
                server.counter += 1;
                let id: Rc<str> = format!("{path}@{name}#{}", server.counter).into();
                let content = Content { id, version: version(secret.number, wall + skew), shape: secret.shape };
                secret.push(now, Some(content));
            }
            12 if secret.kind == Kind::Versioned => {
                if let Some(content) = secret.current().cloned() {
                    server.counter += 1;
                    let id = format!("{path}@{name}#{}", server.counter).into();
                    let version = Version { previous: None, ..content.version };
                    secret.push(now, Some(Content { id, version, ..content }));
                }
            }
            10 if secret.kind == Kind::List => {
                let skew = SignedDuration::from_secs(i64::try_from(self.random.below(1200)).unwrap_or(0) - 600);
                let version = secret.list_after_write(wall + skew, &mut self.random);
                let (id, shape) = (list_id(&path, name, secret.shape, &version), secret.shape);
                let content = Content { id, version, shape };
                secret.push(now, Some(content));
            }
            _ => self.revoke_leases(name, &path),
        }
    }

    /// An operator revokes the leases of a path.
    fn revoke_leases(&mut self, name: &'static str, path: &str) {
        let server = self.servers.get_mut(name).expect("a server");
        server.leases.retain(|_, lease| lease.path != path);
    }

    fn disturb_server(&mut self, until: Duration) {
        let name = self.any_server();
        let choice = self.random.below(8);
        let what = ["unreachable", "sealed", "limited", "frozen", "flaky", "lagging", "login denied", "authority"];
        self.note(|| format!("{name} {} until {:.1}", what[choice], until.as_secs_f64()));
        let lag = self.random.millis(200, 3000) * if self.random.chance(30) { 20 } else { 1 };
        let retry_after = Duration::from_secs(*self.random.pick(&[0, 1, 30, 100, 5000]));
        let other_authority = self.exotic && self.random.chance(30);
        let server = self.servers.get_mut(name).expect("a server");
        match choice {
            0 => server.faults.unreachable = until,
            1 => server.faults.sealed = until,
            2 => (server.faults.limited, server.retry_after) = (until, retry_after),
            3 => server.faults.frozen = until,
            4 => server.faults.flaky = until,
            5 => (server.faults.lagging, server.faults.lag) = (until, lag),
            6 => server.faults.login_denied = until,
            _ if other_authority => {
                server.authority = if server.authority == "/ca-1.pem" { "/ca-2.pem" } else { "/ca-1.pem" };
                // A user adapts the configuration later.
                let wait = self.random.seconds(10, 600);
                self.schedule(self.now + wait, Event::Edit);
            }
            _ => {}
        }
    }

    fn disturb_tokens(&mut self) {
        let name = self.config_server();
        match self.random.below(4) {
            0 if self.config.role.is_none() => self.give_token(),
            1 => {
                let role = *self.random.pick(&["web", "api"]);
                let changed = Role {
                    default_policy: self.random.chance(75),
                    lease_policy: self.random.chance(50),
                    ..self.servers[name].roles[role]
                };
                self.servers.get_mut(name).expect("a server").roles.insert(role, changed);
            }
            _ => {
                self.note(|| format!("{name}: all tokens are revoked"));
                self.watch.tokens_revoked = self.now;
                let server = self.servers.get_mut(name).expect("a server");
                let tokens: Vec<_> = server.tokens.keys().cloned().collect();
                for token in tokens {
                    server.end_token(&token);
                }
                if self.config.role.is_none() {
                    self.give_token();
                }
            }
        }
    }

    /// A user writes another token to the file.
    pub fn give_token(&mut self) {
        let ttl = if self.phase == Phase::Calm { 86_400 } else { *self.random.pick(&[60, 600, 7200]) };
        let ttl = Duration::from_secs(ttl);
        let role = Role {
            ttl,
            max_ttl: ttl * 2,
            renewable: self.random.chance(50),
            default_policy: self.random.chance(75),
            lease_policy: self.random.chance(50),
        };
        for name in ["a", "b"] {
            let now = self.now;
            let server = self.servers.get_mut(name).expect("a server");
            let token = server.issue(role, 0, now);
            server.given = Some(token);
        }
        self.note(|| "another token is supplied".into());
    }

    fn disturb_cluster(&mut self, until: Duration) {
        let choice = self.random.below(10);
        let what = [
            "down",
            "mirrors denied",
            "mirrors hang",
            "conflicts",
            "reports denied",
            "reports hang",
            "edited",
            "deleted",
            "replica",
            "replica",
        ];
        self.note(|| format!("cluster: {} until {:.1}", what[choice], until.as_secs_f64()));
        let faults = &mut self.cluster.faults;
        match choice {
            0 => faults.down = until,
            1 => faults.mirrors_denied = until,
            2 => faults.mirrors_hang = until,
            3 => faults.conflicts = until,
            4 => faults.reports_denied = until,
            5 => faults.reports_hang = until,
            6 => {
                for object in self.cluster.secrets.values_mut() {
                    object.data.insert("edited".into(), b"manually".to_vec());
                    object.edited = true;
                }
            }
            7 => self.cluster.secrets.clear(),
            _ => self.replica_writes(),
        }
    }

    /// Another replica with the same configuration has read the current secrets and writes the mirrors.
    fn replica_writes(&mut self) {
        let Some(process) = &self.process else { return };
        let settings = std::sync::Arc::clone(process.agent.settings());
        let Some(server) = self.server(&settings) else { return };
        let current: Vec<_> = settings
            .sources
            .iter()
            .filter_map(|(name, source)| {
                Some((name.clone(), server.secrets.get(&source.path)?.current()?.version.clone()))
            })
            .collect();
        for object in self.cluster.secrets.values_mut() {
            for (name, version) in &current {
                if let Some((_, there)) = object.versions.get_mut(name)
                    && version.order(there) == keyferry::model::Order::Newer
                {
                    *there = version.clone();
                    object.data.insert("replica".into(), b"newer".to_vec());
                }
            }
        }
    }

    fn terminate_alone(&mut self) {
        self.terminate();
    }

    pub fn terminate(&mut self) {
        if let Some(process) = &mut self.process
            && process.terminated.is_none()
        {
            process.terminated = Some(self.now);
            self.input(Input::Terminate, "SIGTERM");
        }
    }

    /// Writes a new version at a path.
    pub fn write_secret(&mut self, name: &'static str, path: &str) {
        let (now, wall) = (self.now, timestamp(self.now));
        let server = self.servers.get_mut(name).expect("a server");
        server.counter += 1;
        let id: Rc<str> = format!("{path}@{name}#{}", server.counter).into();
        let secret = server.secrets.get_mut(path).expect("a secret");
        secret.number += 1;
        let mut content = Content { id, version: version(secret.number, wall), shape: secret.shape };
        match secret.kind {
            Kind::Versioned => secret.push(now, Some(content)),
            Kind::List => {
                content.version = secret.list_after_write(wall, &mut self.random);
                content.id = list_id(path, name, secret.shape, &content.version);
                secret.push(now, Some(content));
            }
            Kind::Rotates(period) => {
                secret.push(now, Some(content));
                secret.rotates_at = now + period;
                self.schedule(now + period, Event::Rotate(name, path.to_owned()));
            }
            Kind::Leased { .. } | Kind::Expires(_) | Kind::Certificate(_) => {}
        }
    }

    /// Rotates a static role.
    pub fn rotate(&mut self, name: &'static str, path: &str) {
        if self.servers[name].secrets[path].rotates_at <= self.now {
            self.write_secret(name, path);
        }
    }

    /// A user writes a secret, which is not a fault.
    pub fn write_secrets(&mut self) {
        let name = self.any_server();
        let used: Vec<_> = self.config.sources.values().map(|spec| spec.path.clone()).collect();
        let path = self.random.pick(&used).clone();
        if matches!(self.servers[name].secrets[&path].kind, Kind::Versioned | Kind::List) {
            self.note(|| format!("{name}:{path} is written"));
            self.write_secret(name, &path);
        }
    }

    /// Ends all faults.
    pub fn calm(&mut self) {
        self.phase = Phase::Calm;
        self.note(|| "all faults stop".into());
        let now = self.now;
        self.volume.full = now;
        (self.application.fails, self.application.hangs) = (now, now);
        self.wall_shift = SignedDuration::ZERO;
        self.cluster.faults = super::cluster::ClusterFaults::default();
        for name in ["a", "b"] {
            let server = self.servers.get_mut(name).expect("a server");
            server.faults = super::server::ServerFaults::default();
            let paths: Vec<_> = server.secrets.keys().cloned().collect();
            for path in paths {
                let secret = self.servers.get_mut(name).expect("it").secrets.get_mut(&path).expect("it");
                secret.faults = super::secrets::PathFaults::default();
                let odd = secret.shape != Shape::Good
                    || secret
                        .states
                        .last()
                        .is_none_or(|state| state.content.as_ref().is_none_or(|content| content.shape != Shape::Good));
                secret.shape = Shape::Good;
                if odd {
                    self.write_secret(name, &path);
                }
            }
        }
        if self.config.role.is_none() || self.working.role.is_none() {
            self.give_token();
        }
        self.repair_config();
        let bound = self.calm_bound();
        self.schedule(now + bound, Event::Check);
    }
}
