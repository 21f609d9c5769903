//! Counters and gauges. Labels are our own bounded words and the names of sources.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// What was tried and how it ended; `reason` is `Ok` or a [`crate::model::Reason`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    operation: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCondition {
    condition: &'static str,
}

/// All metrics of the agent.
pub(super) struct Metrics {
    registry: Registry,
    operations: Family<Outcome, Counter>,
    requests: Counter<u64, AtomicU64>,
    generation: Gauge,
    published: Gauge<i64, AtomicI64>,
    stale: Family<BySource, Gauge>,
    conditions: Family<ByCondition, Gauge>,
    token: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("keyferry");
        let operations = Family::default();
        registry.register("operations", "What was tried, by its end: Ok or a reason", Family::clone(&operations));
        let requests = Counter::default();
        registry.register("vault_requests", "HTTP requests sent to Vault", Counter::clone(&requests));
        let generation = Gauge::default();
        registry.register("generation", "Number of the visible set in this process's life", Gauge::clone(&generation));
        let published = Gauge::default();
        let help = "When the visible set was published, Unix time";
        registry.register_with_unit("published_timestamp", help, Unit::Seconds, Gauge::clone(&published));
        let stale = Family::default();
        registry.register("source_stale", "1 if the source is stale beyond its tolerance", Family::clone(&stale));
        let conditions = Family::default();
        registry.register("condition", "1 if the condition is True", Family::clone(&conditions));
        let token = Gauge::default();
        let help = "Time to live of the token in use, 0 without one, -1 if it never ends";
        registry.register_with_unit("token_ttl", help, Unit::Seconds, Gauge::clone(&token));
        registry.register("build", "Version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry, operations, requests, generation, published, stale, conditions, token }
    }

    pub(super) fn ended(&self, operation: &'static str, reason: &'static str) {
        self.operations.get_or_create(&Outcome { operation, reason }).inc();
    }

    /// The hand counts since it was made; the counter goes on where an older hand left.
    pub(super) fn requests(&self, more: u64) {
        self.requests.inc_by(more);
    }

    pub(super) fn published(&self, generation: u64, at: jiff::Timestamp) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.published.set(at.as_second());
    }

    pub(super) fn forget_sources(&self) {
        self.stale.clear();
    }

    pub(super) fn source(&self, source: &str, stale: bool) {
        self.stale.get_or_create(&BySource { source: source.to_owned() }).set(i64::from(stale));
    }

    pub(super) fn condition(&self, condition: &'static str, holds: bool) {
        self.conditions.get_or_create(&ByCondition { condition }).set(i64::from(holds));
    }

    pub(super) fn token_ttl(&self, seconds: i64) {
        self.token.set(seconds);
    }

    /// The OpenMetrics text.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}
