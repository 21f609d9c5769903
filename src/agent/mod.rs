//! The pure core: what to do next and when, and what to report about it.
//!
//! [`Agent::handle`] is the only way in. It owns the state machine, the store of readings and tokens, what a reload changes
//! and what a restart knows. It has no sockets, files, clocks or randomness: time and jitter arrive in [`Now`], everything
//! else is an [`Action`] whose outcome comes back as an [`Input`]. The runtime executes actions and sleeps until
//! [`Agent::wake_at`].
//!
//! Properties, each checked by `tests/simulation`: a set holds one reading per source and is whole; no older reading
//! replaces a newer one, except a rollback that has lasted longer than the source's tolerance; a failing source, mirror or
//! report delays no other; no credential in the visible set is dead while a server that would issue a new one answers;
//! requests per source and hour are bounded; nothing starts after the drain has begun but report, save, revoke and exit.

mod advance;
mod complete;
mod conditions;
mod directories;
mod sync;
mod grant;
mod io;
mod journal;
mod logins;
mod mirrors;
mod outbox;
mod publication;
mod readings;
mod reload;
mod report;
mod sessions;
mod shutdown;
mod source;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use io::{
    Action, Input, LogEntry, LogLevel, MirrorRequest, MirrorResult, MirrorStatus, Op, Outcome, PublishedSet,
    SourceStatus, Ticket,
};
pub use shutdown::{exit, exit_code};
pub use time::{Elapsed, Now};

use crate::model::{Checkpoint, Condition, Failure, Generation, ObjectName, SavedSource, Settings, SourceName};
use directories::Directories;
use journal::Journal;
use mirrors::Mirrors;
use outbox::Outbox;
use publication::Publication;
use report::Report;
use sessions::Sessions;
use shutdown::Phase;
use source::TokenView;
use sources::Sources;
use store::Store;
use trial::Trial;

/// How long the agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until SIGTERM.
    Run {
        /// Take the token of an earlier container from its checkpoint. The agent then is an ordinary container beside the
        /// application, not a sidecar that ends after it.
        restore: bool,
    },
    /// Until everything required is published and mirrored, or the deadline.
    Once {
        /// When to give up.
        deadline: Elapsed,
        /// Leave token and leases to the next process instead of revoking the token.
        save: bool,
    },
}

impl Mode {
    fn is_once(self) -> bool {
        matches!(self, Self::Once { .. })
    }

    fn deadline(self) -> Option<Elapsed> {
        match self {
            Self::Run { .. } => None,
            Self::Once { deadline, .. } => Some(deadline),
        }
    }

    fn saves(self) -> bool {
        matches!(self, Self::Once { save: true, .. })
    }

    fn is_ordinary_container(self) -> bool {
        self == Self::Run { restore: true }
    }
}

/// The agent.
pub struct Agent {
    mode: Mode,
    started: Elapsed,
    parts: Parts,
    phase: Phase,
    /// A configuration that has to prove itself.
    trial: Option<Trial>,
    /// Logins whose session is not wanted any more; it is revoked when it comes.
    abandoned_logins: BTreeMap<Ticket, Arc<Settings>>,
    saved: Option<(Ticket, bool)>,
    journal: Journal,
    /// Warnings of Vault that were logged last, by source.
    warned: BTreeMap<SourceName, Vec<String>>,
    outbox: Outbox,
}

/// The parts of the state, borrowed side by side.
struct Parts {
    settings: Arc<Settings>,
    sessions: Sessions,
    sources: Sources,
    store: Store,
    publication: Publication,
    directories: Directories,
    mirrors: Mirrors,
    report: Report,
    /// Why a new configuration is not in force.
    config_rejected: Option<String>,
    /// Keys without a file, by source.
    left_out: BTreeMap<SourceName, Vec<String>>,
}

impl Parts {
    /// The failure that keeps the first set away.
    fn blocking_failure(&self) -> Option<&Failure> {
        let session = self.sessions.failure.as_ref().filter(|_| self.sessions.current.is_none());
        session.or_else(|| self.sources.blocking()).or(self.publication.sync.failure.as_ref())
    }

    fn with_tokens<T>(&self, work: impl FnOnce(&TokenView<'_>) -> T) -> T {
        let token_expiry = |number| self.sessions.expiry_of(number);
        work(&TokenView { token: self.sessions.number(), token_expiry: &token_expiry })
    }

    fn stale_at(&self, name: &SourceName) -> Option<Elapsed> {
        self.with_tokens(|tokens| self.sources.get(name)?.stale_at(tokens))
    }
}

impl Agent {
    /// The agent before its first input, which is [`Input::Started`].
    #[must_use]
    pub fn new(settings: Arc<Settings>, mode: Mode, now: &Now) -> Self {
        let parts = Parts {
            sessions: Sessions::new(mode.is_ordinary_container()),
            sources: Sources::new(&settings.sources),
            store: Store::new(&settings.outputs),
            publication: Publication::default(),
            directories: Directories::default(),
            mirrors: Mirrors::new(&settings.mirrors),
            report: Report::default(),
            config_rejected: None,
            left_out: BTreeMap::new(),
            settings,
        };
        Self {
            mode,
            started: now.at,
            parts,
            phase: Phase::Working,
            trial: None,
            abandoned_logins: BTreeMap::new(),
            saved: None,
            journal: Journal::default(),
            warned: BTreeMap::new(),
            outbox: Outbox::default(),
        }
    }

    /// Takes one input and says what to do.
    pub fn handle(&mut self, input: Input, now: &Now) -> Vec<Action> {
        self.apply(input, now);
        if self.phase.is_working() {
            self.parts.sources.notice_stale(now.at);
            self.finish_once(now);
        }
        if self.phase.is_working() {
            self.advance(now);
            // What cannot be mirrored is known only now.
            self.finish_once(now);
        }
        if !self.phase.is_working() {
            self.advance_drain(now);
        }
        self.outbox.take(self.journal.lines())
    }

    fn apply(&mut self, input: Input, now: &Now) {
        match input {
            Input::Started(adopted) => self.start(adopted.as_ref()),
            Input::ConfigRead(settings) if self.phase.is_working() => self.config_read(settings, now),
            Input::ConfigInvalid(message) if self.phase.is_working() => self.config_invalid(message),
            Input::Refresh if self.phase.is_working() => self.refresh(now),
            Input::ConfigRead(_) | Input::ConfigInvalid(_) | Input::Refresh | Input::TimerFired => {}
            Input::Terminate => self.terminate(now),
            Input::Completed(ticket, outcome) => self.completed(ticket, outcome, now),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.parts.settings
    }

    /// Whether all required outputs are published, by this process or an earlier one, and the agent is not leaving.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.publication.visible().is_some() && self.phase.is_working()
    }

    /// Number of the visible set in the life of this process.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.parts.publication.generation()
    }

    /// The conditions as they should be now.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.parts.report.desired
    }

    /// Whether a configuration that was read is not in force.
    #[must_use]
    pub fn is_config_rejected(&self) -> bool {
        self.parts.config_rejected.is_some()
    }

    /// When the token in use ends: `None` without one, `Some(None)` for one without a known end.
    #[must_use]
    pub fn token_expiry(&self, at: Elapsed) -> Option<Option<Elapsed>> {
        self.parts.sessions.live(at).map(token::Token::expires_at)
    }

    /// Sources whose status may have changed since the last call.
    pub fn take_changed_sources(&mut self, now: &Now) -> Vec<(SourceName, Option<SourceStatus>)> {
        let changed = self.parts.sources.take_changed();
        let status = |name: SourceName| {
            let status = self.parts.sources.get(&name).map(|source| SourceStatus {
                stale: source.held.as_ref().map(|_| self.parts.sources.stale().contains(&name)),
                read: source.held.as_ref().map(|held| held.read_wall),
                lease_expires_at: source.lease().map(|(_, grant, _)| now.wall_at(grant.expires_at())),
                failure: source.failure.clone(),
            });
            (name, status)
        };
        changed.into_iter().map(status).collect()
    }

    /// What is known of each mirrored Secret.
    #[must_use]
    pub fn mirrors(&self) -> BTreeMap<ObjectName, MirrorStatus> {
        let status = |mirror: &mirrors::MirrorState| MirrorStatus { confirmed: mirror.confirmed.map(|(_, wall)| wall) };
        self.parts.mirrors.iter().map(|(name, mirror)| (name.clone(), status(mirror))).collect()
    }

    /// The token, its leases and what was read, for the next process. A token that was given to us is given to the next
    /// process, too.
    fn checkpoint(&self, now: &Now) -> Option<Checkpoint> {
        let token = self.parts.sessions.live(now.at).filter(|token| token.self_issued)?;
        let mut sources = BTreeMap::new();
        for (name, source) in self.parts.sources.iter().filter(|(_, source)| source.is_current()) {
            let Some(reading) = self.parts.store.reading(name) else { continue };
            let lease = source.lease().filter(|(.., of)| *of == token.number).map(|(_, grant, _)| grant);
            // A lease of another token does not outlive us.
            if source.lease().is_some() && lease.is_none() {
                continue;
            }
            let lease_left = lease.map(|grant| grant.expires_at().saturating_sub(now.at));
            sources.insert(name.clone(), SavedSource { reading: Arc::clone(reading), lease_left });
        }
        Some(Checkpoint {
            token: token.value.clone(),
            first_ttl: token.grant.as_ref().map(grant::Grant::first_ttl),
            left: token.expires_at().map(|ends| ends.saturating_sub(now.at)),
            renewable: token.grant.as_ref().is_some_and(grant::Grant::is_renewable),
            sources,
        })
    }
}
