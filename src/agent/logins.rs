//! Applies the outcomes of logins, token renewals, and token lookups.

use std::sync::Arc;

use super::io::Ticket;
use super::journal::Subject;
use super::sessions::LoginChange;
use super::source::SourceState;
use super::time::Now;
use super::token::{Verdict, with_verdict};
use super::{Agent, Parts};
use crate::model::{Failure, FailureClass, Reason, Session, TokenInfo};

impl Agent {
    pub(super) fn logged_in(&mut self, ticket: Ticket, result: Result<Session, Failure>, now: &Now) {
        if let Some(settings) = self.abandoned_logins.remove(&ticket) {
            // The session belongs to a configuration that is not active.
            if let Some(session) = result.ok().filter(|session| session.self_issued) {
                self.parts.sessions.revoke(&settings, &session.token, &mut self.outbox);
            }
            return;
        }
        let settings = Arc::clone(&self.parts.settings);
        match self.parts.sessions.logged_in(ticket, result, &settings, now) {
            None => {}
            Some(Err(failure)) => {
                // The login may have unwrapped a secret ID, which works only once.
                self.parts.saving.request();
                self.journal.failed(&Subject::Login, &failure);
            }
            Some(Ok(change)) => {
                self.journal.recovered(&Subject::Login);
                if change == LoginChange::NewToken {
                    self.parts.saving.request();
                    let ttl = self.token_ttl(now);
                    self.journal.info(&Subject::Login, format!("logged in to Vault; the token {ttl}"));
                    self.warn_about_expiry(now);
                }
                self.update_all(|_, _| {});
            }
        }
    }

    pub(super) fn token_ttl(&self, now: &Now) -> String {
        match self.token_expiry(now.at).flatten() {
            Some(ends) => format!("expires in {}s", ends.saturating_sub(now.at).as_secs()),
            None => "has no known expiry".into(),
        }
    }

    /// Warns about a supplied token that cannot be renewed, so that it can be replaced in time.
    pub(super) fn warn_about_expiry(&mut self, now: &Now) {
        let token = self.parts.sessions.live(now.at);
        let Some(message) = token.and_then(|token| token.expiry_warning(now)) else { return };
        self.journal.warn(&Subject::Token, Reason::TokenExpiring, message.clone());
        self.parts.report.token_event(message);
    }

    pub(super) fn token_renewed(&mut self, ticket: Ticket, result: Result<TokenInfo, Failure>, now: &Now) {
        let settings = Arc::clone(&self.parts.settings);
        let number = self.parts.sessions.number();
        match self.parts.sessions.renewed(ticket, result, &settings.retry, now) {
            None => return,
            Some(Ok(())) => {
                self.journal.recovered(&Subject::Token);
                let ttl = self.token_ttl(now);
                self.journal.info(&Subject::Token, format!("renewed the Vault token; it {ttl}"));
                self.warn_about_expiry(now);
            }
            Some(Err(failure)) => {
                self.journal.failed(&Subject::Token, &failure);
                if failure.class == FailureClass::TokenInvalid {
                    self.reject_token(number, now);
                }
            }
        }
        self.update_all(|_, _| {});
    }

    /// Stops using a token if it is the active one. Sources that wait for a verdict on it are read with the next token.
    pub(super) fn reject_token(&mut self, number: u64, now: &Now) {
        let Parts { settings, sessions, saving, .. } = &mut self.parts;
        if sessions.rejected(number, &settings.retry, now) {
            saving.request();
            let failure = sessions.failure.clone();
            if let Some(failure) = failure {
                self.journal.failed(&Subject::Token, &failure);
            }
            self.update_all(|_, source| {
                if source.pending_refusal.is_some() {
                    source.token_rejected();
                }
            });
        }
    }

    pub(super) fn looked_up(&mut self, ticket: Ticket, result: &Result<TokenInfo, Failure>, now: &Now) {
        let Some(token) = self.parts.sessions.current.as_mut().filter(|token| token.looking_up == Some(ticket)) else {
            return;
        };
        let number = token.number;
        let verdict = token.looked_up(result, now);
        if verdict == Verdict::Rejected {
            return self.reject_token(number, now);
        }
        let of_token = |source: &SourceState| source.pending_refusal.clone().filter(|(of, _)| *of == number);
        let waiting: Vec<_> =
            self.parts.sources.iter().filter_map(|(name, source)| Some((name.clone(), of_token(source)?))).collect();
        for (name, (_, failure)) in waiting {
            self.source_failed(&name, &with_verdict(&failure, verdict), verdict == Verdict::TooNew, now);
        }
    }

    pub(super) fn confirm_token(&mut self, number: u64, now: &Now) {
        if let Some(token) = self.parts.sessions.current.as_mut().filter(|token| token.number == number) {
            token.confirm(now.at);
        }
    }
}
