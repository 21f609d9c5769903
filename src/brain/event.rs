//! What happens to the brain and what it asks for.

use std::time::Duration;

use super::Plan;
use crate::model::{
    Condition, Failure, Generation, Handover, Lease, LeaseId, Notice, ObjectName, SourceName, TokenInfo, Version,
};

/// Names one started effect, so that its result finds home and a late one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A new, good configuration. `login_changed`: server or credentials differ, so the session is started over.
    ConfigChanged {
        /// The new plan.
        plan: Box<Plan>,
        /// Whether to log in anew.
        login_changed: bool,
    },
    /// A new configuration was bad; the old one stays.
    ConfigRejected {
        /// All mistakes.
        message: String,
    },
    /// SIGHUP, or another way to say "now".
    RefreshNow,
    /// An effect ended.
    Reply(Ticket, Reply),
    /// SIGTERM.
    Terminate,
    /// The time of [`super::State::wake_at`] has come. Also the first event.
    Woke,
}

/// How an effect ended. `token` is the number of the session that the request was made with: the number of its login's
/// ticket.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Of [`Effect::Login`].
    LoggedIn(Result<(TokenInfo, bool), Failure>),
    /// Of [`Effect::Login`], where an earlier process left its token: there was no login.
    TakenOver(Handover),
    /// Of [`Effect::RenewToken`].
    TokenRenewed(Result<TokenInfo, Failure>),
    /// Of [`Effect::Read`].
    Read {
        /// Which source.
        source: SourceName,
        /// With which session.
        token: u64,
        /// What was read.
        result: Result<ReadFacts, Failure>,
    },
    /// Of [`Effect::RenewLease`].
    LeaseRenewed {
        /// Whose lease.
        source: SourceName,
        /// With which session.
        token: u64,
        /// The lease now.
        result: Result<Lease, Failure>,
    },
    /// Of [`Effect::Publish`].
    Published(Result<PublishOutcome, Failure>),
    /// Of [`Effect::Mirror`]. `true` = a newer version by another replica is there, ours was not written.
    Mirrored {
        /// Which Secret.
        name: ObjectName,
        /// Whether it was superseded.
        result: Result<bool, Failure>,
    },
    /// Of [`Effect::Report`].
    Reported(Result<(), Failure>),
    /// Of [`Effect::Record`].
    Recorded(Result<(), Failure>),
    /// Of [`Effect::HandOver`].
    HandedOver(Result<(), Failure>),
    /// Of [`Effect::Revoke`], however it ended.
    Revoked,
}

/// What the brain may know of a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadFacts {
    /// What orders it.
    pub version: Version,
    /// Its lease.
    pub lease: Option<Lease>,
    /// Whether its content differs from the accepted reading of this source.
    pub changed: bool,
}

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// A new set is visible.
    Swapped,
    /// The same set was there; at most modes were repaired.
    Unchanged,
}

/// Something to start. Each but `Accept` and `Exit` ends with a [`Reply`] that carries its ticket.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Take the content of this just delivered reading as the source's current one. Done at once, no reply.
    Accept {
        /// Which source.
        source: SourceName,
    },
    /// End the process.
    Exit {
        /// Exit code.
        code: u8,
    },
    /// Leave the token, the leases and all accepted readings to the next process.
    HandOver {
        /// Ticket.
        ticket: Ticket,
        /// Which session's token.
        token: u64,
        /// What the next process has to know.
        facts: Handover,
    },
    /// Log in; the credential is read from its file now.
    Login {
        /// Ticket.
        ticket: Ticket,
    },
    /// Make the published set's copy.
    Mirror {
        /// Ticket.
        ticket: Ticket,
        /// Which Secret.
        name: ObjectName,
    },
    /// Make the set of all accepted readings visible.
    Publish {
        /// Ticket.
        ticket: Ticket,
        /// Number of the set, if it is a new one.
        generation: Generation,
    },
    /// Read a source.
    Read {
        /// Ticket.
        ticket: Ticket,
        /// With which session.
        token: u64,
        /// Which source.
        source: SourceName,
    },
    /// Record an Event on our Pod.
    Record {
        /// Ticket.
        ticket: Ticket,
        /// What to say.
        notice: Notice,
    },
    /// Renew a lease.
    RenewLease {
        /// Ticket.
        ticket: Ticket,
        /// With which session.
        token: u64,
        /// Whose lease.
        source: SourceName,
        /// The lease.
        lease: LeaseId,
        /// Wanted time to live.
        increment: Duration,
    },
    /// Renew our token.
    RenewToken {
        /// Ticket.
        ticket: Ticket,
        /// Which session's token.
        token: u64,
    },
    /// Patch the Pod's conditions.
    Report {
        /// Ticket.
        ticket: Ticket,
        /// All of ours.
        conditions: Vec<Condition>,
    },
    /// Revoke our token.
    Revoke {
        /// Ticket.
        ticket: Ticket,
        /// Which session's token.
        token: u64,
    },
}
