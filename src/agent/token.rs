//! One token and what the agent has learned about it.

use std::sync::Arc;
use std::time::Duration;

use super::grant::{Grant, Upkeep};
use super::io::{Op, Ticket};
use super::outbox::Outbox;
use super::time::{Backoff, Elapsed, Now};
use crate::model::{Checkpoint, Failure, FailureClass, Reason, Session, Settings, TokenInfo, VaultToken};

/// How long a refusal of a token that has never worked may mean that the server does not know it yet: replication to a
/// standby takes milliseconds to a few seconds.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Age from which on a token counts as stable, so that what went wrong before it is forgiven; half its life for shorter ones.
const STABLE: Duration = Duration::from_secs(60);

/// Shortest time between two questions about one token.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(30);

/// A token that may not look itself up is suspected to be dead after this time without a success.
const SUSPECT_AFTER: Duration = Duration::from_secs(30);
/// And after this many refusals.
const SUSPECT_REFUSALS: u32 = 3;

/// Whether a token may look itself up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookUp {
    Unknown,
    Allowed,
    /// The token has no policy (such as `default`) that allows `auth/token/lookup-self`.
    Denied,
}

/// What a refusal of a request means for its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server may not know the token yet: try again with the same token.
    TooYoung,
    /// Give the token up.
    Rejected,
    /// The token is valid, so a policy is missing.
    PolicyMissing,
    /// A policy is missing or the token is not valid any more; the token may not look itself up.
    Ambiguous,
    /// The server is being asked about the token.
    Pending,
    /// The server could not be asked about the token.
    Unjudged,
}

/// A token.
#[derive(Clone)]
pub(super) struct Token {
    /// Number of the login that gave it, from 1. Leases name it.
    pub(super) number: u64,
    pub(super) value: VaultToken,
    /// `None` for a token without a known end.
    pub(super) grant: Option<Grant>,
    /// Whether a login issued it to us, so that it is ours to revoke.
    pub(super) self_issued: bool,
    /// Where it is valid.
    pub(super) settings: Arc<Settings>,
    pub(super) since: Elapsed,
    /// Whether a request has succeeded with it.
    pub(super) confirmed: bool,
    pub(super) look_up: LookUp,
    pub(super) looking_up: Option<Ticket>,
    /// When the server may next be asked about it.
    look_up_after: Elapsed,
    /// Refusals of what was granted before, since the last success, and when the first of them came.
    refusals: Option<(Elapsed, u32)>,
    pub(super) renewal: Option<Ticket>,
    pub(super) backoff: Backoff,
}

impl Token {
    pub(super) fn new(number: u64, session: Session, settings: Arc<Settings>, now: &Now) -> Self {
        let Session { token, info, self_issued, lookup_denied } = session;
        let grant = info.ttl.map(|ttl| Grant::new(ttl, info.renewable, now, 11));
        let look_up = match (self_issued, lookup_denied) {
            (_, true) => LookUp::Denied,
            // A given token was just looked up.
            (false, false) => LookUp::Allowed,
            (true, false) => LookUp::Unknown,
        };
        Self::with(number, token, grant, self_issued, look_up, settings, now)
    }

    /// The token of an earlier process. It has to prove itself like a new one.
    pub(super) fn restored(number: u64, checkpoint: &Checkpoint, settings: Arc<Settings>, now: &Now) -> Self {
        let Checkpoint { token, first_ttl, left, renewable, .. } = checkpoint;
        let grant = left.map(|left| Grant::resumed(first_ttl.unwrap_or(left).max(left), left, *renewable, now, 11));
        Self::with(number, token.clone(), grant, true, LookUp::Unknown, settings, now)
    }

    fn with(
        number: u64,
        value: VaultToken,
        grant: Option<Grant>,
        self_issued: bool,
        look_up: LookUp,
        settings: Arc<Settings>,
        now: &Now,
    ) -> Self {
        Self {
            number,
            value,
            grant,
            self_issued,
            settings,
            since: now.at,
            confirmed: false,
            look_up,
            looking_up: None,
            look_up_after: Elapsed::ZERO,
            refusals: None,
            renewal: None,
            backoff: Backoff::default(),
        }
    }

    pub(super) fn ends(&self) -> Option<Elapsed> {
        self.grant.as_ref().map(Grant::ends)
    }

    pub(super) fn is_over(&self, at: Elapsed) -> bool {
        self.ends().is_some_and(|ends| ends <= at)
    }

    /// Whether it has lived and worked for long enough to forgive what went wrong before it.
    pub(super) fn is_stable(&self, at: Elapsed) -> bool {
        let age = at.saturating_sub(self.since);
        self.confirmed && self.grant.as_ref().map_or(age >= STABLE, |grant| age >= STABLE.min(grant.first_ttl() / 2))
    }

    /// A token that nothing can extend: it was given to us and cannot be renewed.
    pub(super) fn is_expiring(&self) -> bool {
        !self.self_issued && self.grant.as_ref().is_some_and(|grant| grant.upkeep() == Upkeep::Replace)
    }

    /// When to renew or replace it, and what.
    pub(super) fn upkeep(&self) -> Option<(Elapsed, Upkeep)> {
        let grant = self.grant.as_ref()?;
        if self.renewal.is_some() {
            return None;
        }
        Some((grant.due().max(self.backoff.not_before), grant.upkeep()))
    }

    /// A request with it has succeeded.
    pub(super) fn worked(&mut self) {
        self.confirmed = true;
        self.refusals = None;
    }

    /// Starts a question about it, if none is under way and the last one is long enough ago.
    fn ask(&mut self, now: &Now, outbox: &mut Outbox) -> bool {
        if self.looking_up.is_none() && self.look_up_after <= now.at {
            let op = Op::LookUp { settings: Arc::clone(&self.settings), token: self.value.clone() };
            self.looking_up = Some(outbox.start(op));
            self.look_up_after = now.at + LOOK_UP_INTERVAL;
        }
        self.looking_up.is_some()
    }

    /// Judges a refused request by the token's history. `worked`: the same request was granted with this token before. May
    /// ask the server about the token.
    pub(super) fn refused(&mut self, class: FailureClass, worked: bool, now: &Now, outbox: &mut Outbox) -> Verdict {
        let young = !self.confirmed && now.at < self.since + GRACE;
        if class == FailureClass::TokenInvalid {
            return if young { Verdict::TooYoung } else { Verdict::Rejected };
        }
        if self.look_up != LookUp::Denied {
            return match (self.ask(now, outbox), self.look_up) {
                (true, _) => Verdict::Pending,
                (false, _) if young => Verdict::TooYoung,
                (false, LookUp::Allowed) => Verdict::PolicyMissing,
                (false, _) => Verdict::Unjudged,
            };
        }
        // The server does not tell a dead token from a missing policy. What was granted before is worth a login, or a
        // look at the file of a given one; if the next token is refused as well, that says nothing about it.
        let mut suspect = false;
        if worked {
            let (first, count) = self.refusals.map_or((now.at, 1), |(first, count)| (first, count + 1));
            self.refusals = Some((first, count));
            suspect = count > SUSPECT_REFUSALS && now.at >= first + SUSPECT_AFTER;
        }
        match (young, suspect) {
            (true, _) => Verdict::TooYoung,
            (false, true) => Verdict::Rejected,
            (false, false) => Verdict::Ambiguous,
        }
    }

    /// Takes the answer to a question about it.
    pub(super) fn looked_up(&mut self, result: &Result<TokenInfo, Failure>, now: &Now) -> Verdict {
        self.looking_up = None;
        let young = !self.confirmed && now.at < self.since + GRACE;
        match result {
            Ok(_) => {
                self.look_up = LookUp::Allowed;
                self.worked();
                Verdict::PolicyMissing
            }
            Err(failure) => match failure.class {
                FailureClass::TokenInvalid if young => {
                    self.look_up_after = self.since + GRACE;
                    Verdict::TooYoung
                }
                FailureClass::TokenInvalid => Verdict::Rejected,
                FailureClass::Forbidden | FailureClass::Denied => {
                    self.look_up = LookUp::Denied;
                    if young { Verdict::TooYoung } else { Verdict::Ambiguous }
                }
                // No answer about the token: nothing is learned.
                _ => {
                    self.look_up_after = Elapsed::ZERO;
                    Verdict::Unjudged
                }
            },
        }
    }
}

/// The failure of a request that was refused, in words that fit the verdict.
pub(super) fn judged(failure: &Failure, verdict: Verdict) -> Failure {
    let rule = failure.missing_rule.as_deref().unwrap_or_default();
    let message = &failure.message;
    let (class, message) = match verdict {
        Verdict::TooYoung => (
            FailureClass::Transient,
            format!("{message}; the token is new, and the server may not know it yet, so it is tried again"),
        ),
        Verdict::Rejected => (FailureClass::TokenInvalid, message.clone()),
        Verdict::PolicyMissing => {
            (FailureClass::Denied, format!("{message} and the token is valid, so a policy is missing: {rule}"))
        }
        Verdict::Pending | Verdict::Unjudged => {
            (FailureClass::Denied, format!("{message}: a policy is missing ({rule}) or the token is no longer valid"))
        }
        Verdict::Ambiguous => (
            FailureClass::Denied,
            format!(
                "{message}: a policy is missing ({rule}) or the token is no longer valid; the two cannot be told \
                 apart, because the token may not look itself up"
            ),
        ),
    };
    let reason = if verdict == Verdict::Rejected { Reason::TokenExpired } else { Reason::Denied };
    Failure { class, reason, message, ..failure.clone() }
}
