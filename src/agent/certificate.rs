//! The term of a certificate: when it expires, and when to replace it.

use std::time::Duration;

use jiff::Timestamp;

use super::Agent;
use super::grant::retry_before;
use super::journal::Subject;
use super::source::SourceState;
use super::time::{Elapsed, MIN_REFRESH, Now, timestamp};
use crate::model::{CertificateTimes, Reason, SourceName};

/// Fraction of the lifetime before the expiry at which a certificate is replaced: after two thirds, give or take some
/// jitter, so that replicas do not act in step.
const LEAD_FROM: f64 = 0.30;
const LEAD_TO: f64 = 0.36;

/// How much earlier than `renewBefore` a certificate can be replaced: a fraction of it, or of the lifetime before it if that
/// is shorter, so that a `renewBefore` close to the lifetime does not replace certificates as soon as they are issued.
const EARLIER: f64 = 0.1;

/// The validity of a certificate on the clock of the agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CertificateTerm {
    times: CertificateTimes,
    ends: Elapsed,
    /// The lifetime that the time of the renewal is a fraction of.
    life: Duration,
    renew_before: Option<Duration>,
    /// `0.0..1.0`
    jitter: f64,
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl CertificateTerm {
    /// The term of a certificate that was issued now. A clock that is ahead of Vault's shortens the lifetime, and one that is
    /// behind does not extend it.
    pub(super) fn new(times: CertificateTimes, now: &Now) -> Self {
        let life = between(now.wall, times.ends()).min(Self::full_life(&times));
        let ends = now.at.saturating_add(life);
        Self { times, ends, life, renew_before: None, jitter: now.jitter(26) }
    }

    fn full_life(times: &CertificateTimes) -> Duration {
        between(times.not_before, times.ends())
    }

    /// Continues the term of a certificate that an earlier process requested, with `left` remaining.
    pub(super) fn resume(&mut self, left: Duration, now: &Now) {
        self.ends = now.at.saturating_add(left);
        self.life = Self::full_life(&self.times);
    }

    /// Sets the configured time before the expiry at which to renew.
    pub(super) fn set_renew_before(&mut self, renew_before: Option<Duration>) {
        self.renew_before = renew_before;
    }

    pub(super) fn expires_at(&self) -> Elapsed {
        self.ends
    }

    pub(super) fn expires_at_wall(&self) -> Timestamp {
        self.times.ends()
    }

    /// `renewBefore` if it is less than the lifetime.
    fn usable_renew_before(&self) -> Option<Duration> {
        self.renew_before.filter(|before| *before < self.life)
    }

    /// When to replace the certificate.
    pub(super) fn due(&self) -> Elapsed {
        let lead = match self.usable_renew_before() {
            Some(before) => before + before.min(self.life - before).mul_f64(EARLIER * self.jitter),
            None => self.life.mul_f64(LEAD_FROM + (LEAD_TO - LEAD_FROM) * self.jitter),
        };
        self.ends.saturating_sub(lead)
    }

    /// When to retry after a failure at `now` whose backoff ends at `wanted`.
    pub(super) fn retry(&self, wanted: Elapsed, now: Elapsed) -> Elapsed {
        retry_before(self.ends, wanted, now)
    }

    /// Whether the lifetime is so short that the minimum interval determines when to act.
    pub(super) fn is_short(&self) -> bool {
        self.life < MIN_REFRESH * 2
    }

    /// What an operator should know. With a reason code, it is a warning.
    fn notes(&self, source: &SourceName) -> Vec<(Option<Reason>, String)> {
        let mut notes = Vec::new();
        if self.times.is_cut_by_ca() {
            let ends = timestamp(self.times.ca_not_after);
            let message = format!(
                "the certificate of source {source} expires with its CA at {ends}; replace the CA certificate in Vault \
                 before that"
            );
            notes.push((Some(Reason::CaExpiring), message));
        }
        if let Some(before) = self.renew_before.filter(|_| self.usable_renew_before().is_none()) {
            let message = format!(
                "`renewBefore` of source {source} ({}s) is not less than the lifetime of its certificate ({}s), so \
                 keyferry renews it after two thirds of the lifetime; set a shorter `renewBefore` or a longer `ttl`",
                before.as_secs(),
                self.life.as_secs()
            );
            notes.push((None, message));
        }
        notes
    }
}

impl Agent {
    /// Logs what an operator should know about a new certificate, each once until it no longer applies.
    pub(super) fn note_certificate(&mut self, name: &SourceName) {
        let certificate = self.parts.sources.get(name).and_then(SourceState::certificate);
        let notes = certificate.map(|certificate| certificate.notes(name)).unwrap_or_default();
        let applies = |reason: Option<Reason>| notes.iter().any(|(other, _)| *other == reason);
        self.noted_certificates.retain(|(source, reason)| source != name || applies(*reason));
        for (reason, message) in notes {
            if self.noted_certificates.insert((name.clone(), reason)) {
                let subject = Subject::Source(name.clone());
                match reason {
                    Some(reason) => self.journal.warn(&subject, reason, message),
                    None => self.journal.info(&subject, message),
                }
            }
        }
    }
}
