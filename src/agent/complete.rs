//! Applies the outcomes of operations.

use std::collections::BTreeSet;

use super::io::{MirrorResult, Outcome, Ticket};
use super::journal::Subject;
use super::lifetime::{TokenExpiry, TokenView};
use super::source::SourceState;
use super::time::Now;
use super::{Agent, Parts};
use crate::model::{AdoptedSet, EventType, Failure, Reason, SourceName};

impl Agent {
    /// Handles the first input. Adopts the set of an earlier process.
    ///
    /// `run` also adopts a set of another configuration, as a reload would have kept it: an application may already
    /// read these files. `once` runs before the application and adopts only a set that is complete for its configuration.
    pub(super) fn start(&mut self, adopted: Option<&AdoptedSet>, now: &Now) {
        let once = self.mode.is_once();
        if !once {
            self.parts.report.repeat_later(now);
        }
        let Parts { settings, sources, store, publication, notifications, .. } = &mut self.parts;
        let Some(set) = adopted else { return publication.sync.request() };
        notifications.adopt(set, now);
        // What the manifest has about a source, if it is about the same request.
        let saved = |name: &SourceName| {
            let spec = settings.sources.get(name)?;
            set.manifest.sources.get(name).filter(|saved| saved.request == spec.request_id())
        };
        if !once {
            // Also for a set that is not adopted: its files must not be replaced with older ones. `once` has no time to wait
            // until an older version is accepted, so it ignores the versions.
            let tokens = TokenView { token: 0, token_expiry: &|_| TokenExpiry::Never };
            let same_server = settings.server.id() == set.manifest.server;
            sources.update_all(&tokens, |name, source| {
                source.adopted = saved(name).map(|saved| saved.version.clone());
                if !same_server {
                    source.refresh_from_other_server(now);
                }
            });
        }
        let layout = super::publication::layout_id(&settings.outputs);
        let same_layout = set.manifest.layout == Some(layout);
        let is_complete = same_layout
            && settings.sources.iter().filter(|(_, source)| source.required).all(|(name, _)| saved(name).is_some());
        let is_kept = |name: &&SourceName| settings.sources.contains_key(*name) && (!once || saved(name).is_some());
        let keep: BTreeSet<_> = set.manifest.sources.keys().filter(is_kept).cloned().collect();
        let is_usable = is_complete || (!once && !keep.is_empty());
        if !is_usable {
            return publication.sync.request();
        }
        store.adopt(set, &keep, |name| !same_layout || saved(name).is_none());
        let has_seeded = store.has_seeded();
        // Nothing is published before the first reading. The files of removed sources stay until then: another name for the
        // same secret must not remove them while Vault is unavailable.
        publication.adopt(set);
        self.journal.info(&Subject::Publication, "adopted the set of files that an earlier process published");
        if has_seeded {
            self.journal.warn(&Subject::Seed, Reason::Seeded, "the adopted set contains files of the seed");
        }
    }

    pub(super) fn completed(&mut self, ticket: Ticket, outcome: Outcome, now: &Now) {
        if self.trial.as_ref().is_some_and(|trial| trial.owns(ticket)) {
            return self.trial_completed(ticket, outcome, now);
        }
        self.parts.seed.note_answer(&outcome, now);
        match outcome {
            Outcome::LoggedIn(result) => self.logged_in(ticket, result, now),
            Outcome::Restored(result) => self.restored(ticket, result, now),
            Outcome::LookedUp(result) => self.looked_up(ticket, &result, now),
            Outcome::TokenRenewed(result) => self.token_renewed(ticket, result, now),
            Outcome::Read(result) => {
                let abandoned = self.parts.sources.abandoned(ticket);
                if let Some((name, flight)) = self.parts.sources.ended(ticket) {
                    // A stopping agent publishes nothing new and ignores the reading.
                    self.read(&name, &flight, result, now);
                } else if let (Some((name, token)), Ok(reading)) = (abandoned, result) {
                    self.discard_lease(&name, &reading.validity, token, now);
                }
            }
            Outcome::LeaseRenewed(result) => {
                if let Some((name, flight)) = self.parts.sources.ended(ticket) {
                    self.lease_renewed(&name, &flight, result, now);
                }
            }
            Outcome::LeaseLookedUp(result) => {
                if let Some((name, flight)) = self.parts.sources.ended(ticket) {
                    self.lease_looked_up(&name, &flight, result, now);
                }
            }
            Outcome::LeaseRevoked(result) => {
                let Parts { settings, replaced, .. } = &mut self.parts;
                if let Some((name, revocation)) = replaced.revoked(ticket, result, settings, now) {
                    self.lease_revoked(&name, &revocation);
                }
            }
            Outcome::Unsubscribed(result) => self.unsubscribed(ticket, result, now),
            Outcome::SeedRead(result) => self.seed_read(ticket, result, now),
            Outcome::Published(result) => match self.parts.directories.ended(ticket) {
                Some(directory) if self.phase.is_working() => {
                    self.parts.directories.retire(&directory, &mut self.outbox);
                }
                Some(_) => {}
                None if self.parts.publication.recording.is_in_flight(ticket) => {
                    self.notifications_recorded(ticket, result.map(|_| ()), now);
                }
                None => self.published(ticket, result, now),
            },
            Outcome::Retired(result) => {
                self.parts.directories.retired(ticket);
                self.ended(&Subject::Directory, &result);
            }
            Outcome::Mirrored(result) => self.mirrored(ticket, result, now),
            Outcome::Notified(result) => self.notified(ticket, &result, now),
            Outcome::ConditionsPatched(result) => {
                let Parts { settings, report, .. } = &mut self.parts;
                if let Some(result) = report.reported(ticket, result, settings, now) {
                    self.ended(&Subject::Report, &result);
                }
            }
            Outcome::EventRecorded(result) => {
                let Parts { settings, report, .. } = &mut self.parts;
                if let Some(result) = report.recorded(ticket, result, settings, now) {
                    self.ended(&Subject::Event, &result);
                }
            }
            Outcome::Saved(result) => self.saved(ticket, &result, now),
            Outcome::Revoked(result) => {
                self.parts.sessions.revoked(ticket);
                self.ended(&Subject::Revocation, &result);
                if result.is_ok() {
                    self.journal.info(&Subject::Revocation, "revoked the Vault token");
                }
            }
        }
    }

    pub(super) fn ended(&mut self, subject: &Subject, result: &Result<(), Failure>) {
        match result {
            Ok(()) => self.journal.recovered(subject),
            Err(failure) => self.journal.failed(subject, failure),
        }
    }

    /// Changes one source and its schedule.
    pub(super) fn update(&mut self, name: &SourceName, change: impl FnOnce(&mut SourceState)) {
        let Parts { sessions, sources, .. } = &mut self.parts;
        let token_expiry = |number| sessions.expiry_of(number);
        sources.update(name, &TokenView { token: sessions.number(), token_expiry: &token_expiry }, change);
    }

    /// Changes all sources and their schedules, which depend on the active token.
    pub(super) fn update_all(&mut self, change: impl FnMut(&SourceName, &mut SourceState)) {
        let Parts { sessions, sources, .. } = &mut self.parts;
        let token_expiry = |number| sessions.expiry_of(number);
        sources.update_all(&TokenView { token: sessions.number(), token_expiry: &token_expiry }, change);
    }

    fn published(&mut self, ticket: Ticket, result: Result<bool, Failure>, now: &Now) {
        let Parts { settings, sources, publication, replaced, mirrors, notifications, .. } = &mut self.parts;
        match result {
            Ok(swapped) => {
                if publication.sync.succeeded(ticket) {
                    let before = publication.visible().cloned();
                    let new = publication.published(swapped, replaced, now);
                    if let Some(visible) = publication.files() {
                        notifications.published(visible, before.as_ref().map(|set| &set.files), now);
                    }
                    let unchanged = before
                        .zip(publication.visible())
                        .is_some_and(|(old, new)| old.manifest.has_same_sources(&new.manifest));
                    if new || !unchanged {
                        mirrors.request();
                    }
                    if !self.mode.is_once() {
                        publication.schedule_resync(now);
                    }
                    self.journal.recovered(&Subject::Publication);
                    if let Some(generation) = publication.generation().filter(|_| new) {
                        self.journal.info(&Subject::Publication, format!("published generation {generation}"));
                    }
                }
            }
            Err(failure) => {
                if publication.sync.failed(ticket, failure.clone(), &settings.retry, now, 31) {
                    publication.failed(&sources.leases(), replaced, now);
                    self.journal.failed(&Subject::Publication, &failure);
                }
            }
        }
    }

    fn mirrored(&mut self, ticket: Ticket, result: Result<MirrorResult, Failure>, now: &Now) {
        let Parts { settings, mirrors, report, .. } = &mut self.parts;
        let Some(mirrored) = mirrors.mirrored(ticket, result, settings, now) else { return };
        let subject = Subject::Mirror(mirrored.name.clone());
        let result = match mirrored.result {
            Ok(result) => result,
            Err(failure) => return self.journal.failed(&subject, &failure),
        };
        self.journal.recovered(&subject);
        match result {
            MirrorResult::Unchanged => {}
            MirrorResult::Created => {
                self.journal.info(&subject, format!("created Secret {}", mirrored.name));
                if mirrored.confirmed_before {
                    let message = format!("Secret {} was deleted; keyferry re-created it", mirrored.name);
                    report.mirror_event(EventType::Normal, Reason::Mirrored, message);
                }
            }
            MirrorResult::Updated => self.journal.info(&subject, format!("updated Secret {}", mirrored.name)),
            MirrorResult::Superseded => {
                let message = format!("Secret {} holds a newer version that another replica wrote", mirrored.name);
                self.journal.info(&subject, message);
            }
            MirrorResult::Repaired(edit) => {
                let message = format!(
                    "Secret {} was {edit}; keyferry restored the published set; stop the other client, or set \
                     onDrift: report to keep its changes",
                    mirrored.name
                );
                self.journal.warn(&subject, Reason::Drifted, message.clone());
                report.mirror_event(EventType::Warning, Reason::Drifted, message);
            }
        }
        if !mirrored.outdated.is_empty() {
            self.update_all(|name, source| {
                if mirrored.outdated.contains(name) {
                    source.refresh(now);
                }
            });
        }
    }
}
