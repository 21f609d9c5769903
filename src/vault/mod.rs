//! HTTP to Vault and `OpenBao`: login, read, renew, revoke.
//!
//! Every call tries **once** and classifies its failure (`error`); waiting and trying again is the core's business.
//! What one call may send: a login 1 request (3 with a wrapped secret id), a read 1 (up to 3 where the mount's engine has to be
//! found out first, 2 where a known mount refuses it), all else 1.
//!
//! `http` (the client) is below `api` (one file per endpoint), which is below `auth` (one file per login method), `login` and
//! `read`; this file is the facade.
//!
//! Never touches: sleeping, retry, Kubernetes, the clock, any file but the credential that it reads at each login and the
//! PEM files of the connection.
//!
//! Answers, bodies and headers are zeroed when they are dropped, as far as they are ours: buffers inside the TLS and HTTP
//! libraries are not.

mod api;
mod auth;
mod credential;
mod error;
mod file;
mod http;
mod json;
mod lock;
mod login;
mod mounts;
mod read;
mod secret_id;
mod server_text;

use std::sync::Mutex;
use std::time::Duration;

pub use login::LoginCredential;
pub use secret_id::SecretIdCache;

use crate::model::{Auth, Failure, Lease, LeaseId, Reading, Session, Source, TokenInfo, VaultServer, VaultToken};
use api::Api;
use mounts::MountTable;

/// One Vault server: a connection, and what was learned about its mounts.
pub struct Vault {
    api: Api,
    mounts: Mutex<MountTable>,
    secret_ids: SecretIdCache,
}

impl Vault {
    /// Prepares calls to `server`. Nothing is sent and no file is read yet. `secret_ids` is what logins remember, for all
    /// clients of the same pod.
    ///
    /// # Errors
    /// `Invalid` if an address is not a URL.
    pub fn new(server: &VaultServer, secret_ids: SecretIdCache) -> Result<Self, Failure> {
        Ok(Self { api: Api::new(server)?, mounts: Mutex::default(), secret_ids })
    }

    /// Logs in, or checks a given token. The credential and changed PEM files are read at each call. The token carries the
    /// namespace of `auth`.
    ///
    /// # Errors
    /// `CredentialUnreadable` if a credential file is not what it must be, `TlsUnusable` if a PEM file is not, `LoginRefused`
    /// if Vault says no (`Transient` if it says "not yet"), and what any call may meet: `Unreachable`, `Transient`, `Invalid`.
    pub async fn login(&self, auth: &Auth) -> Result<Session, Failure> {
        self.log_in(auth, self.read_credential(auth)?).await
    }

    /// The first half of [`Vault::login`]: reads the credential, and the PEM files if they are to be compared. Blocks for as
    /// long as the file system does, so it is for a thread that may wait.
    ///
    /// # Errors
    /// `CredentialUnreadable` or `TlsUnusable`.
    pub fn read_credential(&self, auth: &Auth) -> Result<LoginCredential, Failure> {
        let credential = login::read(&self.secret_ids, auth)?;
        self.api.compare_files();
        self.read_files()?;
        Ok(credential)
    }

    /// The second half of [`Vault::login`].
    ///
    /// # Errors
    /// As `login`, but for what concerns files.
    pub async fn log_in(&self, auth: &Auth, credential: LoginCredential) -> Result<Session, Failure> {
        Ok(login::login(&self.api, &self.secret_ids, auth, credential).await?)
    }

    /// Whether the next request would read PEM files: there are some, and a connection has failed since they were compared.
    #[must_use]
    pub fn needs_files(&self) -> bool {
        self.api.needs_files()
    }

    /// Compares the PEM files with those in use, so that the next request does not have to. Blocks like
    /// [`Vault::read_credential`].
    ///
    /// # Errors
    /// `TlsUnusable`.
    pub fn read_files(&self) -> Result<(), Failure> {
        Ok(self.api.read_files()?)
    }

    /// Asks Vault about the token itself.
    ///
    /// # Errors
    /// `TokenInvalid` if Vault says that it does not know the token, `Forbidden` at any other 403: the token may be dead or may
    /// not look itself up. And what any call may meet.
    pub async fn lookup_self(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        Ok(api::token::lookup_self(&self.api, token).await?)
    }

    /// Extends our own token by its own increment.
    ///
    /// # Errors
    /// `TokenInvalid`, `Forbidden`, `Invalid` if it cannot be renewed, and what any call may meet.
    pub async fn renew_token(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        Ok(api::token::renew_self(&self.api, token).await?)
    }

    /// Reads `source`: 1 request where its mount is known or KV version 2, else up to 3.
    ///
    /// # Errors
    /// `Missing` with `SecretNotFound` or `SecretDeleted`, `TokenInvalid`, `Forbidden` with the policy rule that would allow the
    /// read, `Invalid` if the source's engine or version cannot be, and what any call may meet.
    pub async fn read(&self, token: &VaultToken, source: &Source) -> Result<Reading, Failure> {
        Ok(read::read(&self.api, &self.mounts, token, source).await?)
    }

    /// Extends a lease. `increment` counts from now; Vault may give less.
    ///
    /// # Errors
    /// `Missing` with `LeaseLost` if the lease has ended or cannot be renewed, `TokenInvalid`, `Forbidden`, and what any call may
    /// meet.
    pub async fn renew_lease(
        &self,
        token: &VaultToken,
        id: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<Lease, Failure> {
        Ok(api::lease::renew(&self.api, token, id, increment).await?)
    }

    /// Ends our own token, and with it all its leases. A token that the server says it does not know is a success.
    ///
    /// # Errors
    /// `Forbidden` if the token may not revoke itself (or if the server does not say that it is dead), and what any call may
    /// meet.
    pub async fn revoke_self(&self, token: &VaultToken) -> Result<(), Failure> {
        Ok(api::token::revoke_self(&self.api, token).await?)
    }

    /// HTTP requests sent so far, for metrics.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.api.requests()
    }
}
