//! Salts and initialization vectors of a PKCS#12 file.

use ring::hmac;

/// Derives salts and initialization vectors from the content of the file instead of random numbers, so that equal content has equal
/// bytes: a refresh or a restart does not replace a file whose content is the same, and replicas that mirror the same secret
/// agree on its Secret.
///
/// This is as safe as random numbers, except that an observer sees whether two files have the same content and password:
///
/// - A salt prevents tables of passwords that were made before. In a keystore, the private key keys the derivation, so only its
///   owner can compute the salts. The salts of a trust store can be computed from its certificates, which are public.
/// - The password is no input. A salt that depended on it would be a fast way to test passwords, without the iterations of the
///   key derivation.
/// - Each key encrypts only one plaintext: another content has other salts, and therefore other keys. So an initialization vector
///   need not be unpredictable.
pub(super) struct Salts(hmac::Key);

impl Salts {
    /// `private_key`: empty in a trust store. `parts`: all that the file contains besides.
    pub(super) fn new<'a>(private_key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, private_key));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self(hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref()))
    }

    /// The salt or initialization vector of a part of the file.
    pub(super) fn of(&self, part: &str, purpose: &str) -> [u8; 16] {
        let code = hmac::sign(&self.0, format!("{part} {purpose}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&code.as_ref()[..16]);
        bytes
    }
}
