//! Our Vault token: log in, renew in time, log in again before the end.

use std::time::Duration;

use super::Tickets;
use super::event::{Effect, Ticket};
use super::plan::Plan;
use super::retry::{Backoff, Now, Tick};
use crate::model::{Failure, FailureClass, Handover, TokenInfo};

/// Part of what is left of a token after which it is renewed. The lower end leaves a third for retries.
const RENEW_FROM: f64 = 0.55;
const RENEW_TO: f64 = 0.70;

/// A renewal that gives less than this part of the first time to live has met the maximum: the next step is a login.
const STILL_GROWS: f64 = 0.9;

/// What is going on with our token.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Session {
    live: Option<Live>,
    /// A login that was asked for and has not ended.
    login: Option<Ticket>,
    /// Its result is not wanted any more: server or credentials changed meanwhile.
    login_obsolete: bool,
    /// A renewal that was asked for and has not ended, and the session it belongs to.
    renewal: Option<(Ticket, u64)>,
    backoff: Backoff,
    pub(super) failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq)]
struct Live {
    number: u64,
    own: bool,
    first_ttl: Option<Duration>,
    ends: Option<Tick>,
    /// When to do something about it, and what.
    next: Option<(Tick, Upkeep)>,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Upkeep {
    Renew,
    LogIn,
}

impl Session {
    pub(super) fn is_live(&self, now: Tick) -> bool {
        self.live.as_ref().is_some_and(|live| live.ends.is_none_or(|end| now < end))
    }

    /// A login is on its way; its token should not outlive us.
    pub(super) fn logging_in(&self) -> bool {
        self.login.is_some()
    }

    /// Number of the session whose token is in use.
    pub(super) fn number(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.number)
    }

    /// The token to revoke at the end.
    pub(super) fn to_revoke(&self, plan: &Plan, now: Tick) -> Option<u64> {
        let own = self.live.as_ref().is_some_and(|live| live.own);
        (plan.revoke_on_exit && own && self.is_live(now)).then(|| self.number())
    }

    pub(super) fn ends(&self) -> Option<Tick> {
        self.live.as_ref().and_then(|live| live.ends)
    }

    pub(super) fn refused_for_good(&self) -> bool {
        self.live.is_none()
            && self.backoff.is_settled()
            && self.failure.as_ref().is_some_and(|failure| !failure.class.is_passing())
    }

    /// When `advance` has something to do.
    pub(super) fn wake(&self) -> Option<Tick> {
        match &self.live {
            None if self.login.is_some() => None,
            None => Some(self.backoff.not_before),
            // The end itself is a wake-up too: from then on the token is not used any more.
            Some(live) => {
                let upkeep = match live.next {
                    Some((at, Upkeep::Renew)) if self.renewal.is_none() => Some(at),
                    Some((at, Upkeep::LogIn)) if self.login.is_none() => Some(at.max(self.backoff.not_before)),
                    _ => None,
                };
                [upkeep, live.ends].into_iter().flatten().min()
            }
        }
    }

    /// Starts what is due.
    pub(super) fn advance(&mut self, _plan: &Plan, now: &Now, tickets: &mut Tickets, effects: &mut Vec<Effect>) {
        if self.live.as_ref().is_some_and(|live| live.ends.is_some_and(|end| end <= now.at)) {
            self.live = None;
        }
        let log_in = match &mut self.live {
            None => true,
            Some(live) => match live.next {
                Some((at, Upkeep::Renew)) if at <= now.at && self.renewal.is_none() => {
                    let ticket = tickets.next();
                    self.renewal = Some((ticket, live.number));
                    effects.push(Effect::RenewToken { ticket, token: live.number });
                    false
                }
                Some((at, Upkeep::LogIn)) => at <= now.at,
                _ => false,
            },
        };
        if log_in && self.login.is_none() && self.backoff.not_before <= now.at {
            let ticket = tickets.next();
            self.login = Some(ticket);
            effects.push(Effect::Login { ticket });
        }
    }

    /// Whether this is the login that is waited for, and what it gives is still of use.
    fn login_ended(&mut self, ticket: Ticket) -> bool {
        self.login.take_if(|started| *started == ticket).is_some() && !std::mem::take(&mut self.login_obsolete)
    }

    /// Whether there is a new token in use.
    pub(super) fn logged_in(
        &mut self,
        ticket: Ticket,
        result: Result<(TokenInfo, bool), Failure>,
        plan: &Plan,
        now: &Now,
    ) -> bool {
        if !self.login_ended(ticket) {
            return false;
        }
        match result {
            Ok((info, own)) => {
                self.begin(ticket.0, own, info.ttl, info.ttl, info.renewable, now);
                true
            }
            Err(failure) => {
                self.backoff.failed(&failure, &plan.retry, now, 12);
                self.failure = Some(failure);
                false
            }
        }
    }

    /// Whether the token of an earlier process is in use now.
    pub(super) fn taken_over(&mut self, ticket: Ticket, left: &Handover, now: &Now) -> bool {
        if !self.login_ended(ticket) {
            return false;
        }
        self.begin(ticket.0, left.own, left.first_ttl, left.left, left.renewable, now);
        true
    }

    fn begin(
        &mut self,
        number: u64,
        own: bool,
        first_ttl: Option<Duration>,
        left: Option<Duration>,
        renewable: bool,
        now: &Now,
    ) {
        let upkeep = if renewable { Upkeep::Renew } else { Upkeep::LogIn };
        self.failure = None;
        self.live = Some(Live {
            number,
            own,
            first_ttl,
            ends: left.map(|left| now.at + left),
            next: left.map(|left| (now.fraction_of(left, RENEW_FROM, RENEW_TO, 11), upkeep)),
            backoff: Backoff::default(),
        });
    }

    /// The token in use as the next process has to know it; `None` if there is none.
    pub(super) fn to_hand_over(&self, now: Tick) -> Option<Handover> {
        // A token that was given is given to the next process, too.
        let live = self.live.as_ref().filter(|live| live.own && self.is_live(now))?;
        Some(Handover {
            first_ttl: live.first_ttl,
            left: live.ends.map(|end| end.saturating_sub(now)),
            renewable: matches!(live.next, Some((_, Upkeep::Renew))),
            own: live.own,
            sources: std::collections::BTreeMap::new(),
        })
    }

    pub(super) fn renewed(&mut self, ticket: Ticket, result: Result<TokenInfo, Failure>, plan: &Plan, now: &Now) {
        let Some((_, number)) = self.renewal.take_if(|(started, _)| *started == ticket) else { return };
        let Some(live) = self.live.as_mut().filter(|live| live.number == number) else { return };
        match result {
            Ok(info) => {
                live.backoff.reset();
                self.failure = None;
                live.ends = info.ttl.map(|ttl| now.at + ttl);
                live.next = info.ttl.map(|ttl| {
                    let grows = live.first_ttl.is_some_and(|first| ttl >= first.mul_f64(STILL_GROWS));
                    let upkeep = if info.renewable && grows { Upkeep::Renew } else { Upkeep::LogIn };
                    (now.fraction_of(ttl, RENEW_FROM, RENEW_TO, 13), upkeep)
                });
            }
            Err(failure) if failure.class == FailureClass::TokenDead => {
                self.failure = Some(failure);
                self.dead(number, plan, now);
            }
            Err(failure) => {
                live.backoff.failed(&failure, &plan.retry, now, 14);
                // Half of what is left at the latest, so that a try always falls before the end.
                let latest = live.ends.map(|end| now.at + end.saturating_sub(now.at) / 2);
                let at = latest.map_or(live.backoff.not_before, |latest| latest.min(live.backoff.not_before));
                // Where renewing is refused there is still the login.
                let upkeep = if failure.class.is_passing() { Upkeep::Renew } else { Upkeep::LogIn };
                live.next = Some((at, upkeep));
                self.failure = Some(failure);
            }
        }
    }

    /// The token of session `number` was found dead.
    pub(super) fn dead(&mut self, number: u64, plan: &Plan, now: &Now) {
        if self.number() != number || number == 0 {
            return;
        }
        let failure = Failure::new(
            FailureClass::TokenDead,
            crate::model::Reason::TokenExpired,
            "failed to use the vault token: it was revoked or has expired",
        );
        self.live = None;
        // The first death costs no wait: the files are to be fresh again soon. A token that dies each time must not
        // become a loop of logins.
        if self.backoff.attempts == 0 {
            self.backoff.attempts = 1;
            self.backoff.not_before = now.at;
        } else {
            self.backoff.failed(&failure, &plan.retry, now, 15);
        }
        self.failure.get_or_insert(failure);
    }

    /// The token of session `number` was good for a request.
    pub(super) fn proven(&mut self, number: u64) {
        if self.number() == number {
            self.backoff.reset();
        }
    }

    /// Server or credentials changed: the token in use belongs to the old ones.
    pub(super) fn start_over(&mut self, now: &Now) {
        *self = Self {
            login: self.login,
            login_obsolete: self.login.is_some(),
            renewal: self.renewal,
            backoff: Backoff { attempts: 0, not_before: now.at },
            ..Self::default()
        };
    }
}

#[cfg(test)]
impl Session {
    /// A token that ends is renewed or replaced before its end, as long as Vault answers.
    pub(super) fn check_law(&self, now: Tick) {
        let Some(live) = &self.live else { return };
        let Some(end) = live.ends.filter(|end| *end > now) else { return };
        let on_its_way = self.renewal.is_some() || self.login.is_some();
        let refused = self.backoff.attempts > 0;
        let planned = live.next.is_some_and(|(at, _)| at < end);
        assert!(on_its_way || refused || planned, "a token runs out unattended: {self:#?} at {now:?}");
    }
}
