//! The agent's tokens: logs in, renews, logs in again before expiry, and revokes tokens that are no longer used.

mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::grant::Renewal;
use super::io::{Op, Ticket};
use super::lifetime::TokenExpiry;
use super::outbox::Outbox;
use super::seed::is_refusal;
use super::time::{Backoff, Elapsed, Now};
use super::token::Token;
use crate::model::{Failure, FailureClass, Reason, Retry, Session, Settings, TokenInfo, VaultToken};

/// How long a replaced token is kept, so that an application can still use a leased credential that it has just read.
const OVERLAP: Duration = Duration::from_secs(30);

/// Minimum interval between two checks whether a supplied token that cannot be renewed was replaced in its file.
const GIVEN_TOKEN_INTERVAL: Duration = Duration::from_secs(10);

/// The active token, replaced tokens that may own leases, and the login in flight.
#[derive(Clone, Default)]
pub(super) struct Sessions {
    pub(super) current: Option<Token>,
    retired: Vec<Retired>,
    login: Option<Ticket>,
    revoking: Vec<Ticket>,
    /// When tokens expired or were discarded, while their leases may still be held.
    ended: BTreeMap<u64, Elapsed>,
    backoff: Backoff,
    /// A supplied token is not checked again before this time.
    not_before: Elapsed,
    pub(super) failure: Option<Failure>,
    /// Whether Vault has denied the login since the last success.
    pub(super) refused: bool,
    /// Whether the next login may use the token of an earlier process.
    restore: bool,
    /// The configuration of the login in flight, if it does so.
    restoring: Option<Arc<Settings>>,
    logins: u64,
    /// When to check the token in use, if it owns leases in use.
    check_due: Option<Elapsed>,
}

/// A token that is no longer used for requests but may own leases in use.
#[derive(Clone)]
struct Retired {
    token: Token,
    /// Not revoked before this time.
    keep_until: Elapsed,
}

/// The effect of a successful login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginChange {
    /// The login issued a new token.
    NewToken,
    /// The login returned the active token again.
    None,
}

impl Sessions {
    pub(super) fn new(restore: bool) -> Self {
        Self { restore, ..Self::default() }
    }

    /// The active token, unless it has expired.
    pub(super) fn live(&self, at: Elapsed) -> Option<&Token> {
        self.current.as_ref().filter(|token| !token.has_expired(at))
    }

    pub(super) fn number(&self) -> u64 {
        self.current.as_ref().map_or(0, |token| token.number)
    }

    /// When the token of that number expires, expired, or was discarded.
    pub(super) fn expiry_of(&self, number: u64) -> TokenExpiry {
        if let Some(at) = self.ended.get(&number) {
            return TokenExpiry::At(*at);
        }
        let known = self.current.iter().chain(self.retired.iter().map(|retired| &retired.token));
        match known.into_iter().find(|token| token.number == number) {
            Some(token) => token.expires_at().map_or(TokenExpiry::Never, TokenExpiry::At),
            None => TokenExpiry::At(Elapsed::ZERO),
        }
    }

    /// Whether the checkpoint of an earlier process may still be needed.
    pub(super) fn is_restoring(&self) -> bool {
        self.restore || self.restoring.is_some()
    }

    pub(super) fn is_logging_in(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn has_failed_permanently(&self) -> bool {
        self.current.is_none()
            && self.backoff.is_conclusive()
            && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }

    /// When a login is due; `None` if one is in flight or none is needed.
    fn login_due(&self) -> Option<Elapsed> {
        if self.login.is_some() {
            return None;
        }
        match &self.current {
            None => Some(self.backoff.not_before),
            Some(token) => {
                let (at, renewal) = token.renewal_due()?;
                (renewal == Renewal::Replace).then(|| at.max(self.backoff.not_before).max(self.not_before))
            }
        }
    }

    /// When the next operation is due.
    pub(super) fn wake(&self) -> Option<Elapsed> {
        let renewal =
            self.current.as_ref().and_then(Token::renewal_due).filter(|(_, renewal)| *renewal == Renewal::Renew);
        let end = self.current.as_ref().and_then(Token::expires_at);
        let retired = self
            .retired
            .iter()
            .map(|retired| retired.token.expires_at().map_or(retired.keep_until, |ends| ends.min(retired.keep_until)));
        [self.login_due(), renewal.map(|(at, _)| at), end, self.check_due].into_iter().flatten().chain(retired).min()
    }

    /// Starts operations that are due. `in_use`: whether a token owns a lease that is still held or published.
    /// `in_published_set`: whether it owns a lease of the published set.
    pub(super) fn advance(
        &mut self,
        settings: &Arc<Settings>,
        in_use: impl Fn(u64) -> bool,
        in_published_set: impl Fn(u64) -> bool,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        if let Some(token) = self.current.take_if(|token| token.has_expired(now.at)) {
            self.end(&token, now);
        }
        for retired in std::mem::take(&mut self.retired) {
            if retired.token.has_expired(now.at) {
                self.end(&retired.token, now);
            } else if retired.keep_until <= now.at && in_use(retired.token.number) {
                // A source still uses a lease of this token, for example because its re-read fails. Check again later.
                self.retired.push(Retired { keep_until: now.at + OVERLAP, ..retired });
            } else if retired.keep_until <= now.at {
                self.discard(&retired.token, now, outbox);
            } else {
                self.retired.push(retired);
            }
        }
        self.ended.retain(|number, _| in_use(*number));
        // Not `in_use`, which checks every source.
        let leased = self.current.as_mut().filter(|token| in_published_set(token.number));
        self.check_due = leased.and_then(|token| token.check(now, outbox));
        if let Some(token) = &mut self.current
            && let Some((at, Renewal::Renew)) = token.renewal_due()
            && at <= now.at
        {
            let op = Op::RenewToken { settings: Arc::clone(settings), token: token.value.clone() };
            token.renewing = Some(outbox.start(op));
        }
        if self.login_due().is_some_and(|at| at <= now.at) {
            let restore = std::mem::take(&mut self.restore);
            self.restoring = restore.then(|| Arc::clone(settings));
            let op = Op::LogIn { settings: Arc::clone(settings), restore };
            self.login = Some(outbox.start(op));
        }
    }

    /// Records that a token has ended: now, or at its expiry if that was earlier. A recorded end never moves, because the
    /// schedules of sources depend on it.
    fn end(&mut self, token: &Token, now: &Now) {
        let at = token.expires_at().map_or(now.at, |expiry| expiry.min(now.at));
        self.ended.entry(token.number).or_insert(at);
    }

    /// Stops using a token, and revokes it and its leases if a login of this agent issued it.
    fn discard(&mut self, token: &Token, now: &Now, outbox: &mut Outbox) {
        self.end(token, now);
        if !token.has_expired(now.at) {
            self.revoke_issued(token, outbox);
        }
    }

    /// Starts the revocation of a token, if a login of this agent issued it.
    pub(super) fn revoke_issued(&mut self, token: &Token, outbox: &mut Outbox) {
        if token.self_issued {
            self.revoke(&token.settings, &token.value, outbox);
        }
    }

    /// Starts the revocation of a token.
    pub(super) fn revoke(&mut self, settings: &Arc<Settings>, token: &VaultToken, outbox: &mut Outbox) {
        let op = Op::Revoke { settings: Arc::clone(settings), token: token.clone() };
        self.revoking.push(outbox.start(op));
    }

    /// Ends a revocation.
    pub(super) fn revoked(&mut self, ticket: Ticket) {
        self.revoking.retain(|started| *started != ticket);
    }

    pub(super) fn is_revoking(&self) -> bool {
        !self.revoking.is_empty()
    }

    /// Reserves the number of the next token.
    pub(super) fn next_number(&mut self) -> u64 {
        self.logins += 1;
        self.logins
    }

    /// Applies the outcome of a login; `None` if it is not in flight.
    pub(super) fn logged_in(
        &mut self,
        ticket: Ticket,
        result: Result<Session, Failure>,
        settings: &Arc<Settings>,
        now: &Now,
    ) -> Option<Result<LoginChange, Failure>> {
        self.login.take_if(|started| *started == ticket)?;
        self.restoring = None;
        self.reset_backoff_if_stable(now);
        let session = match result {
            Ok(session) => session,
            Err(failure) => {
                self.login_failed(&failure, &settings.retry, now);
                return Some(Err(failure));
            }
        };
        (self.failure, self.refused) = (None, false);
        if let Some(current) = self.current.as_mut().filter(|current| current.value == session.token) {
            // The supplied token was not replaced. Its leases stay valid, and frequent checks would not extend it.
            let met_its_maximum = current.grant.as_ref().is_some_and(|grant| grant.renewal() == Renewal::Replace);
            let same = Token::new(current.number, session, Arc::clone(settings), now);
            current.grant = same.grant;
            if let Some(grant) = current.grant.as_mut().filter(|_| met_its_maximum) {
                // Vault calls the token renewable, but the last renewal did not extend it.
                grant.not_renewable();
            }
            let left = current.expires_at().map_or(Duration::ZERO, |ends| ends.saturating_sub(now.at));
            self.not_before = now.at + (left / 2).max(GIVEN_TOKEN_INTERVAL);
            return Some(Ok(LoginChange::None));
        }
        let number = self.next_number();
        let token = Token::new(number, session, Arc::clone(settings), now);
        if token.has_expired(now.at + super::time::MIN_REFRESH) {
            // Back off, or tokens that expire at once would cause a login loop.
            let message = "failed to log in: Vault issued a token that expires at once; raise token_ttl of the role";
            let failure = Failure::new(FailureClass::Transient, Reason::TokenExpired, message);
            self.backoff.failed(&failure, &settings.retry, now, 12);
        }
        self.replace(token, now);
        Some(Ok(LoginChange::NewToken))
    }

    fn login_failed(&mut self, failure: &Failure, retry: &Retry, now: &Now) {
        self.backoff.failed(failure, retry, now, 12);
        self.refused |= is_refusal(failure);
        self.failure = Some(failure.clone());
    }

    /// Makes `token` the active one. The previous token is kept for [`OVERLAP`] because of its leases.
    fn replace(&mut self, token: Token, now: &Now) {
        self.not_before = Elapsed::ZERO;
        if let Some(token) = self.current.replace(token) {
            self.retired.push(Retired { token, keep_until: now.at + OVERLAP });
        }
    }

    /// Applies changed connection settings (TLS, timeouts) to all tokens of the same login.
    pub(super) fn update_connection(&mut self, settings: &Arc<Settings>) {
        let same = |old: &Settings| {
            old.server.address == settings.server.address
                && old.server.namespace == settings.server.namespace
                && old.auth == settings.auth
        };
        let retired = self.retired.iter_mut().map(|retired| &mut retired.token);
        for token in self.current.iter_mut().chain(retired).filter(|token| same(&token.settings)) {
            token.settings = Arc::clone(settings);
        }
    }

    /// Discards every token. Returns the login in flight, whose session is no longer needed.
    pub(super) fn reset(&mut self, now: &Now, outbox: &mut Outbox) -> Option<Ticket> {
        let retired = std::mem::take(&mut self.retired).into_iter().map(|retired| retired.token);
        let tokens: Vec<_> = self.current.take().into_iter().chain(retired).collect();
        for token in tokens {
            self.discard(&token, now, outbox);
        }
        self.forget_login()
    }

    /// Makes the token of another login the active one and resets the failures of the previous login. Returns the login
    /// in flight, whose session is no longer needed.
    pub(super) fn switch_to(&mut self, token: Token, now: &Now) -> Option<Ticket> {
        self.replace(token, now);
        self.forget_login()
    }

    /// Resets the state of the login, for another one. Returns the login in flight.
    fn forget_login(&mut self) -> Option<Ticket> {
        self.backoff.reset();
        (self.failure, self.refused) = (None, false);
        (self.restore, self.restoring) = (false, None);
        self.login.take()
    }

    /// Resets the login backoff once a token has proved stable.
    fn reset_backoff_if_stable(&mut self, now: &Now) {
        if self.current.as_ref().is_some_and(|token| token.is_stable(now.at)) && self.failure.is_none() {
            self.backoff.reset();
        }
    }

    /// Applies the outcome of a token renewal; `None` if it is not in flight.
    pub(super) fn renewed(
        &mut self,
        ticket: Ticket,
        result: Result<TokenInfo, Failure>,
        retry: &Retry,
        now: &Now,
    ) -> Option<Result<(), Failure>> {
        let token = self.current.as_mut().filter(|token| token.renewing == Some(ticket))?;
        token.renewing = None;
        Some(match result {
            Ok(info) => {
                token.confirm(now.at);
                token.backoff.reset();
                token.grant = match (info.ttl, &token.grant) {
                    (Some(ttl), Some(grant)) => Some(grant.renewed(ttl, info.renewable, now, 13)),
                    _ => None,
                };
                self.failure = None;
                Ok(())
            }
            Err(failure) => {
                if let Some(grant) = &mut token.grant {
                    if failure.class.is_retryable() {
                        token.backoff.failed(&failure, retry, now, 14);
                        token.backoff.not_before = grant.retry(token.backoff.not_before, now.at);
                    } else {
                        // If renewal is denied, fall back to a new login.
                        grant.not_renewable();
                    }
                }
                if failure.class.is_retryable() {
                    self.failure = Some(failure.clone());
                }
                Err(failure)
            }
        })
    }

    /// Stops using the token of that number, which the server rejects. Returns whether it was the active one.
    ///
    /// A lagging node may have rejected a valid token, so the token is revoked like a replaced one, once none of its
    /// leases is in use.
    pub(super) fn rejected(&mut self, number: u64, retry: &Retry, now: &Now) -> bool {
        let Some(token) = self.current.take_if(|token| token.number == number) else { return false };
        let failure = Failure::new(
            FailureClass::TokenInvalid,
            Reason::TokenExpired,
            "failed to use the Vault token: it was revoked or has expired; logging in again",
        );
        if token.is_stable(now.at) {
            // Log in without delay, so that the files are fresh again soon.
            self.backoff.reset();
        } else {
            // Back off, or tokens that are rejected soon after each login would cause a login loop.
            self.backoff.failed(&failure, retry, now, 15);
        }
        self.failure.get_or_insert(failure);
        self.end(&token, now);
        self.retired.push(Retired { token, keep_until: now.at });
        true
    }

    /// All tokens to revoke at exit.
    pub(super) fn revocable(&self, at: Elapsed) -> Vec<Token> {
        let all = self.current.iter().chain(self.retired.iter().map(|retired| &retired.token));
        all.filter(|token| token.self_issued && !token.has_expired(at)).cloned().collect()
    }
}
