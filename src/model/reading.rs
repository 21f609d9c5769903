//! What one read of a source gives.

use std::cmp::Ordering;
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
    /// How long what was read stays valid.
    pub validity: Validity,
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

/// How one reading of a secret stands to another reading of the same secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Certainly newer.
    Newer,
    /// The same version, or nothing is known that orders the two.
    Level,
    /// Lower number and not written later: a standby that lags behind, or a server that was restored from a backup.
    Older,
}

impl Version {
    /// How this reading stands to `other`. A higher number is newer whatever the clocks of the servers said; a lower one is
    /// newer only if it was written later, as in a secret that was deleted and created again.
    #[must_use]
    pub fn order(&self, other: &Self) -> Order {
        let written = self.created.zip(other.created).map(|(ours, theirs)| ours.cmp(&theirs));
        match (self.number.zip(other.number).map(|(ours, theirs)| ours.cmp(&theirs)), written) {
            (Some(Ordering::Greater), _) | (Some(Ordering::Less | Ordering::Equal) | None, Some(Ordering::Greater)) => {
                Order::Newer
            }
            (Some(Ordering::Less), _) | (Some(Ordering::Equal) | None, Some(Ordering::Less)) => Order::Older,
            (Some(Ordering::Equal) | None, Some(Ordering::Equal) | None) => Order::Level,
        }
    }
}

/// Identifier of a lease, as Vault gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub String);

/// A lease, which Vault revokes at its end and with the token that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Names it for renewal.
    pub id: LeaseId,
    /// Time to live, counted from the answer.
    pub duration: Duration,
    /// Whether `sys/leases/renew` can extend it.
    pub renewable: bool,
}

/// How long what was read stays valid. Durations count from the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Validity {
    /// Until it changes; read at the source's own interval.
    #[default]
    Unlimited,
    /// Until a lease ends.
    Lease(Lease),
    /// Issued for this read with a life of its own and no lease (an OIDC token, a cloud access token, a certificate): each
    /// read issues another one, so it is read again shortly before its end and not before.
    Expires(Duration),
    /// The server replaces it after this time and keeps it until then (a static role's password): reading again is free, and
    /// there is nothing new before.
    Rotates(Duration),
}

impl Validity {
    /// The lease, if there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Lease(lease) => Some(lease),
            Self::Unlimited | Self::Expires(_) | Self::Rotates(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, created: &str) -> Version {
        Version { number: Some(number), created: created.parse().ok() }
    }

    #[test]
    fn a_higher_number_is_newer_and_a_lower_one_only_if_it_was_written_later() {
        let old = version(7, "2026-01-01T00:00:00Z");
        let table = [
            (version(1, "2026-01-02T00:00:00Z"), Order::Newer, "re-created"),
            (version(8, "2025-12-31T22:00:00Z"), Order::Newer, "written by a node whose clock is behind"),
            (version(6, "2025-12-31T00:00:00Z"), Order::Older, "a lagging standby, or a restored server"),
            (version(6, "2026-01-01T00:00:00Z"), Order::Older, "lower, at the same time"),
            (version(7, "2026-01-01T00:00:00Z"), Order::Level, "the same"),
            (Version { number: Some(6), created: None }, Order::Older, "lower, without a time"),
            (Version::default(), Order::Level, "an engine without versions"),
        ];
        for (new, expected, what) in table {
            assert_eq!(new.order(&old), expected, "{what}");
        }
    }
}
