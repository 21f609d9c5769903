//! What is derived from the password of a PKCS#12 file: encryption and message authentication code.

use std::num::NonZeroU32;

use aes::Aes256;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use der::ErrorKind;
use der::asn1::OctetString;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::{hmac, pbkdf2};
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::asn1::{DigestInfo, MacData, pbes2, sha256};
use super::salts::Salts;

/// Iterations of each key derivation, as `keytool` of Java 17 and later writes them. OpenSSL has 2048.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");

/// Size of an AES block.
const BLOCK: usize = 16;
/// Size of a key of AES-256.
const KEY: usize = 32;
/// Block size of SHA-256 (FIPS 180-4).
const HASH_BLOCK: usize = 64;
/// Purpose of a derived key: integrity (RFC 7292, appendix B.3).
const INTEGRITY: u8 = 3;

/// The password, and the salts of the file that it encrypts.
pub(super) struct Password<'a> {
    /// Printable ASCII.
    pub(super) text: &'a str,
    pub(super) salts: &'a Salts,
}

impl Password<'_> {
    /// Encrypts `plaintext`. `part`: the name of the encrypted part of the file.
    pub(super) fn encrypt(&self, part: &str, plaintext: &[u8]) -> der::Result<(AlgorithmIdentifierOwned, OctetString)> {
        let (salt, iv) = (self.salts.of(part, "salt"), self.salts.of(part, "iv"));
        let mut key = Zeroizing::new([0; KEY]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, self.text.as_bytes(), key.as_mut());
        let mut encrypted = vec![0; plaintext.len() + BLOCK - plaintext.len() % BLOCK];
        let cipher = Encryptor::<Aes256>::new_from_slices(key.as_ref(), &iv).map_err(|_| ErrorKind::Failed)?;
        cipher.encrypt_padded_b2b::<Pkcs7>(plaintext, &mut encrypted).map_err(|_| ErrorKind::Failed)?;
        Ok((pbes2(&salt, ITERATIONS.get(), &iv)?, OctetString::new(encrypted)?))
    }

    /// The code that authenticates the content of the file: HMAC-SHA256.
    pub(super) fn authenticate(&self, content: &[u8]) -> der::Result<MacData> {
        let salt = self.salts.of("mac", "salt");
        let key = integrity_key(self.text, &salt, ITERATIONS);
        let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), content);
        let mac = DigestInfo { algorithm: sha256()?, digest: OctetString::new(code.as_ref())? };
        Ok(MacData { mac, salt: OctetString::new(salt)?, iterations: ITERATIONS.get() })
    }
}

/// The key for the message authentication code (RFC 7292, appendix B.2), with SHA-256 as the hash. The key has the size of one
/// hash, so the steps for longer keys (6.B and 6.C) are not needed. `text` is ASCII.
pub(super) fn integrity_key(text: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<[u8; SHA256_OUTPUT_LEN]> {
    // BMPString with a terminating NUL (appendix B.1).
    let mut password = Zeroizing::new(Vec::with_capacity(2 * (text.len() + 1)));
    password.extend(text.bytes().chain([0]).flat_map(|byte| [0, byte]));
    let padded = |bytes: &[u8]| bytes.len().div_ceil(HASH_BLOCK) * HASH_BLOCK;
    let mut input = Zeroizing::new(Vec::with_capacity(HASH_BLOCK + padded(salt) + padded(&password)));
    input.extend([INTEGRITY; HASH_BLOCK]);
    for bytes in [salt, &password] {
        input.extend(bytes.iter().cycle().take(padded(bytes)));
    }
    let mut key = Zeroizing::new([0; SHA256_OUTPUT_LEN]);
    key.copy_from_slice(digest(&SHA256, &input).as_ref());
    for _ in 1..iterations.get() {
        let hash = digest(&SHA256, key.as_ref());
        key.copy_from_slice(hash.as_ref());
    }
    key
}
