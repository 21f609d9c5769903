//! What holds once the world answers well: nothing that happened before is forgotten.

use super::*;

/// The newest reading of all, without a lease, and a token that lives for hours.
const WELL: How =
    How { fails: None, retry_after: None, number: 5, changed: false, lease: None, ttl: Some(7200), handed: false };

impl World {
    /// Every request is answered well: at first at once, then over the time that the longest wait may take.
    pub(super) fn all_goes_well(&mut self) {
        self.answer_all();
        self.check_quiet();
        let until = self.now + Duration::from_secs(1500);
        while let Some(wake) = self.state.wake_at(self.now).filter(|wake| *wake <= until) {
            self.now = wake;
            self.step(Event::Woke);
            self.answer_all();
        }
        self.check_quiet();
        self.check_well();
    }

    fn answer_all(&mut self) {
        let mut rounds = 0;
        while let Some(effect) = self.in_flight.first() {
            let changed = match effect {
                Effect::Read { source, .. } => self.accepted.get(source).is_none_or(|(version, _)| *version != 5),
                // Whether it can be renewed.
                Effect::Login { .. } | Effect::RenewToken { .. } | Effect::Publish { .. } => true,
                _ => false,
            };
            self.end(0, &How { changed, ..WELL });
            rounds += 1;
            assert!(rounds < 100, "requests without end: {:?}", self.in_flight);
        }
    }

    /// Nothing is in flight: what has not failed is done.
    fn check_quiet(&self) {
        let State { plan, sources, publication, mirrors, .. } = &self.state;
        if sources.complete() && publication.failure.is_none() {
            for name in plan.sources.keys() {
                let content = |of: &BTreeMap<SourceName, Content>| of.get(name).map(|(_, content)| *content);
                assert_eq!(content(&self.visible), content(&self.accepted), "source {name}: visible, accepted");
            }
        }
        // Nothing waits for an optional source that was tried in vain.
        let mut missing = sources.iter().filter(|(_, source)| !source.is_held());
        let nothing_to_wait_for =
            missing.all(|(name, source)| !plan.sources[name].required && source.failure.is_some());
        let done = publication.generation().is_some() || publication.failure.is_some();
        assert!(!nothing_to_wait_for || done, "the first set waits for nothing: {:#?}", self.state);
        for (name, _) in mirrors.iter().filter(|(_, mirror)| mirror.failure.is_none()) {
            let (holds, visible) = (self.mirrored.get(name).copied(), publication.generation());
            assert!(visible.is_none() || holds == visible, "mirror {name} has {holds:?}, visible is {visible:?}");
        }
    }

    /// Time enough has passed: nothing is failed any more, and all of it is told.
    fn check_well(&self) {
        let snapshot = self.state.snapshot(self.now);
        assert!(snapshot.logged_in && snapshot.is_ready(), "not there yet: {:#?}", self.state);
        for (name, stale, failure) in &snapshot.sources {
            assert!(!stale && failure.is_none(), "source {name} is stale: {failure:?}");
        }
        let State { publication, mirrors, .. } = &self.state;
        assert!(publication.is_current() && publication.failure.is_none() && mirrors.hold(publication.generation()));
        assert_eq!(self.told, snapshot.conditions, "told, wanted");
    }
}
