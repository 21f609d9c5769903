//! What went wrong, classified once where it happened.

use std::fmt;
use std::time::Duration;

/// What a failure means for what to do next. The adapter that failed chooses it; only the agent acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// The state changed under us (409): look again soon.
    Conflict,
    /// The server knows us and says no: a policy, a role, RBAC. Retried slowly.
    Denied,
    /// Our own or the machine's fault: a full volume, an unreadable file. Retried by the schedule.
    Local,
    /// A bare 403 of Vault: either the token is not (or not yet, or no longer) known, or a policy is missing. Only the core,
    /// which knows the token's history, can tell; no adapter may treat it as final.
    Forbidden,
    /// What the user wrote cannot work (400, an object that is not ours, a wrong directory). Retried slowly.
    Invalid,
    /// What was asked for is not there (404, a deleted version). Retried slowly.
    Missing,
    /// The server says in words that it does not know the token ("invalid token").
    TokenInvalid,
    /// The server is up but cannot serve now: 429, 5xx, sealed. Retried by the schedule.
    Transient,
    /// No answer: DNS, connect, TLS, timeout. Retried by the schedule.
    Unreachable,
}

impl FailureClass {
    /// Whether waiting a little may help, so that the quick schedule applies.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Local | Self::Transient | Self::Unreachable)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Stable names, the same in log, condition, Event, metric label and test. In alphabetical order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them; the README's table is tested against this.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as written everywhere.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

reasons! {
    /// The set of files that an earlier process published is in place; nothing has been read since.
    Adopted,
    /// The agent is leaving; the files stay until the pod ends.
    AgentStopped,
    /// The API server did not answer or could not serve.
    ApiUnavailable,
    /// The new configuration is bad; the old one stays in force.
    ConfigRejected,
    /// A new configuration is in force.
    ConfigReloaded,
    /// The object in the API server changed while it was looked at.
    Conflict,
    /// The credential file for the login cannot be read or used.
    CredentialUnreadable,
    /// A policy does not allow the read.
    Denied,
    /// The output directory is not what it must be (owner, sticky bit, not in memory).
    DirectoryUnusable,
    /// RBAC or an admission policy does not allow the call to the API server.
    Forbidden,
    /// The Secret exists and was not made by us; it is left alone.
    Foreign,
    /// A mirrored Secret was edited by somebody else.
    Drifted,
    /// Everything is as it should be.
    Fresh,
    /// What an earlier agent process left could not be taken over; the agent logs in itself.
    HandoverRefused,
    /// A key of a secret cannot be a file name and is left out.
    InvalidKey,
    /// Vault or the API server could not accept the request as it is.
    InvalidRequest,
    /// A lease cannot be renewed any more.
    LeaseLost,
    /// The address for probes and metrics cannot be used.
    ListenFailed,
    /// Vault refused the login.
    LoginRefused,
    /// Another configuration writes the same Secret with other keys or from other sources.
    MirrorConflict,
    /// The mirror's Secret holds the published set.
    Mirrored,
    /// A mirror was not asked for.
    NotConfigured,
    /// The Pod or the namespace is not there (any more).
    ObjectNotFound,
    /// The volume is too small for two copies of the set.
    NoSpace,
    /// A standby answered with an older version than the one in use.
    OlderVersion,
    /// The first set is not there yet.
    Pending,
    /// All required outputs are published.
    Published,
    /// Too many requests; Vault asked us to wait.
    RateLimited,
    /// An output cannot be made from what the source holds (a key is missing, not base64 ...).
    RenderFailed,
    /// Vault is sealed or in maintenance.
    Sealed,
    /// The secret's version is deleted or destroyed.
    SecretDeleted,
    /// No secret at that path.
    SecretNotFound,
    /// Vault answered with an error of its own.
    ServerError,
    /// The last good set is older than its tolerance.
    Stale,
    /// A newer version is already in the Secret, written by another replica.
    Superseded,
    /// TLS cannot be set up: a certificate or key file cannot be read or used.
    TlsUnusable,
    /// The token was revoked or has expired.
    TokenExpired,
    /// The token ends soon and cannot be renewed or replaced.
    TokenExpiring,
    /// No answer from Vault.
    VaultUnreachable,
    /// Files could not be written.
    WriteFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure as it travels from an adapter to the agent: classified, named, in words, and free of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub class: FailureClass,
    /// Its name.
    pub reason: Reason,
    /// "failed to <verb> <noun> {which}: cause", the chain already joined; lower case; what to do next where it is known.
    pub message: String,
    /// The server's `Retry-After`, if it sent one.
    pub retry_after: Option<Duration>,
    /// With [`FailureClass::Forbidden`]: the policy rule that would allow the request, such as
    /// `path "secret/data/app" { capabilities = ["read"] }`.
    pub missing_rule: Option<String>,
}

impl Failure {
    /// A failure without a `Retry-After` and without a missing rule.
    #[must_use]
    pub fn new(class: FailureClass, reason: Reason, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into(), retry_after: None, missing_rule: None }
    }

    /// Joins an error and its sources with ": ". The one place where a chain is told.
    #[must_use]
    pub fn chain(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Libraries often repeat their source in their own text.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
