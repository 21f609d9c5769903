//! The loop: one event in, effects out, sleep until the next.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::clock::Clock;
use super::effects::{self, Done};
use super::hands::Hands;
use super::reload::{ConfigSource, Reload};
use super::shelf::Shelf;
use super::signals::{Asked, Listening};
use super::voice::Voice;
use super::{EXIT_OWN_FAULT, Work, listener};
use crate::brain::{Effect, Event, Mode, Plan, ReadFacts, Reply, State, Ticket, step};
use crate::cluster::MirrorOutcome;
use crate::config::Environment;
use crate::handover::Estate;
use crate::model::{Failure, Settings, SourceName};

/// Owns the state and everything that the brain must not touch.
pub(super) struct Driver {
    settings: Arc<Settings>,
    mode: Mode,
    state: State,
    clock: Clock,
    hands: Hands,
    shelf: Shelf,
    tasks: JoinSet<(Ticket, Done)>,
    reload: Reload,
    voice: Voice,
    listener: Option<AbortHandle>,
    exit: Option<u8>,
}

impl Driver {
    /// Prepares everything that can fail before the first request.
    pub(super) async fn new(
        settings: Settings,
        config: ConfigSource,
        environment: Box<dyn Environment + Send>,
        work: Work,
        handover: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let mode = match work {
            Work::Run => Mode::Run,
            Work::Once(limit) => Mode::Once { deadline: clock.tick() + limit, hand_over: handover.is_some() },
        };
        let hands = Hands::new(&settings, mode, handover)?;
        let mut driver = Self {
            state: State::new(Plan::new(&settings, mode)),
            voice: Voice::new(&settings),
            settings: Arc::new(settings),
            mode,
            clock,
            hands,
            shelf: Shelf::default(),
            tasks: JoinSet::new(),
            reload: Reload::new(config, environment),
            listener: None,
            exit: None,
        };
        driver.listen().await?;
        Ok(driver)
    }

    /// Runs to the end.
    pub(super) async fn drive(mut self, mut signals: Listening) -> Result<u8, Failure> {
        self.take(Event::Woke);
        while self.exit.is_none() {
            let wake = self.state.wake_at(self.clock.tick());
            let event = tokio::select! {
                // Work that has ended is taken in before a signal stops it.
                biased;
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok((ticket, done)) => Event::Reply(ticket, self.keep(done, ticket)),
                    // Only a bug ends a task without its result; the release build aborts there anyway.
                    Err(error) => {
                        tracing::error!(%error, "a task ended without a result");
                        self.exit = Some(EXIT_OWN_FAULT);
                        continue;
                    }
                },
                asked = signals.next() => match asked {
                    Asked::Terminate => {
                        tracing::info!("told to stop; finishing what runs");
                        Event::Terminate
                    }
                    Asked::Refresh => {
                        tracing::info!("told to refresh now");
                        Event::RefreshNow
                    }
                },
                changed = self.reload.changed() => match self.reconfigure(changed).await {
                    Some(event) => event,
                    None => continue,
                },
                () = self.clock.sleep_until(wake) => Event::Woke,
            };
            self.take(event);
        }
        self.voice.leave();
        Ok(self.exit.unwrap_or(EXIT_OWN_FAULT))
    }

    /// Lets the brain decide and starts what it asks for.
    fn take(&mut self, event: Event) {
        let now = self.clock.now();
        for effect in step(&mut self.state, event, &now) {
            match effect {
                Effect::Accept { source } => self.shelf.accept(&source),
                Effect::Exit { code } => self.exit = Some(code),
                effect => {
                    if let Some(task) = effects::task(effect, &self.settings, &mut self.hands, &mut self.shelf) {
                        self.tasks.spawn(task);
                    }
                }
            }
        }
        self.shelf.forget_delivered();
        self.voice.show(&self.state.snapshot(now.at), now.at);
    }

    /// Keeps the secret part of a result here and tells the brain the rest.
    fn keep(&mut self, done: Done, ticket: Ticket) -> Reply {
        self.voice.heard(&done, self.hands.vault.requests());
        match done {
            Done::Login { result, .. } => Reply::LoggedIn(result.map(|session| {
                self.shelf.keep_token(ticket.0, session.token);
                (session.info, session.own)
            })),
            Done::TakenOver { estate, settings } => {
                let Estate { token, mut facts, readings } = *estate;
                self.shelf.keep_token(ticket.0, token);
                // A source that moved while the file was read is read anew.
                let now = &self.settings.sources;
                let moved = |name: &SourceName| {
                    let (then, now) = (settings.sources.get(name), now.get(name));
                    !then.zip(now).is_some_and(|(then, now)| then.same_place(now))
                };
                facts.sources.retain(|name, _| !moved(name));
                for (source, reading) in readings.into_iter().filter(|(name, _)| !moved(name)) {
                    self.shelf.deliver(source, reading);
                }
                Reply::TakenOver(facts)
            }
            Done::HandedOver(result) => Reply::HandedOver(result),
            Done::TokenRenewed(result) => Reply::TokenRenewed(result),
            Done::Read { source, token, result } => {
                let result = result.map(|reading| {
                    let (version, lease) = (reading.version.clone(), reading.lease.clone());
                    let changed = self.shelf.deliver(source.clone(), Arc::new(reading));
                    ReadFacts { version, lease, changed }
                });
                Reply::Read { source, token, result }
            }
            Done::LeaseRenewed { source, token, result } => Reply::LeaseRenewed { source, token, result },
            Done::Published(result) => Reply::Published(result.map(|(outcome, set)| {
                self.shelf.publish(set);
                outcome
            })),
            Done::Mirrored { name, result } => {
                Reply::Mirrored { name, result: result.map(|outcome| outcome == MirrorOutcome::Superseded) }
            }
            Done::Reported(result) => Reply::Reported(result),
            Done::Recorded(result) => Reply::Recorded(result),
            Done::Revoked(_) => Reply::Revoked,
        }
    }

    /// Puts a new configuration in force, or keeps the old one and says why.
    async fn reconfigure(&mut self, changed: Result<Box<Settings>, String>) -> Option<Event> {
        let new = match changed {
            Ok(new) if *new == *self.settings => return None,
            Ok(new) => new,
            Err(message) => {
                self.voice.config_rejected(&message);
                return Some(Event::ConfigRejected { message });
            }
        };
        let login_changed = match self.hands.reconcile(&self.settings, &new) {
            Ok(login_changed) => login_changed,
            Err(failure) => {
                self.voice.config_rejected(&failure.message);
                return Some(Event::ConfigRejected { message: failure.message });
            }
        };
        self.shelf.reconcile(&self.settings, &new);
        let old = std::mem::replace(&mut self.settings, Arc::from(new));
        self.voice.config_reloaded(&self.settings);
        if old.listener != self.settings.listener
            && let Err(failure) = self.listen().await
        {
            // The port is not worth the files.
            tracing::warn!(reason = %failure.reason, "{failure}; going on without probes and metrics");
        }
        Some(Event::ConfigChanged { plan: Box::new(Plan::new(&self.settings, self.mode)), login_changed })
    }

    /// Opens the listener that the settings ask for, instead of an older one.
    async fn listen(&mut self) -> Result<(), Failure> {
        if let Some(old) = self.listener.take() {
            old.abort();
        }
        if let Some(wanted) = self.settings.listener {
            let (health, metrics) = self.voice.for_listener();
            let bound = listener::bind(wanted.address).await?;
            self.listener = Some(tokio::spawn(listener::serve(bound, health, metrics)).abort_handle());
        }
        Ok(())
    }
}
