//! Verifies a new configuration before it replaces the active one.
//!
//! If a reload changes the login, the trial logs in with the new one, in parallel with the active session, and reads
//! the required sources. If a reload changes the directory, the trial publishes to the new one. The new configuration
//! is activated only after all checks succeed. Until then, the active session, files, and configuration stay in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{Op, Outcome, PublishedSet, Ticket};
use super::lifetime::wait_after_unusable;
use super::outbox::Outbox;
use super::store::{NotAccepted, Store};
use super::time::{Backoff, Elapsed, Now};
use super::token::{Token, Verdict, with_verdict};
use crate::model::{Failure, FailureClass, Reading, Settings, SourceName};

/// Maximum number of concurrent reads of a trial.
const CONCURRENCY: usize = 4;

/// What a trial has to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checks {
    /// Server, namespace, or credential changed: log in and read every required source.
    pub(super) login: bool,
    /// Connection to the same server changed (TLS, redirects): get any response with the active token.
    connection: bool,
    /// Directory changed: publish to the new one.
    pub(super) directory: bool,
}

impl Checks {
    /// The checks for a change from `old` to `new`; `None` if the change needs no trial.
    pub(super) fn of(old: &Settings, new: &Settings) -> Option<Self> {
        let (from, to) = (&old.server, &new.server);
        let login = from.id() != to.id() || old.auth != new.auth;
        let connection = !login && (from.tls != to.tls || from.redirect_to != to.redirect_to);
        let directory = old.directory.path != new.directory.path;
        (login || connection || directory).then_some(Self { login, connection, directory })
    }
}

/// The state of one trial.
pub(super) struct Trial {
    pub(super) settings: Arc<Settings>,
    pub(super) checks: Checks,
    /// The files under the new configuration.
    store: Store,
    pub(super) token: Option<Token>,
    /// A token that the server rejected. It must be revoked, because a lagging node may have rejected a valid token.
    pub(super) rejected: Option<Token>,
    pub(super) readings: BTreeMap<SourceName, TrialReading>,
    /// Start of each operation, and the source that it reads; `None` if the reading is no longer needed.
    in_flight: BTreeMap<Ticket, (Elapsed, Option<SourceName>)>,
    login: Option<Ticket>,
    connected: bool,
    publishing: Option<(Ticket, Arc<PublishedSet>)>,
    pub(super) published: Option<Arc<PublishedSet>>,
    /// Whether a publication was started, so that the new directory may contain files.
    pub(super) has_published: bool,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

/// A reading of a required source under the new configuration.
pub(super) struct TrialReading {
    pub(super) reading: Arc<Reading>,
    pub(super) started: Elapsed,
    pub(super) read: Elapsed,
}

/// The effect of an outcome on a trial.
pub(super) enum Progress {
    Waiting,
    /// A check failed; it is retried.
    Failed(Failure),
}

impl Trial {
    /// Creates a trial. `store`: the readings that are accepted under the active configuration.
    pub(super) fn new(settings: Arc<Settings>, checks: Checks, store: &Store) -> Self {
        let mut store = store.clone();
        let sources = &settings.sources;
        store.reconcile(&settings.outputs, |name| sources.contains_key(name));
        Self {
            settings,
            checks,
            store,
            token: None,
            rejected: None,
            readings: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            login: None,
            connected: false,
            publishing: None,
            published: None,
            has_published: false,
            backoff: Backoff::default(),
            failure: None,
        }
    }

    fn unread(&self) -> impl Iterator<Item = &SourceName> {
        let required = self.settings.sources.iter().filter(|(_, source)| source.required).map(|(name, _)| name);
        let reading = |name: &SourceName| self.in_flight.values().any(|(_, other)| other.as_ref() == Some(name));
        required.filter(move |name| self.checks.login && !self.readings.contains_key(*name) && !reading(name))
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.publishing.is_none()
    }

    /// Whether all checks succeeded.
    pub(super) fn is_done(&self) -> bool {
        self.is_idle()
            && (!self.checks.login || self.token.is_some() && self.unread().next().is_none())
            && (!self.checks.connection || self.connected)
            && (!self.checks.directory || self.published.is_some())
    }

    pub(super) fn owns(&self, ticket: Ticket) -> bool {
        self.in_flight.contains_key(&ticket) || self.publishing.as_ref().is_some_and(|(started, _)| *started == ticket)
    }

    /// The publication in flight to the new directory.
    pub(super) fn publishing(&self) -> Option<Ticket> {
        self.publishing.as_ref().map(|(ticket, _)| *ticket)
    }

    /// The login in flight. If the trial is abandoned, its session must be revoked when it arrives.
    pub(super) fn login(&self) -> Option<Ticket> {
        self.login
    }

    pub(super) fn wake(&self) -> Option<Elapsed> {
        (self.is_idle() && !self.is_done()).then_some(self.backoff.not_before)
    }

    /// Starts the next step if one is due. `current`: the active token. `free`: the new directory can be published to.
    /// `set` builds the set to publish.
    pub(super) fn advance(
        &mut self,
        current: Option<&Token>,
        free: bool,
        set: impl FnOnce(&Settings, &Store, &BTreeMap<SourceName, TrialReading>) -> Arc<PublishedSet>,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        if self.backoff.not_before > now.at || self.is_done() || self.publishing.is_some() {
            return;
        }
        if self.token.as_ref().is_some_and(|token| token.has_expired(now.at)) {
            self.drop_token();
        }
        let settings = &self.settings;
        if self.checks.login && self.token.is_none() {
            if self.in_flight.is_empty() {
                let op = Op::LogIn { settings: Arc::clone(settings), restore: false };
                let ticket = outbox.start(op);
                self.in_flight.insert(ticket, (now.at, None));
                self.login = Some(ticket);
            }
        } else if self.checks.connection && !self.connected {
            match current {
                Some(token) if self.in_flight.is_empty() => {
                    let op = Op::LookUp { settings: Arc::clone(settings), token: token.value.clone() };
                    self.in_flight.insert(outbox.start(op), (now.at, None));
                }
                Some(_) => {}
                // Without a token, the active connection has no session to protect.
                None => self.connected = true,
            }
        } else if let Some(token) = self.token.as_ref().filter(|_| self.unread().next().is_some()) {
            let free = CONCURRENCY.saturating_sub(self.in_flight.len());
            let names: Vec<_> = self.unread().take(free).cloned().collect();
            for name in names {
                let op = Op::Read { settings: Arc::clone(settings), token: token.value.clone(), source: name.clone() };
                self.in_flight.insert(outbox.start(op), (now.at, Some(name)));
            }
        } else if self.checks.directory && free && self.published.is_none() && self.in_flight.is_empty() {
            let set = set(settings, &self.store, &self.readings);
            let op = Op::Publish { directory: settings.directory.clone(), set: Arc::clone(&set) };
            self.publishing = Some((outbox.start(op), set));
            self.has_published = true;
        }
    }

    /// Removes the token and the readings made with it, whose leases depend on the token.
    fn drop_token(&mut self) -> Option<Token> {
        self.readings.clear();
        self.in_flight.values_mut().for_each(|(_, source)| *source = None);
        self.token.take()
    }

    /// Applies the outcome of one of the trial's operations.
    pub(super) fn completed(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        number: impl FnOnce() -> u64,
        now: &Now,
    ) -> Progress {
        let (started, source) = self.in_flight.remove(&ticket).unwrap_or((now.at, None));
        self.login.take_if(|login| *login == ticket);
        let failure = match outcome {
            Outcome::LoggedIn(Ok(session)) => {
                self.token = Some(Token::new(number(), session, Arc::clone(&self.settings), now));
                None
            }
            Outcome::LookedUp(Err(failure))
                if matches!(
                    failure.class,
                    FailureClass::Unreachable | FailureClass::Invalid | FailureClass::Local | FailureClass::Transient
                ) =>
            {
                Some(failure)
            }
            Outcome::LookedUp(_) => {
                self.connected = true;
                None
            }
            Outcome::Read(Ok(reading)) => source.and_then(|name| self.accept(&name, reading, started, now).err()),
            Outcome::Read(Err(failure)) if self.is_too_new(&failure, now) => {
                // Expected until the token is replicated, so not a reason to reject the configuration.
                self.backoff.failed(&with_verdict(&failure, Verdict::TooNew), &self.settings.retry, now, 61);
                None
            }
            Outcome::Read(Err(failure)) if failure.class == FailureClass::TokenInvalid => {
                self.rejected = self.drop_token();
                Some(failure)
            }
            Outcome::Read(Err(failure)) if failure.class == FailureClass::Forbidden => {
                Some(with_verdict(&failure, Verdict::LookUpFailed))
            }
            Outcome::Read(Err(failure)) => Some(failure),
            Outcome::Published(result) => {
                let set = self.publishing.take().map(|(_, set)| set);
                match result {
                    Ok(_) => {
                        self.published = set;
                        None
                    }
                    Err(failure) => Some(failure),
                }
            }
            Outcome::LoggedIn(Err(failure)) => Some(failure),
            _ => None,
        };
        let Some(failure) = failure else { return Progress::Waiting };
        self.backoff.failed(&failure, &self.settings.retry, now, 61);
        self.failure = Some(failure.clone());
        Progress::Failed(failure)
    }

    fn accept(&mut self, name: &SourceName, reading: Reading, read_started: Elapsed, now: &Now) -> Result<(), Failure> {
        if let Some(token) = &mut self.token {
            token.confirm(now.at);
        }
        let reading = Arc::new(Reading { received: now.wall, ..reading });
        // The sources of computed calls are read after the activation.
        if let Err(NotAccepted::Failed(failure)) = self.store.accept(name, Arc::clone(&reading)) {
            return Err(Failure { retry_after: wait_after_unusable(&reading.validity, now), ..failure });
        }
        self.readings.insert(name.clone(), TrialReading { reading, started: read_started, read: now.at });
        self.backoff.reset();
        Ok(())
    }

    /// Whether a denied read may mean that the token is not replicated to every node yet.
    fn is_too_new(&self, failure: &Failure, now: &Now) -> bool {
        let refused = matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenInvalid);
        let too_new = |token: &Token| !token.confirmed && now.at < token.since + super::token::REPLICATION_GRACE;
        refused && self.token.as_ref().is_some_and(too_new)
    }

    /// Whether the reading of a source is missing or older than its refresh interval, because other checks took long.
    pub(super) fn is_outdated(&self, name: &SourceName, now: &Now) -> bool {
        let refresh = self.settings.sources.get(name).map(|source| source.refresh).unwrap_or_default();
        self.readings.get(name).is_none_or(|reading| reading.read + refresh <= now.at)
    }
}
