//! A new configuration proves itself before the old one is let go.
//!
//! A reload that changes the login logs in beside the session in use and reads the required sources; one that changes the
//! directory publishes to the new one. Only when that has worked does it take over. Until then the old session, files and
//! configuration stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tickets;
use super::io::{Action, Op, Outcome, PublishedSet, Ticket};
use super::store::Store;
use super::time::{Backoff, Elapsed, Now};
use super::token::{Token, Verdict, judged};
use crate::model::{Failure, FailureClass, Reading, Settings, SourceName};

/// Sources read at the same time.
const CONCURRENCY: usize = 4;

/// What has to be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// Another server, namespace or credential: a login and a read of every required source.
    pub(super) login: bool,
    /// Another way to the same server (TLS): any answer with the token in use.
    connection: bool,
    /// Another directory: a publication there.
    pub(super) directory: bool,
}

impl Needs {
    /// What a change from `old` to `new` has to prove; `None` if it can be applied as it is.
    pub(super) fn of(old: &Settings, new: &Settings) -> Option<Self> {
        let (from, to) = (&old.server, &new.server);
        let login = from.address != to.address || from.namespace != to.namespace || old.auth != new.auth;
        let connection = !login && (from.tls != to.tls || from.redirect_to != to.redirect_to);
        let directory = old.directory.path != new.directory.path;
        (login || connection || directory).then_some(Self { login, connection, directory })
    }
}

/// A configuration on trial.
pub(super) struct Trial {
    pub(super) settings: Arc<Settings>,
    pub(super) needs: Needs,
    /// The files as they would be.
    store: Store,
    pub(super) token: Option<Token>,
    pub(super) readings: BTreeMap<SourceName, Proof>,
    in_flight: BTreeMap<Ticket, Option<SourceName>>,
    connected: bool,
    publishing: Option<(Ticket, Arc<PublishedSet>)>,
    pub(super) published: Option<Arc<PublishedSet>>,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

/// A reading of a required source under the new configuration.
pub(super) struct Proof {
    pub(super) reading: Arc<Reading>,
    pub(super) started: Elapsed,
    pub(super) read: Elapsed,
}

/// How far a trial is.
pub(super) enum Progress {
    Waiting,
    /// Something failed that was not said before.
    Failed(Failure),
}

impl Trial {
    /// `store` holds what is accepted under the old configuration.
    pub(super) fn new(settings: Arc<Settings>, needs: Needs, store: &Store) -> Self {
        let mut store = store.clone();
        let sources = &settings.sources;
        store.reconcile(&settings.outputs, |name| sources.contains_key(name));
        Self {
            settings,
            needs,
            store,
            token: None,
            readings: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            connected: false,
            publishing: None,
            published: None,
            backoff: Backoff::default(),
            failure: None,
        }
    }

    fn unread(&self) -> impl Iterator<Item = &SourceName> {
        let required = self.settings.sources.iter().filter(|(_, source)| source.required).map(|(name, _)| name);
        let reading = |name: &SourceName| self.in_flight.values().flatten().any(|other| other == name);
        required.filter(move |name| self.needs.login && !self.readings.contains_key(*name) && !reading(name))
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.publishing.is_none()
    }

    /// Whether everything is proved.
    pub(super) fn is_done(&self) -> bool {
        self.is_idle()
            && (!self.needs.login || self.token.is_some() && self.unread().next().is_none())
            && (!self.needs.connection || self.connected)
            && (!self.needs.directory || self.published.is_some())
    }

    pub(super) fn owns(&self, ticket: Ticket) -> bool {
        self.in_flight.contains_key(&ticket) || self.publishing.as_ref().is_some_and(|(started, _)| *started == ticket)
    }

    /// A publication to the new directory in flight.
    pub(super) fn publishing(&self) -> Option<Ticket> {
        self.publishing.as_ref().map(|(ticket, _)| *ticket)
    }

    /// Operations that end after the trial was abandoned: a login among them has to be revoked.
    pub(super) fn is_logging_in(&self) -> Option<Ticket> {
        self.token.is_none().then(|| self.in_flight.keys().next().copied()).flatten().filter(|_| self.needs.login)
    }

    pub(super) fn wake(&self) -> Option<Elapsed> {
        (self.is_idle() && !self.is_done()).then_some(self.backoff.not_before)
    }

    /// Starts the next step, if one is due. `current`: the token in use. `set` makes the set to publish, if the
    /// directory is free.
    pub(super) fn advance(
        &mut self,
        current: Option<&Token>,
        set: impl FnOnce(&Settings, &Store) -> Option<Arc<PublishedSet>>,
        now: &Now,
        tickets: &mut Tickets,
        actions: &mut Vec<Action>,
    ) {
        if self.backoff.not_before > now.at || self.is_done() || self.publishing.is_some() {
            return;
        }
        if self.token.as_ref().is_some_and(|token| token.is_over(now.at)) {
            self.token = None;
        }
        if self.needs.connection && !self.connected && current.is_none() && self.in_flight.is_empty() {
            // No token to ask with: the connection in use may have failed for the reason that the new one cures.
            (self.needs.login, self.needs.connection) = (true, false);
        }
        let settings = &self.settings;
        if self.needs.login && self.token.is_none() {
            if self.in_flight.is_empty() {
                let op = Op::LogIn { settings: Arc::clone(settings), restore: false };
                self.in_flight.insert(tickets.start(op, actions), None);
            }
        } else if self.needs.connection && !self.connected {
            if self.in_flight.is_empty()
                && let Some(token) = current
            {
                let op = Op::LookUp { settings: Arc::clone(settings), token: token.value.clone() };
                self.in_flight.insert(tickets.start(op, actions), None);
            }
        } else if let Some(token) = self.token.as_ref().filter(|_| self.unread().next().is_some()) {
            let free = CONCURRENCY.saturating_sub(self.in_flight.len());
            let names: Vec<_> = self.unread().take(free).cloned().collect();
            for name in names {
                let op = Op::Read { settings: Arc::clone(settings), token: token.value.clone(), source: name.clone() };
                self.in_flight.insert(tickets.start(op, actions), Some(name));
            }
        } else if self.needs.directory && self.published.is_none() && self.in_flight.is_empty() {
            let Some(set) = set(settings, &self.store) else { return };
            let op = Op::Publish { directory: settings.directory.clone(), set: Arc::clone(&set) };
            self.publishing = Some((tickets.start(op, actions), set));
        }
    }

    /// Takes the outcome of one of its operations. A token that it replaces is returned to be revoked.
    pub(super) fn completed(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        started: Elapsed,
        number: impl FnOnce() -> u64,
        now: &Now,
    ) -> Progress {
        let source = self.in_flight.remove(&ticket).flatten();
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
            Outcome::Read(Err(failure)) => Some(self.refused(failure, now)),
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
            token.worked();
        }
        let reading = Arc::new(reading);
        self.store.accept(name, Arc::clone(&reading))?;
        self.readings.insert(name.clone(), Proof { reading, started: read_started, read: now.at });
        self.backoff.reset();
        Ok(())
    }

    /// A refused read: a new token may not be known to every node yet.
    fn refused(&mut self, failure: Failure, now: &Now) -> Failure {
        if !matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenDead) {
            return failure;
        }
        let young = self.token.as_ref().is_some_and(|token| !token.confirmed && now.at < token.since + super::token::GRACE);
        let verdict = if young { Verdict::TooYoung } else { Verdict::Unjudged };
        judged(&failure, verdict)
    }

    /// Readings that are too old to take over without another look: the trial waited long for something else.
    pub(super) fn is_outdated(&self, name: &SourceName, now: &Now) -> bool {
        let refresh = self.settings.sources.get(name).map(|source| source.refresh).unwrap_or_default();
        self.readings.get(name).is_none_or(|proof| proof.read + refresh <= now.at)
    }
}
