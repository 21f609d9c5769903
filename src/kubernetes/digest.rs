//! Digest by which a replica detects that a Secret already has the desired content.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use ring::pbkdf2;
use zeroize::Zeroizing;

use crate::model::{ObjectName, SecretBytes, SecretType};

/// PBKDF2 iterations, which take tens of milliseconds of CPU time. The caller caches the digest per set.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");

/// Digest of type, keys, and values for the annotation [`DIGEST`](super::DIGEST). Blocks for tens of milliseconds.
///
/// `namespace` is the namespace of the Secret ([`Cluster::namespace`](super::Cluster::namespace)). All replicas must
/// use the same one: with different salts they would overwrite each other's annotation forever.
///
/// Anyone with permission to read the Secret's metadata but not its data must not be able to guess values cheaply,
/// which rules out a plain hash. A keyed hash would need a key that all replicas share. Therefore the digest is a slow
/// hash (PBKDF2-HMAC-SHA256, RFC 8018). Its salt is the namespace and name, so that equal content in two Secrets has
/// different digests. As with any password hash, a weak value can still be guessed.
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

/// Encodes each part after its length, so that different sets have different encodings.
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
    fn digest_differs_if_and_only_if_content_or_secret_differs() {
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

    /// Expected value from another implementation:
    /// `hashlib.pbkdf2_hmac("sha256", b"\0...\x06Opaque\0...\x01a\0...\x011", b"ns/name", 100_000).hex()`.
    #[test]
    fn digest_format_stays_stable() {
        assert_eq!(
            of("ns", "name", &SecretType::Opaque, &[("a", "1")]),
            "pbkdf2-sha256-100000:ec515f499676bb129d271ac46fb6e04f2b1bb83999583bca972c3a5326608cbc"
        );
    }
}
