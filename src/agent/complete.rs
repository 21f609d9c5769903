//! Taking the outcomes of operations.

use std::sync::Arc;

use super::io::{Action, MirrorResult, Outcome, Ticket};
use super::journal::Subject;
use super::mirrors::MirrorChange;
use super::sessions::LoginChange;
use super::source::{InFlight, Outlook, SourceState};
use super::time::Now;
use super::token::{Verdict, judged};
use super::{Agent, Parts};
use crate::model::{
    AdoptedSet, Checkpoint, Failure, FailureClass, Lease, Order, Reading, Reason, Session, SourceName, TokenInfo,
};

impl Agent {
    /// The first input. A set of an earlier process is adopted if the configuration asks for the same files of the same
    /// requests.
    pub(super) fn start(&mut self, adopted: Option<&AdoptedSet>) {
        let Parts { settings, sources, store, publication, .. } = &mut self.parts;
        let Some(set) = adopted else { return publication.follower.request() };
        let same = |name: &SourceName| {
            let saved = set.manifest.sources.get(name);
            sources.get(name).zip(saved).is_some_and(|(source, saved)| source.spec.request_id() == saved.request)
        };
        let layout = super::publication::layout_id(&settings.outputs);
        let required = settings.sources.iter().filter(|(_, source)| source.required).all(|(name, _)| same(name));
        if layout == set.manifest.layout && required {
            let keep = settings.sources.keys().filter(|name| same(name)).cloned().collect();
            store.adopt(set, &keep);
            // It stays the adopted one until something is read: to publish it again would say nothing new.
            publication.adopt(set);
            if !self.mode.is_once() {
                // `once` has no time to find out whether an older answer lasts.
                let outlook = Outlook { token: 0, token_end: &|_| super::source::TokenEnd::Never };
                sources.update_all(&outlook, |name, source| {
                    let known = set.manifest.sources.get(name).filter(|known| known.request == source.spec.request_id());
                    source.adopted = known.map(|known| known.version.clone());
                });
            }
            self.journal.info(&Subject::Publication, "adopted the set of an earlier process");
        } else {
            publication.follower.request();
        }
    }

    /// SIGHUP.
    pub(super) fn refresh(&mut self, now: &Now) {
        let Parts { sessions, sources, mirrors, .. } = &mut self.parts;
        let token_end = |number| sessions.end_of(number);
        let outlook = Outlook { token: sessions.number(), token_end: &token_end };
        sources.update_all(&outlook, |_, source| source.refresh(now));
        mirrors.request();
    }

    pub(super) fn completed(&mut self, ticket: Ticket, outcome: Outcome, now: &Now, actions: &mut Vec<Action>) {
        if self.trial.as_ref().is_some_and(|trial| trial.owns(ticket)) {
            return self.trial_completed(ticket, outcome, now);
        }
        match outcome {
            Outcome::LoggedIn(result) => self.logged_in(ticket, result, now, actions),
            Outcome::Restored(checkpoint) => self.restored(ticket, &checkpoint, now),
            Outcome::LookedUp(result) => self.looked_up(ticket, &result, now, actions),
            Outcome::TokenRenewed(result) => self.token_renewed(ticket, result, now, actions),
            Outcome::Read(result) => {
                if let Some((name, flight)) = self.parts.sources.ended(ticket) {
                    // A reading that comes while we leave is not used: nothing new is published any more.
                    self.read(&name, &flight, result, now, actions);
                }
            }
            Outcome::LeaseRenewed(result) => {
                if let Some((name, flight)) = self.parts.sources.ended(ticket) {
                    self.lease_renewed(&name, &flight, result, now, actions);
                }
            }
            Outcome::Published(result) => {
                if !self.left(ticket, actions) {
                    self.published(ticket, result, now);
                }
            }
            Outcome::Retired(result) => {
                self.left(ticket, actions);
                self.ended(Subject::Directory, &result);
            }
            Outcome::Mirrored(result) => self.mirrored(ticket, result, now),
            Outcome::Reported(result) => {
                let Parts { settings, report, .. } = &mut self.parts;
                if let Some(result) = report.reported(ticket, result, settings, now) {
                    self.ended(Subject::Report, &result);
                }
            }
            Outcome::Recorded(result) => {
                let Parts { settings, report, .. } = &mut self.parts;
                if let Some(result) = report.recorded(ticket, result, settings, now) {
                    self.ended(Subject::Event, &result);
                }
            }
            Outcome::Saved(result) => {
                self.ended(Subject::Save, &result);
                if result.is_ok() {
                    self.journal.info(&Subject::Save, "left the vault token to the next container");
                }
                let mut tickets = std::mem::take(&mut self.tickets);
                self.save_ended(ticket, result.is_ok(), now, &mut tickets, actions);
                self.tickets = tickets;
            }
            Outcome::Revoked(result) => {
                self.parts.sessions.revoked(ticket);
                self.ended(Subject::Revocation, &result);
                if result.is_ok() {
                    self.journal.info(&Subject::Revocation, "revoked the vault token");
                }
            }
        }
    }

    fn ended(&mut self, subject: Subject, result: &Result<(), Failure>) {
        match result {
            Ok(()) => self.journal.recovered(subject),
            Err(failure) => self.journal.failed(subject, failure),
        }
    }

    /// Changes one source.
    pub(super) fn update(&mut self, name: &SourceName, change: impl FnOnce(&mut SourceState)) {
        let Parts { sessions, sources, .. } = &mut self.parts;
        let token_end = |number| sessions.end_of(number);
        sources.update(name, &Outlook { token: sessions.number(), token_end: &token_end }, change);
    }

    /// Changes all sources, and their plans where only the token changed.
    pub(super) fn update_all(&mut self, change: impl FnMut(&SourceName, &mut SourceState)) {
        let Parts { sessions, sources, .. } = &mut self.parts;
        let token_end = |number| sessions.end_of(number);
        sources.update_all(&Outlook { token: sessions.number(), token_end: &token_end }, change);
    }

    fn logged_in(&mut self, ticket: Ticket, result: Result<Session, Failure>, now: &Now, actions: &mut Vec<Action>) {
        if let Some(settings) = self.abandoned_logins.remove(&ticket) {
            // Its session is of a configuration that is not in force.
            if let Ok(session) = result {
                let token = super::token::Token::new(0, session, settings, now);
                if token.self_issued {
                    self.parts.sessions.revoke(&token, &mut self.tickets, actions);
                }
            }
            return;
        }
        let settings = Arc::clone(&self.parts.settings);
        match self.parts.sessions.logged_in(ticket, result, &settings, now) {
            None => {}
            Some(Err(failure)) => self.journal.failed(Subject::Login, &failure),
            Some(Ok(change)) => {
                self.journal.recovered(Subject::Login);
                if change == LoginChange::NewToken {
                    let ttl = self.token_ttl(now);
                    self.journal.info(&Subject::Login, format!("logged in to vault; the token {ttl}"));
                    self.warn_of_expiry(now);
                }
                self.update_all(|_, _| {});
            }
        }
    }

    fn token_ttl(&self, now: &Now) -> String {
        match self.token_ends(now.at).flatten() {
            Some(ends) => format!("lives for {}s", ends.saturating_sub(now.at).as_secs()),
            None => "has no known end".into(),
        }
    }

    /// A given token that cannot be renewed ends whatever we do; a person has to know it in time.
    fn warn_of_expiry(&mut self, now: &Now) {
        let Some(ends) = self.parts.sessions.live(now.at).filter(|token| token.is_expiring()).and_then(|t| t.ends()) else {
            return;
        };
        let message = format!(
            "the given Vault token ends at {} and cannot be renewed; put a new one in its place before",
            super::time::clock(now.wall_at(ends))
        );
        self.journal.warn(&Subject::Token, Reason::TokenExpiring, message.clone());
        self.parts.report.token_event(message);
    }

    fn restored(&mut self, ticket: Ticket, checkpoint: &Checkpoint, now: &Now) {
        let settings = Arc::clone(&self.parts.settings);
        if !self.parts.sessions.restored(ticket, checkpoint, &settings, now) {
            return;
        }
        let (token, ttl) = (self.parts.sessions.number(), self.token_ttl(now));
        self.journal.info(&Subject::Login, format!("took over the vault token of the container before; it {ttl}"));
        self.update_all(|_, _| {});
        if !self.phase.is_working() {
            return;
        }
        for (name, saved) in &checkpoint.sources {
            let idle = self.parts.sources.get(name).is_some_and(|s| s.held.is_none() && s.in_flight.is_none());
            let over = saved.lease_left.is_some_and(|left| left.is_zero());
            if idle && !over && self.parts.store.accept(name, Arc::clone(&saved.reading)).is_ok() {
                self.update(name, |source| source.restore(&saved.reading, saved.lease_left, token, now));
                self.parts.publication.follower.request();
            }
        }
    }

    fn token_renewed(&mut self, ticket: Ticket, result: Result<TokenInfo, Failure>, now: &Now, actions: &mut Vec<Action>) {
        let settings = Arc::clone(&self.parts.settings);
        let number = self.parts.sessions.number();
        match self.parts.sessions.renewed(ticket, result, &settings.retry, now) {
            None => return,
            Some(Ok(())) => {
                self.journal.recovered(Subject::Token);
                let ttl = self.token_ttl(now);
                self.journal.info(&Subject::Token, format!("renewed the vault token; it {ttl}"));
            }
            Some(Err(failure)) => {
                self.journal.failed(Subject::Token, &failure);
                if failure.class == FailureClass::TokenDead {
                    self.reject_token(number, now, actions);
                }
            }
        }
        self.update_all(|_, _| {});
    }

    /// Gives up a token, if it is the one in use; what waited for a judgement of it waits for the next token.
    fn reject_token(&mut self, number: u64, now: &Now, actions: &mut Vec<Action>) {
        let Parts { settings, sessions, .. } = &mut self.parts;
        if sessions.rejected(number, &settings.retry, now, &mut self.tickets, actions) {
            let failure = sessions.failure.clone();
            if let Some(failure) = failure {
                self.journal.failed(Subject::Token, &failure);
            }
            self.update_all(|_, source| {
                if source.unjudged.is_some() {
                    source.token_rejected();
                }
            });
        }
    }

    fn looked_up(&mut self, ticket: Ticket, result: &Result<TokenInfo, Failure>, now: &Now, actions: &mut Vec<Action>) {
        let Some(token) = self.parts.sessions.current.as_mut().filter(|token| token.looking_up == Some(ticket)) else {
            return;
        };
        let number = token.number;
        let verdict = token.looked_up(result, now);
        if verdict == Verdict::Rejected {
            return self.reject_token(number, now, actions);
        }
        let waiting: Vec<_> = self.parts.sources.iter().filter_map(|(name, s)| Some((name.clone(), s.unjudged.clone()?))).collect();
        for (name, failure) in waiting {
            self.source_failed(&name, &judged(&failure, verdict), verdict == Verdict::TooYoung, now);
        }
    }

    /// Counts a failure of a source. `quiet`: it is to be expected for a moment and not worth a line in the log.
    fn source_failed(&mut self, name: &SourceName, failure: &Failure, quiet: bool, now: &Now) {
        if !quiet {
            self.journal.failed(Subject::Source(name.clone()), failure);
        }
        let retry = self.parts.settings.retry;
        self.update(name, |source| source.failed(failure.clone(), &retry, now));
        // An optional source whose files are those of an earlier process is gone only if the server says so.
        let gone = failure.class == FailureClass::Missing
            && self.parts.sources.get(name).is_some_and(|source| !source.spec.required && source.held.is_none());
        if gone && self.parts.store.drop_adopted(name) {
            self.parts.publication.follower.request();
        }
    }

    fn read(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        result: Result<Reading, Failure>,
        now: &Now,
        actions: &mut Vec<Action>,
    ) {
        if !self.phase.is_working() {
            return self.update(name, |_| {});
        }
        match result {
            Ok(reading) => {
                self.token_worked(flight.token);
                self.received(name, flight, reading, now);
            }
            Err(failure) if matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenDead) => {
                self.request_refused(name, flight, &failure, now, actions);
            }
            Err(failure) => self.source_failed(name, &failure, false, now),
        }
    }

    fn token_worked(&mut self, number: u64) {
        if let Some(token) = self.parts.sessions.current.as_mut().filter(|token| token.number == number) {
            token.worked();
        }
    }

    /// A 403: the token's history says what it means.
    fn request_refused(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        failure: &Failure,
        now: &Now,
        actions: &mut Vec<Action>,
    ) {
        let current = self.parts.sessions.current.as_mut().filter(|token| token.number == flight.token);
        let Some(token) = current else {
            // Of a token that is no longer in use: it says nothing about the present one.
            return self.update(name, SourceState::token_rejected);
        };
        match token.refused(failure.class, now, &mut self.tickets, actions) {
            Verdict::Rejected => {
                self.reject_token(flight.token, now, actions);
                self.update(name, SourceState::token_rejected);
            }
            Verdict::Pending => self.update(name, |source| source.unjudged = Some(failure.clone())),
            verdict => self.source_failed(name, &judged(failure, verdict), verdict == Verdict::TooYoung, now),
        }
    }

    /// A good answer: accepted if it is not older than what is held, and everything that depends on it can be made.
    fn received(&mut self, name: &SourceName, flight: &InFlight, reading: Reading, now: &Now) {
        self.log_warnings(name, &reading);
        let Some(source) = self.parts.sources.get(name) else { return };
        let held = source.held.as_ref().filter(|_| source.is_current());
        let known = held.map(|held| &held.version).or(source.adopted.as_ref());
        let order = known.map_or(Order::Newer, |known| reading.version.order(known));
        let since = source.older_since.unwrap_or(now.at);
        let lasting = since + source.spec.max_stale <= now.at;
        if order == Order::Older && !lasting && !source.was_asked(flight.started) {
            self.update(name, |source| source.older_since = Some(since));
            let message = format!(
                "failed to refresh source {name}: the server answered with an older version than the one in use, \
                 as a standby that lags behind does"
            );
            let failure = Failure::new(FailureClass::Transient, Reason::OlderVersion, message);
            return self.source_failed(name, &failure, false, now);
        }
        if order == Order::Older {
            let message = format!("source {name} is back at an older version, as after a restore of the server; it is taken");
            self.journal.warn(&Subject::Source(name.clone()), Reason::OlderVersion, message);
        }
        let rolled_back = order == Order::Older || order == Order::Level && held.is_some_and(|held| held.rolled_back);
        let same = held.is_some_and(|held| held.version == reading.version)
            && self.parts.store.reading(name).is_some_and(|old| old.data == reading.data);
        let (version, validity) = (reading.version.clone(), reading.validity.clone());
        if !same {
            if let Err(failure) = self.parts.store.accept(name, Arc::new(reading)) {
                if order != Order::Older {
                    // The server is not behind: an older answer after this one counts from its own time.
                    self.update(name, |source| source.older_since = None);
                }
                return self.source_failed(name, &failure, false, now);
            }
            self.parts.publication.follower.request();
        }
        self.journal.recovered(Subject::Source(name.clone()));
        self.update(name, |source| {
            source.keep(version, &validity, flight.token, flight.started, rolled_back, now);
        });
        self.note_left_out(name);
        self.warn_of_short_lease(name, now);
    }

    fn log_warnings(&mut self, name: &SourceName, reading: &Reading) {
        if self.warned.get(name).is_some_and(|last| *last == reading.warnings) || reading.warnings.is_empty() {
            return;
        }
        for warning in &reading.warnings {
            self.journal.info(&Subject::Source(name.clone()), format!("vault warns: {warning}"));
        }
        self.warned.insert(name.clone(), reading.warnings.clone());
    }

    pub(super) fn note_left_out(&mut self, name: &SourceName) {
        let keys = self.parts.store.left_out(name);
        if self.parts.left_out.get(name).map_or(keys.is_empty(), |last| *last == keys) {
            return;
        }
        if keys.is_empty() {
            self.parts.left_out.remove(name);
            return;
        }
        let message = format!(
            "keys of source {name} cannot be file names and are left out: {}; write an output with `key` and `file` for them",
            keys.join(", ")
        );
        self.journal.warn(&Subject::Source(name.clone()), Reason::InvalidKey, message);
        self.parts.left_out.insert(name.clone(), keys);
    }

    /// After `once`, leases live as long as the token and no longer.
    fn warn_of_short_lease(&mut self, name: &SourceName, now: &Now) {
        if !self.mode.is_once() || self.mode.saves() {
            return;
        }
        let Some((_, grant, number)) = self.parts.sources.get(name).and_then(SourceState::lease) else { return };
        let super::source::TokenEnd::At(ends) = self.parts.sessions.end_of(number) else { return };
        if ends < grant.ends() {
            let message = format!(
                "the credentials of source {name} end with the Vault token in {}s, not after their lease of {}s, because \
                 `once` leaves no process that renews it",
                ends.saturating_sub(now.at).as_secs(),
                grant.first_ttl().as_secs()
            );
            self.journal.warn(&Subject::Lease(name.clone()), Reason::TokenExpiring, message);
        }
    }

    fn lease_renewed(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        result: Result<Lease, Failure>,
        now: &Now,
        actions: &mut Vec<Action>,
    ) {
        match result {
            _ if !self.phase.is_working() => self.update(name, |_| {}),
            Ok(lease) => {
                self.token_worked(flight.token);
                self.journal.recovered(Subject::Lease(name.clone()));
                let message = format!("renewed the lease for {}s", lease.duration.as_secs());
                self.journal.info(&Subject::Lease(name.clone()), message);
                self.update(name, |source| source.renewed(&lease, now));
            }
            Err(failure) if failure.class == FailureClass::TokenDead => {
                self.request_refused(name, flight, &failure, now, actions);
            }
            Err(failure) => {
                self.journal.failed(Subject::Lease(name.clone()), &failure);
                let (passing, lost) = (failure.class.is_passing(), failure.class == FailureClass::Missing);
                let retry = self.parts.settings.retry;
                self.update(name, |source| {
                    if passing {
                        source.failed(failure, &retry, now);
                    } else {
                        // A read issues another lease.
                        source.renewal_refused(lost, now);
                    }
                });
            }
        }
    }

    fn published(&mut self, ticket: Ticket, result: Result<bool, Failure>, now: &Now) {
        let Parts { settings, publication, mirrors, .. } = &mut self.parts;
        match result {
            Ok(swapped) => {
                if publication.follower.succeeded(ticket) {
                    let new = publication.published(swapped);
                    mirrors.request();
                    self.journal.recovered(Subject::Publication);
                    if let Some(generation) = publication.generation().filter(|_| new) {
                        self.journal.info(&Subject::Publication, format!("published generation {generation}"));
                    }
                }
            }
            Err(failure) => {
                if publication.follower.failed(ticket, failure.clone(), &settings.retry, now, 31) {
                    self.journal.failed(Subject::Publication, &failure);
                }
            }
        }
    }

    fn mirrored(&mut self, ticket: Ticket, result: Result<MirrorResult, Failure>, now: &Now) {
        let Parts { settings, mirrors, publication, .. } = &mut self.parts;
        let Some((name, result)) = mirrors.mirrored(ticket, result, settings, publication.visible(), now) else { return };
        match result {
            Ok((result, change)) => {
                self.journal.recovered(Subject::Mirror(name.clone()));
                let subject = Subject::Mirror(name);
                match result {
                    MirrorResult::Unchanged => {}
                    MirrorResult::Written => self.journal.info(&subject, "mirrored"),
                    MirrorResult::Superseded => {
                        self.journal.info(&subject, "the Secret holds a newer version, written by another replica");
                    }
                    MirrorResult::Repaired => {
                        let message = "the Secret was edited by somebody else and holds the published set again";
                        self.journal.warn(&subject, Reason::Drifted, message);
                    }
                }
                if let MirrorChange::ReadAgain(sources) = change {
                    self.update_all(|name, source| {
                        if sources.contains(name) {
                            source.read_again(now);
                        }
                    });
                }
            }
            Err(failure) => self.journal.failed(Subject::Mirror(name), &failure),
        }
    }
}
