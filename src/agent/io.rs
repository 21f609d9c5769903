//! What happens to the agent and what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AdoptedSet, Checkpoint, Condition, Directory, Failure, FileSet, Generation, Lease, LeaseId, Manifest, Mirror,
    ObjectName, PodEvent, Reading, Reason, SecretBytes, Session, Settings, SourceName, TokenInfo, VaultToken, Version,
};

/// Names one started operation, so that its outcome is matched with it and a late one is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that happened.
pub enum Input {
    /// The first input: the set that an earlier process left visible, if there is one.
    Started(Option<AdoptedSet>),
    /// The configuration was read and is valid. It may be equal to the one in force.
    ConfigRead(Arc<Settings>),
    /// The configuration was read and cannot be used; the message names every error.
    ConfigInvalid(String),
    /// SIGHUP, or another way to say "now".
    Refresh,
    /// SIGTERM.
    Terminate,
    /// The time of [`Agent::wake_at`](super::Agent::wake_at) has come.
    TimerFired,
    /// An operation has ended.
    Completed(Ticket, Outcome),
}

/// How an operation ended.
pub enum Outcome {
    /// Of [`Op::LogIn`].
    LoggedIn(Result<Session, Failure>),
    /// Of [`Op::LogIn`] with `restore`: there was a checkpoint, so no login was made.
    Restored(Box<Checkpoint>),
    /// Of [`Op::LookUp`].
    LookedUp(Result<TokenInfo, Failure>),
    /// Of [`Op::RenewToken`].
    TokenRenewed(Result<TokenInfo, Failure>),
    /// Of [`Op::Read`].
    Read(Result<Reading, Failure>),
    /// Of [`Op::RenewLease`].
    LeaseRenewed(Result<Lease, Failure>),
    /// Of [`Op::Publish`]; `true` = other files are visible than before.
    Published(Result<bool, Failure>),
    /// Of [`Op::RetireDirectory`].
    Retired(Result<(), Failure>),
    /// Of [`Op::Mirror`].
    Mirrored(Result<MirrorResult, Failure>),
    /// Of [`Op::PatchConditions`]; `true` = the pod is being deleted.
    ConditionsPatched(Result<bool, Failure>),
    /// Of [`Op::RecordEvent`].
    EventRecorded(Result<(), Failure>),
    /// Of [`Op::Save`].
    Saved(Result<(), Failure>),
    /// Of [`Op::Revoke`].
    Revoked(Result<(), Failure>),
}

/// What became of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorResult {
    /// There was no Secret; now it holds the set.
    Created,
    /// The Secret held something else of ours and now holds the set.
    Updated,
    /// The Secret held the set already.
    Unchanged,
    /// Somebody else had edited the Secret; it holds the set again.
    Repaired,
    /// The Secret holds a newer version, written by another replica; nothing was written.
    Superseded,
}

/// Something to do.
pub enum Action {
    /// Start an operation; it ends with [`Input::Completed`] and the same ticket.
    Start(Ticket, Op),
    /// Write a line to the log.
    Log(LogEntry),
    /// End the process.
    Exit {
        /// Exit code.
        code: u8,
    },
}

/// An operation. It is tried once; whether it is tried again is decided by the agent.
#[derive(Clone)]
pub enum Op {
    /// Log in. Credentials are read from their files now.
    LogIn {
        /// Which server and credentials.
        settings: Arc<Settings>,
        /// Take the token of an earlier process from its checkpoint, if there is one.
        restore: bool,
    },
    /// Ask the server about our token.
    LookUp {
        /// Which server.
        settings: Arc<Settings>,
        /// Which token.
        token: VaultToken,
    },
    /// Renew our token.
    RenewToken {
        /// Which server.
        settings: Arc<Settings>,
        /// Which token.
        token: VaultToken,
    },
    /// Revoke our token, and with it its leases.
    Revoke {
        /// Which server.
        settings: Arc<Settings>,
        /// Which token.
        token: VaultToken,
    },
    /// Read a source.
    Read {
        /// Which server, and the source's request.
        settings: Arc<Settings>,
        /// With which token.
        token: VaultToken,
        /// Which source.
        source: SourceName,
    },
    /// Renew a lease.
    RenewLease {
        /// Which server.
        settings: Arc<Settings>,
        /// With which token.
        token: VaultToken,
        /// Whose lease.
        source: SourceName,
        /// The lease.
        lease: LeaseId,
        /// Wanted time to live.
        increment: Duration,
    },
    /// Make a set visible.
    Publish {
        /// Where, with which modes and limits.
        directory: Directory,
        /// The set.
        set: Arc<PublishedSet>,
    },
    /// Remove the set from a directory that is no longer used.
    RetireDirectory {
        /// Which directory.
        directory: Directory,
    },
    /// Make a Secret hold its part of the published set.
    Mirror {
        /// How to reach the API server.
        settings: Arc<Settings>,
        /// Which Secret.
        name: ObjectName,
        /// What it is to hold.
        content: Box<MirrorRequest>,
    },
    /// Patch the pod's conditions.
    PatchConditions {
        /// How to reach the API server.
        settings: Arc<Settings>,
        /// All of ours.
        conditions: Vec<Condition>,
    },
    /// Record an Event on our pod.
    RecordEvent {
        /// How to reach the API server.
        settings: Arc<Settings>,
        /// The Event.
        event: PodEvent,
    },
    /// Leave token, leases and readings to the next process.
    Save {
        /// What the checkpoint is for.
        settings: Arc<Settings>,
        /// What to leave.
        checkpoint: Box<Checkpoint>,
    },
}

/// A set of files and what is known of its sources.
#[derive(Clone, Default)]
pub struct PublishedSet {
    /// The files.
    pub files: FileSet,
    /// What is remembered beside them.
    pub manifest: Manifest,
    /// Sources of the set that hold a lease.
    pub leased: BTreeSet<SourceName>,
}

/// What a Secret is to hold.
#[derive(Clone)]
pub struct MirrorRequest {
    /// The mirror's settings.
    pub mirror: Mirror,
    /// Key to value.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// The request and version of each source that gives to this Secret.
    pub versions: BTreeMap<SourceName, (String, Version)>,
    /// Write although the Secret holds a newer version: the older one is the truth now.
    pub accept_older: bool,
    /// Take the Secret from another configuration that writes it.
    pub claim: bool,
    /// Number of the published set, for caching what is slow to compute from it.
    pub generation: Generation,
}

/// Weight of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What an operator wants to see once.
    Info,
    /// A person may have to act.
    Warn,
    /// The process ends without having done its work.
    Error,
}

/// A line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Weight.
    pub level: LogLevel,
    /// What was tried: `read`, `login`, `publish` ...
    pub operation: &'static str,
    /// Stable name of what happened.
    pub reason: Option<Reason>,
    /// The source that it is about.
    pub source: Option<SourceName>,
    /// The Secret that it is about.
    pub output: Option<ObjectName>,
    /// For a person. Holds no secret.
    pub message: String,
}

/// What is known of one source, for metrics and the state file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// Whether it counts as stale; `None` before its first reading.
    pub stale: Option<bool>,
    /// Wall time of the last good read.
    pub read: Option<jiff::Timestamp>,
    /// Wall time at which its lease ends, if it has one.
    pub lease_expires_at: Option<jiff::Timestamp>,
    /// What failed last.
    pub failure: Option<Failure>,
}

/// What is known of one mirrored Secret.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorStatus {
    /// Wall time at which it was last seen to hold the published set.
    pub confirmed: Option<jiff::Timestamp>,
}
