//! Runs each operation as a task, which makes one attempt and ends with an outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::adapters::{Adapters, ApiServer, Checkpoints, Clock as _, Notifier as _, Server, Volume};
use super::blocking::blocking;
use super::clock::within;
use crate::agent::{Op, Outcome, Ticket};
use crate::model::{
    Checkpoint, Failure, FailureClass, Notification, NotificationTarget, Reason, SecretList, ServerEvent, Settings,
};

/// Maximum number of requests of one operation at Vault, as a factor for its timeout. A read may also query its mount
/// and then read again.
const MAX_REQUESTS_PER_OPERATION: u32 = 4;

/// Timeout of one operation at the API server, including all its requests.
const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Minimum remaining TTL of the token of a checkpoint. A token with less could expire before its first use.
const MIN_TTL: Duration = Duration::from_secs(3);

/// Timeout of a revocation, which is best effort within the grace period of the pod.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a notification that is not an HTTP request, and the time for the files of one that is.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// A completed operation.
pub(super) struct Completed {
    pub(super) ticket: Ticket,
    pub(super) operation: &'static str,
    pub(super) outcome: Outcome,
    /// Why the checkpoint could not be used.
    pub(super) restore_failure: Option<Failure>,
}

/// What happened to the operations.
pub(super) enum Progress {
    /// One has ended.
    Completed(Box<Completed>),
    /// A subscription received an event.
    Event(Ticket, ServerEvent),
}

/// Runs operations concurrently.
pub(super) struct Executor<A> {
    adapters: Arc<A>,
    tasks: JoinSet<Completed>,
    /// The subscriptions to events, which can be cancelled.
    subscriptions: BTreeMap<Ticket, Subscription>,
}

/// A running subscription.
struct Subscription {
    events: mpsc::Receiver<ServerEvent>,
    task: AbortHandle,
}

/// Maximum number of events that wait for the agent. The connection is not read while they wait.
const EVENTS: usize = 16;

impl<A: Adapters> Executor<A> {
    pub(super) fn new(adapters: Arc<A>) -> Self {
        Self { adapters, tasks: JoinSet::new(), subscriptions: BTreeMap::new() }
    }

    /// Starts an operation.
    pub(super) fn start(&mut self, ticket: Ticket, op: Op) {
        let adapters = Arc::clone(&self.adapters);
        if let Op::Subscribe { settings, token } = op {
            let (sender, events) = mpsc::channel(EVENTS);
            let task = self.tasks.spawn(async move {
                let subscribe = async |server: &A::Server| server.subscribe(&token, &sender).await;
                let result = call_server_without_limit(&adapters, &settings, subscribe).await;
                let outcome = Outcome::Unsubscribed(result);
                Completed { ticket, operation: "subscribe", outcome, restore_failure: None }
            });
            self.subscriptions.insert(ticket, Subscription { events, task });
            return;
        }
        self.tasks.spawn(async move {
            let operation = name(&op);
            let (outcome, restore_failure) = run(&adapters, op).await;
            Completed { ticket, operation, outcome, restore_failure }
        });
    }

    /// Cancels a subscription. It has no outcome.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if let Some(subscription) = self.subscriptions.remove(&ticket) {
            subscription.task.abort();
        }
    }

    /// Waits for the next operation to end, or for an event of a subscription; forever if none is running. Cancel safe.
    ///
    /// # Errors
    /// If a bug ended a task without an outcome.
    pub(super) async fn next(&mut self) -> Result<Progress, tokio::task::JoinError> {
        loop {
            let Self { tasks, subscriptions, .. } = self;
            let ended = tokio::select! {
                // The events before the end of their subscription.
                biased;
                (ticket, event) = next_event(subscriptions) => return Ok(Progress::Event(ticket, event)),
                ended = tasks.join_next() => ended,
            };
            match ended {
                Some(Ok(completed)) => {
                    self.subscriptions.remove(&completed.ticket);
                    return Ok(Progress::Completed(Box::new(completed)));
                }
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return Err(error),
                None => std::future::pending().await,
            }
        }
    }
}

/// Waits for an event of a subscription; forever without one. There is one subscription at most, because the agent cancels the
/// previous one.
async fn next_event(subscriptions: &mut BTreeMap<Ticket, Subscription>) -> (Ticket, ServerEvent) {
    if let Some(mut last) = subscriptions.last_entry()
        && let Some(event) = last.get_mut().events.recv().await
    {
        return (*last.key(), event);
    }
    std::future::pending().await
}

/// Name of the operation in metrics.
fn name(op: &Op) -> &'static str {
    match op {
        Op::LogIn { .. } => "login",
        Op::LookUp { .. } => "look_up",
        Op::RenewToken { .. } => "renew_token",
        Op::Revoke { .. } => "revoke",
        Op::Read { .. } => "read",
        Op::RenewLease { .. } => "renew_lease",
        Op::LookUpLease { .. } => "look_up_lease",
        Op::RevokeLease { .. } => "revoke_lease",
        Op::Subscribe { .. } => "subscribe",
        Op::ReadSeed { .. } => "read_seed",
        Op::Publish { .. } => "publish",
        Op::RetireDirectory { .. } => "retire_directory",
        Op::Mirror { .. } => "mirror",
        Op::Notify { .. } => "notify",
        Op::PatchConditions { .. } => "report",
        Op::RecordEvent { .. } => "record",
        Op::Save { .. } => "save",
    }
}

async fn run<A: Adapters>(adapters: &Arc<A>, op: Op) -> (Outcome, Option<Failure>) {
    let outcome = match op {
        Op::LogIn { settings, restore } => return log_in(adapters, settings, restore).await,
        Op::LookUp { settings, token } => Outcome::LookedUp(
            call_server(adapters, &settings, "look up the Vault token", async |server: &A::Server| {
                server.look_up(&token).await
            })
            .await,
        ),
        Op::RenewToken { settings, token } => Outcome::TokenRenewed(
            call_server(adapters, &settings, "renew the Vault token", async |server: &A::Server| {
                server.renew_token(&token).await
            })
            .await,
        ),
        Op::Revoke { settings, token } => Outcome::Revoked(match adapters.server(&settings) {
            Ok(server) => with_timeout(REVOKE_TIMEOUT, "revoke the Vault token", server.revoke(&token)).await,
            Err(failure) => Err(failure),
        }),
        Op::Read { settings, token, source } => {
            let Some(spec) = settings.sources.get(&source) else {
                let message = format!("failed to read source {source}: it is no longer configured");
                let removed = Failure::new(FailureClass::Conflict, Reason::SecretNotFound, message);
                return (Outcome::Read(Err(removed)), None);
            };
            let what = format!("read source {source}");
            let rounds = spec.list.as_ref().map_or(0, SecretList::rounds);
            let limit = settings.server.timeout.saturating_mul(MAX_REQUESTS_PER_OPERATION.saturating_add(rounds));
            let read = async |server: &A::Server| server.read(&token, spec).await;
            Outcome::Read(call_server_within(limit, adapters, &settings, &what, read).await)
        }
        Op::RenewLease { settings, token, source, lease, increment } => {
            let what = format!("renew the lease of source {source}");
            Outcome::LeaseRenewed(
                call_server(adapters, &settings, &what, async |server: &A::Server| {
                    server.renew_lease(&token, &lease, increment).await
                })
                .await,
            )
        }
        Op::LookUpLease { settings, token, source, lease } => {
            let what = format!("look up the lease of source {source}");
            Outcome::LeaseLookedUp(
                call_server(adapters, &settings, &what, async |server: &A::Server| {
                    server.look_up_lease(&token, &lease).await
                })
                .await,
            )
        }
        Op::RevokeLease { settings, token, source, lease } => {
            let what = format!("revoke the replaced lease of source {source}");
            Outcome::LeaseRevoked(
                call_server(adapters, &settings, &what, async |server: &A::Server| {
                    server.revoke_lease(&token, &lease).await
                })
                .await,
            )
        }
        Op::Subscribe { .. } => Outcome::Unsubscribed(Ok(())),
        Op::ReadSeed { directory } => {
            let volume = adapters.volume();
            Outcome::SeedRead(blocking("read the seed", move || volume.read_seed(&directory)).await)
        }
        Op::Publish { directory, set } => {
            let volume = adapters.volume();
            Outcome::Published(blocking("publish files", move || volume.publish(&directory, &set)).await)
        }
        Op::RetireDirectory { directory } => {
            let volume = adapters.volume();
            Outcome::Retired(blocking("empty the previous output directory", move || volume.retire(&directory)).await)
        }
        Op::Mirror { settings, name, content } => {
            Outcome::Mirrored(call_api(adapters.api().mirror(&settings, &name, &content)).await)
        }
        Op::Notify { name, notification, generation } => {
            let (notifier, limit) = (adapters.notifier(), notify_timeout(&notification));
            let work = notifier.notify(&notification, generation);
            Outcome::Notified(within(limit, work).await.unwrap_or_else(|| {
                let message = format!("failed to send notification {name}: no result within {}s", limit.as_secs());
                Err(Failure::new(FailureClass::Unreachable, Reason::NotifyFailed, message))
            }))
        }
        Op::PatchConditions { settings, conditions } => {
            Outcome::ConditionsPatched(call_api(adapters.api().patch_conditions(&settings, &conditions)).await)
        }
        Op::RecordEvent { settings, event } => {
            Outcome::EventRecorded(call_api(adapters.api().record_event(&settings, &event)).await)
        }
        Op::Save { settings, checkpoint } => {
            let checkpoints = adapters.checkpoints();
            Outcome::Saved(blocking("save the checkpoint", move || checkpoints.save(&settings, &checkpoint)).await)
        }
    };
    (outcome, None)
}

/// Restores the checkpoint of an earlier process if `restore` is set and one exists. Otherwise logs in. Credential
/// files are read in the blocking pool, because a hanging mount must not delay the exit.
async fn log_in<A: Adapters>(adapters: &Arc<A>, settings: Arc<Settings>, restore: bool) -> (Outcome, Option<Failure>) {
    let (mut restore_failure, mut unverified) = (None, false);
    if restore {
        let (checkpoints, wanted) = (adapters.checkpoints(), Arc::clone(&settings));
        match blocking("load the checkpoint", move || checkpoints.load(&wanted)).await {
            Ok(Some(checkpoint)) => match verified(adapters, &settings, checkpoint).await {
                Verified::Done(outcome, failure) => return (*outcome, failure),
                Verified::Unknown(failure) => (restore_failure, unverified) = (Some(failure), true),
            },
            Ok(None) => {}
            Err(failure) => restore_failure = Some(failure),
        }
    }
    let limit = settings.server.timeout * MAX_REQUESTS_PER_OPERATION;
    let work = async {
        let server = adapters.server(&settings)?;
        let (reader, wanted) = (Arc::clone(&server), Arc::clone(&settings));
        let credential = blocking("read the credential", move || reader.read_credential(&wanted.auth)).await?;
        let (credential, is_unwrapped) = server.unwrap_credential(&settings.auth, credential).await?;
        if is_unwrapped {
            let (checkpoints, wanted) = (adapters.checkpoints(), Arc::clone(&settings));
            // A process that is killed from here on does not lose the credential. The login does not depend on it.
            let saved = blocking("save the credential", move || checkpoints.save_credentials(&wanted)).await;
            restore_failure = restore_failure.take().or(saved.err());
        }
        server.log_in(&settings.auth, credential).await
    };
    match with_timeout(limit, "log in to Vault", work).await {
        // The cause is the connection or the configuration, not the checkpoint.
        Err(failure) if unverified => (Outcome::Restored(Err(failure)), None),
        result => (Outcome::LoggedIn(result), restore_failure),
    }
}

/// Whether the server has confirmed the token of a checkpoint.
enum Verified {
    /// The outcome, and why the token is not used.
    Done(Box<Outcome>, Option<Failure>),
    /// The server answered, but not about the token.
    Unknown(Failure),
}

/// Asks the server whether the token of a checkpoint is valid. If not, the readings that do not depend on it are restored
/// without a token. Without an answer, nothing is restored yet.
async fn verified<A: Adapters>(adapters: &Arc<A>, settings: &Settings, mut checkpoint: Box<Checkpoint>) -> Verified {
    let loaded = adapters.clock().elapsed();
    let Some(saved) = &mut checkpoint.token else {
        return Verified::Done(Box::new(Outcome::Restored(Ok(checkpoint))), None);
    };
    let what = "look up the Vault token of the checkpoint";
    let found = call_server(adapters, settings, what, async |server: &A::Server| server.look_up(&saved.token).await);
    let why = match found.await {
        Ok(info) if info.ttl.is_none_or(|ttl| ttl >= MIN_TTL) => {
            // A standby can omit the TTL.
            (saved.left, saved.renewable) = (info.ttl.or(saved.left), info.renewable);
            checkpoint.pass(adapters.clock().elapsed().saturating_sub(loaded));
            return Verified::Done(Box::new(Outcome::Restored(Ok(checkpoint))), None);
        }
        Ok(_) => "its token expires now".to_owned(),
        Err(failure) if failure.class.is_retryable() => {
            return Verified::Done(Box::new(Outcome::Restored(Err(failure))), None);
        }
        Err(failure) => {
            use FailureClass::{Denied, Forbidden, TokenInvalid};
            let why = format!("its token cannot be used: {failure}");
            if !matches!(failure.class, TokenInvalid | Forbidden | Denied) {
                return Verified::Unknown(refused(&why));
            }
            why
        }
    };
    checkpoint.token = None;
    checkpoint.pass(adapters.clock().elapsed().saturating_sub(loaded));
    Verified::Done(Box::new(Outcome::Restored(Ok(checkpoint))), Some(refused(&why)))
}

fn refused(why: &str) -> Failure {
    let message = format!("failed to use the checkpoint of the previous process: {why}");
    Failure::new(FailureClass::TokenInvalid, Reason::CheckpointRefused, message)
}

async fn call_server<A: Adapters, T>(
    adapters: &Arc<A>,
    settings: &Settings,
    what: &str,
    work: impl AsyncFnOnce(&A::Server) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let limit = settings.server.timeout * MAX_REQUESTS_PER_OPERATION;
    call_server_within(limit, adapters, settings, what, work).await
}

async fn call_server_within<A: Adapters, T>(
    limit: Duration,
    adapters: &Arc<A>,
    settings: &Settings,
    what: &str,
    work: impl AsyncFnOnce(&A::Server) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_timeout(limit, what, call_server_without_limit(adapters, settings, work)).await
}

async fn call_server_without_limit<A: Adapters, T>(
    adapters: &Arc<A>,
    settings: &Settings,
    work: impl AsyncFnOnce(&A::Server) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let server = adapters.server(settings)?;
    if server.needs_files() {
        let reader = Arc::clone(&server);
        blocking("read the PEM files", move || reader.read_files()).await?;
    }
    work(&server).await
}

async fn with_timeout<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    within(limit, work).await.unwrap_or_else(|| {
        let message = format!("failed to {what}: no answer within {}s", limit.as_secs());
        Err(Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, message))
    })
}

fn notify_timeout(notification: &Notification) -> Duration {
    match &notification.target {
        NotificationTarget::Http(target) => target.timeout + NOTIFY_TIMEOUT,
        _ => NOTIFY_TIMEOUT,
    }
}

async fn call_api<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    within(API_TIMEOUT, work).await.unwrap_or_else(|| {
        let message = format!("failed to reach the API server: no answer within {}s", API_TIMEOUT.as_secs());
        Err(Failure::new(FailureClass::Unreachable, Reason::ApiUnavailable, message))
    })
}
