//! A reload is one transition: accepted, refused (by the parser or by what it needs), or taken back.

use std::sync::Arc;

use super::conditions::bounded;
use super::io::{Action, Op, Outcome, Ticket};
use super::journal::Subject;
use super::source::Outlook;
use super::time::Now;
use super::trial::{Needs, Progress, Trial};
use super::{Agent, Parts, Tickets, publication};
use crate::model::{Directory, NoticeKind, Reason, Settings, Validity};

/// A directory that is no longer wanted.
pub(super) struct Leaving {
    directory: Directory,
    /// A publication of an abandoned trial is in flight there; it is retired after it.
    publishing: bool,
}

impl Agent {
    /// Retires a directory.
    fn retire(&mut self, directory: Directory) -> Action {
        let ticket = self.tickets.next();
        self.leaving.insert(ticket, Leaving { directory: directory.clone(), publishing: false });
        Action::Start(ticket, Op::RetireDirectory { directory })
    }

    /// Whether something is in flight in a directory that was not wanted any more.
    pub(super) fn is_being_left(&self, path: &std::path::Path) -> bool {
        self.leaving.values().any(|leaving| leaving.directory.path == path)
    }

    /// Takes the end of an operation in a directory that is no longer wanted; whether it was one.
    pub(super) fn left(&mut self, ticket: Ticket, actions: &mut Vec<Action>) -> bool {
        let Some(leaving) = self.leaving.remove(&ticket) else { return false };
        if leaving.publishing && leaving.directory.path != self.parts.settings.directory.path && self.phase.is_working() {
            actions.push(self.retire(leaving.directory));
        }
        true
    }

    /// The parser refused the configuration.
    pub(super) fn config_invalid(&mut self, message: String, actions: &mut Vec<Action>) {
        self.abandon_trial(actions);
        self.reject_config(message);
    }

    fn reject_config(&mut self, message: String) {
        if self.parts.config_rejected.as_ref() != Some(&message) {
            let text = format!("the new configuration is rejected and the old one stays in force: {message}");
            self.journal.warn(&Subject::Config, Reason::ConfigRejected, text);
        }
        self.parts.config_rejected = Some(message);
    }

    /// A valid configuration was read.
    pub(super) fn config_read(&mut self, new: Arc<Settings>, now: &Now, actions: &mut Vec<Action>) {
        if *new == *self.parts.settings {
            self.abandon_trial(actions);
            if self.parts.config_rejected.take().is_some() {
                let message = "the configuration is the one in force again";
                self.journal.info(&Subject::Config, message);
                self.parts.report.config_event(NoticeKind::Normal, Reason::ConfigReloaded, message.to_owned());
            }
            return;
        }
        if self.trial.as_ref().is_some_and(|trial| *trial.settings == *new) {
            return;
        }
        self.abandon_trial(actions);
        match Needs::of(&self.parts.settings, &new) {
            // Before the first set there is nothing to lose.
            Some(needs) if self.parts.publication.visible().is_some() => {
                self.journal.info(&Subject::Config, "a new configuration has to prove itself before it is in force");
                self.parts.config_rejected = None;
                self.trial = Some(Trial::new(new, needs, &self.parts.store));
            }
            needs => self.enforce(new, needs.is_some_and(|needs| needs.login), now, actions),
        }
    }

    /// Puts a configuration in force. `login`: the session in use is of another login.
    fn enforce(&mut self, new: Arc<Settings>, login: bool, now: &Now, actions: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.parts.settings, Arc::clone(&new));
        if login {
            if let Some(ticket) = self.parts.sessions.start_over(now, &mut self.tickets, actions) {
                self.abandoned_logins.insert(ticket, old.clone());
            }
        }
        if old.directory.path != new.directory.path {
            actions.push(self.retire(old.directory.clone()));
        }
        let Parts { sessions, sources, store, publication, mirrors, report, left_out, config_rejected, .. } = &mut self.parts;
        sessions.reconnect(&new);
        let token_end = |number| sessions.end_of(number);
        let outlook = Outlook { token: sessions.number(), token_end: &token_end };
        if login {
            sources.abandon_all(&outlook);
        }
        sources.reconcile(&new.sources, &outlook, now);
        store.reconcile(&new.outputs, |name| new.sources.contains_key(name));
        mirrors.reconcile(&new.mirrors);
        publication.follower.request();
        left_out.retain(|name, _| new.sources.contains_key(name));
        *config_rejected = None;
        let message = "a new configuration is in force";
        report.reset();
        report.config_event(NoticeKind::Normal, Reason::ConfigReloaded, message.to_owned());
        for name in old.sources.keys().filter(|name| !new.sources.contains_key(*name)) {
            self.journal.forget(&Subject::Source(name.clone()));
            self.warned.remove(name);
        }
        self.journal.info(&Subject::Config, message);
        if let Some(failure) = self.parts.store.unmade().cloned() {
            self.journal.failed(Subject::Publication, &failure);
        }
        for name in new.sources.keys() {
            self.note_left_out(name);
        }
    }

    /// Drops a configuration on trial; what it logged in is revoked.
    fn abandon_trial(&mut self, actions: &mut Vec<Action>) {
        let Some(trial) = self.trial.take() else { return };
        self.trial_started.clear();
        if let Some(ticket) = trial.is_logging_in() {
            self.abandoned_logins.insert(ticket, Arc::clone(&trial.settings));
        }
        if let Some(token) = trial.token.as_ref().filter(|token| token.self_issued) {
            self.parts.sessions.revoke(token, &mut self.tickets, actions);
        }
        if trial.needs.directory {
            let directory = trial.settings.directory.clone();
            match trial.publishing() {
                Some(ticket) => _ = self.leaving.insert(ticket, Leaving { directory, publishing: true }),
                None => actions.push(self.retire(directory)),
            }
        }
    }

    /// Starts the next step of a trial, or puts its configuration in force.
    pub(super) fn advance_trial(&mut self, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) {
        let free = self.trial.as_ref().is_some_and(|trial| !self.is_being_left(&trial.settings.directory.path));
        let Some(trial) = &mut self.trial else { return };
        if trial.is_done() {
            return self.commit(now, tickets, actions);
        }
        let Parts { sessions, sources, publication, .. } = &self.parts;
        let before = actions.len();
        let set = |settings: &Settings, store: &super::store::Store| {
            free.then(|| publication::set(&settings.outputs, store, sources, publication.visible()))
        };
        trial.advance(sessions.live(now.at), set, now, tickets, actions);
        for action in &actions[before..] {
            if let Action::Start(ticket, _) = action {
                self.trial_started.insert(*ticket, now.at);
            }
        }
    }

    pub(super) fn trial_completed(&mut self, ticket: Ticket, outcome: Outcome, now: &Now) {
        let started = self.trial_started.remove(&ticket).unwrap_or(now.at);
        let Some(trial) = &mut self.trial else { return };
        let sessions = &mut self.parts.sessions;
        if let Progress::Failed(failure) = trial.completed(ticket, outcome, started, || sessions.next_number(), now) {
            let login = trial.needs.login && trial.token.is_none();
            let what = if login { "it cannot log in" } else { "it does not work" };
            let message = format!("{what}: {}", failure.message);
            if self.parts.config_rejected.as_ref() != Some(&message) {
                let event = format!("the new configuration is rejected and the old one stays in force: {}", bounded(&message));
                self.parts.report.config_event(NoticeKind::Warning, Reason::ConfigRejected, event);
            }
            self.reject_config(message);
        }
    }

    /// A trial has proved its configuration.
    fn commit(&mut self, now: &Now, tickets: &mut Tickets, actions: &mut Vec<Action>) {
        let Some(mut trial) = self.trial.take() else { return };
        self.trial_started.clear();
        if let Some(token) = trial.token.take() {
            if let Some(ticket) = self.parts.sessions.abandon_login() {
                self.abandoned_logins.insert(ticket, Arc::clone(&self.parts.settings));
            }
            self.parts.sessions.replace(token, now);
            self.update_all(|_, _| {});
        }
        std::mem::swap(&mut self.tickets, tickets);
        let directory_moved = trial.published.take();
        self.enforce(Arc::clone(&trial.settings), false, now, actions);
        if trial.needs.login {
            // Answers to requests of the old session are of no use.
            let Parts { sessions, sources, .. } = &mut self.parts;
            let token_end = |number| sessions.end_of(number);
            sources.abandon_all(&Outlook { token: sessions.number(), token_end: &token_end });
            self.take_proofs(&mut trial, now);
        }
        if let Some(set) = directory_moved {
            self.parts.publication.moved(set);
            self.parts.mirrors.request();
        }
        std::mem::swap(&mut self.tickets, tickets);
    }

    fn take_proofs(&mut self, trial: &mut Trial, now: &Now) {
        let token = self.parts.sessions.number();
        for name in trial.settings.sources.keys() {
            let outdated = trial.is_outdated(name, now);
            let Some(proof) = trial.readings.remove(name) else {
                self.update(name, |source| source.refresh(now));
                continue;
            };
            if self.parts.store.accept(name, Arc::clone(&proof.reading)).is_err() {
                continue;
            }
            let validity: &Validity = &proof.reading.validity;
            // Its life counts from its read: the trial may have waited long for something else.
            let then = Now { at: proof.read, wall: now.wall_at(proof.read), ..*now };
            self.update(name, |source| {
                source.keep(proof.reading.version.clone(), validity, token, proof.started, false, &then);
                if outdated {
                    source.refresh(now);
                }
            });
            self.note_left_out(name);
        }
    }
}
