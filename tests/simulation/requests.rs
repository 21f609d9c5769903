//! Executes operations on the simulated servers, and schedules their outcomes.

use std::rc::Rc;
use std::time::Duration;

use keyferry::agent::{Op, Outcome, Ticket};
use keyferry::model::{Checkpoint, Failure, FailureClass, Reading, Reason, Settings, Source, Validity};

use super::pki::{left, unusable};
use super::process::flight;
use super::secrets::{Kind, Shape};
use super::server::{Server, id_of, lost, timestamp};
use super::world::{Event, Note, Record, World};

impl World {
    pub fn latency(&mut self) -> Duration {
        match self.random.below(100) {
            0 => self.random.millis(500, 3000),
            1..10 => self.random.millis(50, 400),
            _ => self.random.millis(0, 20),
        }
    }

    pub fn server_of(settings: &Settings) -> &'static str {
        match settings.server.address.as_str() {
            "https://a:8200" => "a",
            "https://b:8200" => "b",
            _ => "unreachable",
        }
    }

    pub fn server(&self, settings: &Settings) -> Option<&Server> {
        self.servers.get(Self::server_of(settings))
    }

    pub fn answer(&mut self, process: u64, ticket: Ticket, outcome: Outcome, note: Note) {
        let delay = self.latency();
        self.schedule(self.now + delay, Event::Deliver(process, ticket, Box::new(outcome), note));
    }

    pub fn no_answer(&mut self, process: u64, ticket: Ticket, started: Duration, timeout: Duration, like: &Outcome) {
        let at = (started + timeout).max(self.now);
        self.schedule(at, Event::Deliver(process, ticket, Box::new(lost(like)), Note::default()));
    }

    /// Executes an operation.
    pub fn serve(&mut self, process: u64, ticket: Ticket, op: Box<Op>, started: Duration) {
        let alive = self.process.as_ref().is_some_and(|now| now.id == process);
        let local = matches!(
            *op,
            Op::Notify { .. } | Op::ReadSeed { .. } | Op::Publish { .. } | Op::RetireDirectory { .. } | Op::Save { .. }
        );
        // A request that was sent is served even if its process has exited; a system call is not.
        if local && !alive {
            return;
        }
        match *op {
            Op::Publish { ref directory, ref set } => {
                let result = self.publish(&directory.path, set);
                let delay = self.random.millis(0, 30);
                let event = Event::Deliver(process, ticket, Box::new(Outcome::Published(result)), Note::default());
                self.schedule(self.now + delay, event);
            }
            Op::ReadSeed { .. } => {
                let outcome = Outcome::SeedRead(Ok(self.cluster.seed()));
                self.answer(process, ticket, outcome, Note::default());
            }
            Op::RetireDirectory { directory } => {
                self.volume.directories.remove(&directory.path);
                self.visible.remove(&directory.path);
                self.answer(process, ticket, Outcome::Retired(Ok(())), Note::default());
            }
            Op::Save { settings, checkpoint } => {
                self.checkpoint = (!checkpoint.is_empty()).then_some((started, settings, *checkpoint));
                self.answer(process, ticket, Outcome::Saved(Ok(())), Note::default());
            }
            Op::Notify { .. } => self.serve_notification(process, ticket, &op, started),
            Op::Mirror { .. } | Op::PatchConditions { .. } | Op::RecordEvent { .. } => {
                self.serve_cluster(process, ticket, &op, started);
            }
            _ => self.serve_vault(process, ticket, op, started),
        }
    }

    pub fn serve_cluster(&mut self, process: u64, ticket: Ticket, op: &Op, started: Duration) {
        let timeout = Duration::from_secs(10);
        let (now, faults) = (self.now, self.cluster.faults);
        match op {
            Op::Mirror { name, content, .. } => {
                let written = self.cluster.mirror(name, content, now);
                if let Ok(write) = &written {
                    self.check_mirror_write(name, content, write);
                }
                let outcome = Outcome::Mirrored(written.map(|write| write.result));
                if faults.mirrors_hang > now {
                    return self.no_answer(process, ticket, started, timeout, &outcome);
                }
                self.answer(process, ticket, outcome, Note::default());
            }
            Op::PatchConditions { conditions, .. } => {
                let outcome = Outcome::ConditionsPatched(self.cluster.report(conditions, now));
                if faults.reports_hang > now {
                    return self.no_answer(process, ticket, started, timeout, &outcome);
                }
                self.answer(process, ticket, outcome, Note::default());
            }
            _ => {
                let outcome = Outcome::EventRecorded(self.cluster.record(now));
                self.answer(process, ticket, outcome, Note::default());
            }
        }
    }

    pub fn serve_vault(&mut self, process: u64, ticket: Ticket, op: Box<Op>, started: Duration) {
        let flight = flight(&op, started);
        let settings = flight.settings.clone().expect("each request to Vault has settings");
        let timeout = settings.server.timeout;
        let (now, name) = (self.now, Self::server_of(&settings));
        self.watch.request(&flight, now);
        let checkpoint = match *op {
            Op::LogIn { restore: true, .. } => self.load_checkpoint(&settings, started),
            _ => None,
        };
        if let Some(checkpoint) = checkpoint.as_ref().filter(|checkpoint| checkpoint.token.is_none()) {
            let restored = Outcome::Restored(Ok(Box::new(checkpoint.clone())));
            return self.answer(process, ticket, restored, Note::default());
        }
        let Some(server) = self.servers.get_mut(name) else {
            return self.no_answer(
                process,
                ticket,
                started,
                timeout.min(Duration::from_secs(1)),
                &like(&op, checkpoint.is_some()),
            );
        };
        let hangs = match &*op {
            Op::Read { source, .. } | Op::RenewLease { source, .. } | Op::LookUpLease { source, .. } => {
                let path = &settings.sources[source].path;
                server.secrets.get(path).is_some_and(|secret| secret.faults.hangs > now)
            }
            _ => false,
        };
        if hangs {
            return self.no_answer(process, ticket, started, timeout, &like(&op, checkpoint.is_some()));
        }
        if server.faults.frozen > now {
            let thaw = server.faults.frozen;
            self.no_answer(process, ticket, started, timeout, &like(&op, checkpoint.is_some()));
            // A suspended server processes the received requests when it resumes.
            if self.random.chance(50) {
                self.schedule(thaw, Event::Serve(process, ticket, op, started));
            }
            return;
        }
        let flaky = server.faults.flaky > now && self.random.chance(30);
        let server = self.servers.get_mut(name).expect("the server exists");
        let mut note = Note::default();
        let random = &mut self.random;
        let outcome = match &*op {
            Op::LogIn { settings, .. } if let Some(mut checkpoint) = checkpoint => {
                let saved = checkpoint.token.as_mut().expect("without a token, it is restored above");
                match server.look_up(settings, &saved.token, now, random) {
                    Ok(info) => {
                        (saved.left, saved.renewable) = (info.ttl, info.renewable);
                        (note.token, note.restored) = (Some(saved.token.expose().to_vec()), true);
                        Outcome::Restored(Ok(Box::new(checkpoint)))
                    }
                    Err(failure) if failure.class.is_retryable() => Outcome::Restored(Err(failure)),
                    Err(_) => {
                        checkpoint.token = None;
                        Outcome::Restored(Ok(Box::new(checkpoint)))
                    }
                }
            }
            Op::LogIn { settings, .. } => {
                let result = server.log_in(settings, process, now, random);
                note.token = result.as_ref().ok().map(|session| session.token.expose().to_vec());
                Outcome::LoggedIn(result)
            }
            Op::LookUp { settings, token } => Outcome::LookedUp(server.look_up(settings, token, now, random)),
            Op::RenewToken { settings, token } => {
                Outcome::TokenRenewed(server.renew_token(settings, token, now, random))
            }
            Op::Revoke { settings, token } => Outcome::Revoked(server.revoke(settings, token, now, random)),
            Op::Read { settings, token, source } => {
                let spec = &settings.sources[source];
                let unverifiable = server.secrets.get(&spec.path).is_some_and(|it| it.faults.unverifiable > now);
                let read = server.read(settings, token, &spec.path, now, random);
                let read = read.and_then(|answer| if unverifiable { Err(unusable()) } else { self.verified(answer) });
                let read = read.map(|(reading, id)| {
                    self.remember(name, spec, &reading, &id, token.expose());
                    note.reading = Some(id);
                    reading
                });
                Outcome::Read(read)
            }
            Op::RenewLease { settings, token, lease, .. } => {
                Outcome::LeaseRenewed(server.renew_lease(settings, token, lease, now, random))
            }
            Op::LookUpLease { settings, token, lease, .. } => {
                Outcome::LeaseLookedUp(server.look_up_lease(settings, token, lease, now, random))
            }
            Op::RevokeLease { settings, token, lease, .. } => {
                Outcome::LeaseRevoked(server.revoke_lease(settings, token, lease, now, random))
            }
            _ => unreachable!("not a request to Vault"),
        };
        if flaky {
            return self.no_answer(process, ticket, started, timeout, &outcome);
        }
        self.answer(process, ticket, outcome, note);
    }

    /// The checkpoint, if it is usable with these settings. Otherwise it is removed.
    fn load_checkpoint(&mut self, settings: &Settings, started: Duration) -> Option<Checkpoint> {
        let (at, of, mut checkpoint) = self.checkpoint.clone()?;
        if of.server.address != settings.server.address || of.auth != settings.auth {
            self.checkpoint = None;
            return None;
        }
        checkpoint.pass(started.saturating_sub(at));
        checkpoint.sources.retain(|name, saved| {
            let request = |settings: &Settings| settings.sources.get(name).map(Source::request_id);
            !saved.left.is_zero() && request(&of) == request(settings)
        });
        Some(checkpoint)
    }

    fn remember(&mut self, server: &'static str, source: &Source, reading: &Reading, id: &Rc<str>, token: &[u8]) {
        if self.records.contains_key(id) {
            return;
        }
        let has = |key: &str| reading.data.keys().any(|found| found.ends_with(key));
        let shape = match (has("password") || has("private_key"), has("..odd")) {
            (false, _) => Shape::NoPassword,
            (true, true) => Shape::OddKey,
            (true, false) => Shape::Good,
        };
        let record = Record {
            server,
            path: source.path.clone(),
            alt_names: source.certificate.as_ref().map(|wanted| wanted.alt_names.clone()).unwrap_or_default(),
            shape,
            version: reading.version.clone(),
            kind: match &reading.validity {
                Validity::Expires(life) => Kind::Expires(*life),
                Validity::Certificate(times) => Kind::Certificate(left(timestamp(self.now), times.ends())),
                _ => self.servers[server].secrets[&source.path].kind,
            },
            lease: reading.validity.lease().map(|lease| id_of(&lease.id).to_owned()),
            token: token.to_vec(),
            issued: self.now,
            reported_end: None,
            may_be_older: false,
            too_old: false,
        };
        self.records.insert(Rc::clone(id), record);
    }
}

/// An outcome of the right kind for a request without a response.
fn like(op: &Op, has_checkpoint: bool) -> Outcome {
    let failure = || Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, "");
    match op {
        Op::LogIn { .. } if has_checkpoint => Outcome::Restored(Err(failure())),
        Op::LogIn { .. } => Outcome::LoggedIn(Err(failure())),
        Op::LookUp { .. } => Outcome::LookedUp(Err(failure())),
        Op::RenewToken { .. } => Outcome::TokenRenewed(Err(failure())),
        Op::Revoke { .. } => Outcome::Revoked(Err(failure())),
        Op::RenewLease { .. } => Outcome::LeaseRenewed(Err(failure())),
        Op::LookUpLease { .. } => Outcome::LeaseLookedUp(Err(failure())),
        Op::RevokeLease { .. } => Outcome::LeaseRevoked(Err(failure())),
        _ => Outcome::Read(Err(failure())),
    }
}
