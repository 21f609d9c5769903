//! The certificates and the private key of a PKCS#12 file, from PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::{Decode as _, Encode as _};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::Certificate;
use zeroize::Zeroizing;

use super::super::{FormatError, pem};
use crate::model::SecretBytes;

/// The content of a file.
pub(in crate::render) struct Content {
    /// PKCS#8; `None` in a trust store.
    pub(super) private_key: Option<SecretBytes>,
    /// DER, each certificate once. The first one belongs to the private key.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// Reads the blocks of all values. The order of the certificates stays, but the one of the private key comes first.
///
/// # Errors
/// If a value is not PEM or has other blocks, if there are several private keys, or no certificate, and if the private key
/// belongs to none of the certificates.
pub(in crate::render) fn content(values: &[(&str, &SecretBytes)]) -> Result<Content, FormatError> {
    let mut private_key = None;
    let mut certificates = Vec::new();
    let mut blank = None;
    for (name, value) in values {
        let name = (*name).to_owned();
        let Some(text) = value.expose_str() else { return Err(FormatError::NotUtf8(name)) };
        let Some(blocks) = pem::blocks(text) else { return Err(FormatError::NotPem(name)) };
        blank = blank.or(blocks.is_empty().then(|| name.clone()));
        for block in blocks {
            let not_pem = || FormatError::NotPem(name.clone());
            let (label, rest) =
                block.strip_prefix(pem::BEGIN).and_then(|rest| rest.split_once("-----")).ok_or_else(not_pem)?;
            let body = rest.rsplit_once(pem::END).ok_or_else(not_pem)?.0;
            let der = || decode(body).ok_or_else(not_pem);
            match label {
                "CERTIFICATE" => {
                    let der = der()?.to_vec();
                    let public_key = public_key(&der).ok_or_else(|| FormatError::NotACertificate(name.clone()))?;
                    if !certificates.iter().any(|(other, _)| *other == der) {
                        certificates.push((der, public_key));
                    }
                }
                "PRIVATE KEY" if private_key.is_some() => return Err(FormatError::SecondPrivateKey(name)),
                "PRIVATE KEY" => private_key = Some((SecretBytes::new(std::mem::take(&mut *der()?)), name.clone())),
                "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "DSA PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                    return Err(FormatError::NotPkcs8(name));
                }
                _ => return Err(FormatError::NotForPkcs12(name)),
            }
        }
    }
    if certificates.is_empty() {
        return Err(FormatError::NoCertificate);
    }
    match private_key {
        Some((key, name)) => {
            // The library does not know some keys, such as ECDSA with P-521. Then the first certificate has to be the one.
            if let Some(public) = public_key_of(&key) {
                let own = certificates.iter().position(|(_, other)| *other == public);
                let own = own.ok_or(FormatError::KeyMismatch(name))?;
                certificates[..=own].rotate_right(1);
            }
            Ok(Content::new(Some(key), certificates))
        }
        // A key without content must not turn a keystore into a trust store.
        None => match blank {
            Some(name) => Err(FormatError::NotPem(name)),
            None => Ok(Content::new(None, certificates)),
        },
    }
}

impl Content {
    fn new(private_key: Option<SecretBytes>, certificates: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self { private_key, certificates: certificates.into_iter().map(|(der, _)| der).collect() }
    }
}

/// Decodes the lines of a PEM block.
fn decode(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut packed = Zeroizing::new(Vec::with_capacity(body.len()));
    packed.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    // Sufficient capacity, because a reallocation would leave an unzeroed copy.
    let mut decoded = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(packed.len())));
    STANDARD.decode_vec(&packed, &mut decoded).ok()?;
    Some(decoded)
}

/// The public key of a certificate, as `SubjectPublicKeyInfo`.
fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// The public key of a private key; `None` if the library does not compute it.
fn public_key_of(pkcs8: &SecretBytes) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.expose()));
    Some(any_supported_type(&key).ok()?.public_key()?.to_vec())
}
