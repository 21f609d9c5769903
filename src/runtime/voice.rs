//! What the agent says: log lines, metrics, the probes' answers. One place, so that each reason has one name everywhere.

use std::path::PathBuf;
use std::sync::Arc;

use super::clock::wall;
use super::effects::Done;
use super::health::{Health, Standing, started};
use super::metrics::Metrics;
use super::probe;
use crate::brain::{PublishOutcome, Snapshot, Tick};
use crate::model::{Condition, ConditionStatus, ConditionType, Failure, Generation, ObjectName, Settings, SourceName};
use crate::telemetry;

/// What a line is about.
#[derive(Clone, Copy)]
enum About<'a> {
    Nothing,
    Source(&'a SourceName),
    Output(&'a ObjectName),
}

/// Says what happens, once.
pub(super) struct Voice {
    health: Health,
    metrics: Arc<Metrics>,
    directory: PathBuf,
    conditions: Vec<Condition>,
    generation: Option<Generation>,
    requests: u64,
    pid: u32,
    started: u64,
}

impl Voice {
    pub(super) fn new(settings: &Settings) -> Self {
        probe::forget(&settings.directory.path);
        Self {
            health: Health::default(),
            metrics: Arc::new(Metrics::new()),
            directory: settings.directory.path.clone(),
            conditions: Vec::new(),
            generation: None,
            requests: 0,
            pid: std::process::id(),
            started: started(std::process::id()).unwrap_or_default(),
        }
    }

    pub(super) fn for_listener(&self) -> (Health, Arc<Metrics>) {
        (self.health.clone(), Arc::clone(&self.metrics))
    }

    /// Tells how an effect ended. `requests`: what the Vault hand has sent so far.
    pub(super) fn heard(&mut self, done: &Done, requests: u64) {
        // A new hand starts at zero.
        self.metrics.requests(requests.checked_sub(self.requests).unwrap_or(requests));
        self.requests = requests;
        match done {
            Done::TakenOver { estate, .. } => {
                self.metrics.ended("take_over", "Ok");
                let sources = estate.facts.sources.len();
                let ttl = estate.facts.left.map_or(0, |left| left.as_secs());
                tracing::info!(ttl_seconds = ttl, sources, "took over the vault token of the container before");
            }
            Done::HandedOver(result) => self.tell("hand_over", About::Nothing, result.as_ref(), |()| {
                tracing::info!("left the vault token to the next container");
            }),
            Done::Login { result, refused } => {
                if let Some(refused) = refused {
                    self.tell::<()>("take_over", About::Nothing, Err(refused), |()| {});
                }
                self.tell(
                    "login",
                    About::Nothing,
                    result.as_ref().map(|session| session.info.ttl.map_or(0, |ttl| ttl.as_secs())),
                    |ttl| {
                        tracing::info!(ttl_seconds = ttl, "logged in to vault");
                    },
                );
            }
            Done::TokenRenewed(result) => {
                self.tell(
                    "renew_token",
                    About::Nothing,
                    result.as_ref().map(|info| info.ttl.map_or(0, |ttl| ttl.as_secs())),
                    |ttl| {
                        tracing::info!(ttl_seconds = ttl, "renewed the vault token");
                    },
                );
            }
            Done::Read { source, result, .. } => self.tell("read", About::Source(source), result.as_ref(), |reading| {
                for warning in &reading.warnings {
                    tracing::warn!(source = source.as_str(), warning, "vault warns");
                }
                tracing::debug!(source = source.as_str(), version = reading.version.number, "read");
            }),
            Done::LeaseRenewed { source, result, .. } => {
                self.tell("renew_lease", About::Source(source), result.as_ref(), |lease| {
                    tracing::info!(
                        source = source.as_str(),
                        ttl_seconds = lease.duration.as_secs(),
                        "renewed the lease"
                    );
                });
            }
            Done::Published(result) => {
                self.tell("publish", About::Nothing, result.as_ref().map(|(outcome, _)| outcome), |outcome| {
                    if *outcome == PublishOutcome::Unchanged {
                        tracing::info!("the published set is already what it should be");
                    }
                });
            }
            Done::Mirrored { name, result } => self.tell("mirror", About::Output(name), result.as_ref(), |outcome| {
                tracing::info!(output = name.as_str(), ?outcome, "mirrored");
            }),
            Done::Reported(result) => self.tell("report", About::Nothing, result.as_ref(), |()| {}),
            Done::Recorded(result) => self.tell("record", About::Nothing, result.as_ref(), |()| {}),
            Done::Revoked(result) => {
                self.tell("revoke", About::Nothing, result.as_ref(), |()| tracing::info!("revoked the vault token"));
            }
        }
    }

    fn tell<T>(&self, operation: &'static str, about: About<'_>, result: Result<T, &Failure>, good: impl FnOnce(T)) {
        match result {
            Ok(value) => {
                self.metrics.ended(operation, "Ok");
                good(value);
            }
            Err(failure) => {
                self.metrics.ended(operation, failure.reason.as_str());
                let (source, output) = match about {
                    About::Nothing => (None, None),
                    About::Source(source) => (Some(source.as_str()), None),
                    About::Output(output) => (None, Some(output.as_str())),
                };
                telemetry::log_failure(failure, source, output);
            }
        }
    }

    pub(super) fn config_rejected(&self, message: &str) {
        self.metrics.ended("config", "ConfigRejected");
        tracing::warn!(
            reason = "ConfigRejected",
            "the new configuration was refused, the old one stays in force: {message}"
        );
    }

    pub(super) fn config_reloaded(&mut self, settings: &Settings) {
        self.metrics.ended("config", "Ok");
        self.metrics.forget_sources();
        if self.directory != settings.directory.path {
            probe::forget(&self.directory);
            self.directory.clone_from(&settings.directory.path);
            self.health.set(&Standing::default());
        }
        tracing::info!(reason = "ConfigReloaded", "a new configuration is in force");
    }

    /// Tells what changed in the whole picture.
    pub(super) fn show(&mut self, snapshot: &Snapshot, now: Tick) {
        if let Some(generation) = snapshot.generation.filter(|_| snapshot.generation != self.generation) {
            self.metrics.published(generation.0, wall());
            tracing::info!(generation = generation.0, reason = "Published", "published");
        }
        self.generation = snapshot.generation;
        for new in &snapshot.conditions {
            let old = self.conditions.iter().find(|old| old.kind == new.kind);
            self.metrics.condition(new.kind.as_str(), new.status == ConditionStatus::True);
            if old.is_none_or(|old| (old.status, old.reason) != (new.status, new.reason)) {
                let (condition, status, reason) = (new.kind.as_str(), new.status.as_str(), new.reason.as_str());
                tracing::info!(condition, status, reason, "{}", new.message);
            }
        }
        self.conditions.clone_from(&snapshot.conditions);
        for (source, stale, _) in &snapshot.sources {
            self.metrics.source(source, *stale);
        }
        let ttl = match (snapshot.logged_in, snapshot.token_ends) {
            (false, _) => 0,
            (true, None) => -1,
            (true, Some(end)) => i64::try_from(end.saturating_sub(now).as_secs()).unwrap_or(i64::MAX),
        };
        self.metrics.token_ttl(ttl);
        let ready = snapshot.is_ready() && !snapshot.draining;
        let why = snapshot.conditions.iter().filter(|c| c.kind == ConditionType::SecretsReady && !ready);
        let standing = Standing {
            pid: self.pid,
            started: self.started,
            ready,
            reasons: why.map(|condition| format!("{}: {}", condition.reason, condition.message)).collect(),
        };
        if self.health.set(&standing)
            && let Err(error) = probe::remember(&self.directory, &standing)
        {
            tracing::warn!(%error, "failed to write the state file for probes");
        }
    }

    /// The last act.
    pub(super) fn leave(&self) {
        probe::forget(&self.directory);
        tracing::info!("keyferry leaves");
    }
}
