//! Result of one read of a source.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::{SecretBytes, VaultToken};

/// One value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// A JSON string, unescaped.
    Text(SecretBytes),
    /// Any other JSON value, as compact JSON text. Numbers keep their digits.
    Json(SecretBytes),
}

impl SecretValue {
    /// The content of a file with this value.
    #[must_use]
    pub fn bytes(&self) -> &SecretBytes {
        match self {
            Self::Text(bytes) | Self::Json(bytes) => bytes,
        }
    }

    /// Whether the key has no value. Engines use null for what a role does not have, such as the session token of an AWS user.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Json(bytes) if bytes.expose() == b"null")
    }
}

/// The content of a source at one time.
#[derive(Clone, Default)]
pub struct Reading {
    /// Values by key.
    pub data: BTreeMap<String, SecretValue>,
    /// Version, for comparison with other readings of the same source.
    pub version: Version,
    /// How long the content stays valid.
    pub validity: Validity,
    /// Warnings in Vault's response. They contain no secret.
    pub warnings: Vec<String>,
    /// `metadata` of KV version 2, as JSON. `None` for other engines. For templates.
    pub metadata: Option<SecretBytes>,
    /// When the agent received it. The agent sets it.
    pub received: Timestamp,
}

impl Reading {
    /// The value of a key; `None` if the key is missing or null.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&SecretValue> {
        self.data.get(key).filter(|value| !value.is_null())
    }
}

/// Version of a reading. Engines without versions set no field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// Version number of KV version 2, counted from 1.
    pub number: Option<u64>,
    /// Time at which the version was written. Distinguishes a re-created secret, whose numbers start again at 1, from an old
    /// version on a lagging standby.
    pub created: Option<Timestamp>,
    /// Number of the previous version, if the reading contains its values too. It can disappear while `number` stays the same,
    /// so it is part of the identity of the content, but not of the order.
    pub previous: Option<u64>,
    /// The only field that is set for a list: the version of each secret, by its path below the path of the source.
    pub secrets: BTreeMap<String, Version>,
}

/// Order of two versions of one secret, or of two readings of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Newer than the other version. A list with different secrets is newer too.
    Newer,
    /// The same version, or not comparable.
    Level,
    /// A lower number, and not written later: from a lagging standby, or from a server that was restored from a backup.
    Older,
}

impl Version {
    /// Compares this version with `other`. A higher number is newer, whatever the clocks of the servers were. A lower number is
    /// newer only if it was written later, as in a secret that was deleted and re-created.
    ///
    /// A list is older if any of its secrets is older than in `other`, because it must not roll back any of them. A secret
    /// that only one of the two lists contains was created or removed. The versions do not show which of the two, so such a
    /// difference always makes the list newer.
    #[must_use]
    pub fn order(&self, other: &Self) -> Order {
        if self.secrets.is_empty() || other.secrets.is_empty() {
            return self.order_of_one(other);
        }
        if self.older_secret(other).is_some() {
            return Order::Older;
        }
        let same = self.common_secrets(other).all(|(_, ours, theirs)| ours.order_of_one(theirs) == Order::Level)
            && self.secrets.keys().eq(other.secrets.keys());
        if same { Order::Level } else { Order::Newer }
    }

    /// The first secret of a list that is older than in `other`: its path, and its version here and in `other`.
    #[must_use]
    pub fn older_secret<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a Self, &'a Self)> {
        self.common_secrets(other).find(|(_, ours, theirs)| ours.order_of_one(theirs) == Order::Older)
    }

    fn common_secrets<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a Self, &'a Self)> {
        self.secrets.iter().filter_map(|(path, ours)| Some((path.as_str(), ours, other.secrets.get(path)?)))
    }

    fn order_of_one(&self, other: &Self) -> Order {
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

/// Identifies a lease for renewal, lookup, and revocation.
#[derive(Clone, PartialEq, Eq)]
pub enum LeaseId {
    /// `lease_id` in Vault's response.
    Id(String),
    /// A child token, which renews, looks up, and revokes itself. Vault revokes it with its parent, as it does with leases.
    Token(VaultToken),
}

/// Without the token.
impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "Id({id:?})"),
            Self::Token(_) => f.write_str("Token(_)"),
        }
    }
}

/// A lease. Vault revokes it when it expires, and together with the token that read the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Identifies the lease for renewal.
    pub id: LeaseId,
    /// TTL, counted from Vault's response.
    pub duration: Duration,
    /// Whether `sys/leases/renew` can extend the lease.
    pub renewable: bool,
}

/// How long a reading stays valid. Durations count from Vault's response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Validity {
    /// Until the secret changes. Read again at the configured interval.
    #[default]
    Unlimited,
    /// Until the lease expires.
    Lease(Lease),
    /// For this time. Each read issues another credential (an OIDC token, a cloud access token), so the source is read again
    /// only shortly before the expiry.
    Expires(Duration),
    /// Until the certificate expires. Each read issues another certificate.
    Certificate(CertificateTimes),
    /// Until Vault rotates the credential after this time (the password of a static role). Reading again issues nothing.
    Rotates(Duration),
}

impl Validity {
    /// Whether the reading was issued for this request, so that reading again issues another one.
    #[must_use]
    pub fn is_issued(&self) -> bool {
        matches!(self, Self::Lease(_) | Self::Expires(_) | Self::Certificate(_))
    }

    /// The lease, if there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Lease(lease) => Some(lease),
            Self::Unlimited | Self::Expires(_) | Self::Certificate(_) | Self::Rotates(_) => None,
        }
    }
}

/// Validity of a certificate, from the certificate itself and its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateTimes {
    /// `notBefore` of the certificate.
    pub not_before: Timestamp,
    /// `notAfter` of the certificate.
    pub not_after: Timestamp,
    /// The earliest `notAfter` of the CA certificates above it.
    pub ca_not_after: Timestamp,
}

impl CertificateTimes {
    /// When the certificate, or the first of its CA certificates, expires.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.not_after.min(self.ca_not_after)
    }

    /// Whether a CA certificate expires before the certificate, or at the same time. Vault shortens certificates to the
    /// lifetime of the CA if `leaf_not_after_behavior` of the issuer is `truncate`.
    #[must_use]
    pub fn is_cut_by_ca(&self) -> bool {
        self.ca_not_after <= self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, created: &str) -> Version {
        Version { number: Some(number), created: created.parse().ok(), ..Version::default() }
    }

    fn list(numbers: &[(&str, u64)]) -> Version {
        let secrets = numbers.iter().map(|(path, number)| {
            let created = Timestamp::from_second(i64::try_from(*number).expect("small")).ok();
            ((*path).to_owned(), Version { number: Some(*number), created, ..Version::default() })
        });
        Version { secrets: secrets.collect(), ..Version::default() }
    }

    #[test]
    fn order_prefers_higher_number_unless_lower_was_written_later() {
        let old = version(7, "2026-01-01T00:00:00Z");
        let table = [
            (version(1, "2026-01-02T00:00:00Z"), Order::Newer, "re-created"),
            (version(8, "2025-12-31T22:00:00Z"), Order::Newer, "written by a node whose clock is behind"),
            (version(6, "2025-12-31T00:00:00Z"), Order::Older, "a lagging standby, or a restored server"),
            (version(6, "2026-01-01T00:00:00Z"), Order::Older, "lower, at the same time"),
            (version(7, "2026-01-01T00:00:00Z"), Order::Level, "the same"),
            (Version { previous: Some(6), ..old.clone() }, Order::Level, "the same, with the previous version"),
            (Version { number: Some(6), ..Version::default() }, Order::Older, "lower, without a time"),
            (Version::default(), Order::Level, "an engine without versions"),
        ];
        for (new, expected, what) in table {
            assert_eq!(new.order(&old), expected, "{what}");
        }
    }

    #[test]
    fn list_is_older_if_any_secret_is_older() {
        let old = list(&[("a", 2), ("b/c", 5)]);
        for (new, expected) in [
            (list(&[("a", 2), ("b/c", 5)]), Order::Level),
            (list(&[("a", 3), ("b/c", 5)]), Order::Newer),
            (list(&[("a", 1), ("b/c", 5)]), Order::Older),
            (list(&[("a", 1), ("b/c", 9), ("d", 1)]), Order::Older),
            (list(&[("a", 2), ("b/c", 5), ("d", 1)]), Order::Newer),
            (list(&[("a", 2)]), Order::Newer),
            (list(&[("b/c", 4)]), Order::Older),
            (list(&[("d", 1)]), Order::Newer),
            (Version::default(), Order::Level),
        ] {
            assert_eq!(new.order(&old), expected, "{new:?}");
        }
        assert_eq!(old.order(&Version::default()), Order::Level);
        let older = list(&[("a", 2), ("b/c", 4)]);
        let found = older.older_secret(&old).map(|(path, new, known)| (path, new.number, known.number));
        assert_eq!(found, Some(("b/c", Some(4), Some(5))));
    }
}
