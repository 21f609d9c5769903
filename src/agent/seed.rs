//! The seed: a copy of the files with which a pod starts while Vault is unavailable. It is never used if Vault rejects a
//! request, and never mirrored back.

use std::collections::BTreeSet;

use super::io::{Op, Outcome, Ticket};
use super::journal::Subject;
use super::source::SourceState;
use super::time::{Backoff, Elapsed, Now};
use super::{Agent, Parts};
use crate::model::{
    AdoptedSet, Failure, FailureClass, Manifest, ManifestSource, Reason, Seed, SeedData, SourceName, Version,
};
use crate::render;

/// Whether Vault has answered and rejected the request: it was denied, or Vault has no usable content for it.
pub(super) fn is_refusal(failure: &Failure) -> bool {
    match failure.class {
        FailureClass::Denied
        | FailureClass::Forbidden
        | FailureClass::Invalid
        | FailureClass::Missing
        | FailureClass::TokenInvalid => true,
        // A 403 that is retried, because the token or the credential may be too new.
        FailureClass::Transient => matches!(failure.reason, Reason::Denied | Reason::LoginRefused),
        FailureClass::Conflict | FailureClass::Local | FailureClass::Unreachable => false,
    }
}

/// Whether Vault did not answer, or cannot answer any request now.
fn is_outage(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::Unreachable | FailureClass::Transient) && !is_refusal(failure)
}

/// When Vault last answered, and the state of the seed.
pub(super) struct SeedState {
    /// Time of the last answer from Vault, or of the start.
    answered: Elapsed,
    in_flight: Option<(Ticket, Seed)>,
    backoff: Backoff,
    failure: Option<Failure>,
}

impl SeedState {
    pub(super) fn new(now: &Now) -> Self {
        Self { answered: now.at, in_flight: None, backoff: Backoff::default(), failure: None }
    }

    /// Why the seed could not be used.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Records the time of an answer from Vault.
    pub(super) fn note_answer(&mut self, outcome: &Outcome, now: &Now) {
        let failure = match outcome {
            Outcome::LoggedIn(result) => result.as_ref().err(),
            // Vault has confirmed the token.
            Outcome::Restored(Ok(checkpoint)) if checkpoint.token.is_some() => None,
            Outcome::Restored(Err(failure)) => Some(failure),
            Outcome::LookedUp(result) | Outcome::TokenRenewed(result) => result.as_ref().err(),
            Outcome::Read(result) => result.as_ref().err(),
            Outcome::LeaseRenewed(result) => result.as_ref().err(),
            Outcome::LeaseLookedUp(result) => result.as_ref().err(),
            _ => return,
        };
        if failure.is_none_or(is_refusal) {
            self.answered = now.at;
        }
    }
}

impl Parts {
    /// Whether Vault rejects a request that the first set requires. Only a success ends this state, because Vault can become
    /// unavailable after the rejection.
    fn is_refused(&self) -> bool {
        let refused = |source: &SourceState| {
            source.spec.required && (source.refused || source.pending_refusal.is_some()) && !source.is_current()
        };
        self.sessions.refused || self.sources.iter().any(|(_, source)| refused(source))
    }
}

impl Agent {
    /// When to read the seed; `None` if it is not needed or must not be used.
    pub(super) fn seed_due(&self, at: Elapsed) -> Option<Elapsed> {
        let parts = &self.parts;
        let seed = parts.settings.seed.as_ref()?;
        let is_idle = parts.publication.visible().is_none()
            && !parts.publication.sync.is_busy()
            && parts.seed.in_flight.is_none()
            && !parts.is_complete(at);
        let is_away = || !parts.is_refused() && parts.blocking_failure().is_none_or(is_outage);
        (is_idle && is_away()).then(|| (parts.seed.answered + seed.after).max(parts.seed.backoff.not_before))
    }

    /// Reads the seed if it is due.
    pub(super) fn advance_seed(&mut self, now: &Now) {
        let Parts { store, publication, .. } = &self.parts;
        let is_pending = publication.visible().is_none() && !publication.sync.is_busy() && store.has_seeded();
        if is_pending && self.parts.is_refused() {
            // Vault answered and rejected a request before the files were published.
            self.parts.store.drop_seeded();
        }
        if self.seed_due(now.at).is_some_and(|due| due <= now.at)
            && let Some(seed) = self.parts.settings.seed.clone()
        {
            let ticket = self.outbox.start(Op::ReadSeed { directory: seed.directory.clone() });
            self.parts.seed.in_flight = Some((ticket, seed));
        }
    }

    /// Takes the files of the seed, unless Vault has answered or the configuration has changed in the meantime.
    pub(super) fn seed_read(&mut self, ticket: Ticket, result: Result<SeedData, Failure>, now: &Now) {
        let Some((_, seed)) = self.parts.seed.in_flight.take_if(|(started, _)| *started == ticket) else { return };
        let is_wanted = self.phase.is_working() && self.parts.settings.seed.as_ref() == Some(&seed);
        if !is_wanted || self.seed_due(now.at).is_none_or(|due| due > now.at) {
            return;
        }
        match result.and_then(|data| self.seeded_set(&seed, &data, now)) {
            Ok(set) => self.take_seed(&seed, &set),
            Err(failure) => {
                self.journal.failed(&Subject::Seed, &failure);
                let Parts { seed, settings, .. } = &mut self.parts;
                seed.backoff.failed(&failure, &settings.retry, now, 71);
                seed.failure = Some(failure);
            }
        }
    }

    /// The files of the sources that have not been read, except for optional ones that Vault rejects, and for tokens.
    fn seeded_set(&self, seed: &Seed, data: &SeedData, now: &Now) -> Result<AdoptedSet, Failure> {
        let Parts { settings, sources, .. } = &self.parts;
        let unread = sources.iter().filter(|(_, source)| !source.is_current());
        let can_be_seeded = |name: &SourceName, source: &SourceState| !source.refused && !name.is_token_file();
        let wanted: BTreeSet<_> =
            unread.filter(|(name, source)| can_be_seeded(name, source)).map(|(name, _)| name.clone()).collect();
        let files = render::seed_files(settings, seed, data, &wanted)?;
        let provenance = files.files.iter().map(|(path, entry)| (path.clone(), entry.sources.clone())).collect();
        let of = |name: &SourceName| {
            let request = settings.sources.get(name)?.request_id();
            let source = ManifestSource { request, version: Version::default(), leased: false, seeded: true };
            Some((name.clone(), source))
        };
        let named: BTreeSet<_> = files.files.values().flat_map(|entry| &entry.sources).collect();
        let sources = named.into_iter().filter_map(of).collect();
        let manifest =
            Manifest { server: settings.server.id(), layout: None, sources, files: provenance, ..Manifest::default() };
        Ok(AdoptedSet { files, manifest, published: now.wall })
    }

    fn take_seed(&mut self, seed: &Seed, set: &AdoptedSet) {
        let directory = seed.directory.display();
        let why = self.parts.blocking_failure().map_or(String::new(), |failure| format!(": {}", failure.message));
        let message = format!(
            "no answer from Vault for {}s{why}; starting with the files of seed {directory}, which can be outdated",
            seed.after.as_secs()
        );
        self.journal.recovered(&Subject::Seed);
        self.journal.warn(&Subject::Seed, Reason::Seeded, message);
        let sources: BTreeSet<_> = set.manifest.sources.keys().cloned().collect();
        // The copy may have been made under another configuration.
        self.parts.store.adopt(set, &sources, |_| true);
        self.update_all(|name, source| {
            if sources.contains(name) {
                source.adopted = Some(Version::default());
            }
        });
        self.parts.seed.failure = None;
        self.parts.publication.sync.request();
    }
}
