//! The checkpoint: state for the next process of the same pod, so that a restart of the agent requires neither a new login
//! nor new credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Agent;
use super::grant::Grant;
use super::io::{Op, Ticket};
use super::journal::Subject;
use super::lifetime::Lifetime;
use super::source::SourceState;
use super::time::{Elapsed, Now};
use crate::model::{Checkpoint, Failure, SavedSource, SavedToken, Source};

impl Agent {
    /// The state for the next process. A supplied token is not part of it: the next process gets it in the same way.
    /// `keep_token`: whether the token stays valid.
    pub(super) fn checkpoint(&self, keep_token: bool, now: &Now) -> Checkpoint {
        let token = self.parts.sessions.live(now.at).filter(|token| keep_token && token.self_issued);
        let mut sources = BTreeMap::new();
        for (name, source) in self.parts.sources.iter().filter(|(_, source)| source.is_current()) {
            let lifetime = source.held.as_ref().map(|held| &held.lifetime);
            let ends = match lifetime {
                Some(Lifetime::Expires(grant)) => grant.expires_at(),
                Some(Lifetime::Certificate(term)) => term.expires_at(),
                // The leases of another token are revoked with it.
                Some(Lifetime::Lease { grant, token: owner, .. })
                    if token.is_some_and(|token| token.number == *owner) =>
                {
                    grant.expires_at()
                }
                _ => continue,
            };
            let left = ends.saturating_sub(now.at);
            if let Some(reading) = self.parts.store.reading(name).filter(|_| !left.is_zero()) {
                sources.insert(name.clone(), SavedSource { reading: Arc::clone(reading), left });
            }
        }
        let token = token.map(|token| SavedToken {
            token: token.value.clone(),
            first_ttl: token.grant.as_ref().map(Grant::first_ttl),
            left: token.expires_at().map(|ends| ends.saturating_sub(now.at)),
            renewable: token.grant.as_ref().is_some_and(Grant::is_renewable),
        });
        let calls = self.calls_of(&sources);
        Checkpoint { made: now.wall, token, sources, calls }
    }

    /// When to save the checkpoint of `run`, if it has changed. `once` saves only at its end.
    pub(super) fn checkpoint_due(&self) -> Option<Elapsed> {
        if self.mode.has_checkpoint() && !self.mode.is_once() { self.parts.saving.due() } else { None }
    }

    /// Starts to save the checkpoint if it is due, and the previous one was restored.
    pub(super) fn advance_checkpoint(&mut self, now: &Now) {
        if !self.parts.sessions.is_restoring() && self.checkpoint_due().is_some_and(|at| at <= now.at) {
            self.save(true, now);
        }
    }

    /// Saves the current state.
    pub(super) fn save(&mut self, keep_token: bool, now: &Now) -> Ticket {
        let checkpoint = Box::new(self.checkpoint(keep_token, now));
        let op = Op::Save { settings: Arc::clone(&self.parts.settings), checkpoint };
        let ticket = self.outbox.start(op);
        self.parts.saving.started(ticket);
        ticket
    }

    /// Uses the checkpoint of an earlier process.
    pub(super) fn restored(&mut self, ticket: Ticket, result: Result<Box<Checkpoint>, Failure>, now: &Now) {
        if let Some(settings) = self.abandoned_logins.remove(&ticket) {
            // The token belongs to a configuration that is not active.
            if let Some(saved) = result.ok().and_then(|checkpoint| checkpoint.token) {
                self.parts.sessions.revoke(&settings, &saved.token, &mut self.outbox);
            }
            return;
        }
        let settings = Arc::clone(&self.parts.settings);
        let checkpoint = match result {
            Ok(checkpoint) => checkpoint,
            Err(failure) => {
                if self.parts.sessions.restore_failed(ticket, &failure, &settings.retry, now) {
                    self.journal.failed(&Subject::Login, &failure);
                }
                return;
            }
        };
        let Some(asked) = self.parts.sessions.restored(ticket, checkpoint.token.as_ref(), &settings, now) else {
            return;
        };
        if checkpoint.token.is_some() {
            let ttl = self.token_ttl(now);
            self.journal.info(&Subject::Login, format!("restored the Vault token of the previous process; it {ttl}"));
        }
        self.update_all(|_, _| {});
        // Also during the shutdown, which must know the leases to keep their token.
        let token = self.parts.sessions.number();
        self.restore_calls(&checkpoint.calls, now);
        for (name, saved) in &checkpoint.sources {
            // A reload during the login may have changed the request.
            let added = self.parts.settings.sources.get(name).filter(|_| self.parts.computed.added.contains(name));
            let request = asked.sources.get(name).or(added).map(Source::request_id);
            let idle = |source: &SourceState| source.held.is_none() && source.in_flight.is_none();
            let wanted = |source: &SourceState| idle(source) && request == Some(source.spec.request_id());
            let usable = checkpoint.token.is_some() || saved.reading.validity.lease().is_none();
            let usable = usable && self.parts.sources.get(name).is_some_and(wanted);
            if usable && self.parts.store.accept(name, Arc::clone(&saved.reading)).is_ok() {
                self.update(name, |source| source.restore(&saved.reading, saved.left, token, now));
                self.note_skipped_keys(name);
                self.note_certificate(name);
                self.parts.publication.sync.request();
            }
        }
        self.call_for_changed_templates(now);
        self.parts.saving.request();
    }

    pub(super) fn saved(&mut self, ticket: Ticket, result: &Result<(), Failure>, now: &Now) {
        let is_last = self.is_releasing(ticket);
        if let Err(failure) = result {
            self.journal.failed(&Subject::Save, failure);
            self.parts.saving.failed(ticket, failure.clone(), &self.parts.settings.retry, now, 51);
        } else {
            self.journal.recovered(&Subject::Save);
            self.parts.saving.succeeded(ticket);
        }
        if is_last {
            self.last_save_ended(result.is_ok(), now);
        }
    }
}
