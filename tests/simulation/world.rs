//! The world around an agent, event by event. Everything follows from one number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyferry::agent::{Action, Input, Mode, Now, Op, Outcome, Ticket};
use keyferry::model::{Checkpoint, Lease, Reading, Settings, SourceName, Validity, Version};

use super::cluster::Cluster;
use super::documents::Document;
use super::process::{Flight, Process, flight};
use super::properties::{Property, Watch};
use super::random::Random;
use super::secrets::{Kind, Shape};
use super::server::{Server, lost};
use super::volume::Volume;

/// Which processes a pod has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pod {
    /// `run` as a sidecar.
    Sidecar,
    /// `once`, whose checkpoint `run` takes.
    InitThenBeside,
    /// `once` alone.
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    Faults,
    /// No more faults.
    Calm,
    /// The pod is being deleted.
    Ending,
    Over,
}

/// What is known of a reading that was served.
pub struct Record {
    pub server: &'static str,
    pub path: String,
    pub shape: Shape,
    pub version: Version,
    pub kind: Kind,
    pub lease: Option<String>,
    pub token: Vec<u8>,
    pub born: Duration,
    /// When it ends, as the agent was told and as it counts.
    pub told_end: Option<Duration>,
    /// A person ended it.
    pub ended_by_hand: bool,
    /// It may take the place of a newer one: it was asked for, or older answers had been steady.
    pub may_be_older: bool,
    /// It was older than what the agent had, and nothing allowed it.
    pub too_old: bool,
}

/// What an answer carries for the world's own books.
#[derive(Clone, Default)]
pub struct Note {
    pub reading: Option<Rc<str>>,
    pub token: Option<Vec<u8>>,
    pub restored: bool,
}

pub enum Event {
    Start,
    Serve(u64, Ticket, Box<Op>, Duration),
    Deliver(u64, Ticket, Box<Outcome>, Note),
    Disturb,
    Write,
    Calm,
    Check,
    /// The check in calm once more: an answer was slow.
    CheckAgain(u32),
    Edit,
    /// A static role at this server and path is rotated.
    Rotate(&'static str, String),
}

pub struct World {
    pub random: Random,
    pub now: Duration,
    pub wall_shift: SignedDuration,
    queue: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    pub servers: BTreeMap<&'static str, Server>,
    pub cluster: Cluster,
    pub volume: Volume,
    pub checkpoint: Option<(Duration, Arc<Settings>, Checkpoint)>,
    pub document: Document,
    /// The last configuration that works.
    pub working: Document,
    pub document_valid: bool,
    pub pod: Pod,
    pub handed_over: bool,
    pub stage: Stage,
    pub calm_at: Duration,
    pub fault_gap: Duration,
    pub write_gap: Duration,
    pub exotic: bool,
    /// No fault touches this source or the server as a whole.
    pub protected: bool,
    pub process: Option<Process>,
    pub processes: u64,
    /// Exits in a row, for the kubelet's back-off.
    crashes: u32,
    pub records: BTreeMap<Rc<str>, Record>,
    /// Which reading of each source is visible, by directory.
    pub visible: BTreeMap<PathBuf, BTreeMap<SourceName, Rc<str>>>,
    /// When a token ends, as the agent counts.
    pub token_told: BTreeMap<Vec<u8>, Duration>,
    pub tokens_ended_by_hand: BTreeSet<Vec<u8>>,
    pub watch: Watch,
    pub events: u64,
    pub tracing: bool,
    pub trace: VecDeque<String>,
    pub violation: Option<(Property, String)>,
}

impl World {
    pub fn schedule(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    pub fn assemble(random: Random, servers: BTreeMap<&'static str, Server>, document: Document, pod: Pod) -> Self {
        Self {
            random,
            now: Duration::from_secs(1),
            wall_shift: SignedDuration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            servers,
            cluster: Cluster::default(),
            volume: Volume::default(),
            checkpoint: None,
            working: document.clone(),
            document,
            document_valid: true,
            pod,
            handed_over: false,
            stage: Stage::Faults,
            calm_at: Duration::ZERO,
            fault_gap: Duration::ZERO,
            write_gap: Duration::ZERO,
            exotic: false,
            protected: false,
            process: None,
            processes: 0,
            crashes: 0,
            records: BTreeMap::new(),
            visible: BTreeMap::new(),
            token_told: BTreeMap::new(),
            tokens_ended_by_hand: BTreeSet::new(),
            watch: Watch::default(),
            events: 0,
            tracing: false,
            trace: VecDeque::new(),
            violation: None,
        }
    }

    pub fn wall(&self) -> Timestamp {
        let base: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        base + SignedDuration::try_from(self.now).expect("a short run") + self.wall_shift
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() == 200_000 {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:>11.3}s  {}", self.now.as_secs_f64(), text()));
        }
    }

    pub fn violate(&mut self, property: Property, detail: String) {
        if self.violation.is_none() {
            self.note(|| format!("VIOLATION {property:?}: {detail}"));
            self.violation = Some((property, detail));
        }
    }

    /// Runs to the end or to the first violation.
    pub fn run(&mut self) {
        while self.stage != Stage::Over && self.violation.is_none() {
            let wake = self.process.as_ref().and_then(|process| process.wake);
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            if let Some(wake) = wake.filter(|wake| next.is_none_or(|next| *wake < next)) {
                self.now = self.now.max(wake);
                self.input(Input::TimerFired, "timer");
            } else if let Some(((at, _), event)) = self.queue.pop_first() {
                self.now = self.now.max(at);
                self.event(event);
            } else {
                break;
            }
            self.check_always();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Start => self.start_process(),
            Event::Serve(process, ticket, op, started) => self.serve(process, ticket, op, started),
            Event::Deliver(process, ticket, outcome, note) => self.deliver(process, ticket, *outcome, &note),
            Event::Disturb => {
                if self.stage == Stage::Faults {
                    self.disturb();
                    let gap = self.random.gap(self.fault_gap);
                    self.schedule(self.now + gap, Event::Disturb);
                }
            }
            Event::Write => {
                self.write_secrets();
                let gap = self.random.gap(self.write_gap);
                self.schedule(self.now + gap, Event::Write);
            }
            Event::Edit => self.repair_document(),
            Event::Rotate(server, path) => self.rotate(server, &path),
            Event::Calm => self.calm(),
            Event::Check => self.check_calm(0),
            Event::CheckAgain(times) => self.check_calm(times),
        }
    }

    fn moment(&mut self, since: Duration) -> Now {
        let seed = self.random.bits();
        Now { at: self.now - since, wall: self.wall(), seed }
    }

    pub fn start_process(&mut self) {
        if self.process.is_some() || self.stage == Stage::Over {
            return;
        }
        if !self.document_valid {
            // `run` exits at once; a person repairs it.
            self.schedule(self.now + Duration::from_secs(30), Event::Edit);
            self.schedule(self.now + Duration::from_secs(31), Event::Start);
            return;
        }
        self.processes += 1;
        let settings = self.document.settings();
        let mode = match self.pod {
            Pod::Sidecar => Mode::Run { restore: false },
            Pod::InitThenBeside if self.handed_over => Mode::Run { restore: true },
            Pod::InitThenBeside => Mode::Once { deadline: Duration::from_secs(120), save: true },
            Pod::Once => Mode::Once { deadline: Duration::from_secs(120), save: false },
        };
        let moment = self.moment(self.now);
        let process = Process::new(self.processes, &settings, mode, self.now, &moment);
        let adopted = self.volume.adopted(&settings.directory.path);
        self.process = Some(process);
        self.note(|| format!("process starts as {mode:?}"));
        self.watch.process_started();
        let before = adopted.as_ref().map(|adopted| adopted.manifest.clone());
        self.input(Input::Started(adopted), "started");
        self.check_adoption(before.as_ref());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if self.process.take().is_some() {
            self.note(|| "process is killed".into());
            let wait = self.random.millis(100, 200_000);
            self.schedule(self.now + wait, Event::Start);
        }
    }

    /// Lets the agent take an input and does what it asks for.
    pub fn input(&mut self, input: Input, what: &str) {
        let Some(started) = self.process.as_ref().map(|process| process.started) else { return };
        self.events += 1;
        let moment = self.moment(started);
        let timer = matches!(input, Input::TimerFired);
        self.note(|| format!("-> {what}"));
        let process = self.process.as_mut().expect("it is there");
        let actions = process.handle(input, &moment);
        let wake = process.agent.wake_at(moment.at);
        process.wake = wake.map(|at| started + at);
        let operations = actions.iter().filter(|action| matches!(action, Action::Start(..))).count();
        self.check_wake(moment.at, wake, timer, operations);
        for action in actions {
            self.act(action);
        }
        self.check_after_input();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Log(entry) => self.note(|| {
                let about = entry.source.as_ref().map_or(String::new(), |source| format!(" {source}"));
                format!("   log {:?} {}{about}: {}", entry.level, entry.operation, entry.message)
            }),
            Action::Exit { code } => self.exit(code),
            Action::Start(ticket, op) => {
                let flight = flight(&op, self.now);
                self.note(|| format!("   {} {}", ticket.0, flight.what));
                self.check_start(ticket, &op, &flight);
                let Some(process) = self.process.as_mut() else { return };
                let id = process.id;
                process.in_flight.insert(ticket, flight);
                let delay = if matches!(op, Op::Publish { .. }) { self.random.millis(0, 30) } else { self.latency() };
                self.schedule(self.now + delay, Event::Serve(id, ticket, Box::new(op), self.now));
            }
        }
    }

    fn latency(&mut self) -> Duration {
        match self.random.below(100) {
            0 => self.random.millis(500, 3000),
            1..10 => self.random.millis(50, 400),
            _ => self.random.millis(0, 20),
        }
    }

    fn exit(&mut self, code: u8) {
        self.note(|| format!("   exit {code}"));
        let process = self.process.take().expect("only a process exits");
        self.check_exit(&process);
        if self.stage == Stage::Ending {
            self.check_leftovers(&process);
            self.stage = Stage::Over;
            return;
        }
        let wait = match self.pod {
            Pod::InitThenBeside if process.is_once() && code == 0 => {
                self.handed_over = true;
                Duration::from_millis(300)
            }
            Pod::Once if code == 0 => self.new_pod(),
            _ => {
                // The kubelet's own back-off for a container that ends again and again.
                self.crashes = if self.now > process.started + Duration::from_secs(600) { 0 } else { self.crashes + 1 };
                Duration::from_secs(5 << self.crashes.min(6)).min(Duration::from_secs(300))
            }
        };
        self.schedule(self.now + wait, Event::Start);
    }

    /// Another pod of the same kind, with an empty volume.
    fn new_pod(&mut self) -> Duration {
        self.volume.directories.clear();
        self.visible.clear();
        self.watch.pod_ready = false;
        Duration::from_secs(120)
    }

    fn server_of(settings: &Settings) -> &'static str {
        match settings.server.address.as_str() {
            "https://a:8200" => "a",
            "https://b:8200" => "b",
            _ => "dead",
        }
    }

    pub fn server(&self, settings: &Settings) -> Option<&Server> {
        self.servers.get(Self::server_of(settings))
    }

    fn answer(&mut self, process: u64, ticket: Ticket, outcome: Outcome, note: Note) {
        let delay = self.latency();
        self.schedule(self.now + delay, Event::Deliver(process, ticket, Box::new(outcome), note));
    }

    fn no_answer(&mut self, process: u64, ticket: Ticket, started: Duration, timeout: Duration, like: &Outcome) {
        let at = (started + timeout).max(self.now);
        self.schedule(at, Event::Deliver(process, ticket, Box::new(lost(like)), Note::default()));
    }

    /// The operation reaches what it is about.
    fn serve(&mut self, process: u64, ticket: Ticket, op: Box<Op>, started: Duration) {
        let alive = self.process.as_ref().is_some_and(|now| now.id == process);
        let local = matches!(*op, Op::Publish { .. } | Op::RetireDirectory { .. } | Op::Save { .. });
        // A request that was sent is served though its process is gone; a system call is not.
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
            Op::RetireDirectory { directory } => {
                self.volume.directories.remove(&directory.path);
                self.visible.remove(&directory.path);
                self.answer(process, ticket, Outcome::Retired(Ok(())), Note::default());
            }
            Op::Save { settings, checkpoint } => {
                self.checkpoint = Some((self.now, settings, *checkpoint));
                self.answer(process, ticket, Outcome::Saved(Ok(())), Note::default());
            }
            Op::Mirror { .. } | Op::Report { .. } | Op::Record { .. } => self.serve_cluster(process, ticket, &op, started),
            _ => self.serve_vault(process, ticket, op, started),
        }
    }

    fn serve_cluster(&mut self, process: u64, ticket: Ticket, op: &Op, started: Duration) {
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
            Op::Report { conditions, .. } => {
                let outcome = Outcome::Reported(self.cluster.report(conditions, now));
                if faults.reports_hang > now {
                    return self.no_answer(process, ticket, started, timeout, &outcome);
                }
                self.answer(process, ticket, outcome, Note::default());
            }
            _ => {
                let outcome = Outcome::Recorded(self.cluster.record(now));
                self.answer(process, ticket, outcome, Note::default());
            }
        }
    }

    fn serve_vault(&mut self, process: u64, ticket: Ticket, op: Box<Op>, started: Duration) {
        let flight = flight(&op, started);
        let settings = flight.settings.clone().expect("each request to Vault has settings");
        let timeout = settings.server.timeout;
        let (now, name) = (self.now, Self::server_of(&settings));
        self.watch.request(&flight, now);
        if let Op::LogIn { restore: true, .. } = *op
            && let Some(checkpoint) = self.take_checkpoint(&settings)
        {
            let note = Note { token: Some(checkpoint.token.expose().to_vec()), restored: true, ..Note::default() };
            return self.answer(process, ticket, Outcome::Restored(Box::new(checkpoint)), note);
        }
        let Some(server) = self.servers.get_mut(name) else {
            return self.no_answer(process, ticket, started, timeout.min(Duration::from_secs(1)), &like(&op));
        };
        let hangs = match &*op {
            Op::Read { source, .. } | Op::RenewLease { source, .. } => {
                let path = &settings.sources[source].path;
                server.secrets.get(path).is_some_and(|secret| secret.faults.hangs > now)
            }
            _ => false,
        };
        if hangs {
            return self.no_answer(process, ticket, started, timeout, &like(&op));
        }
        if server.faults.frozen > now {
            let thaw = server.faults.frozen;
            self.no_answer(process, ticket, started, timeout, &like(&op));
            // What a frozen server has received, it works off when it comes back.
            if self.random.chance(50) {
                self.schedule(thaw, Event::Serve(process, ticket, op, started));
            }
            return;
        }
        let flaky = server.faults.flaky > now && self.random.chance(30);
        let server = self.servers.get_mut(name).expect("it was just there");
        let mut note = Note::default();
        let random = &mut self.random;
        let outcome = match &*op {
            Op::LogIn { settings, .. } => {
                let result = server.log_in(settings, process, now, random);
                note.token = result.as_ref().ok().map(|session| session.token.expose().to_vec());
                Outcome::LoggedIn(result)
            }
            Op::LookUp { settings, token } => Outcome::LookedUp(server.look_up(settings, token, now, random)),
            Op::RenewToken { settings, token } => Outcome::TokenRenewed(server.renew_token(settings, token, now, random)),
            Op::Revoke { settings, token } => Outcome::Revoked(server.revoke(settings, token, now, random)),
            Op::Read { settings, token, source } => {
                let path = settings.sources[source].path.clone();
                let read = server.read(settings, token, &path, now, random);
                let read = read.map(|(reading, id)| {
                    self.remember(name, &path, &reading, &id, token.expose());
                    note.reading = Some(id);
                    reading
                });
                Outcome::Read(read)
            }
            Op::RenewLease { settings, token, lease, .. } => {
                Outcome::LeaseRenewed(server.renew_lease(settings, token, lease, now, random))
            }
            _ => unreachable!("not a request to Vault"),
        };
        if flaky {
            return self.no_answer(process, ticket, started, timeout, &outcome);
        }
        self.answer(process, ticket, outcome, note);
    }

    fn take_checkpoint(&mut self, settings: &Settings) -> Option<Checkpoint> {
        let (at, of, mut checkpoint) = self.checkpoint.take()?;
        let passed = self.now - at;
        let same = of.server.address == settings.server.address && of.auth == settings.auth;
        let left = checkpoint.left.map(|left| left.saturating_sub(passed));
        if !same || left.is_some_and(|left| left < Duration::from_secs(3)) {
            return None;
        }
        checkpoint.left = left;
        for saved in checkpoint.sources.values_mut() {
            saved.lease_left = saved.lease_left.map(|left| left.saturating_sub(passed));
        }
        Some(checkpoint)
    }

    fn remember(&mut self, server: &'static str, path: &str, reading: &Reading, id: &Rc<str>, token: &[u8]) {
        if self.records.contains_key(id) {
            return;
        }
        let shape = match (reading.data.contains_key("password"), reading.data.contains_key("..odd")) {
            (false, _) => Shape::NoPassword,
            (true, true) => Shape::OddKey,
            (true, false) => Shape::Good,
        };
        let record = Record {
            server,
            path: path.to_owned(),
            shape,
            version: reading.version.clone(),
            kind: match &reading.validity {
                Validity::Expires(life) => Kind::Expires(*life),
                _ => self.servers[server].secrets[path].kind,
            },
            lease: reading.validity.lease().map(|lease| lease.id.0.clone()),
            token: token.to_vec(),
            born: self.now,
            told_end: None,
            ended_by_hand: false,
            may_be_older: false,
            too_old: false,
        };
        self.records.insert(Rc::clone(id), record);
    }

    /// An answer reaches the process, if it still waits for it.
    fn deliver(&mut self, process: u64, ticket: Ticket, outcome: Outcome, note: &Note) {
        let Some(running) = self.process.as_mut().filter(|running| running.id == process) else { return };
        let Some(flight) = running.in_flight.remove(&ticket) else { return };
        self.take_note(&flight, &outcome, note);
        let what = if self.tracing { format!("{} {}: {}", ticket.0, flight.what, told(&outcome)) } else { String::new() };
        self.input(Input::Completed(ticket, outcome), &what);
    }

    /// Keeps the world's own books about an answer.
    fn take_note(&mut self, flight: &Flight, outcome: &Outcome, note: &Note) {
        let now = self.now;
        if let Some(token) = &note.token {
            for server in self.servers.values_mut() {
                if let Some(state) = server.tokens.get_mut(token) {
                    state.delivered = true;
                    if note.restored {
                        state.owner = self.processes;
                    }
                }
            }
        }
        match outcome {
            Outcome::LoggedIn(Ok(session)) => {
                let ends = session.info.ttl.map_or(Duration::MAX, |ttl| now + ttl);
                self.token_told.insert(session.token.expose().to_vec(), ends);
            }
            Outcome::Restored(checkpoint) => {
                let ends = checkpoint.left.map_or(Duration::MAX, |left| now + left);
                self.token_told.insert(checkpoint.token.expose().to_vec(), ends);
                for saved in checkpoint.sources.values() {
                    let lease = saved.reading.validity.lease().map(|lease| lease.id.0.clone());
                    for record in self.records.values_mut().filter(|record| lease.is_some() && record.lease == lease) {
                        record.told_end = saved.lease_left.map(|left| now + left);
                    }
                }
            }
            Outcome::TokenRenewed(Ok(info)) => {
                let ends = info.ttl.map_or(Duration::MAX, |ttl| now + ttl);
                self.token_told.insert(flight.token.clone(), ends);
            }
            Outcome::LeaseRenewed(Ok(Lease { id, duration, .. })) => {
                for record in self.records.values_mut().filter(|record| record.lease.as_ref() == Some(&id.0)) {
                    record.told_end = Some(now + *duration);
                }
            }
            Outcome::Read(Ok(reading)) => {
                if let Some(id) = &note.reading {
                    self.note_reading(flight, reading, id);
                }
            }
            Outcome::Reported(Err(_)) => self.watch.report_failed(),
            Outcome::Read(Err(_)) => self.watch.read_failed(flight),
            _ => {}
        }
    }

    fn note_reading(&mut self, flight: &Flight, reading: &Reading, id: &Rc<str>) {
        let life = match &reading.validity {
            Validity::Lease(lease) => Some(lease.duration),
            Validity::Expires(life) => Some(*life),
            Validity::Unlimited | Validity::Rotates(_) => None,
        };
        let source = flight.source.clone().expect("a read has a source");
        let settings = flight.settings.clone().expect("a read has settings");
        let may_be_older = self.judge_order(flight, &source, &settings, reading, id);
        let record = self.records.get_mut(id).expect("it was served");
        record.told_end = life.map(|life| self.now + life);
        record.may_be_older |= may_be_older.unwrap_or(false);
        record.too_old = may_be_older.is_none();
        if let Some(process) = &mut self.process {
            process.read.insert(source);
        }
    }

    fn publish(&mut self, path: &Path, set: &Arc<keyferry::agent::PublishedSet>) -> Result<bool, keyferry::model::Failure> {
        let (now, wall) = (self.now, self.wall());
        let before = self.volume.directories.get(path).map(|visible| Arc::clone(&visible.set));
        let result = self.volume.publish(path, set, now, wall);
        if result.is_ok() {
            let ids = self.check_set(path, set, before.as_ref());
            self.visible.insert(path.to_owned(), ids);
        }
        result
    }

    /// The last lines of the trace.
    pub fn last(&self, lines: usize) -> String {
        let from = self.trace.len().saturating_sub(lines);
        self.trace.iter().skip(from).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

/// An outcome of the right kind for a request that gets no answer.
fn like(op: &Op) -> Outcome {
    let failure = || keyferry::model::Failure::new(keyferry::model::FailureClass::Unreachable, keyferry::model::Reason::VaultUnreachable, "");
    match op {
        Op::LogIn { .. } => Outcome::LoggedIn(Err(failure())),
        Op::LookUp { .. } => Outcome::LookedUp(Err(failure())),
        Op::RenewToken { .. } => Outcome::TokenRenewed(Err(failure())),
        Op::Revoke { .. } => Outcome::Revoked(Err(failure())),
        Op::RenewLease { .. } => Outcome::LeaseRenewed(Err(failure())),
        _ => Outcome::Read(Err(failure())),
    }
}

/// An outcome in words.
fn told(outcome: &Outcome) -> String {
    let or = |result: Result<String, &keyferry::model::Failure>| result.unwrap_or_else(|failure| format!("{:?} {failure}", failure.class));
    match outcome {
        Outcome::LoggedIn(result) => {
            or(result.as_ref().map(|session| format!("{} {:?}", String::from_utf8_lossy(session.token.expose()), session.info)))
        }
        Outcome::Restored(checkpoint) => format!("restored, {:?} left", checkpoint.left),
        Outcome::LookedUp(result) | Outcome::TokenRenewed(result) => or(result.as_ref().map(|info| format!("{info:?}"))),
        Outcome::Read(result) => or(result.as_ref().map(|reading| format!("{:?} {:?}", reading.version, reading.validity))),
        Outcome::LeaseRenewed(result) => or(result.as_ref().map(|lease| format!("{lease:?}"))),
        Outcome::Published(result) | Outcome::Reported(result) => or(result.as_ref().map(|yes| format!("{yes}"))),
        Outcome::Mirrored(result) => or(result.as_ref().map(|result| format!("{result:?}"))),
        Outcome::Retired(result) | Outcome::Recorded(result) | Outcome::Saved(result) | Outcome::Revoked(result) => {
            or(result.as_ref().map(|()| "done".to_owned()))
        }
    }
}
