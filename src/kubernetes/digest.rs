//! One line of text by which replicas see that a Secret already holds their set.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use ring::pbkdf2;
use zeroize::Zeroizing;

use crate::model::{ObjectName, SecretBytes, SecretType};

/// Costs tens of milliseconds of one core. The caller keeps the digest with the set, so that it is computed once per set.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");

/// The digest of type, keys and values, for the annotation [`DIGEST`](super::DIGEST). Blocks for tens of milliseconds.
///
/// `namespace` is that of the Secret ([`Cluster::namespace`](super::Cluster::namespace)), however the agent learned it:
/// replicas with another salt would overwrite each other's annotation for ever.
///
/// Who may see the Secret's metadata but not its data must not be able to try out values cheaply, so a plain hash will
/// not do. A keyed one would need a key that all replicas share, and replicas share nothing but the content itself. So it
/// is a slow hash (PBKDF2-HMAC-SHA256, RFC 8018), salted with the Secret's own name so that equal values in two Secrets
/// do not show. A value that is easy to guess is still guessed in time, as any password hash is.
#[must_use]
pub fn digest(
    namespace: &str,
    name: &ObjectName,
    secret_type: &SecretType,
    data: &BTreeMap<String, Arc<SecretBytes>>,
) -> String {
    let mut digest = [0; 32];
    let salt = format!("{namespace}/{name}");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), &canonical(secret_type, data), &mut digest);
    let mut text = format!("pbkdf2-sha256-{ROUNDS}:");
    for byte in digest {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Each part after its length, so that no two sets have the same encoding.
fn canonical(secret_type: &SecretType, data: &BTreeMap<String, Arc<SecretBytes>>) -> Zeroizing<Vec<u8>> {
    let pairs = data.iter().flat_map(|(key, value)| [key.as_bytes(), value.expose()]);
    let parts: Vec<_> = std::iter::once(secret_type.as_str().as_bytes()).chain(pairs).collect();
    let size = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespace: &str, name: &str, secret_type: &SecretType, data: &[(&str, &str)]) -> String {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), Arc::new(SecretBytes::from(*value)))).collect();
        digest(namespace, &ObjectName::new(name).expect(name), secret_type, &data)
    }

    #[test]
    fn equal_sets_are_equal_and_any_difference_shows() {
        let opaque = &SecretType::Opaque;
        let base = of("ns", "name", opaque, &[("a", "1"), ("b", "2")]);
        assert_eq!(base, of("ns", "name", opaque, &[("b", "2"), ("a", "1")]));
        let others = [
            of("ns", "name", opaque, &[("a", "1")]),
            of("ns", "name", opaque, &[("a", "1"), ("b", "3")]),
            of("ns", "name", opaque, &[("a", "1b"), ("", "2")]),
            of("ns", "name", &SecretType::BasicAuth, &[("a", "1"), ("b", "2")]),
            of("ns", "other", opaque, &[("a", "1"), ("b", "2")]),
            of("other", "name", opaque, &[("a", "1"), ("b", "2")]),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    /// Checked against another implementation:
    /// `hashlib.pbkdf2_hmac("sha256", b"\0...\x06Opaque\0...\x01a\0...\x011", b"ns/name", 100_000).hex()`.
    #[test]
    fn the_format_is_stable_over_releases() {
        assert_eq!(
            of("ns", "name", &SecretType::Opaque, &[("a", "1")]),
            "pbkdf2-sha256-100000:ec515f499676bb129d271ac46fb6e04f2b1bb83999583bca972c3a5326608cbc"
        );
    }
}
