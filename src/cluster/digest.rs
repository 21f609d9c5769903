//! A digest of a Secret's content that replicas can compare and nobody can use as an oracle.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::pbkdf2;
use zeroize::Zeroizing;

use crate::model::{ObjectName, SecretBytes, SecretType};

/// Rounds: some tens of milliseconds on a small core, once per changed set; it makes guessing a short password by the
/// annotation as slow as by a password file.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");

/// The value of the digest annotation.
///
/// Replicas share no key that a reader of the annotation could not have too, so a keyed digest would be keyed by
/// something public. Instead it is slow and salted by namespace and name: PBKDF2-HMAC-SHA256 over type, keys and values.
#[must_use]
pub fn digest(
    namespace: &str,
    name: &ObjectName,
    secret_type: &SecretType,
    data: &BTreeMap<String, Arc<SecretBytes>>,
) -> String {
    let mut content = Zeroizing::new(Vec::new());
    let mut part = |bytes: &[u8]| {
        // With lengths, so that no two contents have one encoding.
        content.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        content.extend_from_slice(bytes);
    };
    part(secret_type.as_str().as_bytes());
    for (key, value) in data {
        part(key.as_bytes());
        part(value.expose());
    }
    let salt = format!("keyferry/{namespace}/{name}");
    let mut out = [0_u8; 16];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), &content, &mut out);
    format!("v1:{}", URL_SAFE_NO_PAD.encode(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespace: &str, data: &[(&str, &str)]) -> String {
        let name = ObjectName::new("top-secret-ks").expect("a name");
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), Arc::new(SecretBytes::from(*v)))).collect();
        digest(namespace, &name, &SecretType::Opaque, &data)
    }

    #[test]
    fn equal_content_has_an_equal_digest_and_other_content_another() {
        let one = of("playground", &[("a", "x"), ("b", "y")]);
        assert_eq!(one, of("playground", &[("a", "x"), ("b", "y")]));
        for other in [
            of("elsewhere", &[("a", "x"), ("b", "y")]),
            of("playground", &[("a", "xb"), ("", "y")]),
            of("playground", &[("a", "x"), ("b", "z")]),
        ] {
            assert_ne!(one, other);
        }
    }
}
