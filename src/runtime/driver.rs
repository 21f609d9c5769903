//! The main loop: passes one input to the agent, executes its actions, and waits for the next input.

use std::sync::Arc;
use std::time::Duration;

use super::Work;
use super::adapters::{Adapters, Clock, Volume};
use super::blocking::blocking;
use super::executor::{Executor, Progress};
use super::listener::{self, Endpoints, RunningListener};
use super::observer::Observer;
use super::refresh::RefreshTriggers;
use super::reload::Reload;
use super::signals::{Signal, SignalStream};
use crate::agent::{Action, Agent, Input, LogEntry, LogLevel, Mode, exit};
use crate::config::Environment;
use crate::model::{Failure, Listener, Reason, Settings};
use crate::telemetry;

/// Initial and maximum delay before the agent retries to listen after a reload. The delay doubles.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
const LISTEN_RETRY_MAX: Duration = Duration::from_secs(60);

/// Shortest time after which an output directory counts as hanging.
const MIN_OPEN: Duration = Duration::from_secs(1);

/// When to open a listener again.
struct ListenRetry {
    /// The listener that could not be opened. Another one is tried at once.
    wanted: Option<Listener>,
    at: tokio::time::Instant,
    /// Delay after the next failure.
    next_wait: Duration,
}

/// Connects the agent to clock, tasks, signals, and adapters.
pub(super) struct Driver<A: Adapters> {
    agent: Agent,
    clock: Arc<A::Clock>,
    adapters: Arc<A>,
    executor: Executor<A>,
    reload: Reload,
    refresh: RefreshTriggers,
    observer: Observer,
    listening: Option<(Listener, RunningListener)>,
    /// The retry of a listener that could not be opened after a reload.
    listen_retry: Option<ListenRetry>,
    exit: Option<u8>,
}

/// The arguments of [`Driver::new`].
pub(super) struct Start {
    pub(super) settings: Arc<Settings>,
    pub(super) config: super::ConfigSource,
    pub(super) environment: Box<dyn Environment + Send>,
    pub(super) work: Work,
    pub(super) checkpoint: bool,
}

impl<A: Adapters> Driver<A> {
    pub(super) fn new(start: Start, adapters: Arc<A>) -> Self {
        let clock = adapters.clock();
        let mode = match start.work {
            Work::Run { app_container } => Mode::Run { checkpoint: start.checkpoint, app_container },
            Work::Once(limit) => Mode::Once { deadline: clock.elapsed() + limit, checkpoint: start.checkpoint },
        };
        Self {
            agent: Agent::new(Arc::clone(&start.settings), mode, &clock.now()),
            observer: Observer::new(&start.settings),
            clock,
            executor: Executor::new(Arc::clone(&adapters)),
            adapters,
            reload: Reload::new(start.config, start.environment),
            refresh: RefreshTriggers::new(&start.settings.refresh_now),
            listening: None,
            listen_retry: None,
            exit: None,
        }
    }

    /// Opens the listener and the output directory, and runs until the agent exits. Returns the exit code.
    ///
    /// # Errors
    /// If the listener or the output directory cannot be opened.
    pub(super) async fn drive(mut self, mut signals: SignalStream) -> Result<u8, Failure> {
        self.listen().await?;
        let (volume, directory) = (self.adapters.volume(), self.agent.settings().directory.clone());
        let shown = directory.path.display().to_string();
        let open = blocking("open the output directory", move || volume.open(&directory));
        // A hanging mount must not block the exit. A shorter time limit of `once` is not the fault of the volume.
        let give_up = self.agent.wake_at(self.clock.elapsed()).map(|at| at.max(self.clock.elapsed() + MIN_OPEN));
        let adopted = tokio::select! {
            adopted = open => adopted?,
            () = terminated(&mut signals) => return Ok(exit::TERMINATED),
            () = self.clock.sleep_until(give_up) => {
                let message =
                    format!("failed to open output directory {shown}: no answer; check the volume (exit code 74)");
                Observer::log(&LogEntry {
                    level: LogLevel::Error,
                    operation: "open",
                    reason: Some(Reason::DirectoryUnusable),
                    source: None,
                    output: None,
                    notification: None,
                    message,
                });
                return Ok(exit::IO);
            }
        };
        self.handle(Input::Started(adopted));
        while self.exit.is_none() {
            let wake = self.agent.wake_at(self.clock.elapsed());
            let input = tokio::select! {
                // Handle completed operations before a signal begins the drain.
                biased;
                progress = self.executor.next() => match progress {
                    Ok(Progress::Event(ticket, event)) => Input::Event(ticket, event),
                    Ok(Progress::Completed(completed)) => {
                        self.observer.completed(&completed, self.adapters.requests());
                        Input::Completed(completed.ticket, completed.outcome)
                    }
                    // Only a bug ends a task without an outcome, and release builds abort on a panic.
                    Err(error) => {
                        tracing::error!(
                            target: telemetry::FINAL, reason = %Reason::Internal, exit_code = exit::INTERNAL, %error,
                            "internal error: a task ended without a result; report this bug"
                        );
                        self.exit = Some(exit::INTERNAL);
                        continue;
                    }
                },
                signal = signals.next() => match signal {
                    Signal::Terminate => {
                        tracing::info!("received SIGTERM or SIGINT; finishing the operations in progress");
                        Input::Terminate
                    }
                    Signal::Refresh(request) => Input::Refresh(request),
                },
                request = self.refresh.next() => Input::Refresh(request),
                read = self.reload.changed() => {
                    self.observer.config_read(read.is_ok());
                    match read {
                        Ok(settings) => Input::ConfigRead(Arc::from(settings)),
                        Err(message) => Input::ConfigInvalid(message),
                    }
                },
                () = self.clock.sleep_until(wake) => Input::TimerFired,
                () = due(self.listen_retry.as_ref().map(|retry| retry.at)) => {
                    self.listen_after_reload().await;
                    continue;
                }
            };
            self.handle(input);
            self.refresh.configure(&self.agent.settings().refresh_now);
            let wanted = self.agent.settings().listener;
            let tried = self
                .listen_retry
                .as_ref()
                .map_or_else(|| self.listening.as_ref().map(|(listener, _)| *listener), |retry| retry.wanted);
            if wanted != tried {
                self.listen_retry = None;
                self.listen_after_reload().await;
            }
        }
        self.observer.exit();
        Ok(self.exit.unwrap_or(exit::INTERNAL))
    }

    /// Passes one input to the agent and executes its actions.
    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        for action in self.agent.handle(input, &now) {
            match action {
                Action::Start(ticket, op) => self.executor.start(ticket, op),
                Action::Cancel(ticket) => self.executor.cancel(ticket),
                Action::Log(entry) => Observer::log(&entry),
                Action::Exit { code } => self.exit = Some(code),
            }
        }
        self.observer.update(&mut self.agent, &now);
    }

    /// Opens the configured listener in place of the current one, which keeps serving if that fails.
    async fn listen(&mut self) -> Result<(), Failure> {
        let wanted = self.agent.settings().listener;
        let current = self.listening.as_ref().map(|(listener, _)| *listener);
        if wanted == current {
            return Ok(());
        }
        let Some(wanted) = wanted else {
            self.stop_listening().await;
            return Ok(());
        };
        // Another address on the same port is free only without the current listener.
        let same_port = current.filter(|current| current.address.port() == wanted.address.port());
        if same_port.is_some() {
            self.stop_listening().await;
        }
        match listener::bind(wanted.address) {
            Ok(bound) => {
                self.stop_listening().await;
                self.serve(wanted, bound);
                Ok(())
            }
            Err(failure) => {
                if let Some((current, bound)) = same_port.and_then(|old| Some((old, listener::bind(old.address).ok()?)))
                {
                    self.serve(current, bound);
                }
                Err(failure)
            }
        }
    }

    async fn stop_listening(&mut self) {
        if let Some((_, listener)) = self.listening.take() {
            listener.stop().await;
        }
    }

    fn serve(&mut self, listener: Listener, bound: tokio::net::TcpListener) {
        let (health, metrics) = self.observer.for_listener();
        let endpoints = Endpoints { health, metrics, refresh: self.refresh.endpoint() };
        self.listening = Some((listener, RunningListener::start(bound, endpoints)));
    }

    /// Opens the configured listener after a reload. A failure does not stop the agent and is retried.
    async fn listen_after_reload(&mut self) {
        let wait = self.listen_retry.take().map_or(LISTEN_RETRY, |retry| retry.next_wait);
        let result = self.listen().await;
        if result.is_err() {
            self.listen_retry = Some(ListenRetry {
                wanted: self.agent.settings().listener,
                at: tokio::time::Instant::now() + wait,
                next_wait: (wait * 2).min(LISTEN_RETRY_MAX),
            });
        }
        self.handle(Input::Listening(result));
    }
}

async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn terminated(signals: &mut SignalStream) {
    while !matches!(signals.next().await, Signal::Terminate) {}
}
