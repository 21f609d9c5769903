//! Private keys of certificates.

use std::sync::Arc;

use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::SigningKey;
use x509_cert::der::pem::decode_vec;
use zeroize::Zeroizing;

use super::pem;
use super::verify::Problem;
use crate::model::{KeyType, SecretBytes};

/// Label of PKCS#8 in PEM.
const PKCS8: &str = "PRIVATE KEY";

/// PKCS#8 in front of the 32 bytes of an Ed25519 key (RFC 8410, section 10.3). `ring` writes version 2 with the public key, which
/// OpenSSL does not read.
const ED25519_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A private key.
pub(super) struct PrivateKey {
    /// PKCS#8.
    der: SecretBytes,
    signing: Arc<dyn SigningKey>,
}

impl PrivateKey {
    /// Creates a key.
    ///
    /// # Errors
    /// If the system cannot provide random numbers.
    pub(super) fn generate(kind: KeyType) -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let ec = |algorithm| {
            EcdsaKeyPair::generate_pkcs8(algorithm, &random).map(|der| SecretBytes::new(der.as_ref().to_vec()))
        };
        let der = match kind {
            KeyType::EcP256 => ec(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeyType::EcP384 => ec(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
            KeyType::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random.fill(seed.as_mut())?;
                let mut der = Vec::with_capacity(ED25519_PREFIX.len() + seed.len());
                der.extend_from_slice(&ED25519_PREFIX);
                der.extend_from_slice(seed.as_ref());
                SecretBytes::new(der)
            }
        };
        Self::from_pkcs8(der).map_err(|_| Unspecified)
    }

    /// Reads a PKCS#8 key as PEM text.
    pub(super) fn from_pem(text: &SecretBytes) -> Result<Self, Problem> {
        let (label, der) = decode_vec(text.expose()).map_err(|_| Problem::Key("is not PEM"))?;
        let der = SecretBytes::new(der);
        if label != PKCS8 {
            return Err(Problem::Key("is not PKCS#8"));
        }
        Self::from_pkcs8(der)
    }

    fn from_pkcs8(der: SecretBytes) -> Result<Self, Problem> {
        let signing = any_supported_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.expose())))
            .map_err(|_| Problem::Key("is of a type that keyferry cannot verify"))?;
        Ok(Self { der, signing })
    }

    /// PKCS#8 as PEM text.
    pub(super) fn to_pem(&self) -> SecretBytes {
        pem::block(PKCS8, self.der.expose()).into()
    }

    pub(super) fn signing(&self) -> &dyn SigningKey {
        self.signing.as_ref()
    }

    /// The public key; `None` if the library does not compute it.
    pub(super) fn public(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.signing.public_key()
    }
}
