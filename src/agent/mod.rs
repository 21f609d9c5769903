//! The state machine without I/O: what to do next, when to do it, and what to report about it.
//!
//! [`Agent::handle`] is the only entry point. The agent owns the state, the accepted readings, the tokens, reloads, and
//! what it adopts after a restart. It has no sockets, files, clocks, or randomness. Time and jitter arrive in [`Now`].
//! Every effect is an [`Action`], and its outcome returns as an [`Input`]. The runtime executes the actions and sleeps
//! until [`Agent::wake_at`].
//!
//! `tests/simulation` checks these properties:
//!
//! - A published set is complete and has one reading per source.
//! - An older reading replaces a newer one only if the rollback lasts longer than the staleness tolerance of the
//!   source.
//! - The seed is used only while Vault is unavailable, and its files are never mirrored.
//! - A failing source, mirror, notification, or report does not delay the others.
//! - While Vault can issue a new credential, the visible set contains no expired one.
//! - The application is notified only of visible files, at least once of each change, and not twice by one process.
//! - The number of requests per source and hour is bounded.
//! - A certificate is requested once for each of its generations: after the start without a checkpoint, for another
//!   request, login, or server, when its renewal is due, after a failure, or when a user asks for a new one.
//! - A refresh that does not ask for new leases issues nothing in Vault.
//! - After the drain begins, the agent only reports, saves, revokes, and exits.

mod advance;
mod certificate;
mod checkpoints;
mod complete;
mod computed;
mod conditions;
mod directories;
mod events;
mod grant;
mod io;
mod journal;
mod lifetime;
mod logins;
mod mirrors;
mod notifications;
mod notify;
mod outbox;
mod paths;
mod publication;
mod readings;
mod refresh;
mod reload;
mod replaced;
mod report;
mod seed;
mod sessions;
mod shutdown;
mod source;
mod sources;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

pub use io::{
    Action, Input, LogEntry, LogLevel, MirrorRequest, MirrorResult, MirrorStatus, NotificationStatus, Op, Outcome,
    PublishedSet, RefreshRequest, SourceStatus, Ticket,
};
pub use shutdown::{exit, exit_code};
pub use time::{Elapsed, Now};

use crate::model::{Condition, Failure, Generation, NotificationName, ObjectName, Reason, Settings, SourceName};
use certificate::CertificateTerm;
use computed::Computed;
use directories::Directories;
use events::Subscription;
use journal::{Journal, Subject};
use lifetime::TokenView;
use mirrors::Mirrors;
use notifications::Notifications;
use outbox::Outbox;
use publication::Publication;
use refresh::RefreshQueue;
use replaced::ReplacedLeases;
use report::Report;
use seed::SeedState;
use sessions::Sessions;
use shutdown::Phase;
use sources::Sources;
use store::Store;
use sync::SyncState;
use trial::Trial;

/// When the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At SIGTERM.
    Run {
        /// Start from the checkpoint of an earlier process, and save one after each change.
        checkpoint: bool,
        /// The agent runs in an ordinary container next to the application. Unlike a sidecar, it stops at the same time
        /// as the application.
        app_container: bool,
    },
    /// When all required files are published and all mirrors are written, or at the deadline.
    Once {
        /// Time since the agent's start at which to give up.
        deadline: Elapsed,
        /// Start from the checkpoint of an earlier process. After success, save one instead of revoking the token.
        checkpoint: bool,
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

    fn has_checkpoint(self) -> bool {
        match self {
            Self::Run { checkpoint, .. } | Self::Once { checkpoint, .. } => checkpoint,
        }
    }

    fn is_app_container(self) -> bool {
        matches!(self, Self::Run { app_container: true, .. })
    }
}

/// The state machine of one agent process.
pub struct Agent {
    mode: Mode,
    started: Elapsed,
    parts: Parts,
    phase: Phase,
    /// A new configuration that is being verified.
    trial: Option<Trial>,
    /// Logins in flight whose session is no longer needed. It is revoked when it arrives.
    abandoned_logins: BTreeMap<Ticket, Arc<Settings>>,
    /// Whether the last save before the exit succeeded; `None` before its end.
    saved: Option<bool>,
    journal: Journal,
    /// The last logged warnings of Vault, by source.
    warned: BTreeMap<SourceName, Vec<String>>,
    /// What was logged about the certificate of each source.
    noted_certificates: BTreeSet<(SourceName, Option<Reason>)>,
    outbox: Outbox,
}

/// The state that conditions are computed from, apart from [`Agent`] so that methods can borrow it next to the outbox.
struct Parts {
    settings: Arc<Settings>,
    sessions: Sessions,
    /// The checkpoint file.
    saving: SyncState,
    sources: Sources,
    store: Store,
    publication: Publication,
    replaced: ReplacedLeases,
    directories: Directories,
    mirrors: Mirrors,
    notifications: Notifications,
    report: Report,
    seed: SeedState,
    refreshes: RefreshQueue,
    subscription: Subscription,
    /// Why the latest configuration is not active.
    config_rejected: Option<String>,
    /// Why the listener of the active configuration is not open.
    listen_failure: Option<Failure>,
    /// Keys that cannot be file names, by source.
    left_out: BTreeMap<SourceName, Vec<String>>,
    /// The calls of templates whose arguments depend on secrets.
    computed: Computed,
}

impl Parts {
    /// Whether the first set is complete. A seed is taken only if it has all required files, and it does not wait for
    /// optional sources.
    fn is_complete(&self, at: Elapsed) -> bool {
        self.store.has_seeded() || self.sources.complete(at, |name| self.store.has_adopted(name))
    }

    /// The failure that blocks the first set.
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
    /// Creates an agent. Its first input must be [`Input::Started`].
    #[must_use]
    pub fn new(settings: Arc<Settings>, mode: Mode, now: &Now) -> Self {
        let parts = Parts {
            sessions: Sessions::new(mode.has_checkpoint()),
            saving: SyncState::default(),
            sources: Sources::new(&settings.sources),
            store: Store::new(&settings.outputs),
            publication: Publication::default(),
            replaced: ReplacedLeases::default(),
            directories: Directories::default(),
            mirrors: Mirrors::new(&settings.mirrors),
            notifications: Notifications::new(&settings.notify, mode.is_once()),
            report: Report::default(),
            seed: SeedState::new(now),
            refreshes: RefreshQueue::default(),
            subscription: Subscription::default(),
            config_rejected: None,
            listen_failure: None,
            left_out: BTreeMap::new(),
            computed: Computed::default(),
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
            noted_certificates: BTreeSet::new(),
            outbox: Outbox::default(),
        }
    }

    /// Applies one input and returns the actions to execute, in order.
    pub fn handle(&mut self, input: Input, now: &Now) -> Vec<Action> {
        self.apply(input, now);
        if self.phase.is_working() {
            self.parts.sources.notice_stale(now.at);
            self.finish_once(now);
        }
        if self.phase.is_working() {
            self.advance(now);
            // `advance` may have found that a mirror cannot be built.
            self.finish_once(now);
        }
        if !self.phase.is_working() {
            self.advance_drain(now);
        }
        self.outbox.take(self.journal.lines())
    }

    fn apply(&mut self, input: Input, now: &Now) {
        match input {
            Input::Started(adopted) => self.start(adopted.as_ref(), now),
            Input::ConfigRead(settings) if self.phase.is_working() => self.config_read(settings, now),
            Input::ConfigInvalid(message) if self.phase.is_working() => self.config_invalid(message),
            Input::Listening(result) => {
                self.ended(&Subject::Listener, &result);
                self.parts.listen_failure = result.err();
            }
            Input::Refresh(request) if self.phase.is_working() => self.refresh(request, now),
            Input::Event(ticket, event) if self.phase.is_working() => self.event(ticket, &event, now),
            Input::ConfigRead(_)
            | Input::ConfigInvalid(_)
            | Input::Refresh(_)
            | Input::Event(..)
            | Input::TimerFired => {}
            Input::Terminate => self.terminate(now),
            Input::Completed(ticket, outcome) => self.completed(ticket, outcome, now),
        }
    }

    /// The active configuration.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.parts.settings
    }

    /// Whether a set is visible, by this process or an earlier one, and the agent is not stopping. The first set has all
    /// required outputs; if a reload adds a source, its files follow its first reading.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts.publication.visible().is_some() && self.phase.is_working()
    }

    /// Number of the set that this process published last, counted from 1. `None` before the first one, also with an
    /// adopted set.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.parts.publication.generation()
    }

    /// When the visible set was published, if it is an adopted one.
    #[must_use]
    pub fn adopted(&self) -> Option<Timestamp> {
        self.parts.publication.adopted()
    }

    /// Whether the visible set contains files of the seed.
    #[must_use]
    pub fn is_seeded(&self) -> bool {
        self.parts.publication.seeded().next().is_some()
    }

    /// The current conditions, in the order of [`ConditionType::ALL`](crate::model::ConditionType::ALL).
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.parts.report.desired
    }

    /// Whether the latest configuration was rejected, so that the previous one is active.
    #[must_use]
    pub fn is_config_rejected(&self) -> bool {
        self.parts.config_rejected.is_some()
    }

    /// When the active token expires, as time since the agent's start. `None` without a token, `Some(None)` for a token
    /// without a known expiry.
    #[must_use]
    pub fn token_expiry(&self, at: Elapsed) -> Option<Option<Elapsed>> {
        self.parts.sessions.live(at).map(token::Token::expires_at)
    }

    /// Sources whose status may have changed since the last call; `None` for a removed source.
    pub fn take_changed_sources(&mut self, now: &Now) -> Vec<(SourceName, Option<SourceStatus>)> {
        let changed = self.parts.sources.take_changed();
        let status = |name: SourceName| {
            let seeded = self.parts.store.is_seeded(&name).then_some(true);
            let status = self.parts.sources.get(&name).map(|source| SourceStatus {
                stale: seeded.or(source.held.as_ref().map(|_| self.parts.sources.stale().contains(&name))),
                read: source.held.as_ref().map(|held| held.read_wall),
                credential_expires_at: source.grant().map(|grant| now.wall_at(grant.expires_at())),
                certificate_expires_at: source.certificate().map(CertificateTerm::expires_at_wall),
                failure: source.failure.clone(),
            });
            (name, status)
        };
        changed.into_iter().map(status).collect()
    }

    /// The status of each mirrored Secret.
    #[must_use]
    pub fn mirrors(&self) -> BTreeMap<ObjectName, MirrorStatus> {
        let status = |mirror: &mirrors::MirrorState| MirrorStatus { confirmed: mirror.confirmed.map(|(_, wall)| wall) };
        self.parts.mirrors.iter().map(|(name, mirror)| (name.clone(), status(mirror))).collect()
    }

    /// The status of each notification.
    #[must_use]
    pub fn notifications(&self) -> BTreeMap<NotificationName, NotificationStatus> {
        self.parts.notifications.status()
    }
}
