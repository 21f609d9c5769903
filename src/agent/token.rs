//! One token and its history, which decides what a 403 means.

use std::sync::Arc;
use std::time::Duration;

use super::grant::{self, Grant, Renewal};
use super::io::{Op, Ticket};
use super::outbox::Outbox;
use super::time::{Backoff, Elapsed, Now, timestamp};
use crate::model::{AuthMethod, Failure, FailureClass, Reason, SavedToken, Session, Settings, TokenInfo, VaultToken};

/// How long a token may be rejected because a standby does not know it yet. Replication takes milliseconds
/// to a few seconds.
pub(super) const REPLICATION_GRACE: Duration = Duration::from_secs(5);

/// Age at which a token counts as stable, so that the login backoff is reset; half of the TTL if that is shorter.
const STABLE: Duration = Duration::from_secs(60);

/// Minimum interval between two lookups of one token.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(30);

/// How often to look up a token that owns leases in use and that no request uses otherwise. Vault revokes leases with
/// their token and notifies no client, so this bounds how long the files can hold credentials of a revoked token. Longer
/// than the default refresh interval, so that a pod that also reads a KV secret needs no lookup.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(120);

/// A token that cannot look itself up is suspected to be invalid after this time without a successful request...
const SUSPECT_AFTER: Duration = Duration::from_secs(30);
/// ... and after this many denied requests.
const SUSPECT_REFUSALS: u32 = 3;

/// Whether a token is allowed to look itself up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookUp {
    Unknown,
    Allowed,
    /// The token has no policy (such as `default`) that allows `auth/token/lookup-self`.
    Denied,
}

/// What a denied request means for its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server may not know the token yet. Retry with the same token.
    TooNew,
    /// The token is invalid. Log in again.
    Rejected,
    /// The token is valid, so a policy is missing.
    PolicyMissing,
    /// Either a policy is missing or the token is invalid. The token is not allowed to look itself up.
    Ambiguous,
    /// A lookup of the token is in flight.
    Pending,
    /// The lookup of the token failed.
    LookUpFailed,
}

/// A Vault token with its lifetime and history.
#[derive(Clone)]
pub(super) struct Token {
    /// Number of the login that issued the token, counted from 1. Leases refer to it.
    pub(super) number: u64,
    pub(super) value: VaultToken,
    /// `None` for a token without a known expiry.
    pub(super) grant: Option<Grant>,
    /// Whether a login of this agent issued the token, so that the agent may revoke it.
    pub(super) self_issued: bool,
    /// The server and login of the token.
    pub(super) settings: Arc<Settings>,
    pub(super) since: Elapsed,
    /// Whether a request with the token has succeeded.
    pub(super) confirmed: bool,
    pub(super) look_up: LookUp,
    pub(super) looking_up: Option<Ticket>,
    /// Earliest time of the next lookup.
    look_up_after: Elapsed,
    /// Time of the first denial, and number of denials, of requests that were allowed before, since the last success.
    refusals: Option<(Elapsed, u32)>,
    /// When a request last showed that the token is valid, or a check of it started.
    checked: Elapsed,
    pub(super) renewing: Option<Ticket>,
    pub(super) backoff: Backoff,
}

impl Token {
    pub(super) fn new(number: u64, session: Session, settings: Arc<Settings>, now: &Now) -> Self {
        let Session { token, info, self_issued, lookup_denied } = session;
        let grant = info.ttl.map(|ttl| Grant::new(ttl, Some(overlap(&settings, ttl)), info.renewable, now, 11));
        let look_up = match (self_issued, lookup_denied) {
            (_, true) => LookUp::Denied,
            // A supplied token was looked up during the login.
            (false, false) => LookUp::Allowed,
            (true, false) => LookUp::Unknown,
        };
        Self::with(number, token, grant, self_issued, look_up, settings, now)
    }

    /// Restores the token of an earlier process, unconfirmed like a new one.
    pub(super) fn restored(number: u64, saved: &SavedToken, settings: Arc<Settings>, now: &Now) -> Self {
        let SavedToken { token, first_ttl, left, renewable } = saved;
        let grant = left.map(|left| {
            let first = first_ttl.unwrap_or(left).max(left);
            Grant::new(first, Some(overlap(&settings, first)), *renewable, now, 11).resumed(left, now, 11)
        });
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
            checked: now.at,
            renewing: None,
            backoff: Backoff::default(),
        }
    }

    pub(super) fn expires_at(&self) -> Option<Elapsed> {
        self.grant.as_ref().map(Grant::expires_at)
    }

    pub(super) fn has_expired(&self, at: Elapsed) -> bool {
        self.expires_at().is_some_and(|ends| ends <= at)
    }

    /// Whether the token is confirmed and old enough to reset the login backoff.
    pub(super) fn is_stable(&self, at: Elapsed) -> bool {
        let age = at.saturating_sub(self.since);
        self.confirmed && self.grant.as_ref().map_or(age >= STABLE, |grant| age >= STABLE.min(grant.first_ttl() / 2))
    }

    /// Whether the token was supplied and cannot be renewed, so that only an operator can replace it.
    pub(super) fn is_expiring(&self) -> bool {
        !self.self_issued && self.grant.as_ref().is_some_and(|grant| grant.renewal() == Renewal::Replace)
    }

    /// What to report about a token that cannot be extended; `None` for any other token.
    pub(super) fn expiry_warning(&self, now: &Now) -> Option<String> {
        let ends = self.expires_at().filter(|_| self.is_expiring())?;
        let action = match &self.settings.auth.method {
            AuthMethod::TokenFile { file } => format!("write a new token to {}", file.display()),
            _ => "set VAULT_TOKEN to a new token and re-create the pod".to_owned(),
        };
        let at = timestamp(now.wall_at(ends));
        Some(format!("the supplied Vault token expires at {at} and cannot be renewed; {action}"))
    }

    /// When to renew or replace the token, and which of the two; `None` without a known expiry or during a renewal.
    pub(super) fn renewal_due(&self) -> Option<(Elapsed, Renewal)> {
        let grant = self.grant.as_ref()?;
        if self.renewing.is_some() {
            return None;
        }
        Some((grant.due().max(self.backoff.not_before), grant.renewal()))
    }

    /// Records a successful request.
    pub(super) fn confirm(&mut self, at: Elapsed) {
        self.checked = at;
        self.confirmed = true;
        self.refusals = None;
    }

    /// Starts a lookup if no request has used the token for [`CHECK_INTERVAL`]. Returns when the next one is due; `None` if
    /// the token is not allowed to look itself up.
    pub(super) fn check(&mut self, now: &Now, outbox: &mut Outbox) -> Option<Elapsed> {
        if self.look_up == LookUp::Denied {
            return None;
        }
        if self.checked + CHECK_INTERVAL <= now.at {
            self.checked = now.at;
            self.start_look_up(now, outbox);
        }
        Some(self.checked + CHECK_INTERVAL)
    }

    /// Starts a lookup, if none is in flight and the interval has passed. Returns whether one is in flight.
    fn start_look_up(&mut self, now: &Now, outbox: &mut Outbox) -> bool {
        if self.looking_up.is_none() && self.look_up_after <= now.at {
            let op = Op::LookUp { settings: Arc::clone(&self.settings), token: self.value.clone() };
            self.looking_up = Some(outbox.start(op));
            self.look_up_after = now.at + LOOK_UP_INTERVAL;
        }
        self.looking_up.is_some()
    }

    /// Whether a node may not know the token yet, even if another node knows it.
    fn is_replicating(&self, now: &Now) -> bool {
        now.at < self.since + REPLICATION_GRACE
    }

    /// Classifies a denied request by the history of the token. `worked`: the same request succeeded with this token
    /// before. May start a lookup.
    pub(super) fn refused(&mut self, class: FailureClass, worked: bool, now: &Now, outbox: &mut Outbox) -> Verdict {
        if class == FailureClass::TokenInvalid {
            return if self.is_replicating(now) { Verdict::TooNew } else { Verdict::Rejected };
        }
        let too_new = !self.confirmed && self.is_replicating(now);
        if self.look_up != LookUp::Denied {
            return match (self.start_look_up(now, outbox), self.look_up) {
                (true, _) => Verdict::Pending,
                (false, _) if too_new => Verdict::TooNew,
                (false, LookUp::Allowed) => Verdict::PolicyMissing,
                (false, _) => Verdict::LookUpFailed,
            };
        }
        // Without a lookup, an invalid token and a missing policy look the same. If the request succeeded before, a
        // login (or a re-read of the token file) may help. A denial with the next token does not count: it never
        // succeeded with that one.
        let mut suspect = false;
        if worked {
            let (first, count) = self.refusals.map_or((now.at, 1), |(first, count)| (first, count + 1));
            self.refusals = Some((first, count));
            suspect = count > SUSPECT_REFUSALS && now.at >= first + SUSPECT_AFTER;
        }
        match (too_new, suspect) {
            (true, _) => Verdict::TooNew,
            (false, true) => Verdict::Rejected,
            (false, false) => Verdict::Ambiguous,
        }
    }

    /// Applies the outcome of a lookup.
    pub(super) fn looked_up(&mut self, result: &Result<TokenInfo, Failure>, now: &Now) -> Verdict {
        self.looking_up = None;
        let too_new = !self.confirmed && self.is_replicating(now);
        match result {
            Ok(_) => {
                self.look_up = LookUp::Allowed;
                self.confirm(now.at);
                Verdict::PolicyMissing
            }
            Err(failure) => match failure.class {
                FailureClass::TokenInvalid if self.is_replicating(now) => {
                    self.look_up_after = self.since + REPLICATION_GRACE;
                    Verdict::TooNew
                }
                FailureClass::TokenInvalid => Verdict::Rejected,
                FailureClass::Forbidden | FailureClass::Denied => {
                    self.look_up = LookUp::Denied;
                    if too_new { Verdict::TooNew } else { Verdict::Ambiguous }
                }
                // Without an answer, nothing is known about the token, and the next lookup may start at once.
                _ => {
                    self.look_up_after = Elapsed::ZERO;
                    Verdict::LookUpFailed
                }
            },
        }
    }
}

/// How long a token must stay valid after its successor is in use: as long as its leases.
fn overlap(settings: &Settings, ttl: Duration) -> Duration {
    let longest = settings.sources.values().filter_map(|source| source.overlap).max().unwrap_or_default();
    longest.max(grant::overlap(None, ttl))
}

/// Returns the failure of a denied request with the class, reason, and message of the verdict.
pub(super) fn with_verdict(failure: &Failure, verdict: Verdict) -> Failure {
    let rule = failure.missing_rule.as_deref().unwrap_or_default();
    let message = &failure.message;
    let (class, message) = match verdict {
        Verdict::TooNew => (
            FailureClass::Transient,
            format!("{message}; the token is new and may not have reached this Vault node yet; retrying"),
        ),
        Verdict::Rejected => (FailureClass::TokenInvalid, message.clone()),
        Verdict::PolicyMissing => (
            FailureClass::Denied,
            format!("{message} and the token is valid, so the path is wrong, or this policy rule is missing: {rule}"),
        ),
        Verdict::Pending | Verdict::LookUpFailed => {
            let message = format!("{message}: either a policy is missing ({rule}) or the token is no longer valid");
            (FailureClass::Denied, message)
        }
        Verdict::Ambiguous => (
            FailureClass::Denied,
            format!(
                "{message}: either a policy is missing ({rule}) or the token is no longer valid; to let keyferry tell \
                 which, allow the token to read auth/token/lookup-self (policy `default`)"
            ),
        ),
    };
    let reason = if verdict == Verdict::Rejected { Reason::TokenExpired } else { Reason::Denied };
    Failure { class, reason, message, ..failure.clone() }
}
