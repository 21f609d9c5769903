//! A new configuration proves itself before the old one is let go.
//!
//! A reload that changes the login logs in beside the session in use and reads the required sources; one that changes the
//! directory publishes to the new one. Only when that has worked does it take over. Until then the old session, files and
//! configuration stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{Op, Outcome, PublishedSet, Ticket};
use super::outbox::Outbox;
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
    /// A token that the server does not accept; it is to be revoked, because it may live.
    pub(super) rejected: Option<Token>,
    pub(super) readings: BTreeMap<SourceName, Proof>,
    /// When each operation began, and the source that it reads if its reading is wanted.
    in_flight: BTreeMap<Ticket, (Elapsed, Option<SourceName>)>,
    login: Option<Ticket>,
    connected: bool,
    publishing: Option<(Ticket, Arc<PublishedSet>)>,
    pub(super) published: Option<Arc<PublishedSet>>,
    /// Whether a publication was started, so that the new directory may hold something.
    pub(super) has_published: bool,
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

    /// A login in flight. If the trial is abandoned, its session has to be revoked when it comes.
    pub(super) fn login(&self) -> Option<Ticket> {
        self.login
    }

    pub(super) fn wake(&self) -> Option<Elapsed> {
        (self.is_idle() && !self.is_done()).then_some(self.backoff.not_before)
    }

    /// Starts the next step, if one is due. `current`: the token in use. `free`: the new directory can be published to. `set`
    /// makes the set to publish.
    pub(super) fn advance(
        &mut self,
        current: Option<&Token>,
        free: bool,
        set: impl FnOnce(&Settings, &Store, &BTreeMap<SourceName, Proof>) -> Arc<PublishedSet>,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        if self.backoff.not_before > now.at || self.is_done() || self.publishing.is_some() {
            return;
        }
        if self.token.as_ref().is_some_and(|token| token.is_over(now.at)) {
            self.drop_token();
        }
        let settings = &self.settings;
        if self.needs.login && self.token.is_none() {
            if self.in_flight.is_empty() {
                let op = Op::LogIn { settings: Arc::clone(settings), restore: false };
                let ticket = outbox.start(op);
                self.in_flight.insert(ticket, (now.at, None));
                self.login = Some(ticket);
            }
        } else if self.needs.connection && !self.connected {
            match current {
                Some(token) if self.in_flight.is_empty() => {
                    let op = Op::LookUp { settings: Arc::clone(settings), token: token.value.clone() };
                    self.in_flight.insert(outbox.start(op), (now.at, None));
                }
                Some(_) => {}
                // The old connection has lost its session, so there is nothing to keep.
                None => self.connected = true,
            }
        } else if let Some(token) = self.token.as_ref().filter(|_| self.unread().next().is_some()) {
            let free = CONCURRENCY.saturating_sub(self.in_flight.len());
            let names: Vec<_> = self.unread().take(free).cloned().collect();
            for name in names {
                let op = Op::Read { settings: Arc::clone(settings), token: token.value.clone(), source: name.clone() };
                self.in_flight.insert(outbox.start(op), (now.at, Some(name)));
            }
        } else if self.needs.directory && free && self.published.is_none() && self.in_flight.is_empty() {
            let set = set(settings, &self.store, &self.readings);
            let op = Op::Publish { directory: settings.directory.clone(), set: Arc::clone(&set) };
            self.publishing = Some((outbox.start(op), set));
            self.has_published = true;
        }
    }

    /// What was read with a token may hang on it.
    fn drop_token(&mut self) -> Option<Token> {
        self.readings.clear();
        self.in_flight.values_mut().for_each(|(_, source)| *source = None);
        self.token.take()
    }

    /// Takes the outcome of one of its operations.
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
            Outcome::Read(Err(failure)) if self.is_too_young(&failure, now) => {
                // To be expected for a moment, and no reason to reject a configuration.
                self.backoff.failed(&judged(&failure, Verdict::TooYoung), &self.settings.retry, now, 61);
                None
            }
            Outcome::Read(Err(failure)) if failure.class == FailureClass::TokenInvalid => {
                self.rejected = self.drop_token();
                Some(failure)
            }
            Outcome::Read(Err(failure)) if failure.class == FailureClass::Forbidden => {
                Some(judged(&failure, Verdict::Unjudged))
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
            token.worked();
        }
        let reading = Arc::new(reading);
        self.store.accept(name, Arc::clone(&reading))?;
        self.readings.insert(name.clone(), Proof { reading, started: read_started, read: now.at });
        self.backoff.reset();
        Ok(())
    }

    /// Whether a refused read may mean that not every node knows the new token yet.
    fn is_too_young(&self, failure: &Failure, now: &Now) -> bool {
        let refused = matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenInvalid);
        let young = |token: &Token| !token.confirmed && now.at < token.since + super::token::GRACE;
        refused && self.token.as_ref().is_some_and(young)
    }

    /// Readings that are too old to take over without another look: the trial waited long for something else.
    pub(super) fn is_outdated(&self, name: &SourceName, now: &Now) -> bool {
        let refresh = self.settings.sources.get(name).map(|source| source.refresh).unwrap_or_default();
        self.readings.get(name).is_none_or(|proof| proof.read + refresh <= now.at)
    }
}
