//! A driver for an agent with a simulated clock. The scenario supplies the outcomes of its operations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{RUN, secs, settings};
use crate::agent::{Action, Agent, Input, LogEntry, MirrorResult, Mode, Now, Op, Outcome, PublishedSet, Ticket};
use crate::model::{AdoptedSet, Checkpoint, LeaseId, PodEvent, Settings};

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    LogIn,
    LookUp,
    RenewToken,
    Revoke,
    Read,
    RenewLease,
    LookUpLease,
    RevokeLease,
    Subscribe,
    ReadSeed,
    Publish,
    Retire,
    Mirror,
    Notify,
    PatchConditions,
    RecordEvent,
    Save,
}

pub(super) fn kind(op: &Op) -> Kind {
    match op {
        Op::LogIn { .. } => Kind::LogIn,
        Op::LookUp { .. } => Kind::LookUp,
        Op::RenewToken { .. } => Kind::RenewToken,
        Op::Revoke { .. } => Kind::Revoke,
        Op::Read { .. } => Kind::Read,
        Op::RenewLease { .. } => Kind::RenewLease,
        Op::LookUpLease { .. } => Kind::LookUpLease,
        Op::RevokeLease { .. } => Kind::RevokeLease,
        Op::Subscribe { .. } => Kind::Subscribe,
        Op::ReadSeed { .. } => Kind::ReadSeed,
        Op::Publish { .. } => Kind::Publish,
        Op::RetireDirectory { .. } => Kind::Retire,
        Op::Mirror { .. } => Kind::Mirror,
        Op::Notify { .. } => Kind::Notify,
        Op::PatchConditions { .. } => Kind::PatchConditions,
        Op::RecordEvent { .. } => Kind::RecordEvent,
        Op::Save { .. } => Kind::Save,
    }
}

/// The source of an operation.
pub(super) fn subject(op: &Op) -> Option<&str> {
    match op {
        Op::Read { source, .. }
        | Op::RenewLease { source, .. }
        | Op::LookUpLease { source, .. }
        | Op::RevokeLease { source, .. } => Some(source.as_str()),
        _ => None,
    }
}

/// The token of an operation.
pub(super) fn token_of(op: &Op) -> String {
    match op {
        Op::Read { token, .. }
        | Op::LookUp { token, .. }
        | Op::RenewToken { token, .. }
        | Op::Revoke { token, .. }
        | Op::LookUpLease { token, .. }
        | Op::RevokeLease { token, .. }
        | Op::RenewLease { token, .. } => String::from_utf8_lossy(token.expose()).into_owned(),
        _ => String::new(),
    }
}

/// An agent, the time, and the operations in flight. Operations of the volume and the API server succeed at once unless
/// they are held. The scenario supplies the outcomes of requests to Vault and the seed.
pub(super) struct Driver {
    pub(super) agent: Agent,
    pub(super) at: Duration,
    calls: u64,
    pub(super) logins: u32,
    pub(super) open: Vec<(Ticket, Op)>,
    held: BTreeSet<Kind>,
    /// Number of started operations by kind.
    pub(super) started: BTreeMap<Kind, usize>,
    /// Visible files: content by path.
    pub(super) files: BTreeMap<String, String>,
    /// The visible set.
    pub(super) set: Option<Arc<PublishedSet>>,
    /// Names and generations of the notifications that succeeded, in order.
    pub(super) notified: Vec<(String, u64)>,
    pub(super) log: Vec<LogEntry>,
    pub(super) events: Vec<PodEvent>,
    /// Revoked tokens, in order.
    pub(super) revoked: Vec<String>,
    /// Revoked leases, in order.
    pub(super) revoked_leases: Vec<String>,
    pub(super) retired: Vec<String>,
    /// Cancelled operations, in order.
    pub(super) cancelled: Vec<Ticket>,
    /// The checkpoint saved last.
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) exit: Option<u8>,
}

impl Driver {
    /// Starts `run` with these sources.
    pub(super) fn run(sources: &[&str]) -> Self {
        Self::with(settings(sources), RUN, None)
    }

    /// Starts `once` with these sources and a deadline of 30 s.
    pub(super) fn once(sources: &[&str]) -> Self {
        Self::with(settings(sources), Mode::Once { deadline: secs(30), checkpoint: false }, None)
    }

    pub(super) fn with(settings: Settings, mode: Mode, adopted: Option<AdoptedSet>) -> Self {
        Self::starting_at(settings, mode, adopted, Duration::ZERO)
    }

    /// As [`Driver::with`], at this time of both clocks.
    pub(super) fn starting_at(settings: Settings, mode: Mode, adopted: Option<AdoptedSet>, at: Duration) -> Self {
        let wall = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(at).expect("a short time");
        let now = Now { at, wall, seed: 0 };
        let mut driver = Self {
            agent: Agent::new(Arc::new(settings), mode, &now),
            at,
            calls: 0,
            logins: 0,
            open: vec![],
            held: BTreeSet::new(),
            started: BTreeMap::new(),
            files: BTreeMap::new(),
            set: None,
            notified: vec![],
            log: vec![],
            events: vec![],
            revoked: vec![],
            revoked_leases: vec![],
            retired: vec![],
            cancelled: vec![],
            checkpoint: None,
            exit: None,
        };
        driver.input(Input::Started(adopted));
        driver
    }

    /// Starts `run`, logs in for an hour with the token `t1`, and publishes each source as version 1 with
    /// `password=one`.
    pub(super) fn published(sources: &[&str]) -> Self {
        Self::published_with(settings(sources))
    }

    pub(super) fn published_with(settings: Settings) -> Self {
        let sources: Vec<_> = settings.sources.keys().cloned().collect();
        let mut driver = Self::with(settings, RUN, None);
        driver.login_ok(secs(3600));
        for source in sources {
            driver.read_ok(source.as_str(), 1, &[("password", "one")]);
        }
        driver
    }

    pub(super) fn now(&mut self) -> Now {
        self.calls += 1;
        let wall = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(self.at).expect("a short time");
        Now { at: self.at, wall, seed: self.calls.wrapping_mul(0xd134_2543_de82_ef95) }
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = self.now();
        assert!(self.calls < 100_000, "an endless loop");
        for action in self.agent.handle(input, &now) {
            match action {
                Action::Start(ticket, op) => {
                    *self.started.entry(kind(&op)).or_default() += 1;
                    self.open.push((ticket, op));
                }
                Action::Cancel(ticket) => {
                    self.open.retain(|(open, _)| *open != ticket);
                    self.cancelled.push(ticket);
                }
                Action::Log(entry) => self.log.push(entry),
                Action::Exit { code } => self.exit = Some(code),
            }
        }
        self.complete_environment_operation();
    }

    /// Completes one operation of the volume or the API server.
    fn complete_environment_operation(&mut self) {
        if self.exit.is_some() {
            return;
        }
        let answerable = |(_, op): &(Ticket, Op)| {
            let kind = kind(op);
            let supplied = matches!(
                kind,
                Kind::LogIn
                    | Kind::LookUp
                    | Kind::RenewToken
                    | Kind::Read
                    | Kind::RenewLease
                    | Kind::LookUpLease
                    | Kind::Subscribe
                    | Kind::ReadSeed
            );
            !supplied && !self.held.contains(&kind)
        };
        let Some(index) = self.open.iter().position(answerable) else { return };
        let (ticket, op) = self.open.remove(index);
        let outcome = self.done(op);
        self.input(Input::Completed(ticket, outcome));
    }

    fn done(&mut self, op: Op) -> Outcome {
        match op {
            Op::Publish { set, .. } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let files = set.files.files.iter().map(|(path, entry)| (path.to_string(), text(entry.bytes.expose())));
                let before = std::mem::replace(&mut self.files, files.collect());
                self.set = Some(set);
                Outcome::Published(Ok(before != self.files))
            }
            Op::RetireDirectory { directory } => {
                self.retired.push(directory.path.display().to_string());
                Outcome::Retired(Ok(()))
            }
            Op::Mirror { .. } => Outcome::Mirrored(Ok(MirrorResult::Updated)),
            Op::Notify { name, generation, .. } => {
                self.notified.push((name.to_string(), generation));
                Outcome::Notified(Ok(()))
            }
            Op::PatchConditions { .. } => Outcome::ConditionsPatched(Ok(false)),
            Op::RecordEvent { event, .. } => {
                self.events.push(event);
                Outcome::EventRecorded(Ok(()))
            }
            Op::Save { checkpoint, .. } => {
                self.checkpoint = Some(*checkpoint);
                Outcome::Saved(Ok(()))
            }
            Op::RevokeLease { lease, .. } => {
                self.revoked_leases.push(match lease {
                    LeaseId::Id(id) => id,
                    LeaseId::Token(token) => String::from_utf8_lossy(token.expose()).into_owned(),
                });
                Outcome::LeaseRevoked(Ok(()))
            }
            op @ Op::Revoke { .. } => {
                self.revoked.push(token_of(&op));
                Outcome::Revoked(Ok(()))
            }
            _ => panic!("the scenario supplies the outcomes of Vault and the seed"),
        }
    }

    /// Holds operations of this kind until [`Driver::release`], or until the scenario completes them.
    pub(super) fn hold(&mut self, kind: Kind) {
        self.held.insert(kind);
    }

    /// Completes operations of this kind with success again.
    pub(super) fn release(&mut self, kind: Kind) {
        self.held.remove(&kind);
        self.complete_environment_operation();
    }

    /// Advances the clock.
    pub(super) fn advance(&mut self, time: Duration) {
        self.serve(time, |_| None);
    }

    /// Advances the clock while `vault` completes the operations for which it returns an outcome.
    pub(super) fn serve(&mut self, time: Duration, mut vault: impl FnMut(&Op) -> Option<Outcome>) {
        let until = self.at + time;
        loop {
            while let Some((index, outcome)) =
                self.open.iter().enumerate().find_map(|(index, (_, op))| Some((index, vault(op)?)))
            {
                let (ticket, _) = self.open.remove(index);
                self.input(Input::Completed(ticket, outcome));
            }
            let Some(wake) = self.agent.wake_at(self.at).filter(|wake| *wake <= until && self.exit.is_none()) else {
                break;
            };
            self.at = wake;
            self.input(Input::TimerFired);
        }
        self.at = until;
    }
}
