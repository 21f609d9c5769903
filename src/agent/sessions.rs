//! Our tokens: log in, renew in time, log in again before the end, and revoke what is given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::grant::Upkeep;
use super::io::{Op, Ticket};
use super::outbox::Outbox;
use super::source::TokenEnd;
use super::time::{Backoff, Elapsed, Now};
use super::token::Token;
use crate::model::{Checkpoint, Failure, FailureClass, Reason, Retry, Session, Settings, TokenInfo};

/// How long a replaced token is kept, so that an application that has just read a credential of it can still use it.
const OVERLAP: Duration = Duration::from_secs(30);

/// Shortest time between two looks at a given token that cannot be renewed: it may have been replaced in its file.
const GIVEN_TOKEN_INTERVAL: Duration = Duration::from_secs(10);

/// The token in use, those that leases still hang on, and the login in flight.
#[derive(Clone, Default)]
pub(super) struct Sessions {
    pub(super) current: Option<Token>,
    retired: Vec<Retired>,
    login: Option<Ticket>,
    revoking: Vec<Ticket>,
    /// When tokens ended or were given up whose leases may still be held.
    gone: BTreeMap<u64, Elapsed>,
    backoff: Backoff,
    /// A token that was given to us is not asked for again before this time.
    not_before: Elapsed,
    pub(super) failure: Option<Failure>,
    /// Whether the next login may take the token of an earlier process.
    restore: bool,
    logins: u64,
}

/// A token that is no longer used for requests, but whose leases are.
#[derive(Clone)]
struct Retired {
    token: Token,
    /// Not revoked before this time.
    keep_until: Elapsed,
}

/// What the answer to a login changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginChange {
    /// Another token is in use.
    NewToken,
    /// The token in use was confirmed, or there was no answer of use.
    None,
}

impl Sessions {
    pub(super) fn new(restore: bool) -> Self {
        Self { restore, ..Self::default() }
    }

    /// The token for requests, if there is one that has not ended.
    pub(super) fn live(&self, at: Elapsed) -> Option<&Token> {
        self.current.as_ref().filter(|token| !token.is_over(at))
    }

    pub(super) fn number(&self) -> u64 {
        self.current.as_ref().map_or(0, |token| token.number)
    }

    /// When the token of that number ends or ended.
    pub(super) fn end_of(&self, number: u64) -> TokenEnd {
        if let Some(at) = self.gone.get(&number) {
            return TokenEnd::At(*at);
        }
        let known = self.current.iter().chain(self.retired.iter().map(|retired| &retired.token));
        match known.into_iter().find(|token| token.number == number) {
            Some(token) => token.ends().map_or(TokenEnd::Never, TokenEnd::At),
            None => TokenEnd::At(Elapsed::ZERO),
        }
    }

    pub(super) fn is_logging_in(&self) -> bool {
        self.login.is_some()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.current.is_none()
            && self.backoff.is_conclusive()
            && self.failure.as_ref().is_some_and(|failure| !failure.class.is_retryable())
    }

    /// When a login is due; `None` while one is in flight or none is needed.
    fn login_due(&self) -> Option<Elapsed> {
        if self.login.is_some() {
            return None;
        }
        match &self.current {
            None => Some(self.backoff.not_before),
            Some(token) => {
                let (at, upkeep) = token.upkeep()?;
                (upkeep == Upkeep::Replace).then(|| at.max(self.backoff.not_before).max(self.not_before))
            }
        }
    }

    /// When something is to be done.
    pub(super) fn wake(&self) -> Option<Elapsed> {
        let renewal = self.current.as_ref().and_then(Token::upkeep).filter(|(_, upkeep)| *upkeep == Upkeep::Renew);
        let end = self.current.as_ref().and_then(Token::ends);
        let retired = self
            .retired
            .iter()
            .map(|retired| retired.token.ends().map_or(retired.keep_until, |ends| ends.min(retired.keep_until)));
        [self.login_due(), renewal.map(|(at, _)| at), end].into_iter().flatten().chain(retired).min()
    }

    /// Starts what is due. `in_use`: whether a lease of that token is still held or visible.
    pub(super) fn advance(
        &mut self,
        settings: &Arc<Settings>,
        in_use: impl Fn(u64) -> bool,
        now: &Now,
        outbox: &mut Outbox,
    ) {
        if let Some(token) = self.current.take_if(|token| token.is_over(now.at)) {
            self.gone.insert(token.number, token.ends().unwrap_or(now.at));
        }
        for retired in std::mem::take(&mut self.retired) {
            if retired.token.is_over(now.at) {
                self.gone.insert(retired.token.number, retired.token.ends().unwrap_or(now.at));
            } else if retired.keep_until <= now.at && in_use(retired.token.number) {
                // Something still hangs on it, such as a re-read that fails: look again later.
                self.retired.push(Retired { keep_until: now.at + OVERLAP, ..retired });
            } else if retired.keep_until <= now.at {
                self.give_up(&retired.token, now, outbox);
            } else {
                self.retired.push(retired);
            }
        }
        self.gone.retain(|number, _| in_use(*number));
        if let Some(token) = &mut self.current
            && let Some((at, Upkeep::Renew)) = token.upkeep()
            && at <= now.at
        {
            let op = Op::RenewToken { settings: Arc::clone(settings), token: token.value.clone() };
            token.renewal = Some(outbox.start(op));
        }
        if self.login_due().is_some_and(|at| at <= now.at) {
            let op = Op::LogIn { settings: Arc::clone(settings), restore: std::mem::take(&mut self.restore) };
            self.login = Some(outbox.start(op));
        }
    }

    /// Revokes a token that is not used any more, if it is ours; its leases end with it.
    fn give_up(&mut self, token: &Token, now: &Now, outbox: &mut Outbox) {
        self.gone.insert(token.number, now.at);
        if token.self_issued && !token.is_over(now.at) {
            self.revoke(token, outbox);
        }
    }

    /// Revokes a token, whatever becomes of it.
    pub(super) fn revoke(&mut self, token: &Token, outbox: &mut Outbox) {
        let op = Op::Revoke { settings: Arc::clone(&token.settings), token: token.value.clone() };
        self.revoking.push(outbox.start(op));
    }

    /// Ends a revocation; whether it was one of ours.
    pub(super) fn revoked(&mut self, ticket: Ticket) -> bool {
        let before = self.revoking.len();
        self.revoking.retain(|started| *started != ticket);
        self.revoking.len() < before
    }

    pub(super) fn is_revoking(&self) -> bool {
        !self.revoking.is_empty()
    }

    /// The number of the next token.
    pub(super) fn next_number(&mut self) -> u64 {
        self.logins += 1;
        self.logins
    }

    /// Takes the answer to a login; `None` if it is not the one in flight.
    pub(super) fn logged_in(
        &mut self,
        ticket: Ticket,
        result: Result<Session, Failure>,
        settings: &Arc<Settings>,
        now: &Now,
    ) -> Option<Result<LoginChange, Failure>> {
        self.login.take_if(|started| *started == ticket)?;
        self.forgive(now);
        let session = match result {
            Ok(session) => session,
            Err(failure) => {
                self.backoff.failed(&failure, &settings.retry, now, 12);
                self.failure = Some(failure.clone());
                return Some(Err(failure));
            }
        };
        self.failure = None;
        if let Some(current) = self.current.as_mut().filter(|current| current.value == session.token) {
            // The same given token once more. Its leases go on; looking ever more often would not extend it.
            let met_its_maximum = current.grant.as_ref().is_some_and(|grant| grant.upkeep() == Upkeep::Replace);
            let same = Token::new(current.number, session, Arc::clone(settings), now);
            current.grant = same.grant;
            if let Some(grant) = current.grant.as_mut().filter(|_| met_its_maximum) {
                // What the server calls renewable was seen not to grow.
                grant.not_renewable();
            }
            let left = current.ends().map_or(Duration::ZERO, |ends| ends.saturating_sub(now.at));
            self.not_before = now.at + (left / 2).max(GIVEN_TOKEN_INTERVAL);
            return Some(Ok(LoginChange::None));
        }
        let number = self.next_number();
        let token = Token::new(number, session, Arc::clone(settings), now);
        if token.is_over(now.at + super::time::MIN_REFRESH) {
            // A token that is over when it arrives would be a loop of logins.
            let failure =
                Failure::new(FailureClass::Transient, Reason::TokenExpired, "Vault gave a token without time to live");
            self.backoff.failed(&failure, &settings.retry, now, 12);
        }
        self.replace(token, now);
        Some(Ok(LoginChange::NewToken))
    }

    /// Takes the token of an earlier process; whether this is the login in flight.
    pub(super) fn restored(
        &mut self,
        ticket: Ticket,
        checkpoint: &Checkpoint,
        settings: &Arc<Settings>,
        now: &Now,
    ) -> bool {
        if self.login.take_if(|started| *started == ticket).is_none() {
            return false;
        }
        let number = self.next_number();
        let token = Token::restored(number, checkpoint, Arc::clone(settings), now);
        self.failure = None;
        self.replace(token, now);
        true
    }

    /// Puts `token` in use; the one before is kept for its leases, for a while.
    fn replace(&mut self, token: Token, now: &Now) {
        self.not_before = Elapsed::ZERO;
        if let Some(token) = self.current.replace(token) {
            self.retired.push(Retired { token, keep_until: now.at + OVERLAP });
        }
    }

    /// Reaches the server of the tokens in another way from now on: TLS or a timeout have changed.
    pub(super) fn reach_by(&mut self, settings: &Arc<Settings>) {
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

    /// Gives up every token and starts with a login; returns a login in flight, whose session is of no use any more.
    pub(super) fn start_over(&mut self, now: &Now, outbox: &mut Outbox) -> Option<Ticket> {
        let retired = std::mem::take(&mut self.retired).into_iter().map(|retired| retired.token);
        let tokens: Vec<_> = self.current.take().into_iter().chain(retired).collect();
        for token in tokens {
            self.give_up(&token, now, outbox);
        }
        self.backoff.reset();
        self.failure = None;
        self.login.take()
    }

    /// Puts the token of another login in use, for which the failures of the one before mean nothing; returns a login in
    /// flight, whose session is of no use any more.
    pub(super) fn take_over(&mut self, token: Token, now: &Now) -> Option<Ticket> {
        self.replace(token, now);
        self.backoff.reset();
        self.failure = None;
        self.login.take()
    }

    /// A stable token forgives what went wrong before it.
    fn forgive(&mut self, now: &Now) {
        if self.current.as_ref().is_some_and(|token| token.is_stable(now.at)) && self.failure.is_none() {
            self.backoff.reset();
        }
    }

    /// Takes the answer to a renewal.
    pub(super) fn renewed(
        &mut self,
        ticket: Ticket,
        result: Result<TokenInfo, Failure>,
        retry: &Retry,
        now: &Now,
    ) -> Option<Result<(), Failure>> {
        let token = self.current.as_mut().filter(|token| token.renewal == Some(ticket))?;
        token.renewal = None;
        Some(match result {
            Ok(info) => {
                token.worked();
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
                        // Refused: only a login gives more time.
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

    /// Stops using the token of that number, which the server no longer accepts. Returns whether it was the one in use.
    ///
    /// The server may be a node that lags behind, and the token may be valid. It is revoked like a replaced one, when none
    /// of its leases is in use.
    pub(super) fn rejected(&mut self, number: u64, retry: &Retry, now: &Now) -> bool {
        let Some(token) = self.current.take_if(|token| token.number == number) else { return false };
        let failure = Failure::new(
            FailureClass::TokenInvalid,
            Reason::TokenExpired,
            "failed to use the Vault token: it was revoked or has expired",
        );
        if token.is_stable(now.at) {
            // Files are to be fresh again soon.
            self.backoff.reset();
        } else {
            // A token that dies young each time must not become a loop of logins.
            self.backoff.failed(&failure, retry, now, 15);
        }
        self.failure.get_or_insert(failure);
        self.gone.insert(token.number, now.at);
        self.retired.push(Retired { token, keep_until: now.at });
        true
    }

    /// Every token that has to be revoked when nothing is to be left behind.
    pub(super) fn revocable(&self, at: Elapsed) -> Vec<Token> {
        let all = self.current.iter().chain(self.retired.iter().map(|retired| &retired.token));
        all.filter(|token| token.self_issued && !token.is_over(at)).cloned().collect()
    }
}
