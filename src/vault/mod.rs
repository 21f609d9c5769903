//! HTTP to Vault and `OpenBao`: login, read, renew, revoke.
//!
//! Every call tries **once** and classifies its failure (`classify`); waiting and trying again is the brain's business.
//! What one call may send: a login 1 request (3 with a wrapped secret id), a read 1 (up to 3 where the mount's engine has to be found
//! out first), a renewal 1; a 403 adds one `lookup-self`, which tells a dead token from a missing policy.
//!
//! Never touches: sleeping, retry, the cluster, the clock, any file but the credential that it reads at each login and the
//! PEM files of the connection.
//!
//! Decisions with a reason:
//! - **Redirects are off** in the HTTP library: it would carry `X-Vault-Token` to any host. See `transport`.
//! - **Proxies of the environment are not used.** A forgotten `HTTP_PROXY` would carry tokens and secrets through a third
//!   party.
//! - Bytes of answers, bodies and headers are zeroed when they are dropped, as far as they are ours: buffers inside the
//!   TLS and HTTP libraries are not.

mod approle;
mod classify;
mod credential;
mod login;
mod mounts;
mod read;
mod tls;
mod transport;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

use crate::model::{Failure, FailureClass, Lease, LeaseId, Reason, TokenInfo, VaultServer, VaultToken};
use approle::RememberedSecretId;
use mounts::MountTable;
use transport::{Call, Transport};

/// The way to one Vault server: one connection, and what was learned about its mounts.
pub struct Vault {
    transport: Transport,
    mounts: Mutex<MountTable>,
    /// A secret id that cannot be read from its file a second time.
    secret_id: Mutex<Option<RememberedSecretId>>,
    /// Namespace in which the token of the last login lives, where it is not the server's.
    token_namespace: Mutex<Option<String>>,
}

/// What a login gives.
#[derive(Clone)]
pub struct Session {
    /// The token.
    pub token: VaultToken,
    /// What Vault says about it.
    pub info: TokenInfo,
    /// Whether we made it by a login; a token that somebody gave us is not ours to revoke.
    pub own: bool,
}

impl Vault {
    /// Prepares the way to `server`. Nothing is sent and no file is read yet.
    ///
    /// # Errors
    /// If an address is not a URL.
    pub fn new(server: &VaultServer) -> Result<Self, Failure> {
        Ok(Self {
            transport: Transport::new(server)?,
            mounts: Mutex::default(),
            secret_id: Mutex::default(),
            token_namespace: Mutex::default(),
        })
    }

    /// Extends our own token by its own increment.
    ///
    /// # Errors
    /// `TokenDead` if the token has ended, `Invalid` if it cannot be renewed, and what `classify` names.
    pub async fn renew_token(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        const PATH: &str = "auth/token/renew-self";
        let namespace = lock(&self.token_namespace).clone();
        let call = Call::new(Method::POST, PATH).namespace(namespace.as_deref()).token(token);
        let answer = self.transport.send(call).await?;
        match answer.status {
            StatusCode::OK => wire::auth(&answer).map(|auth| auth.info),
            StatusCode::FORBIDDEN => Err(self.denied(token, "failed to renew the Vault token", PATH, "update").await),
            _ => Err(classify::answer("failed to renew the Vault token", &answer)),
        }
    }

    /// Extends a lease. `increment` counts from now; Vault may give less.
    ///
    /// # Errors
    /// `Missing` with `LeaseLost` if the lease has ended or cannot be renewed, `TokenDead` if the token has ended, and what
    /// `classify` names.
    pub async fn renew_lease(
        &self,
        token: &VaultToken,
        id: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<Lease, Failure> {
        const PATH: &str = "sys/leases/renew";
        let action = format!("failed to renew lease {}", id.0);
        let body = wire::lease_renewal(id, increment);
        let answer = self.transport.send(Call::new(Method::POST, PATH).token(token).body(body)).await?;
        match answer.status {
            StatusCode::OK => wire::lease(&answer, id),
            StatusCode::FORBIDDEN => Err(self.denied(token, &action, PATH, "update").await),
            // "lease not found", "lease is not renewable", "invalid lease ID": all are healed by reading again.
            // https://developer.hashicorp.com/vault/api-docs/system/leases#renew-lease
            StatusCode::BAD_REQUEST if wire::errors(&answer).to_lowercase().contains("lease") => {
                Err(Failure::new(FailureClass::Missing, Reason::LeaseLost, classify::told(&action, &answer)))
            }
            _ => Err(classify::answer(&action, &answer)),
        }
    }

    /// Ends our own token, and with it all its leases. A token that is already gone is a success.
    ///
    /// # Errors
    /// What `classify` names.
    pub async fn revoke_self(&self, token: &VaultToken) -> Result<(), Failure> {
        let namespace = lock(&self.token_namespace).clone();
        let call = Call::new(Method::POST, "auth/token/revoke-self").namespace(namespace.as_deref()).token(token);
        let answer = self.transport.send(call).await?;
        if answer.status.is_success() || answer.status == StatusCode::FORBIDDEN {
            return Ok(());
        }
        Err(classify::answer("failed to revoke the Vault token", &answer))
    }

    /// HTTP requests sent so far, for metrics.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.transport.requests()
    }

    /// Judges a 403. Vault answers a dead token and a missing policy with the same status; `lookup-self`, which the default
    /// policy allows to every token, tells them apart
    /// (<https://developer.hashicorp.com/vault/api-docs/auth/token#lookup-a-token-self>).
    async fn denied(&self, token: &VaultToken, action: &str, path: &str, capability: &str) -> Failure {
        match self.lookup_self(token).await {
            Ok(_) => classify::denied(action, path, capability),
            Err(failure) => failure,
        }
    }

    /// Asks Vault about the token itself; 403 becomes `TokenDead`.
    async fn lookup_self(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        let namespace = lock(&self.token_namespace).clone();
        let call = Call::new(Method::GET, "auth/token/lookup-self").namespace(namespace.as_deref()).token(token);
        let answer = self.transport.send(call).await?;
        match answer.status {
            StatusCode::OK => wire::token_info(&answer),
            StatusCode::FORBIDDEN => Err(Failure::new(
                FailureClass::TokenDead,
                Reason::TokenExpired,
                "failed to use the Vault token: it was revoked or ran out; a new login is needed",
            )),
            _ => Err(classify::answer("failed to look up the Vault token", &answer)),
        }
    }
}

/// Locks state that is never held over an await and never left half-changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
