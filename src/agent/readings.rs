//! Applies the outcomes of reads and lease renewals.

use std::sync::Arc;

use super::Agent;
use super::journal::Subject;
use super::lifetime::{TokenView, wait_after_unusable};
use super::replaced::Revocation;
use super::source::{InFlight, SourceState};
use super::store::NotAccepted;
use super::time::{Elapsed, Now, timestamp};
use super::token::{Verdict, with_verdict};
use crate::model::{Failure, FailureClass, Lease, LeaseId, Order, Reading, Reason, SourceName, Validity, Version};

/// Describes a version for a message.
fn describe(version: &Version) -> String {
    match (version.number, version.created) {
        (Some(number), _) => format!("version {number}"),
        (None, Some(created)) => format!("version of {}", timestamp(created)),
        (None, None) => "version".to_owned(),
    }
}

/// Describes a version and the known one. For a list, those of the first secret that is older than the known one.
fn compared(version: &Version, known: Option<&Version>) -> (String, String) {
    match known.and_then(|known| version.older_secret(known)) {
        Some((path, version, known)) => (format!("{} of {path}", describe(version)), describe(known)),
        None => (describe(version), known.map_or_else(String::new, describe)),
    }
}

impl Agent {
    /// Records a failure of a source. `quiet`: the failure is expected for a short time and is not logged.
    pub(super) fn source_failed(&mut self, name: &SourceName, failure: &Failure, quiet: bool, now: &Now) {
        if !quiet {
            self.journal.failed(&Subject::Source(name.clone()), failure);
        }
        let retry = self.parts.settings.retry;
        self.update(name, |source| source.failed(failure.clone(), &retry, now));
        // The adopted files of an optional source are removed only if Vault reports that their secret does not exist. `once`
        // adopts only files of the configured request. In `run`, only those have an adopted version.
        let is_gone = |source: &SourceState| {
            let same_request = self.mode.is_once() || source.adopted.is_some();
            !source.spec.required && source.held.is_none() && same_request
        };
        let gone = failure.class == FailureClass::Missing
            && failure.reason != Reason::RenderFailed
            && self.parts.sources.get(name).is_some_and(is_gone);
        if gone && self.parts.store.drop_adopted(name) {
            self.parts.publication.sync.request();
        }
    }

    pub(super) fn read(&mut self, name: &SourceName, flight: &InFlight, result: Result<Reading, Failure>, now: &Now) {
        if !self.phase.is_working() {
            return self.update(name, |_| {});
        }
        match result {
            Ok(reading) => {
                self.confirm_token(flight.token, now);
                self.update(name, |source| source.read_with = flight.token);
                let reading = Reading { received: now.wall, ..reading };
                self.begin_rounds(name);
                self.received(name, flight, (reading, now.at), now);
            }
            Err(failure) if matches!(failure.class, FailureClass::Forbidden | FailureClass::TokenInvalid) => {
                self.request_denied(name, flight, &failure, now);
            }
            Err(failure) => self.source_failed(name, &failure, false, now),
        }
    }

    /// Handles a 403, whose meaning depends on the history of the token.
    pub(super) fn request_denied(&mut self, name: &SourceName, flight: &InFlight, failure: &Failure, now: &Now) {
        let current = self.parts.sessions.current.as_mut().filter(|token| token.number == flight.token);
        let Some(token) = current else {
            // The response is about an earlier token and says nothing about the active one.
            return self.update(name, SourceState::token_rejected);
        };
        let worked = self.parts.sources.get(name).is_some_and(|source| source.read_with == flight.token);
        match token.refused(failure.class, worked, now, &mut self.outbox) {
            Verdict::Rejected => {
                self.reject_token(flight.token, now);
                self.update(name, SourceState::token_rejected);
            }
            Verdict::Pending => {
                self.update(name, |source| source.pending_refusal = Some((flight.token, failure.clone())));
            }
            verdict => self.source_failed(name, &with_verdict(failure, verdict), verdict == Verdict::TooNew, now),
        }
    }

    /// Accepts a reading of the time `read` if it is not older than the held one and every output that depends on it can be
    /// rendered.
    pub(super) fn received(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        (reading, read): (Reading, Elapsed),
        now: &Now,
    ) {
        self.log_warnings(name, &reading);
        let Some(source) = self.parts.sources.get(name) else { return };
        let held = source.held.as_ref().filter(|_| source.is_current());
        let order = source.known_version().map_or(Order::Newer, |known| reading.version.order(known));
        let since = source.older_since.unwrap_or(now.at);
        let lasting = since + source.spec.max_stale <= now.at;
        if order == Order::Older {
            let (returned, known) = compared(&reading.version, source.known_version());
            if !lasting && !source.accepts_older(flight.started) {
                let message = format!(
                    "failed to refresh source {name}: Vault returned {returned}, which is older than the {known} in use; \
                     check that Vault's standby nodes are in sync (if this lasts for {}s, as after a restore from a \
                     backup, the older version is accepted)",
                    source.spec.max_stale.as_secs(),
                );
                self.update(name, |source| source.older_since = Some(since));
                let failure = Failure::new(FailureClass::Transient, Reason::OlderVersion, message);
                return self.source_failed(name, &failure, false, now);
            }
            let why =
                if lasting { "Vault keeps returning it" } else { "a refresh was requested, or the address changed" };
            let message = format!("source {name}: accepted {returned}, which is older than the previous one: {why}");
            self.journal.warn(&Subject::Source(name.clone()), Reason::OlderVersion, message);
        }
        let rolled_back = order == Order::Older || order == Order::Level && held.is_some_and(|held| held.rolled_back);
        let same = held.is_some_and(|held| held.version == reading.version)
            && self
                .parts
                .store
                .reading(name)
                .is_some_and(|old| old.data == reading.data && old.metadata == reading.metadata);
        let (version, validity) = (reading.version.clone(), reading.validity.clone());
        let number = version.number;
        let before = source.lease_in_use();
        // It cannot be unwrapped again.
        let is_unwrapped = source.spec.wrapping_token_file.is_some() && !same;
        if same {
            self.parts.store.confirm(name, Arc::new(reading));
        } else {
            let reading = Arc::new(reading);
            if let Err(error) = self.parts.store.accept(name, Arc::clone(&reading)) {
                let failure = match error {
                    NotAccepted::Failed(failure) => failure,
                    NotAccepted::Needs(needed) => {
                        let reading = Arc::unwrap_or_clone(reading);
                        match self.wait_for_calls(name, flight, (reading, read), &needed, now) {
                            Ok(()) => return,
                            Err(failure) => failure,
                        }
                    }
                };
                if is_unwrapped {
                    self.parts.saving.request();
                }
                if order != Order::Older {
                    // This answer is not older, so the time of a rollback starts again with the next older one.
                    self.update(name, |source| source.older_since = None);
                }
                let retry_after = wait_after_unusable(&validity, now);
                self.update(name, |source| source.rejected(&validity));
                self.discard_lease(name, &validity, flight.token, now);
                self.source_failed(name, &Failure { retry_after, ..failure }, false, now);
                if self.mode.is_once() && retry_after.is_some() {
                    // Engines with leases choose the keys themselves: the next lease would have the same ones.
                    self.update(name, |source| source.backoff.conclude());
                }
                return;
            }
            self.parts.publication.sync.request();
        }
        if before.is_some() || is_unwrapped || validity.is_issued() {
            self.parts.saving.request();
        }
        if let Some(lease) = before.filter(|lease| !self.parts.publication.uses_lease(&lease.id)) {
            self.parts.replaced.discard(name, lease.id, lease.token, now);
        }
        self.journal.recovered(&Subject::Source(name.clone()));
        // The lifetime starts at the read. The reading may have waited for other secrets since then.
        let then = Now { at: read, wall: now.wall_at(read), ..*now };
        self.update(name, |source| {
            source.accept(version, &validity, flight.token, flight.started, rolled_back, &then);
        });
        self.compare_with_event(name, number, now);
        self.note_skipped_keys(name);
        self.note_expiry(name, now);
        self.note_certificate(name);
        self.retry_waiting(name, now);
    }

    /// Revokes the lease of a reading that no set contains.
    pub(super) fn discard_lease(&mut self, name: &SourceName, validity: &Validity, token: u64, now: &Now) {
        if let Some(lease) = validity.lease() {
            self.parts.replaced.discard(name, lease.id.clone(), token, now);
        }
    }

    pub(super) fn log_warnings(&mut self, name: &SourceName, reading: &Reading) {
        if self.warned.get(name).is_some_and(|last| *last == reading.warnings) || reading.warnings.is_empty() {
            return;
        }
        for warning in &reading.warnings {
            let message = format!("Vault returned a warning for source {name}: {warning}");
            self.journal.info(&Subject::Source(name.clone()), message);
        }
        self.warned.insert(name.clone(), reading.warnings.clone());
    }

    pub(super) fn note_skipped_keys(&mut self, name: &SourceName) {
        let keys = self.parts.store.left_out(name);
        if self.parts.left_out.get(name).map_or(keys.is_empty(), |last| *last == keys) {
            return;
        }
        if keys.is_empty() {
            self.parts.left_out.remove(name);
            return;
        }
        let message = format!(
            "source {name}: skipped keys that are not valid file names: {}; give each another name with the \
             output's `rename`, or leave it out with `exclude`",
            keys.join(", ")
        );
        self.journal.warn(&Subject::Source(name.clone()), Reason::InvalidKey, message);
        self.parts.left_out.insert(name.clone(), keys);
    }

    /// Logs when the credentials of a source expire: after `once`, no process renews or replaces them.
    pub(super) fn note_expiry(&mut self, name: &SourceName, now: &Now) {
        if !self.mode.is_once() || self.mode.has_checkpoint() {
            return;
        }
        let Some(source) = self.parts.sources.get(name) else { return };
        let Some(held) = &source.held else { return };
        let expiry_of = |number| self.parts.sessions.expiry_of(number);
        let Some(ends) = held.lifetime.expires_at(&TokenView { token: 0, token_expiry: &expiry_of }) else { return };
        let left = ends.saturating_sub(now.at).as_secs();
        let subject = Subject::Lease(name.clone());
        match held.lifetime.grant() {
            Some(grant) if ends + grant.first_ttl() / 10 < grant.expires_at() => {
                let message = format!(
                    "the credentials of source {name} expire with the Vault token in {left}s, before their lease of \
                     {}s, because no process renews the token after `once`; run the agent as a sidecar, or pass the \
                     token on with --checkpoint",
                    grant.first_ttl().as_secs()
                );
                self.journal.warn(&subject, Reason::TokenExpiring, message);
            }
            _ => {
                let message = format!(
                    "the credentials of source {name} expire in {left}s, because no process replaces them after `once`"
                );
                self.journal.info(&subject, message);
            }
        }
    }

    /// Records a successful request for a lease. The request for a child token is made with that token.
    fn confirm_token_of_lease(&mut self, name: &SourceName, flight: &InFlight, now: &Now) {
        let lease = self.parts.sources.get(name).and_then(SourceState::lease);
        if !matches!(lease, Some((LeaseId::Token(_), ..))) {
            self.confirm_token(flight.token, now);
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
                self.confirm_token_of_lease(name, flight, now);
                self.journal.recovered(&Subject::Lease(name.clone()));
                let message =
                    format!("renewed the lease of source {name}; it expires in {}s", lease.duration.as_secs());
                self.journal.info(&Subject::Lease(name.clone()), message);
                self.parts.saving.request();
                self.update(name, |source| source.renewed(&lease, now));
            }
            Err(failure) if failure.class == FailureClass::TokenInvalid => {
                self.request_denied(name, flight, &failure, now);
            }
            Err(failure) => {
                let failure = with_rule(failure);
                self.journal.failed(&Subject::Lease(name.clone()), &failure);
                let (passing, lost) = (failure.class.is_retryable(), failure.class == FailureClass::Missing);
                let retry = self.parts.settings.retry;
                self.update(name, |source| {
                    if passing {
                        source.failed(failure, &retry, now);
                    } else {
                        // The next read issues a new lease.
                        source.renewal_denied(lost, now);
                    }
                });
            }
        }
    }

    pub(super) fn lease_looked_up(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        result: Result<(), Failure>,
        now: &Now,
    ) {
        match result {
            _ if !self.phase.is_working() => self.update(name, |_| {}),
            Ok(()) => {
                self.confirm_token_of_lease(name, flight, now);
                self.journal.recovered(&Subject::LeaseLookUp(name.clone()));
                self.update(name, |source| source.lease_looked_up(now));
            }
            Err(failure) if failure.class == FailureClass::TokenInvalid => {
                self.request_denied(name, flight, &failure, now);
            }
            Err(failure) => {
                let failure = with_rule(failure);
                self.journal.failed(&Subject::LeaseLookUp(name.clone()), &failure);
                self.update(name, |source| {
                    source.lease_looked_up(now);
                    if failure.class == FailureClass::Missing {
                        source.renewal_denied(true, now);
                    }
                });
            }
        }
    }

    /// Logs the revocation of a replaced lease.
    pub(super) fn lease_revoked(&mut self, name: &SourceName, revocation: &Revocation) {
        let subject = Subject::LeaseRevocation(name.clone());
        match revocation {
            Revocation::Done => {
                self.journal.recovered(&subject);
                self.journal.info(&subject, format!("revoked the replaced lease of source {name}"));
            }
            // Not a fault: the policy `default` of Vault does not allow it.
            Revocation::Denied { first: false, .. } => {}
            Revocation::Denied { failure, first: true } => {
                let rule = failure.missing_rule.as_deref().unwrap_or_default();
                let message = format!(
                    "replaced leases stay valid until they expire, because the policy of the token does not allow to \
                     revoke them: {rule}"
                );
                self.journal.info(&subject, message);
            }
            Revocation::Failed(failure) => self.journal.failed(&subject, failure),
        }
    }
}

/// Adds the policy rule that would allow a denied request about a lease.
fn with_rule(failure: Failure) -> Failure {
    if failure.class == FailureClass::Forbidden { with_verdict(&failure, Verdict::LookUpFailed) } else { failure }
}
