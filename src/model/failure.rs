//! Failures of operations, with their class and reason code.

use std::fmt;
use std::time::Duration;

/// How the agent responds to a failure. The adapter chooses the class; only the agent schedules retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// The object changed concurrently (409). Retried soon.
    Conflict,
    /// The server recognizes the client and denies the request: policy, role, RBAC. Retried slowly.
    Denied,
    /// A local cause: a full volume, an unreadable file. Retried by the schedule.
    Local,
    /// A 403 from Vault without a cause: the token is invalid (or not valid yet), or a policy is missing. Only the agent knows
    /// the history of the token and can distinguish the two.
    Forbidden,
    /// The request or the configuration cannot succeed as it is: a 400, an object that keyferry does not manage, an unsuitable
    /// directory. Retried slowly.
    Invalid,
    /// The requested object does not exist (404, a deleted version). Retried slowly.
    Missing,
    /// The server reports that the token is invalid ("invalid token").
    TokenInvalid,
    /// The server responds but cannot serve the request now: 429, 5xx, sealed. Retried by the schedule.
    Transient,
    /// No response: DNS, connection, TLS, timeout. Retried by the schedule.
    Unreachable,
}

impl FailureClass {
    /// Whether a short wait can help, so that the fast retry schedule applies.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Local | Self::Transient | Self::Unreachable)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Stable reason codes, the same in logs, conditions, Events and metric labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reason codes. A test compares the table in the documentation with this list.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason code as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

reasons! {
    /// The set of files that an earlier process published is in place. Nothing has been read since.
    Adopted,
    /// The agent is stopping. Published files remain until the pod terminates.
    AgentStopped,
    /// The API server did not respond or could not serve the request.
    ApiUnavailable,
    /// A CA certificate expires before the certificates that it signs would. They are shortened or expire with it.
    CaExpiring,
    /// Vault returned a certificate whose key does not match or whose chain does not verify. It is not used.
    CertificateInvalid,
    /// The checkpoint of an earlier agent process could not be used. The agent logs in instead.
    CheckpointRefused,
    /// The new configuration is invalid. The previous one stays active.
    ConfigRejected,
    /// A new configuration is active.
    ConfigReloaded,
    /// The object in the API server changed concurrently.
    Conflict,
    /// All containers of the pod are being restarted, because files have changed.
    ContainersRestarting,
    /// The credential file for the login cannot be read or used.
    CredentialUnreadable,
    /// A policy does not allow the read.
    Denied,
    /// The output directory is unsuitable: wrong owner, sticky bit set, or not in memory.
    DirectoryUnusable,
    /// RBAC or an admission policy does not allow the call to the API server.
    Forbidden,
    /// The Secret exists but was not created by keyferry. It is left unchanged.
    Foreign,
    /// A mirrored Secret was changed by another field manager.
    Drifted,
    /// Every source is within its staleness tolerance.
    Fresh,
    /// A bug in keyferry, or the operating system denies what every process needs, such as a signal handler.
    Internal,
    /// A key of a secret is not a valid file name. It is not published.
    InvalidKey,
    /// Vault or the API server rejected the request as invalid.
    InvalidRequest,
    /// A lease has expired, was revoked, or cannot be renewed.
    LeaseLost,
    /// The address for probes and metrics is not available.
    ListenFailed,
    /// Vault rejected the login, or a wrapping token.
    LoginRefused,
    /// Another configuration writes the same Secret with other keys or from other sources.
    MirrorConflict,
    /// The mirrored Secret contains the published set.
    Mirrored,
    /// No mirror or no notification is configured.
    NotConfigured,
    /// The application was notified of the published files, or nothing has changed since its start.
    Notified,
    /// The application could not be notified of changed files.
    NotifyFailed,
    /// The Pod or the namespace does not exist.
    ObjectNotFound,
    /// The volume does not have enough free space for a second copy of the set.
    NoSpace,
    /// A standby node returned an older version than the one in use.
    OlderVersion,
    /// The first set of files is not available yet.
    Pending,
    /// The process that must receive a signal does not run in the pod.
    ProcessNotFound,
    /// All required outputs are published.
    Published,
    /// Vault's rate limit is exceeded.
    RateLimited,
    /// An output cannot be rendered from the source (for example, a key is missing or a value is not base64).
    RenderFailed,
    /// Vault is sealed or in maintenance.
    Sealed,
    /// Vault could not be reached at the start. The files are those of the seed until they are read from Vault.
    Seeded,
    /// The seed cannot be used: a file is missing or cannot be read.
    SeedUnusable,
    /// The version of the secret is deleted or destroyed.
    SecretDeleted,
    /// No secret exists at the path.
    SecretNotFound,
    /// Vault, or a proxy in front of it, responded with a server error.
    ServerError,
    /// The kernel does not allow keyferry to send a signal to the process.
    SignalDenied,
    /// The last good reading of a source is older than its staleness tolerance.
    Stale,
    /// The Secret already contains a newer version, written by another replica.
    Superseded,
    /// TLS to Vault cannot be set up: a certificate or key file cannot be read or used.
    TlsUnusable,
    /// The token was revoked or has expired.
    TokenExpired,
    /// The token expires soon and cannot be renewed or replaced.
    TokenExpiring,
    /// Vault did not respond.
    VaultUnreachable,
    /// A file could not be written.
    WriteFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure returned by an adapter: class, reason code, and message. Contains no secret data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the agent responds.
    pub class: FailureClass,
    /// The reason code to report.
    pub reason: Reason,
    /// `failed to <verb> <noun> {which}: <cause>; <action>`, in lower case.
    pub message: String,
    /// The server's `Retry-After`, counted from the response.
    pub retry_after: Option<Duration>,
    /// With [`FailureClass::Forbidden`]: the policy rule that would allow the request, such as
    /// `path "secret/data/app" { capabilities = ["read"] }`.
    pub missing_rule: Option<String>,
}

impl Failure {
    /// A failure without `Retry-After` and missing rule.
    #[must_use]
    pub fn new(class: FailureClass, reason: Reason, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into(), retry_after: None, missing_rule: None }
    }

    /// Joins an error and its sources with ": ".
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
