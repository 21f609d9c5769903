//! Reloads. A new configuration is activated, rejected as invalid, rejected after verification, or withdrawn.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::conditions::{CONFIG_REJECTED, bounded};
use super::io::{Outcome, Ticket};
use super::journal::Subject;
use super::lifetime::TokenView;
use super::source::SourceState;
use super::store::Store;
use super::time::Now;
use super::trial::{Checks, Progress, Trial, TrialReading};
use super::{Agent, Parts, publication};
use crate::model::{EventType, Order, Reading, Reason, Settings, SourceName, Validity};

/// Whether the two configurations use different servers or namespaces, whose versions cannot be compared.
pub(super) fn is_other_server(old: &Settings, new: &Settings) -> bool {
    old.server.id() != new.server.id()
}

impl Agent {
    /// Handles an invalid configuration.
    pub(super) fn config_invalid(&mut self, message: String) {
        self.abandon_trial();
        self.reject_config(message);
    }

    fn reject_config(&mut self, message: String) {
        if self.parts.config_rejected.as_ref() != Some(&message) {
            let text = format!("{CONFIG_REJECTED}: {message}");
            self.journal.warn(&Subject::Config, Reason::ConfigRejected, text);
        }
        self.parts.config_rejected = Some(message);
    }

    /// Handles a valid configuration.
    pub(super) fn config_read(&mut self, new: Arc<Settings>, now: &Now) {
        let new = self.with_calls(new);
        if *new == *self.parts.settings {
            self.abandon_trial();
            if self.parts.config_rejected.take().is_some() {
                let message = "the configuration file matches the active configuration again";
                self.journal.info(&Subject::Config, message);
                self.parts.report.config_event(EventType::Normal, Reason::ConfigReloaded, message.to_owned());
            }
            return;
        }
        if self.trial.as_ref().is_some_and(|trial| *trial.settings == *new) {
            return;
        }
        self.abandon_trial();
        match Checks::of(&self.parts.settings, &new) {
            // Without a visible set, or one in flight, there is nothing to protect: activate at once.
            Some(checks) if self.parts.publication.visible().is_some() || self.parts.publication.sync.is_busy() => {
                self.journal.info(&Subject::Config, "verifying the new configuration before it takes effect");
                self.parts.config_rejected = None;
                self.trial = Some(Trial::new(new, checks, &self.parts.store));
            }
            checks => self.activate(&new, checks.is_some_and(|checks| checks.login), now),
        }
    }

    /// Activates a configuration. `login`: discard the session, because its login no longer matches.
    fn activate(&mut self, new: &Arc<Settings>, login: bool, now: &Now) {
        let old = std::mem::replace(&mut self.parts.settings, Arc::clone(new));
        if login && let Some(ticket) = self.parts.sessions.reset(now, &mut self.outbox) {
            self.abandoned_logins.insert(ticket, old.clone());
        }
        self.parts.sessions.update_connection(new);
        if old.directory.path != new.directory.path {
            self.parts.directories.retire(&old.directory, &mut self.outbox);
        }
        let Parts {
            sessions,
            saving,
            sources,
            store,
            publication,
            mirrors,
            notifications,
            report,
            left_out,
            config_rejected,
            ..
        } = &mut self.parts;
        let token_expiry = |number| sessions.expiry_of(number);
        let tokens = TokenView { token: sessions.number(), token_expiry: &token_expiry };
        if login {
            sources.abandon_all(&tokens);
            if is_other_server(&old, new) {
                // No set is visible yet, and a set must not mix secrets of two servers.
                sources.update_all(&tokens, |_, source| source.reset());
                *store = Store::new(&new.outputs);
            }
        }
        sources.reconcile(&new.sources, &tokens, now);
        store.reconcile(&new.outputs, |name| new.sources.contains_key(name));
        if old.outputs != new.outputs {
            sources.update_all(&tokens, |_, source| source.outputs_changed(now));
        }
        if publication.visible().is_none() && !publication.sync.is_busy() {
            // Whether the seed is complete depends on the configuration.
            store.drop_seeded();
        }
        mirrors.reconcile(&new.mirrors);
        notifications.reconcile(&new.notify);
        publication.sync.request();
        saving.request();
        left_out.retain(|name, _| new.sources.contains_key(name));
        *config_rejected = None;
        let message = "the new configuration is active";
        report.reset();
        report.config_event(EventType::Normal, Reason::ConfigReloaded, message.to_owned());
        for name in old.sources.keys().filter(|name| !new.sources.contains_key(*name)) {
            for subject in [Subject::Source, Subject::Lease, Subject::LeaseLookUp, Subject::LeaseRevocation] {
                self.journal.forget(&subject(name.clone()));
            }
            self.warned.remove(name);
        }
        for name in old.notify.keys().filter(|name| !new.notify.contains_key(*name)) {
            self.journal.forget(&Subject::Notification(name.clone()));
        }
        self.journal.info(&Subject::Config, message);
        if let Some(failure) = self.parts.store.render_failure().cloned() {
            self.journal.failed(&Subject::Publication, &failure);
        }
        self.reset_calls(now);
        self.call_for_changed_templates(now);
        self.drop_unused_calls(now);
        for name in new.sources.keys() {
            self.note_skipped_keys(name);
            self.note_certificate(name);
        }
    }

    /// Abandons the configuration on trial and revokes its token.
    fn abandon_trial(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        self.end_session_of(&trial);
        let directory = &trial.settings.directory;
        match trial.publishing() {
            Some(ticket) => self.parts.directories.abandon(ticket, directory),
            None if trial.has_published => self.parts.directories.retire(directory, &mut self.outbox),
            None => {}
        }
    }

    /// Revokes the token of a trial that is abandoned, also one that a login in flight issues.
    pub(super) fn end_session_of(&mut self, trial: &Trial) {
        if let Some(ticket) = trial.login() {
            self.abandoned_logins.insert(ticket, Arc::clone(&trial.settings));
        }
        if let Some(token) = &trial.token {
            self.parts.sessions.revoke_issued(token, &mut self.outbox);
        }
    }

    /// Starts the next step of the trial, or activates its configuration.
    pub(super) fn advance_trial(&mut self, now: &Now) {
        let Some(trial) = &mut self.trial else { return };
        let Parts { sessions, sources, publication, directories, notifications, computed, .. } = &mut self.parts;
        if let Some(token) = trial.rejected.take() {
            sessions.revoke_issued(&token, &mut self.outbox);
        }
        let set = |settings: &Settings, store: &Store, readings: &BTreeMap<SourceName, TrialReading>| {
            let notifications = (&*notifications, publication.files());
            publication::set(settings, store, sources, &computed.added, notifications, |name| {
                readings.contains_key(name)
            })
        };
        let free = !directories.is_busy(&trial.settings.directory.path);
        trial.advance(sessions.live(now.at), free, set, now, &mut self.outbox);
        // Activation retires the old directory, so wait for a publication to it.
        let is_publishing = publication.sync.is_busy() || publication.recording.is_busy();
        if trial.is_done() && !(trial.checks.directory && is_publishing) {
            self.commit(now);
        }
    }

    pub(super) fn trial_completed(&mut self, ticket: Ticket, outcome: Outcome, now: &Now) {
        let Some(trial) = &mut self.trial else { return };
        let sessions = &mut self.parts.sessions;
        if let Progress::Failed(failure) = trial.completed(ticket, outcome, || sessions.next_number(), now) {
            let login = trial.checks.login && trial.token.is_none();
            let what = if login { "its login failed" } else { "its verification failed" };
            let message = format!("{what}: {}", failure.message);
            if self.parts.config_rejected.as_ref() != Some(&message) {
                let event = format!("{CONFIG_REJECTED}: {}", bounded(&message));
                self.parts.report.config_event(EventType::Warning, Reason::ConfigRejected, event);
            }
            self.reject_config(message);
        }
    }

    /// Activates the configuration of a successful trial.
    fn commit(&mut self, now: &Now) {
        let Some(mut trial) = self.trial.take() else { return };
        if let Some(token) = trial.token.take() {
            if let Some(ticket) = self.parts.sessions.switch_to(token, now) {
                self.abandoned_logins.insert(ticket, Arc::clone(&self.parts.settings));
            }
            self.update_all(|_, _| {});
        }
        let other_server = is_other_server(&self.parts.settings, &trial.settings);
        let directory_moved = trial.published.take();
        self.activate(&Arc::clone(&trial.settings), false, now);
        if trial.checks.login {
            // Ignore outcomes of the old session.
            let Parts { sessions, sources, .. } = &mut self.parts;
            let token_expiry = |number| sessions.expiry_of(number);
            sources.abandon_all(&TokenView { token: sessions.number(), token_expiry: &token_expiry });
            self.accept_readings(&mut trial, other_server, now);
            self.call_for_changed_templates(now);
            self.drop_unused_calls(now);
        }
        if let Some(set) = directory_moved {
            let Parts { publication, sources, replaced, notifications, .. } = &mut self.parts;
            notifications.published(&set.files, publication.files(), now);
            publication.moved(set, sources.leases(), replaced, now);
            self.parts.mirrors.request();
        }
    }

    /// Accepts the readings of the trial. Versions of another server cannot be compared with the held ones.
    fn accept_readings(&mut self, trial: &mut Trial, other_server: bool, now: &Now) {
        let token = self.parts.sessions.number();
        let refresh = |source: &mut SourceState| {
            if other_server { source.refresh_from_other_server(now) } else { source.refresh(now) }
        };
        for name in trial.settings.sources.keys() {
            let outdated = trial.is_outdated(name, now);
            let known = self.parts.sources.get(name).and_then(SourceState::known_version);
            let rolled_back = other_server && known.is_some();
            let older = |reading: &Reading| known.is_some_and(|known| reading.version.order(known) == Order::Older);
            // A lagging node may have answered the trial: ignore its older version and read again.
            let usable = |found: &TrialReading| other_server || !older(&found.reading);
            let Some(found) = trial.readings.remove(name).filter(usable) else {
                self.update(name, refresh);
                continue;
            };
            if self.parts.store.accept(name, Arc::clone(&found.reading)).is_err() {
                // For example, a template calls for other secrets with it.
                self.discard_lease(name, &found.reading.validity, token, now);
                self.update(name, refresh);
                continue;
            }
            let validity: &Validity = &found.reading.validity;
            // The lifetime starts at the read. The trial may have waited for other operations since then.
            let then = Now { at: found.read, wall: now.wall_at(found.read), ..*now };
            self.update(name, |source| {
                source.accept(found.reading.version.clone(), validity, token, found.started, rolled_back, &then);
                if outdated {
                    source.refresh(now);
                }
            });
            self.note_skipped_keys(name);
            self.note_certificate(name);
        }
    }
}
