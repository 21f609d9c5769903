//! What one read of a source gives.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::SecretBytes;

/// One value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// A JSON string, unescaped.
    Text(SecretBytes),
    /// Anything else, as compact JSON text (numbers keep their digits).
    Json(SecretBytes),
}

impl SecretValue {
    /// The bytes that a file of this value has.
    #[must_use]
    pub fn bytes(&self) -> &SecretBytes {
        match self {
            Self::Text(bytes) | Self::Json(bytes) => bytes,
        }
    }
}

/// The content of a source at one moment.
#[derive(Clone)]
pub struct Reading {
    /// Key to value.
    pub data: BTreeMap<String, SecretValue>,
    /// What orders this reading among others of the same source.
    pub version: Version,
    /// The lease, if the engine gave one.
    pub lease: Option<Lease>,
    /// Warnings that Vault added to the answer; they hold no secret.
    pub warnings: Vec<String>,
}

/// What orders readings of one source. Both are absent for engines without versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// KV v2 version number, from 1.
    pub number: Option<u64>,
    /// When that version was written; tells a re-created secret (numbers start again) from a lagging standby.
    pub created: Option<Timestamp>,
}

impl Version {
    /// Whether this reading is certainly older than `other`, as a lagging standby would give it.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        match (self.created, other.created) {
            (Some(ours), Some(theirs)) => ours < theirs,
            _ => matches!((self.number, other.number), (Some(ours), Some(theirs)) if ours < theirs),
        }
    }
}

/// Identifier of a lease, as Vault gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub String);

/// A lease or, for engines that only state a duration, the time after which to read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Absent where the engine states a duration without a lease (KV v1, PKI).
    pub id: Option<LeaseId>,
    /// Counted from the answer.
    pub duration: Duration,
    /// Whether `sys/leases/renew` can extend it.
    pub renewable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, created: &str) -> Version {
        Version { number: Some(number), created: created.parse().ok() }
    }

    #[test]
    fn a_recreated_secret_is_newer_though_its_number_is_smaller() {
        let old = version(7, "2026-01-01T00:00:00Z");
        let recreated = version(1, "2026-01-02T00:00:00Z");
        assert!(!recreated.is_older_than(&old));
        assert!(old.is_older_than(&recreated));
        assert!(!Version::default().is_older_than(&old));
    }
}
