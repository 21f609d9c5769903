//! Reports the agent's state as log lines, metrics, and probe responses.

use std::sync::Arc;

use super::executor::Completed;
use super::health::{Health, HealthStatus, started};
use super::metrics::Metrics;
use super::probe::StateFile;
use crate::agent::{Agent, Elapsed, LogEntry, LogLevel, Now, Outcome};
use crate::model::{
    Condition, ConditionStatus, ConditionType, Failure, Generation, NotificationName, ObjectName, Reason, Settings,
    SourceName,
};
use crate::telemetry;

/// Writes log lines, metrics, and the status for probes.
pub(super) struct Observer {
    health: Health,
    metrics: Arc<Metrics>,
    state_file: StateFile,
    settings: Arc<Settings>,
    conditions: Vec<Condition>,
    generation: Option<Generation>,
    requests: u64,
    pid: u32,
    started: u64,
}

impl Observer {
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        let mut state_file = StateFile::new(&settings.directory.path);
        state_file.remove();
        Self {
            health: Health::default(),
            metrics: Arc::new(Metrics::new()),
            state_file,
            settings: Arc::clone(settings),
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

    /// Counts a completed operation. `requests`: number of requests sent to Vault so far.
    pub(super) fn completed(&mut self, completed: &Completed, requests: u64) {
        self.metrics.requests(requests.saturating_sub(self.requests));
        self.requests = requests;
        if let Some(failure) = &completed.restore_failure {
            self.metrics.count_operation("restore", failure.reason.as_str());
            telemetry::log_failure(failure, None, None);
        }
        if matches!(completed.outcome, Outcome::Published(Ok(_))) {
            // The publisher may have re-created a removed directory, which contained the state file.
            self.state_file.invalidate();
        }
        let operation = if matches!(completed.outcome, Outcome::Restored(_)) { "restore" } else { completed.operation };
        self.metrics.count_operation(operation, reason_of(&completed.outcome).map_or("Ok", Reason::as_str));
    }

    pub(super) fn config_read(&self, valid: bool) {
        self.metrics.count_operation("config", if valid { "Ok" } else { Reason::ConfigRejected.as_str() });
    }

    /// Writes a log line of the agent.
    pub(super) fn log(entry: &LogEntry) {
        let LogEntry { level, operation, reason, source, output, notification, message } = entry;
        let reason = reason.map(Reason::as_str);
        let notification = notification.as_ref().map(NotificationName::as_str);
        let (source, output) = (source.as_ref().map(SourceName::as_str), output.as_ref().map(ObjectName::as_str));
        match level {
            LogLevel::Info => tracing::info!(operation, reason, source, output, notification, "{message}"),
            LogLevel::Warn => tracing::warn!(operation, reason, source, output, notification, "{message}"),
            LogLevel::Error => tracing::error!(target: telemetry::FINAL, operation, reason, "{message}"),
        }
    }

    /// Updates metrics, the probe status, and the state file from the agent's state.
    pub(super) fn update(&mut self, agent: &mut Agent, now: &Now) {
        if !Arc::ptr_eq(&self.settings, agent.settings()) {
            self.settings = Arc::clone(agent.settings());
            self.metrics.clear_labelled();
            self.state_file.remove();
            self.state_file = StateFile::new(&self.settings.directory.path);
        }
        if let Some(published) = agent.adopted() {
            self.metrics.published(0, published);
        } else if let Some(generation) = agent.generation().filter(|new| Some(*new) != self.generation) {
            self.metrics.published(generation.0, now.wall);
        }
        self.generation = agent.generation();
        self.metrics.seeded(agent.is_seeded());
        self.metrics.config_is_active(!agent.is_config_rejected());
        for (name, status) in agent.take_changed_sources(now) {
            let status = status.as_ref();
            self.metrics.source(name.as_str(), status.and_then(|status| status.stale));
            self.metrics.source_read(name.as_str(), status.and_then(|status| status.read));
            self.metrics.credential_expires(name.as_str(), status.and_then(|status| status.credential_expires_at));
            self.metrics.certificate_expires(name.as_str(), status.and_then(|status| status.certificate_expires_at));
        }
        self.metrics.token_ttl(agent.token_expiry(now.at).map(|ends| ends.map_or(-1, |ends| seconds(ends, now.at))));
        for (name, status) in agent.notifications() {
            self.metrics.notified(name.as_str(), status.pending, status.succeeded);
        }
        if agent.conditions() != self.conditions {
            self.update_conditions(agent);
        }
        let ready = agent.is_ready();
        let why = self.conditions.iter().filter(|c| c.kind == ConditionType::SecretsReady && !ready);
        let reasons = why.map(|condition| format!("{}: {}", condition.reason, condition.message)).collect();
        let status = HealthStatus { pid: self.pid, started: self.started, ready, reasons };
        self.health.set(&status);
        if let Err(error) = self.state_file.update(&status) {
            tracing::debug!(%error, "failed to write the state file for probes");
        }
    }

    fn update_conditions(&mut self, agent: &Agent) {
        for new in agent.conditions() {
            let old = self.conditions.iter().find(|old| old.kind == new.kind);
            let holds = match new.status {
                ConditionStatus::True => Some(true),
                ConditionStatus::False => Some(false),
                ConditionStatus::Unknown => None,
            };
            self.metrics.condition(new.kind.as_str(), holds);
            if old.is_none_or(|old| (old.status, old.reason) != (new.status, new.reason)) {
                let (condition, status, reason) = (new.kind.as_str(), new.status.as_str(), new.reason.as_str());
                tracing::info!(condition, status, reason, "{}", new.message);
            }
        }
        for (name, status) in agent.mirrors() {
            self.metrics.mirrored(name.as_str(), status.confirmed);
        }
        self.conditions = agent.conditions().to_vec();
    }

    /// Cleans up before the process exits.
    pub(super) fn exit(&mut self) {
        self.state_file.remove();
        tracing::info!("keyferry exits");
    }
}

fn seconds(ends: Elapsed, now: Elapsed) -> i64 {
    i64::try_from(ends.saturating_sub(now).as_secs()).unwrap_or(i64::MAX)
}

fn reason_of(outcome: &Outcome) -> Option<Reason> {
    let reason = |failure: &Failure| failure.reason;
    match outcome {
        Outcome::LoggedIn(result) => result.as_ref().err().map(reason),
        Outcome::Restored(result) => result.as_ref().err().map(reason),
        Outcome::LookedUp(result) | Outcome::TokenRenewed(result) => result.as_ref().err().map(reason),
        Outcome::Read(result) => result.as_ref().err().map(reason),
        Outcome::LeaseLookedUp(result) | Outcome::LeaseRevoked(result) => result.as_ref().err().map(reason),
        Outcome::LeaseRenewed(result) => result.as_ref().err().map(reason),
        Outcome::Published(result) | Outcome::ConditionsPatched(result) => result.as_ref().err().map(reason),
        Outcome::Mirrored(result) => result.as_ref().err().map(reason),
        Outcome::SeedRead(result) => result.as_ref().err().map(reason),
        Outcome::Retired(result)
        | Outcome::Notified(result)
        | Outcome::EventRecorded(result)
        | Outcome::Unsubscribed(result)
        | Outcome::Saved(result)
        | Outcome::Revoked(result) => result.as_ref().err().map(reason),
    }
}
