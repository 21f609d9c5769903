//! Properties of the seed.

use keyferry::agent::{MirrorRequest, Outcome};
use keyferry::model::{Failure, FailureClass};

use super::super::config_file::SEED_AFTER;
use super::super::process::Flight;
use super::super::world::World;
use super::Property;

impl World {
    /// Records whether the last answer of Vault to a login or a read was a refusal.
    pub fn record_answer(&mut self, flight: &Flight, outcome: &Outcome) {
        let (now, settings) = (self.now, flight.settings.clone());
        let token_is_alive = self.servers.values().any(|server| server.token_is_alive(&flight.token, now));
        // A 403 for a dead token says nothing about the pod.
        let refuses = |failure: &Failure| match failure.class {
            FailureClass::Denied | FailureClass::Invalid | FailureClass::Missing => true,
            FailureClass::Forbidden => token_is_alive,
            _ => false,
        };
        let (request, failure) = match outcome {
            Outcome::LoggedIn(result) => ("login".to_owned(), result.as_ref().err()),
            Outcome::Read(result) => {
                let spec = flight.source.as_ref().zip(settings).and_then(|(name, of)| of.sources.get(name).cloned());
                (spec.map_or_else(String::new, |spec| spec.path), result.as_ref().err())
            }
            _ => return,
        };
        let Some(process) = &mut self.process else { return };
        match failure {
            None => {
                process.refused.remove(&request);
                process.answered = now;
            }
            Some(failure) if refuses(failure) => _ = process.refused.insert(request),
            Some(_) => {}
        }
    }

    /// [`Property::SeedOnlyDuringOutage`] when the seed is read.
    pub fn check_seed_read(&mut self) {
        self.check_seed_use();
        let quiet = self.process.as_ref().map_or(SEED_AFTER, |process| self.now.saturating_sub(process.answered));
        self.watch.measure("seconds without an answer before the seed", quiet.as_secs_f64(), String::new);
        if quiet < SEED_AFTER {
            self.violate(Property::SeedOnlyDuringOutage, format!("the last answer is {quiet:?} old"));
        }
    }

    /// [`Property::SeedOnlyDuringOutage`] when files of the seed are published. Vault can be back by then, if the volume was
    /// full.
    pub fn check_seed_use(&mut self) {
        let Some(process) = &self.process else { return };
        let settings = process.agent.settings();
        let required = settings.sources.values().filter(|source| source.required).map(|source| source.path.as_str());
        let refused = required.chain(["login"]).find(|request| process.refused.contains(*request)).map(str::to_owned);
        if let Some(refused) = refused {
            self.violate(Property::SeedOnlyDuringOutage, format!("Vault has refused {refused}"));
        }
    }

    /// [`Property::SeedIsNotMirrored`].
    pub fn check_seed_mirror(&mut self, request: &MirrorRequest) {
        let Some(process) = &self.process else { return };
        let visible = self.volume.directories.get(&process.agent.settings().directory.path);
        let seeded = visible.and_then(|visible| {
            visible.set.manifest.seeded().find(|source| request.versions.contains_key(*source)).cloned()
        });
        if let Some(source) = seeded {
            self.violate(Property::SeedIsNotMirrored, format!("a file of source {source} is mirrored"));
        }
    }
}
