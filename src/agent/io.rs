//! Inputs, outcomes, actions, and operations of the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AdoptedSet, Checkpoint, Condition, Directory, Failure, FileSet, Generation, Lease, LeaseId, Manifest, Mirror,
    Notification, NotificationName, ObjectName, PodEvent, Reading, Reason, SecretBytes, SeedData, ServerEvent, Session,
    Settings, SourceName, TokenInfo, VaultToken, Version,
};

/// Identifies one started operation, so that its outcome can be matched and a late outcome ignored. Unique in a
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An event that the agent reacts to.
pub enum Input {
    /// The first input, with the visible set of an earlier process if there is one.
    Started(Option<AdoptedSet>),
    /// The configuration was read and is valid. It may equal the active one.
    ConfigRead(Arc<Settings>),
    /// The configuration cannot be read or is invalid. The message names every error.
    ConfigInvalid(String),
    /// The listener of a reloaded configuration was opened, or could not be and is retried.
    Listening(Result<(), Failure>),
    /// A user requests to read all sources now.
    Refresh(RefreshRequest),
    /// SIGTERM or SIGINT: stop.
    Terminate,
    /// The time of [`Agent::wake_at`](super::Agent::wake_at) is reached.
    TimerFired,
    /// An event of the subscription with this ticket.
    Event(Ticket, ServerEvent),
    /// An operation ended.
    Completed(Ticket, Outcome),
}

/// A request to read all sources now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshRequest {
    /// Replace leases, certificates, and tokens too. Otherwise, only sources are read whose read issues nothing.
    pub new_leases: bool,
    /// How it was requested, for the log.
    pub by: &'static str,
}

/// How an operation ended.
pub enum Outcome {
    /// Of [`Op::LogIn`].
    LoggedIn(Result<Session, Failure>),
    /// Of [`Op::LogIn`] with `restore`: a checkpoint was found, and no login was made. Failed if the server did not say whether
    /// its token is valid: the checkpoint is still needed.
    Restored(Result<Box<Checkpoint>, Failure>),
    /// Of [`Op::LookUp`].
    LookedUp(Result<TokenInfo, Failure>),
    /// Of [`Op::RenewToken`].
    TokenRenewed(Result<TokenInfo, Failure>),
    /// Of [`Op::Read`].
    Read(Result<Reading, Failure>),
    /// Of [`Op::RenewLease`].
    LeaseRenewed(Result<Lease, Failure>),
    /// Of [`Op::LookUpLease`].
    LeaseLookedUp(Result<(), Failure>),
    /// Of [`Op::RevokeLease`].
    LeaseRevoked(Result<(), Failure>),
    /// Of [`Op::Subscribe`]: the subscription has ended, without a failure if the server closed it.
    Unsubscribed(Result<(), Failure>),
    /// Of [`Op::ReadSeed`].
    SeedRead(Result<SeedData, Failure>),
    /// Of [`Op::Publish`]; `true` if the visible files changed.
    Published(Result<bool, Failure>),
    /// Of [`Op::RetireDirectory`].
    Retired(Result<(), Failure>),
    /// Of [`Op::Mirror`].
    Mirrored(Result<MirrorResult, Failure>),
    /// Of [`Op::Notify`].
    Notified(Result<(), Failure>),
    /// Of [`Op::PatchConditions`]; `true` if the pod is being deleted.
    ConditionsPatched(Result<bool, Failure>),
    /// Of [`Op::RecordEvent`].
    EventRecorded(Result<(), Failure>),
    /// Of [`Op::Save`].
    Saved(Result<(), Failure>),
    /// Of [`Op::Revoke`].
    Revoked(Result<(), Failure>),
}

/// Result of a successful mirror operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorResult {
    /// The Secret did not exist and was created with the set.
    Created,
    /// The Secret held an earlier set and was updated.
    Updated,
    /// The Secret already held the set.
    Unchanged,
    /// Another client edited the Secret. The set was restored. The text describes the edit:
    /// `edited by "kubectl-patch" (keys: password)`.
    Repaired(String),
    /// The Secret holds a newer version that another replica wrote. Nothing was written.
    Superseded,
}

/// A request of the agent to the runtime.
pub enum Action {
    /// Start an operation. It ends with [`Input::Completed`] and the same ticket.
    Start(Ticket, Op),
    /// Cancel an operation. It has no outcome.
    Cancel(Ticket),
    /// Write a log line.
    Log(LogEntry),
    /// Exit the process.
    Exit {
        /// Exit code; see [`exit`](super::exit).
        code: u8,
    },
}

/// An operation. The runtime makes one attempt; the agent schedules retries.
#[derive(Clone)]
pub enum Op {
    /// Log in to Vault, with credentials freshly read from their files.
    LogIn {
        /// Server and auth method.
        settings: Arc<Settings>,
        /// Use the token of an earlier process from its checkpoint, if there is one.
        restore: bool,
    },
    /// Look up the agent's own token (`auth/token/lookup-self`).
    LookUp {
        /// The server that issued the token.
        settings: Arc<Settings>,
        /// The token to look up.
        token: VaultToken,
    },
    /// Renew the agent's own token (`auth/token/renew-self`).
    RenewToken {
        /// The server that issued the token.
        settings: Arc<Settings>,
        /// The token to renew.
        token: VaultToken,
    },
    /// Revoke the agent's own token (`auth/token/revoke-self`). Vault revokes its leases with it.
    Revoke {
        /// The server that issued the token.
        settings: Arc<Settings>,
        /// The token to revoke.
        token: VaultToken,
    },
    /// Read a source.
    Read {
        /// Server and request of the source.
        settings: Arc<Settings>,
        /// Token for the request.
        token: VaultToken,
        /// Name of the source in `settings`.
        source: SourceName,
    },
    /// Renew a lease (`sys/leases/renew`).
    RenewLease {
        /// The server that issued the lease.
        settings: Arc<Settings>,
        /// Token for the request.
        token: VaultToken,
        /// The source that holds the lease.
        source: SourceName,
        /// The lease to renew.
        lease: LeaseId,
        /// Requested TTL, counted from the renewal.
        increment: Duration,
    },
    /// Look up a lease (`sys/leases/lookup`).
    LookUpLease {
        /// The server that issued the lease.
        settings: Arc<Settings>,
        /// Token for the request.
        token: VaultToken,
        /// The source that holds the lease.
        source: SourceName,
        /// The lease to look up.
        lease: LeaseId,
    },
    /// Revoke a replaced lease (`sys/leases/revoke`).
    RevokeLease {
        /// The server that issued the lease.
        settings: Arc<Settings>,
        /// Token for the request.
        token: VaultToken,
        /// The source that held the lease.
        source: SourceName,
        /// The lease to revoke.
        lease: LeaseId,
    },
    /// Subscribe to the events of the server. Each event arrives as [`Input::Event`], until the operation ends.
    Subscribe {
        /// The server.
        settings: Arc<Settings>,
        /// Token for the request.
        token: VaultToken,
    },
    /// Read the files of the seed.
    ReadSeed {
        /// Directory of the seed.
        directory: PathBuf,
    },
    /// Publish a set of files.
    Publish {
        /// Output directory with its modes and limits.
        directory: Directory,
        /// The set to publish.
        set: Arc<PublishedSet>,
    },
    /// Remove the set from a directory that is no longer used.
    RetireDirectory {
        /// The directory to empty.
        directory: Directory,
    },
    /// Write a part of the published set to a Secret.
    Mirror {
        /// Access to the API server.
        settings: Arc<Settings>,
        /// Name of the Secret.
        name: ObjectName,
        /// Desired content.
        content: Box<MirrorRequest>,
    },
    /// Notify the application.
    Notify {
        /// Name of the notification.
        name: NotificationName,
        /// What to do. Never a restart of all containers, which is an exit.
        notification: Box<Notification>,
        /// [`NotificationRecord::generation`](crate::model::NotificationRecord::generation) of the visible set.
        generation: u64,
    },
    /// Patch the pod's conditions.
    PatchConditions {
        /// Access to the API server.
        settings: Arc<Settings>,
        /// All conditions of keyferry.
        conditions: Vec<Condition>,
    },
    /// Record an Event for the agent's pod.
    RecordEvent {
        /// Access to the API server.
        settings: Arc<Settings>,
        /// The Event to record.
        event: PodEvent,
    },
    /// Save the token, leases, and readings for the next process.
    Save {
        /// The configuration that the checkpoint is valid for.
        settings: Arc<Settings>,
        /// Content of the checkpoint.
        checkpoint: Box<Checkpoint>,
    },
}

/// A set of files with the metadata of its sources.
#[derive(Clone, Default)]
pub struct PublishedSet {
    /// The files.
    pub files: FileSet,
    /// Metadata that is stored next to the files.
    pub manifest: Manifest,
    /// Sources of the set that hold a lease.
    pub leased: BTreeSet<SourceName>,
    /// Sources whose files are those of the seed.
    pub seeded: BTreeSet<SourceName>,
    /// Sources of the calls of templates that the configuration does not name. The manifest does not contain them.
    pub computed: BTreeSet<SourceName>,
}

impl PublishedSet {
    /// The set of these files.
    pub(super) fn new(files: FileSet, manifest: Manifest) -> Self {
        let leased =
            manifest.sources.iter().filter(|(_, source)| source.leased).map(|(name, _)| name.clone()).collect();
        let seeded = manifest.seeded().cloned().collect();
        Self { files, manifest, leased, seeded, computed: BTreeSet::new() }
    }
}

/// The desired content of a mirrored Secret.
#[derive(Clone)]
pub struct MirrorRequest {
    /// Settings of the mirror.
    pub mirror: Mirror,
    /// Values by key.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// Request and version of each source in the Secret.
    pub versions: BTreeMap<SourceName, (String, Version)>,
    /// Overwrite a newer version: the older one was accepted as current.
    pub accept_older: bool,
    /// Overwrite the Secret even if another configuration writes it.
    pub claim: bool,
    /// Generation of the published set, as a cache key for the digest.
    pub generation: Generation,
}

/// Level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Normal progress.
    Info,
    /// An operator may have to act.
    Warn,
    /// The process exits before its work is done.
    Error,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Level.
    pub level: LogLevel,
    /// Name of the operation: `read`, `login`, `publish` ...
    pub operation: &'static str,
    /// Reason code.
    pub reason: Option<Reason>,
    /// The source in question.
    pub source: Option<SourceName>,
    /// The mirrored Secret in question.
    pub output: Option<ObjectName>,
    /// The notification in question.
    pub notification: Option<NotificationName>,
    /// Text for people. Contains no secret data.
    pub message: String,
}

/// Status of one source, for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// Whether the source is stale, or its files are those of the seed; `None` before the first reading.
    pub stale: Option<bool>,
    /// Wall-clock time of the last successful read or lease renewal.
    pub read: Option<jiff::Timestamp>,
    /// Wall-clock time at which the lease or the TTL of the response ends; `None` without one.
    pub credential_expires_at: Option<jiff::Timestamp>,
    /// When the certificate, or the first of its CA certificates, expires; `None` without a certificate.
    pub certificate_expires_at: Option<jiff::Timestamp>,
    /// Failure of the last operation; `None` if it succeeded.
    pub failure: Option<Failure>,
}

/// Status of one mirrored Secret.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorStatus {
    /// Wall-clock time at which the Secret was last confirmed to hold the published set; `None` before the first time.
    pub confirmed: Option<jiff::Timestamp>,
}

/// Status of one notification.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationStatus {
    /// Whether the application was not notified of the last change yet.
    pub pending: bool,
    /// Wall-clock time of the last notification by this process; `None` before the first one.
    pub succeeded: Option<jiff::Timestamp>,
}
