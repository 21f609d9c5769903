//! The world around an agent, event by event, determined by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyferry::agent::{Action, Input, Mode, Now, Op, Outcome, Ticket, exit};
use keyferry::model::{Checkpoint, Reason, Settings, SourceName, Version};

use super::application::Application;
use super::cluster::Cluster;
use super::config_file::ConfigFile;
use super::process::{Process, flight};
use super::properties::{Property, Watch};
use super::random::Random;
use super::secrets::{Kind, Shape};
use super::server::Server;
use super::volume::Volume;

/// The processes of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pod {
    /// `run` as a sidecar.
    Sidecar,
    /// `once`, whose checkpoint `run` restores.
    InitThenContainer,
    /// `once` alone.
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    Faults,
    /// No more faults.
    Calm,
    /// The pod is being deleted.
    Ending,
    Over,
}

/// A reading that was served.
pub struct Record {
    pub server: &'static str,
    pub path: String,
    /// The alternative names of a certificate.
    pub alt_names: Vec<String>,
    pub shape: Shape,
    pub version: Version,
    pub kind: Kind,
    pub lease: Option<String>,
    pub token: Vec<u8>,
    pub issued: Duration,
    /// When it expires according to the response and the agent's clock.
    pub reported_end: Option<Duration>,
    /// Whether it is allowed to replace a newer reading: after a requested refresh, or after `maxStale` of older responses.
    pub may_be_older: bool,
    /// Whether it was older than the agent's reading and not allowed to replace it.
    pub too_old: bool,
}

/// Data of a response for the checks.
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
    /// Repeats the check after the faults, because a response was slow.
    CheckAgain(u32),
    Edit,
    /// A static role at this server and path is rotated.
    Rotate(&'static str, String),
    /// The wall clock is set to the right time.
    SetClock,
}

#[allow(clippy::struct_excessive_bools, reason = "a world has many switches")]
pub struct World {
    pub random: Random,
    pub now: Duration,
    /// How far the clock of the pod's node is ahead of those of the servers.
    pub wall_shift: SignedDuration,
    pub queue: BTreeMap<(Duration, u64), Event>,
    pub sequence: u64,
    pub servers: BTreeMap<&'static str, Server>,
    pub cluster: Cluster,
    pub application: Application,
    pub volume: Volume,
    pub checkpoint: Option<(Duration, Arc<Settings>, Checkpoint)>,
    pub config: ConfigFile,
    /// The last configuration that worked.
    pub working: ConfigFile,
    pub config_valid: bool,
    pub pod: Pod,
    /// Whether the init container has succeeded.
    pub initialized: bool,
    /// Whether processes save checkpoints. Always in a pod with an init container.
    pub has_checkpoint: bool,
    pub phase: Phase,
    pub calm_at: Duration,
    pub fault_gap: Duration,
    pub write_gap: Duration,
    pub exotic: bool,
    /// Whether source `s0` and the server as a whole have no faults.
    pub protected: bool,
    pub process: Option<Process>,
    pub processes: u64,
    /// Consecutive exits, for the kubelet's back-off.
    pub crashes: u32,
    pub records: BTreeMap<Rc<str>, Record>,
    /// The visible reading of each source, by directory.
    pub visible: BTreeMap<PathBuf, BTreeMap<SourceName, Rc<str>>>,
    /// When a token expires according to the responses and the agent's clock.
    pub reported_token_end: BTreeMap<Vec<u8>, Duration>,
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

    pub fn assemble(random: Random, servers: BTreeMap<&'static str, Server>, config: ConfigFile, pod: Pod) -> Self {
        Self {
            random,
            now: Duration::from_secs(1),
            wall_shift: SignedDuration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            servers,
            cluster: Cluster::default(),
            application: Application::default(),
            volume: Volume::default(),
            checkpoint: None,
            working: config.clone(),
            config,
            config_valid: true,
            pod,
            initialized: false,
            has_checkpoint: false,
            phase: Phase::Faults,
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
            reported_token_end: BTreeMap::new(),
            watch: Watch::default(),
            events: 0,
            tracing: false,
            trace: VecDeque::new(),
            violation: None,
        }
    }

    pub fn wall(&self) -> Timestamp {
        super::server::timestamp(self.now) + self.wall_shift
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

    /// Runs until the end or the first violation.
    pub fn run(&mut self) {
        while self.phase != Phase::Over && self.violation.is_none() {
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
                if self.phase == Phase::Faults {
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
            Event::Edit => self.repair_config(),
            Event::Rotate(server, path) => self.rotate(server, &path),
            Event::SetClock => self.wall_shift = SignedDuration::ZERO,
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
        if self.process.is_some() || self.phase == Phase::Over {
            return;
        }
        if !self.config_valid {
            // `run` exits immediately; a user repairs the configuration.
            self.schedule(self.now + Duration::from_secs(30), Event::Edit);
            self.schedule(self.now + Duration::from_secs(31), Event::Start);
            return;
        }
        self.processes += 1;
        let settings = self.config.settings();
        let mode = match self.pod {
            Pod::Sidecar => Mode::Run { checkpoint: self.has_checkpoint, app_container: false },
            Pod::InitThenContainer if self.initialized => Mode::Run { checkpoint: true, app_container: true },
            Pod::InitThenContainer => Mode::Once { deadline: Duration::from_secs(120), checkpoint: true },
            Pod::Once => Mode::Once { deadline: Duration::from_secs(120), checkpoint: self.has_checkpoint },
        };
        let moment = self.moment(self.now);
        let process = Process::new(self.processes, &settings, mode, self.now, &moment);
        let adopted = self.volume.adopted(&settings.directory.path);
        self.process = Some(process);
        self.note(|| format!("process starts as {mode:?}"));
        self.watch.process_started();
        self.watch.adopted = self.visible.get(&settings.directory.path).cloned().unwrap_or_default();
        self.record_pace();
        let before = adopted.as_ref().map(|adopted| adopted.manifest.clone());
        self.input(Input::Started(adopted), "started");
        self.check_adoption(before.as_ref());
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if self.process.take().is_some() {
            self.note(|| "process is killed".into());
            let wait = self.random.millis(100, 200_000);
            self.schedule(self.now + wait, Event::Start);
        }
    }

    /// Passes an input to the agent and executes the returned actions.
    pub fn input(&mut self, input: Input, what: &str) {
        let Some(started) = self.process.as_ref().map(|process| process.started) else { return };
        self.events += 1;
        let moment = self.moment(started);
        let timer = matches!(input, Input::TimerFired);
        self.note(|| format!("-> {what}"));
        let process = self.process.as_mut().expect("a process runs");
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
            Action::Log(entry) => {
                self.note(|| {
                    let about = entry.source.as_ref().map_or(String::new(), |source| format!(" {source}"));
                    format!("   log {:?} {}{about}: {}", entry.level, entry.operation, entry.message)
                });
                self.record_log(&entry);
                if let Some(process) = &mut self.process {
                    process.restarting |= entry.reason == Some(Reason::ContainersRestarting);
                }
            }
            // No world subscribes to events.
            Action::Cancel(_) => {}
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

    fn exit(&mut self, code: u8) {
        self.note(|| format!("   exit {code}"));
        let process = self.process.take().expect("only a process exits");
        self.check_exit(&process);
        if let Some(detail) = process.revoked_in_use.clone().filter(|_| code == 0) {
            self.violate(Property::NoLiveCredentialRevoked, detail);
        }
        if self.phase == Phase::Ending {
            self.check_leftovers(&process);
            self.phase = Phase::Over;
            return;
        }
        let wait = match self.pod {
            Pod::InitThenContainer if process.is_once() && code == 0 => {
                self.initialized = true;
                Duration::from_millis(300)
            }
            Pod::Once if code == 0 => self.new_pod(),
            _ if code == exit::RESTART_CONTAINERS => self.restart_containers(),
            _ => {
                // The kubelet's back-off for a container that exits repeatedly.
                self.crashes = if self.now > process.started + Duration::from_secs(600) { 0 } else { self.crashes + 1 };
                Duration::from_secs(5 << self.crashes.min(6)).min(Duration::from_secs(300))
            }
        };
        self.schedule(self.now + wait, Event::Start);
    }

    /// Another pod of the same kind, with an empty volume.
    pub fn new_pod(&mut self) -> Duration {
        self.volume.directories.clear();
        self.checkpoint = None;
        self.visible.clear();
        self.application = Application::default();
        Duration::from_secs(120)
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
