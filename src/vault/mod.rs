//! HTTP to Vault and `OpenBao`: login, read, renew, revoke.
//!
//! Every call makes **one** attempt and classifies its failure (`error`); only the agent schedules retries. A login sends 1
//! request, or 3 with a wrapped secret ID. A read sends 1 request, 2 if a known mount denies the read, and up to 3 while the
//! engine of the mount is unknown, and 1 more with `previous`. A wrapped secret needs 2 requests, and none while its file has the
//! same wrapping token. A list sends 1 request for each folder and each secret, at most
//! [`SecretList::CONCURRENCY`](crate::model::SecretList::CONCURRENCY) at a time, and 1 more while the engine of the mount is
//! unknown. Every other call sends 1 request.
//!
//! Layers, from the bottom: `http` (client), `api` (one file per endpoint), `auth` (one file per login method), `login` and
//! `read`, and the facade in this file.
//!
//! Never touches: sleeps, retries, Kubernetes, the clock, and any file except the credential files, which are read at each
//! login, those with wrapping tokens, and the PEM files of the connection.
//!
//! keyferry's own buffers of requests and responses are zeroed on drop. The buffers of the TLS and HTTP libraries are not.

mod api;
mod auth;
mod certificate;
mod credential;
mod error;
mod events;
mod file;
mod folder;
mod http;
mod json;
mod list;
mod login;
mod mounts;
mod one_time;
mod previous;
mod read;
mod request;
mod secret_id;
mod server_text;
mod wrapped;

use std::sync::Mutex;
use std::time::Duration;

pub use login::LoginCredential;
pub use one_time::OneTimeSecrets;
pub use wrapped::WrappedSecret;

use jiff::Timestamp;
use tokio::sync::mpsc::Sender;

use crate::model::{
    Auth, CertificateRequest, Failure, Lease, LeaseId, Reading, RequestMethod, ServerEvent, Session, Source, TokenInfo,
    VaultServer, VaultToken,
};
use api::Api;
use mounts::MountTable;

/// Whether `path` is probably in a KV engine: its mount has not the default path of another engine.
#[must_use]
pub fn is_probably_kv(path: &str) -> bool {
    !path.split('/').next().is_some_and(mounts::is_default_path_of_other_engine)
}

/// Client for one Vault server, with a cache of the server's mounts.
pub struct Vault {
    api: Api,
    mounts: Mutex<MountTable>,
    one_time: OneTimeSecrets,
}

impl Vault {
    /// Creates a client for `server`, without I/O. `one_time` is the cache that all clients of the process share.
    ///
    /// # Errors
    /// `Invalid` if an address is not a URL.
    pub fn new(server: &VaultServer, one_time: OneTimeSecrets) -> Result<Self, Failure> {
        Ok(Self { api: Api::new(server)?, mounts: Mutex::default(), one_time })
    }

    /// Logs in, or checks a given token. Reads the credential files and changed PEM files. The token belongs to the namespace
    /// of `auth`.
    ///
    /// # Errors
    /// `CredentialUnreadable` if a credential file is unusable, `TlsUnusable` if a PEM file is, `LoginRefused` if Vault rejects
    /// the login (`Transient` if the credential is not valid yet), and the failures of any call: `Unreachable`, `Transient`,
    /// `Invalid`.
    pub async fn login(&self, auth: &Auth) -> Result<Session, Failure> {
        self.log_in(auth, self.read_credential(auth)?).await
    }

    /// First half of [`Vault::login`]: reads the credential files and changed PEM files. Blocks as long as the file system
    /// blocks, so run it on a thread for blocking work.
    ///
    /// # Errors
    /// `CredentialUnreadable` or `TlsUnusable`.
    pub fn read_credential(&self, auth: &Auth) -> Result<LoginCredential, Failure> {
        let credential = login::read(&self.one_time, auth)?;
        self.api.compare_files();
        self.read_files()?;
        Ok(credential)
    }

    /// Unwraps a wrapped secret ID, which works only once, so that the caller can save it before the login. Returns whether it was
    /// unwrapped now.
    ///
    /// # Errors
    /// The errors of [`Vault::login`] about wrapped secret IDs.
    pub async fn unwrap_credential(
        &self,
        auth: &Auth,
        credential: LoginCredential,
    ) -> Result<(LoginCredential, bool), Failure> {
        Ok(login::unwrap(&self.api, &self.one_time, auth, credential).await?)
    }

    /// Second half of [`Vault::login`]: sends the requests.
    ///
    /// # Errors
    /// The errors of [`Vault::login`], except those about files.
    pub async fn log_in(&self, auth: &Auth, credential: LoginCredential) -> Result<Session, Failure> {
        Ok(login::login(&self.api, &self.one_time, auth, credential).await?)
    }

    /// Whether the next request would read PEM files: some are configured, and a connection has failed since the last
    /// comparison.
    #[must_use]
    pub fn needs_files(&self) -> bool {
        self.api.needs_files()
    }

    /// Compares the PEM files with those in use, so that the next request does not read them. Blocks like
    /// [`Vault::read_credential`].
    ///
    /// # Errors
    /// `TlsUnusable`.
    pub fn read_files(&self) -> Result<(), Failure> {
        Ok(self.api.read_files()?)
    }

    /// Looks up the properties of `token`.
    ///
    /// # Errors
    /// `TokenInvalid` if Vault does not recognize the token. `Forbidden` on any other 403: the token is invalid, or its policy
    /// does not allow the lookup. Otherwise the failures of any call.
    pub async fn lookup_self(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        Ok(api::token::lookup_self(&self.api, token).await?)
    }

    /// Renews `token` by its default increment.
    ///
    /// # Errors
    /// `TokenInvalid`, `Forbidden`, `Invalid` if the token is not renewable, and the failures of any call.
    pub async fn renew_token(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        Ok(api::token::renew_self(&self.api, token).await?)
    }

    /// Reads `source`, which is neither a certificate nor a wrapped secret.
    ///
    /// # Errors
    /// `Missing` with `SecretNotFound` or `SecretDeleted`, `TokenInvalid`, `Forbidden` with the policy rule that allows the
    /// read, `Invalid` if the engine or version of the source does not match the mount, and the failures of any call.
    pub async fn read(&self, token: &VaultToken, source: &Source) -> Result<Reading, Failure> {
        Ok(if let Some(list) = &source.list {
            list::read_list(&self.api, &self.mounts, token, source, list).await?
        } else if source.is_plain_read() {
            read::read(&self.api, &self.mounts, token, source).await?
        } else if source.method == RequestMethod::List {
            folder::read_names(&self.api, &self.mounts, token, source).await?
        } else if source.method == RequestMethod::CreateToken {
            api::child_token::create(&self.api, token, source).await?
        } else {
            request::send(&self.api, &self.mounts, token, source).await?
        })
    }

    /// The secrets that can be read from their files only once, for [`OneTimeSecrets::read_wrapped`].
    #[must_use]
    pub fn one_time_secrets(&self) -> OneTimeSecrets {
        self.one_time.clone()
    }

    /// Unwraps the secret of `source`, unless it was cached. Sends 2 requests with the wrapping token, which works once.
    ///
    /// # Errors
    /// `LoginRefused` if the wrapping token has expired, was already used, or was created at another path, and the failures of
    /// any call.
    pub async fn unwrap(&self, source: &Source, found: WrappedSecret) -> Result<Reading, Failure> {
        Ok(wrapped::read(&self.api, &self.one_time, source, found).await?)
    }

    /// Requests the certificate `wanted` of `source`, with a new key, and verifies it at `now` (wall clock).
    ///
    /// # Errors
    /// `TokenInvalid`, `Forbidden` with the policy rule that allows the request, `Invalid` with `CertificateInvalid` if key,
    /// certificate, and chain do not belong together, and the failures of any call.
    pub async fn issue(
        &self,
        token: &VaultToken,
        source: &Source,
        wanted: &CertificateRequest,
        now: Timestamp,
    ) -> Result<Reading, Failure> {
        Ok(certificate::issue(&self.api, token, source, wanted, now).await?)
    }

    /// Renews a lease, or a child token with itself. `increment` counts from now; Vault can grant less.
    ///
    /// # Errors
    /// `Missing` with `LeaseLost` if the lease has expired or is not renewable, `TokenInvalid`, `Forbidden`, and the failures of
    /// any call.
    pub async fn renew_lease(
        &self,
        token: &VaultToken,
        id: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<Lease, Failure> {
        Ok(match id {
            LeaseId::Id(id) => api::lease::renew(&self.api, token, id, increment).await?,
            LeaseId::Token(child) => api::child_token::renew(&self.api, child, increment).await?,
        })
    }

    /// Looks up a lease, or a child token with itself.
    ///
    /// # Errors
    /// `Missing` with `LeaseLost` if the lease does not exist, `TokenInvalid`, `Forbidden`, and the failures of any call.
    pub async fn look_up_lease(&self, token: &VaultToken, id: &LeaseId) -> Result<(), Failure> {
        let result = match id {
            LeaseId::Id(id) => api::lease::look_up(&self.api, token, id).await,
            LeaseId::Token(child) => api::child_token::look_up(&self.api, child).await,
        };
        Ok(result?)
    }

    /// Revokes a lease, or a child token with itself. Succeeds if the lease does not exist.
    ///
    /// # Errors
    /// `TokenInvalid`, `Forbidden`, and the failures of any call.
    pub async fn revoke_lease(&self, token: &VaultToken, id: &LeaseId) -> Result<(), Failure> {
        let result = match id {
            LeaseId::Id(id) => api::lease::revoke(&self.api, token, id).await,
            LeaseId::Token(child) => api::child_token::revoke(&self.api, child).await,
        };
        Ok(result?)
    }

    /// Revokes `token` and all its leases. Succeeds if Vault does not recognize the token.
    ///
    /// # Errors
    /// `Forbidden` if the policy of the token does not allow the revocation, or if the token is invalid and Vault does not say
    /// so. Otherwise the failures of any call.
    pub async fn revoke_self(&self, token: &VaultToken) -> Result<(), Failure> {
        Ok(api::token::revoke_self(&self.api, token).await?)
    }

    /// Subscribes to the events of KV secrets, and sends them to `events` until the server closes the connection.
    ///
    /// # Errors
    /// `Invalid` if the server has no events, `TokenInvalid`, `Forbidden` with the policy rule that allows the subscription,
    /// `Unreachable` if the connection is lost, and the failures of any call.
    pub async fn subscribe(&self, token: &VaultToken, events: &Sender<ServerEvent>) -> Result<(), Failure> {
        events::subscribe(&self.api, token, events).await
    }

    /// Number of HTTP requests sent so far, for metrics.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.api.requests()
    }
}
