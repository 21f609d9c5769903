//! Outcomes of reads and lease renewals: what is accepted, and what a refusal means.

use std::sync::Arc;

use super::Agent;
use super::journal::Subject;
use super::source::{InFlight, SourceState, TokenEnd};
use super::time::Now;
use super::token::{Verdict, judged};
use crate::model::{Failure, FailureClass, Lease, Order, Reading, Reason, SourceName};

impl Agent {
    /// Counts a failure of a source. `quiet`: it is to be expected for a moment and not worth a line in the log.
    pub(super) fn source_failed(&mut self, name: &SourceName, failure: &Failure, quiet: bool, now: &Now) {
        if !quiet {
            self.journal.failed(&Subject::Source(name.clone()), failure);
        }
        let retry = self.parts.settings.retry;
        self.update(name, |source| source.failed(failure.clone(), &retry, now));
        // An optional source whose files are those of an earlier process is gone only if the server says so.
        let gone = failure.class == FailureClass::Missing
            && failure.reason != Reason::RenderFailed
            && self.parts.sources.get(name).is_some_and(|source| !source.spec.required && source.held.is_none());
        if gone && self.parts.store.drop_adopted(name) {
            self.parts.publication.follower.request();
        }
    }

    pub(super) fn read(&mut self, name: &SourceName, flight: &InFlight, result: Result<Reading, Failure>, now: &Now) {
        if !self.phase.is_working() {
            return self.update(name, |_| {});
        }
        match result {
            Ok(reading) => {
                self.token_worked(flight.token);
                self.update(name, |source| source.read_with = flight.token);
                self.received(name, flight, reading, now);
            }
            Err(failure) if matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenInvalid) => {
                self.request_refused(name, flight, &failure, now);
            }
            Err(failure) => self.source_failed(name, &failure, false, now),
        }
    }

    /// A 403: the token's history says what it means.
    pub(super) fn request_refused(&mut self, name: &SourceName, flight: &InFlight, failure: &Failure, now: &Now) {
        let current = self.parts.sessions.current.as_mut().filter(|token| token.number == flight.token);
        let Some(token) = current else {
            // Of a token that is no longer in use: it says nothing about the present one.
            return self.update(name, SourceState::token_rejected);
        };
        let worked = self.parts.sources.get(name).is_some_and(|source| source.read_with == flight.token);
        match token.refused(failure.class, worked, now, &mut self.outbox) {
            Verdict::Rejected => {
                self.reject_token(flight.token, now);
                self.update(name, SourceState::token_rejected);
            }
            Verdict::Pending => self.update(name, |source| source.unjudged = Some((flight.token, failure.clone()))),
            verdict => self.source_failed(name, &judged(failure, verdict), verdict == Verdict::TooYoung, now),
        }
    }

    /// A good answer: accepted if it is not older than what is held, and everything that depends on it can be made.
    pub(super) fn received(&mut self, name: &SourceName, flight: &InFlight, reading: Reading, now: &Now) {
        self.log_warnings(name, &reading);
        let Some(source) = self.parts.sources.get(name) else { return };
        let held = source.held.as_ref().filter(|_| source.is_current());
        let order = source.known().map_or(Order::Newer, |known| reading.version.order(known));
        let since = source.older_since.unwrap_or(now.at);
        let lasting = since + source.spec.max_stale <= now.at;
        if order == Order::Older && !lasting && !source.takes_older(flight.started) {
            self.update(name, |source| source.older_since = Some(since));
            let message = format!(
                "failed to refresh source {name}: the server answered with an older version than the one in use, \
                 as a standby that lags behind does"
            );
            let failure = Failure::new(FailureClass::Transient, Reason::OlderVersion, message);
            return self.source_failed(name, &failure, false, now);
        }
        if order == Order::Older {
            let message =
                format!("source {name} is back at an older version, as after a restore of the server; it is taken");
            self.journal.warn(&Subject::Source(name.clone()), Reason::OlderVersion, message);
        }
        let rolled_back = order == Order::Older || order == Order::Level && held.is_some_and(|held| held.rolled_back);
        let same = held.is_some_and(|held| held.version == reading.version)
            && self.parts.store.reading(name).is_some_and(|old| old.data == reading.data);
        let (version, validity) = (reading.version.clone(), reading.validity.clone());
        if same {
            self.parts.store.confirm(name, Arc::new(reading));
        } else {
            if let Err(failure) = self.parts.store.accept(name, Arc::new(reading)) {
                if order != Order::Older {
                    // The server is not behind: an older answer after this one counts from its own time.
                    self.update(name, |source| source.older_since = None);
                }
                // The lease of a reading that is not used cannot be given back, so there must not be many of them.
                let retry_after = validity.lease().map(|lease| lease.duration / 2);
                return self.source_failed(name, &Failure { retry_after, ..failure }, false, now);
            }
            self.parts.publication.follower.request();
        }
        self.journal.recovered(&Subject::Source(name.clone()));
        self.update(name, |source| {
            source.keep(version, &validity, flight.token, flight.started, rolled_back, now);
        });
        self.note_left_out(name);
        self.warn_of_short_lease(name, now);
    }

    pub(super) fn log_warnings(&mut self, name: &SourceName, reading: &Reading) {
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
    pub(super) fn warn_of_short_lease(&mut self, name: &SourceName, now: &Now) {
        if !self.mode.is_once() || self.mode.saves() {
            return;
        }
        let Some((_, grant, number)) = self.parts.sources.get(name).and_then(SourceState::lease) else { return };
        let TokenEnd::At(ends) = self.parts.sessions.end_of(number) else { return };
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

    pub(super) fn lease_renewed(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        result: Result<Lease, Failure>,
        now: &Now,
    ) {
        match result {
            _ if !self.phase.is_working() => self.update(name, |_| {}),
            Ok(lease) => {
                self.token_worked(flight.token);
                self.journal.recovered(&Subject::Lease(name.clone()));
                let message = format!("renewed the lease for {}s", lease.duration.as_secs());
                self.journal.info(&Subject::Lease(name.clone()), message);
                self.update(name, |source| source.renewed(&lease, now));
            }
            Err(failure) if failure.class == FailureClass::TokenInvalid => {
                self.request_refused(name, flight, &failure, now);
            }
            Err(failure) => {
                self.journal.failed(&Subject::Lease(name.clone()), &failure);
                let (passing, lost) = (failure.class.is_retryable(), failure.class == FailureClass::Missing);
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
}
