//! Each effect as a task that tries once and ends with its result.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::clock::{wall, within};
use super::handover;
use super::hands::Hands;
use super::shelf::{PublishedSet, Shelf};
use crate::brain::{Effect, PublishOutcome, Ticket};
use crate::cluster::{MirrorContent, MirrorOutcome, digest};
use crate::disk::Published;
use crate::handover::Estate;
use crate::model::{Failure, FailureClass, Lease, ObjectName, Reading, Reason, Settings, SourceName, TokenInfo};
use crate::render;
use crate::vault::Session;

/// Requests that one Vault effect may make at most (read, lookup, preflight, read), to bound its time.
const REQUESTS_PER_EFFECT: u32 = 4;

/// Bound of one call to the API server, its inner requests included.
const CLUSTER_LIMIT: Duration = Duration::from_secs(30);

/// Bound of the revocation at the end: best effort within the pod's grace.
const REVOKE_LIMIT: Duration = Duration::from_secs(2);

/// A task's result, secret bytes included.
pub(super) enum Done {
    /// `refused`: why what an earlier process left was not taken instead.
    Login {
        result: Result<Session, Failure>,
        refused: Option<Failure>,
    },
    /// With the settings that it was read for.
    TakenOver {
        estate: Box<Estate>,
        settings: Arc<Settings>,
    },
    HandedOver(Result<(), Failure>),
    TokenRenewed(Result<TokenInfo, Failure>),
    Read {
        source: SourceName,
        token: u64,
        result: Result<Reading, Failure>,
    },
    LeaseRenewed {
        source: SourceName,
        token: u64,
        result: Result<Lease, Failure>,
    },
    Published(Result<(PublishOutcome, PublishedSet), Failure>),
    Mirrored {
        name: ObjectName,
        result: Result<MirrorOutcome, Failure>,
    },
    Reported(Result<(), Failure>),
    Recorded(Result<(), Failure>),
    Revoked(Result<(), Failure>),
}

type Task = std::pin::Pin<Box<dyn Future<Output = (Ticket, Done)> + Send>>;

/// The task of an effect; `None` for those that the driver does itself.
pub(super) fn task(effect: Effect, settings: &Arc<Settings>, hands: &mut Hands, shelf: &mut Shelf) -> Option<Task> {
    let vault = Arc::clone(&hands.vault);
    let cluster = Arc::clone(&hands.cluster);
    let settings = Arc::clone(settings);
    let limit = settings.server.timeout * REQUESTS_PER_EFFECT;
    let late_after = |limit: Duration, what: &str| {
        let message = format!("failed to {what}: no answer within {}s", limit.as_secs());
        Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, message)
    };
    let late = move |what: &str| late_after(limit, what);
    let api_late = || {
        let message = format!("failed to reach the API server: no answer within {}s", CLUSTER_LIMIT.as_secs());
        Failure::new(FailureClass::Unreachable, Reason::ApiUnavailable, message)
    };
    // A session without its token cannot be: the driver keeps it before the brain hears of the login.
    let no_token = || Failure::new(FailureClass::TokenDead, Reason::TokenExpired, "failed to find the session's token");
    Some(match effect {
        Effect::Accept { .. } | Effect::Exit { .. } => return None,
        Effect::Login { ticket } => {
            let left = hands.take_over_from.take();
            Box::pin(async move {
                let refused = match handover::take(left, &settings).await {
                    Ok(Some(estate)) => {
                        vault.take_over(&settings.auth);
                        return (ticket, Done::TakenOver { estate, settings });
                    }
                    Ok(None) => None,
                    Err(refused) => Some(refused),
                };
                let result = within(limit, vault.login(&settings.auth)).await;
                let result = result.unwrap_or_else(|| Err(late("log in to vault")));
                (ticket, Done::Login { result, refused })
            })
        }
        Effect::HandOver { ticket, token, facts } => {
            let (file, token, readings) = (hands.hand_over_to.clone(), shelf.token(token), shelf.readings());
            Box::pin(async move {
                let result = match (file, token) {
                    (Some(file), Some(token)) => {
                        handover::leave(file, Estate { token, facts, readings }, settings).await
                    }
                    _ => Err(no_token()),
                };
                (ticket, Done::HandedOver(result))
            })
        }
        Effect::RenewToken { ticket, token } => {
            let token = shelf.token(token);
            Box::pin(async move {
                let Some(token) = token else { return (ticket, Done::TokenRenewed(Err(no_token()))) };
                let result = within(limit, vault.renew_token(&token)).await;
                (ticket, Done::TokenRenewed(result.unwrap_or_else(|| Err(late("renew the vault token")))))
            })
        }
        Effect::Read { ticket, token: number, source } => {
            let token = shelf.token(number);
            Box::pin(async move {
                let done = |source, result| (ticket, Done::Read { source, token: number, result });
                let Some(token) = token else { return done(source, Err(no_token())) };
                let Some(spec) = settings.sources.get(&source) else {
                    let gone = Failure::new(FailureClass::Conflict, Reason::SecretNotFound, "the source was removed");
                    return done(source, Err(gone));
                };
                let result = within(limit, vault.read(&token, spec)).await;
                let result = result.unwrap_or_else(|| Err(late(&format!("read source {source}"))));
                done(source, result)
            })
        }
        Effect::RenewLease { ticket, token: number, source, lease, increment } => {
            let token = shelf.token(number);
            Box::pin(async move {
                let done = |source, result| (ticket, Done::LeaseRenewed { source, token: number, result });
                let Some(token) = token else { return done(source, Err(no_token())) };
                let result = within(limit, vault.renew_lease(&token, &lease, Some(increment))).await;
                let result = result.unwrap_or_else(|| Err(late(&format!("renew the lease of source {source}"))));
                done(source, result)
            })
        }
        Effect::Publish { ticket, .. } => {
            let (disk, readings) = (Arc::clone(&hands.disk), shelf.readings());
            let publish = move || {
                let all = render::render(&settings, &readings).map_err(|failures| join(&failures))?;
                let versions = readings.iter().map(|(name, r)| (name.clone(), r.version.clone())).collect();
                let unleased = readings.iter().filter(|(_, r)| r.lease.is_none());
                let unleased = unleased.map(|(name, r)| (name.clone(), Arc::clone(r))).collect();
                let unleased = render::render(&settings, &unleased).map_err(|failures| join(&failures))?;
                // A panic of an earlier publication leaves nothing half-done that the next one would not sweep.
                let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
                let outcome = match disk.publish(&all, wall())? {
                    Published::Swapped => PublishOutcome::Swapped,
                    Published::ModesRepaired | Published::Unchanged => PublishOutcome::Unchanged,
                };
                Ok((outcome, PublishedSet { all, unleased, versions }))
            };
            Box::pin(async move {
                let result = tokio::task::spawn_blocking(publish).await.unwrap_or_else(|error| {
                    let message = format!("failed to publish files: {error}");
                    Err(Failure::new(FailureClass::Local, Reason::WriteFailed, message))
                });
                (ticket, Done::Published(result))
            })
        }
        Effect::Mirror { ticket, name } => {
            let set = shelf.published();
            Box::pin(async move {
                let work = async {
                    let (Some(mirror), Some(set)) = (settings.mirrors.get(&name), set) else {
                        let message = "failed to mirror: nothing is published yet";
                        return Err(Failure::new(FailureClass::Conflict, Reason::Pending, message));
                    };
                    let files = if mirror.allow_leased { &set.all } else { &set.unleased };
                    let data = render::mirror_data(mirror, &name, files)?;
                    let versions = set.versions.clone();
                    let (secret_type, namespace) = (mirror.secret_type.clone(), settings.status.pod_namespace.clone());
                    let (for_digest, secret) = (data.clone(), name.clone());
                    let digest = tokio::task::spawn_blocking(move || {
                        digest(namespace.as_deref().unwrap_or_default(), &secret, &secret_type, &for_digest)
                    });
                    let digest = digest.await.map_err(|error| {
                        let message = format!("failed to compute the digest for Secret {name}: {error}");
                        Failure::new(FailureClass::Local, Reason::WriteFailed, message)
                    })?;
                    cluster.get().await?.mirror(&name, mirror, &MirrorContent { data, versions, digest }).await
                };
                let result = within(CLUSTER_LIMIT, work).await.unwrap_or_else(|| Err(api_late()));
                (ticket, Done::Mirrored { name, result })
            })
        }
        Effect::Report { ticket, conditions } => Box::pin(async move {
            let work = async { cluster.get().await?.report(&conditions, wall()).await };
            let result = within(CLUSTER_LIMIT, work).await;
            (ticket, Done::Reported(result.unwrap_or_else(|| Err(api_late()))))
        }),
        Effect::Record { ticket, notice } => Box::pin(async move {
            let work = async { cluster.get().await?.record(&notice, wall()).await };
            let result = within(CLUSTER_LIMIT, work).await;
            (ticket, Done::Recorded(result.unwrap_or_else(|| Err(api_late()))))
        }),
        Effect::Revoke { ticket, token } => {
            let token = shelf.token(token);
            Box::pin(async move {
                let Some(token) = token else { return (ticket, Done::Revoked(Err(no_token()))) };
                let result = within(REVOKE_LIMIT, vault.revoke_self(&token)).await;
                (
                    ticket,
                    Done::Revoked(result.unwrap_or_else(|| Err(late_after(REVOKE_LIMIT, "revoke the vault token")))),
                )
            })
        }
    })
}

/// All render mistakes as one failure.
fn join(failures: &[Failure]) -> Failure {
    let messages: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
    let class = failures.iter().map(|failure| failure.class).max().unwrap_or(FailureClass::Invalid);
    Failure::new(class, Reason::RenderFailed, messages.join("; "))
}
