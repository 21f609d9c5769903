//! Starts operations that are due, and computes the next wake-up.

use std::sync::Arc;

use super::io::Op;
use super::journal::Subject;
use super::lifetime::TokenView;
use super::time::{Elapsed, Now};
use super::{Agent, Parts, conditions, publication};

impl Agent {
    /// When to call [`Agent::handle`] with [`Input::TimerFired`](super::Input::TimerFired) if no other input arrives
    /// first. Always after `at`.
    #[must_use]
    pub fn wake_at(&self, at: Elapsed) -> Option<Elapsed> {
        // A stopping agent waits only for its own deadlines.
        if !self.phase.is_working() {
            return self.phase.wake().filter(|wake| *wake > at);
        }
        let Parts { settings, sessions, sources, publication, replaced, mirrors, report, .. } = &self.parts;
        let visible = publication.visible().is_some();
        let publish = visible || self.parts.is_complete(at);
        [
            sessions.wake(),
            sessions.live(at).and_then(|_| sources.wake(at)),
            sessions.live(at).and_then(|token| replaced.wake(token.number)),
            self.checkpoint_due(),
            sources.next_stale(),
            if visible { None } else { sources.next_wait_end(at) },
            if publish { publication.sync.due() } else { None },
            publication.resync_due(),
            self.seed_due(at),
            self.parts.refreshes.wake(),
            self.events_due(at),
            if visible { mirrors.wake() } else { None },
            if visible { self.notifications_wake() } else { None },
            report.wake(settings),
            self.trial.as_ref().and_then(super::trial::Trial::wake),
            self.mode.deadline(),
        ]
        .into_iter()
        .flatten()
        .filter(|wake| *wake > at)
        .min()
    }

    /// Starts every operation that is due.
    pub(super) fn advance(&mut self, now: &Now) {
        self.advance_trial(now);
        self.advance_refresh(now);
        self.advance_events(now);
        let Parts { settings, sessions, sources, publication, replaced, .. } = &mut self.parts;
        let token_before = sessions.number();
        let held = |number| sources.iter().any(|(_, source)| source.lease().is_some_and(|(.., of)| of == number));
        let in_use = |number| held(number) || publication.uses_token(number) || replaced.uses_token(number, now.at);
        let in_published_set = |number| publication.uses_token(number);
        sessions.advance(settings, in_use, in_published_set, now, &mut self.outbox);
        {
            let token_expiry = |number| sessions.expiry_of(number);
            let tokens = TokenView { token: sessions.number(), token_expiry: &token_expiry };
            if sessions.number() != token_before {
                sources.update_all(&tokens, |_, _| {});
            }
            if let Some(token) = sessions.live(now.at) {
                sources.advance(settings, token, &tokens, now, &mut self.outbox);
            }
        }
        let is_saved = self.checkpoint_due().is_none() && !self.parts.saving.is_busy();
        let Parts { settings, sessions, replaced, .. } = &mut self.parts;
        replaced.advance(settings, sessions.live(now.at), is_saved, now, &mut self.outbox);
        self.advance_seed(now);
        let Parts { settings, publication, directories, .. } = &mut self.parts;
        if publication.resync_due().is_some_and(|at| at <= now.at) {
            publication.sync.resync();
        }
        let is_free = !directories.is_busy(&settings.directory.path);
        let due = publication.sync.is_due(now.at) && is_free && !publication.recording.is_busy();
        // Only the first set waits for all sources. Later, a source that a reload added has no files until it is read.
        let publish = due && (publication.visible().is_some() || self.parts.is_complete(now.at));
        let Parts { settings, sources, store, publication, mirrors, notifications, computed, .. } = &mut self.parts;
        if publish {
            let notifications = (&*notifications, publication.files());
            let set = publication::set(settings, store, sources, &computed.added, notifications, |_| false);
            let op = Op::Publish { directory: settings.directory.clone(), set: Arc::clone(&set) };
            publication.sync.started(self.outbox.start(op));
            publication.started(set, sources.leases());
        }
        if let Some(visible) = publication.visible().cloned() {
            let failed = mirrors.advance(settings, &visible, publication.generation(), sources, now, &mut self.outbox);
            for (name, failure) in failed {
                self.journal.failed(&Subject::Mirror(name), &failure);
            }
        }
        self.advance_notifications(is_free, now);
        if !self.phase.is_working() {
            return;
        }
        self.advance_checkpoint(now);
        let desired = conditions::conditions(&self.parts, now);
        let Parts { settings, publication, report, .. } = &mut self.parts;
        report.update(desired, publication.generation());
        report.advance(settings, now, &mut self.outbox);
    }
}
