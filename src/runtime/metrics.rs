//! Counters and gauges. Label values are constants and the names of sources and Secrets.
//!
//! A gauge with an unknown value is absent, so that an alert does not read it as 0.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::lock;

/// Operation and result; `reason` is `Ok` or a [`crate::model::Reason`].
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySecret {
    secret: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNotification {
    notification: String,
}

/// A gauge without labels, which is absent if its value is unknown.
#[derive(Debug, Clone, Default)]
struct Optional(Arc<Mutex<Option<i64>>>);

impl Optional {
    fn set(&self, value: Option<i64>) {
        *lock(&self.0) = value;
    }

    fn get(&self) -> Option<i64> {
        *lock(&self.0)
    }
}

impl EncodeMetric for Optional {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.get().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

/// All metrics of the agent.
pub(super) struct Metrics {
    registry: Registry,
    operations: Family<Outcome, Counter>,
    requests: Counter<u64, AtomicU64>,
    generation: Gauge,
    published: Optional,
    seeded: Gauge,
    stale: Family<BySource, Gauge>,
    read: Family<BySource, Gauge>,
    credential: Family<BySource, Gauge>,
    certificate: Family<BySource, Gauge>,
    mirrored: Family<BySecret, Gauge>,
    pending: Family<ByNotification, Gauge>,
    notified: Family<ByNotification, Gauge>,
    conditions: Family<ByCondition, Gauge>,
    reload: Gauge,
    token: Optional,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("keyferry");
        let operations = Family::default();
        registry.register(
            "operations",
            "Completed operations by result: Ok or a reason code",
            Family::clone(&operations),
        );
        let requests = Counter::default();
        registry.register("vault_requests", "HTTP requests sent to Vault", Counter::clone(&requests));
        let generation = Gauge::default();
        let help = "Number of the set that this process published last, counted from 1; 0 before the first one";
        registry.register("generation", help, Gauge::clone(&generation));
        let published = Optional::default();
        let help = "Unix time at which the visible set was published or, after a restart, confirmed; absent before";
        registry.register_with_unit("published_timestamp", help, Unit::Seconds, Optional::clone(&published));
        let seeded = Gauge::default();
        let help = "1 if the visible set contains files of the seed, else 0";
        registry.register("seeded", help, Gauge::clone(&seeded));
        let stale = Family::default();
        let help = "1 if the source has exceeded its staleness tolerance or its files are those of the seed, else 0; \
                    absent before the first read";
        registry.register("source_stale", help, Family::clone(&stale));
        let read = Family::default();
        let help = "Unix time of the last successful read or lease renewal of the source";
        registry.register_with_unit("source_read_timestamp", help, Unit::Seconds, Family::clone(&read));
        let credential = Family::default();
        let help = "Unix time at which the credentials of the source expire, with their lease or after their TTL; absent for other sources";
        registry.register_with_unit("credential_expiry_timestamp", help, Unit::Seconds, Family::clone(&credential));
        let certificate = Family::default();
        let help = "Unix time at which the certificate of the source, or a CA certificate above it, expires; absent for sources without `pki`";
        registry.register_with_unit(
            "certificate_not_after_timestamp",
            help,
            Unit::Seconds,
            Family::clone(&certificate),
        );
        let mirrored = Family::default();
        let help = "Unix time at which the Secret was last confirmed to hold the published set";
        registry.register_with_unit("mirror_timestamp", help, Unit::Seconds, Family::clone(&mirrored));
        let pending = Family::default();
        let help = "1 if the application was not notified of the last change yet, else 0";
        registry.register("notification_pending", help, Family::clone(&pending));
        let notified = Family::default();
        let help = "Unix time at which the notification last succeeded; absent before";
        registry.register_with_unit("notification_timestamp", help, Unit::Seconds, Family::clone(&notified));
        let conditions = Family::default();
        let help = "1 if the condition is True, 0 if it is False; absent if it is Unknown";
        registry.register("condition", help, Family::clone(&conditions));
        let reload: Gauge = Gauge::default();
        reload.set(1);
        let help = "1 if the latest configuration is active, 0 if it was rejected";
        registry.register("config_last_reload_successful", help, Gauge::clone(&reload));
        let token = Optional::default();
        let help = "Remaining time to live of the active Vault token, -1 if it does not expire; absent without a token";
        registry.register_with_unit("token_ttl", help, Unit::Seconds, Optional::clone(&token));
        registry.register("build", "Version of keyferry", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            registry,
            operations,
            requests,
            generation,
            published,
            seeded,
            stale,
            read,
            credential,
            certificate,
            mirrored,
            pending,
            notified,
            conditions,
            reload,
            token,
        }
    }

    pub(super) fn count_operation(&self, operation: &'static str, reason: &'static str) {
        self.operations.get_or_create(&Outcome { operation, reason }).inc();
    }

    /// Counts HTTP requests to Vault.
    pub(super) fn requests(&self, more: u64) {
        self.requests.inc_by(more);
    }

    /// Sets number and publication time of the set; `at` is `None` if the time is unknown.
    pub(super) fn published(&self, generation: u64, at: impl Into<Option<Timestamp>>) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.published.set(at.into().map(Timestamp::as_second));
    }

    /// Sets whether the visible set contains files of the seed.
    pub(super) fn seeded(&self, seeded: bool) {
        self.seeded.set(seeded.into());
    }

    /// Removes all series with a source, a Secret, or a notification as label. After a reload, these may be different ones.
    pub(super) fn clear_labelled(&self) {
        for family in [&self.stale, &self.read, &self.credential, &self.certificate] {
            family.clear();
        }
        self.mirrored.clear();
        self.pending.clear();
        self.notified.clear();
    }

    /// Sets whether a source is stale; `None` before its first read.
    pub(super) fn source(&self, source: &str, stale: impl Into<Option<bool>>) {
        set(&self.stale, &by_source(source), stale.into().map(i64::from));
    }

    /// Sets the time of the last successful read or lease renewal of a source.
    pub(super) fn source_read(&self, source: &str, at: Option<Timestamp>) {
        set(&self.read, &by_source(source), at.map(Timestamp::as_second));
    }

    /// Sets the expiry of the credentials of a source; `None` without a lease or TTL.
    pub(super) fn credential_expires(&self, source: &str, at: Option<Timestamp>) {
        set(&self.credential, &by_source(source), at.map(Timestamp::as_second));
    }

    /// Sets the expiry of the certificate of a source; `None` without a certificate.
    pub(super) fn certificate_expires(&self, source: &str, at: Option<Timestamp>) {
        set(&self.certificate, &by_source(source), at.map(Timestamp::as_second));
    }

    /// Sets the time at which a Secret was last confirmed to hold the published set.
    pub(super) fn mirrored(&self, secret: &str, at: Option<Timestamp>) {
        set(&self.mirrored, &BySecret { secret: secret.to_owned() }, at.map(Timestamp::as_second));
    }

    /// Sets whether a notification is pending, and when it last succeeded.
    pub(super) fn notified(&self, notification: &str, pending: bool, at: Option<Timestamp>) {
        let labels = ByNotification { notification: notification.to_owned() };
        set(&self.pending, &labels, Some(pending.into()));
        set(&self.notified, &labels, at.map(Timestamp::as_second));
    }

    /// Sets whether a condition is True; `None` if it is Unknown.
    pub(super) fn condition(&self, condition: &'static str, holds: impl Into<Option<bool>>) {
        set(&self.conditions, &ByCondition { condition }, holds.into().map(i64::from));
    }

    /// Sets whether the latest configuration is active.
    pub(super) fn config_is_active(&self, active: bool) {
        self.reload.set(active.into());
    }

    /// Sets the remaining TTL of the active token in seconds, -1 if it does not expire; `None` without a token.
    pub(super) fn token_ttl(&self, seconds: impl Into<Option<i64>>) {
        self.token.set(seconds.into());
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn by_source(source: &str) -> BySource {
    BySource { source: source.to_owned() }
}

/// Sets a gauge; removes it if the value is unknown.
fn set<L>(family: &Family<L, Gauge>, labels: &L, value: Option<i64>)
where
    L: Clone + Hash + Eq,
{
    match value {
        Some(value) => {
            family.get_or_create(labels).set(value);
        }
        None => {
            family.remove(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// The sample lines, without help and types.
    fn samples(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode();
        text.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect()
    }

    fn all() -> Metrics {
        let metrics = Metrics::new();
        metrics.count_operation("read", "Ok");
        metrics.published(1, at(100));
        metrics.source("a", true);
        metrics.source_read("a", Some(at(90)));
        metrics.credential_expires("a", Some(Timestamp::UNIX_EPOCH));
        metrics.certificate_expires("a", Some(at(200)));
        metrics.mirrored("s", Some(at(101)));
        metrics.notified("n", true, Some(at(102)));
        metrics.condition("SecretsReady", false);
        metrics.token_ttl(-1);
        metrics
    }

    #[test]
    fn unknown_values_are_absent() {
        let metrics = Metrics::new();
        let names: Vec<_> =
            samples(&metrics).iter().filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned())).collect();
        assert_eq!(
            names,
            [
                "keyferry_vault_requests_total",
                "keyferry_generation",
                "keyferry_seeded",
                "keyferry_config_last_reload_successful",
                "keyferry_build_info"
            ]
        );

        let metrics = all();
        for expected in [
            "keyferry_config_last_reload_successful 1",
            "keyferry_published_timestamp_seconds 100",
            "keyferry_source_stale{source=\"a\"} 1",
            "keyferry_source_read_timestamp_seconds{source=\"a\"} 90",
            "keyferry_credential_expiry_timestamp_seconds{source=\"a\"} 0",
            "keyferry_certificate_not_after_timestamp_seconds{source=\"a\"} 200",
            "keyferry_mirror_timestamp_seconds{secret=\"s\"} 101",
            "keyferry_notification_pending{notification=\"n\"} 1",
            "keyferry_notification_timestamp_seconds{notification=\"n\"} 102",
            "keyferry_condition{condition=\"SecretsReady\"} 0",
            "keyferry_token_ttl_seconds -1",
        ] {
            assert!(samples(&metrics).iter().any(|line| line == expected), "{expected}: {:#?}", samples(&metrics));
        }
        metrics.published(0, None);
        metrics.source("a", None);
        metrics.source_read("a", None);
        metrics.credential_expires("a", None);
        metrics.certificate_expires("a", None);
        metrics.mirrored("s", None);
        metrics.notified("n", false, None);
        metrics.condition("SecretsReady", None);
        metrics.token_ttl(None);
        assert_eq!(samples(&metrics).len(), 7, "{:#?}", samples(&metrics));
    }

    #[test]
    fn reload_removes_series_of_old_configuration() {
        let metrics = all();
        metrics.clear_labelled();
        assert!(
            !metrics.encode().contains("=\"a\"")
                && !metrics.encode().contains("=\"s\"")
                && !metrics.encode().contains("=\"n\""),
            "{}",
            metrics.encode()
        );
    }

    #[test]
    fn docs_list_exactly_the_exported_metrics() {
        let guide = include_str!("../../docs/config.md").lines();
        let documented: Vec<_> = guide.filter_map(|line| line.strip_prefix("| `keyferry_")?.split_once('`')).collect();
        let documented: std::collections::BTreeSet<_> =
            documented.into_iter().map(|(name, _)| format!("keyferry_{name}")).collect();
        let real = samples(&all()).iter().filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned())).collect();
        assert_eq!(documented, real, "docs/config.md and the metrics differ");
    }
}
