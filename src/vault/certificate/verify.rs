//! Whether key, certificate, and chain belong together.

use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use webpki::{
    EndEntityCert, Error as ChainError, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::time::Time;

use super::key::PrivateKey;
use crate::model::CertificateTimes;

/// How far `notBefore` of a new certificate may be in the future. Vault sets it 30 s before its own clock
/// (`not_before_duration`); this clock may be further behind.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What is wrong with a certificate. Contains no secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Problem {
    #[error("the response has no usable `{0}`; check the role and the version of Vault")]
    Missing(&'static str),
    #[error(
        "the private key {0}; use RSA (2048 to 4096 bits), ECDSA (P-256 or P-384), or Ed25519 as `key_type` of the role"
    )]
    Key(&'static str),
    #[error("the public key of the certificate does not match the private key")]
    KeyMismatch,
    #[error("the {0} cannot be parsed")]
    Unreadable(&'static str),
    #[error("the certificate expired at {}; correct the clock of this node or of Vault", seconds(*.0))]
    Expired(Timestamp),
    #[error("the CA certificate expired at {}; replace it in Vault, or correct the clock of this node", seconds(*.0))]
    CaExpired(Timestamp),
    #[error(
        "the {what} is not valid before {at}; synchronize the clocks of this node and of Vault", at = seconds(*.at)
    )]
    NotYetValid { what: &'static str, at: Timestamp },
    #[error(
        "the chain does not lead from the certificate to a CA certificate in the response; check the issuer in Vault"
    )]
    UnknownIssuer,
    #[error("a signature in the chain is wrong; check the issuer in Vault")]
    Signature,
    #[error(
        "the signature algorithm of a certificate in the chain is not supported; use RSA (2048 to 8192 bits), ECDSA with P-256 or \
         P-384, or Ed25519 for CA and role"
    )]
    Algorithm,
    #[error("the chain does not verify: {0}; check the issuer and the role in Vault")]
    Chain(String),
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A certificate that belongs to its key, with a chain that verifies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) times: CertificateTimes,
    /// Index of the topmost certificate in the chain.
    pub(super) ca: usize,
    /// Which certificates of the chain name themselves as issuer, in their order.
    pub(super) self_signed: Vec<bool>,
}

/// The certificate can be for any purpose: the role in Vault decides.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), ChainError> {
        Ok(())
    }
}

/// Verifies that `key` belongs to `certificate`, and that a path of `chain` leads from it to the topmost certificate: a self-signed
/// one, or the last one. All certificates of the path must be valid at `now`.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    key: &PrivateKey,
    now: Timestamp,
) -> Result<Verified, Problem> {
    let leaf = Fields::of(certificate, "certificate")?;
    let above = chain.iter().map(|one| Fields::of(one, "CA certificate")).collect::<Result<Vec<_>, _>>()?;
    let end_entity = EndEntityCert::try_from(certificate).map_err(|error| chain_problem(&error))?;
    if key.public().is_none_or(|public| public != end_entity.subject_public_key_info()) {
        return Err(Problem::KeyMismatch);
    }
    if leaf.not_after <= now {
        // Vault issues such a certificate if its CA has expired.
        let ca = above.iter().map(|one| one.not_after).filter(|ends| *ends <= now).min();
        return Err(ca.map_or(Problem::Expired(leaf.not_after), Problem::CaExpired));
    }
    let skew = jiff::SignedDuration::try_from(MAX_CLOCK_SKEW).unwrap_or_default();
    if leaf.not_before.duration_since(now) > skew {
        return Err(Problem::NotYetValid { what: "certificate", at: leaf.not_before });
    }
    let self_signed: Vec<bool> = above.iter().map(|one| one.is_self_signed).collect();
    let is_top = |index: usize| self_signed[index] || !self_signed.contains(&true) && index + 1 == chain.len();
    let (tops, between): (Vec<_>, Vec<_>) = chain.iter().enumerate().partition(|(index, _)| is_top(*index));
    let anchors = tops.iter().map(|(_, one)| anchor_from_trusted_cert(one)).collect::<Result<Vec<_>, _>>();
    let anchors = anchors.map_err(|error| chain_problem(&error))?;
    let between: Vec<_> = between.into_iter().map(|(_, one)| one.clone()).collect();
    let at = now.max(leaf.not_before).as_second();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or_default()));
    let algorithms = default_provider().signature_verification_algorithms.all;
    let path = end_entity
        .verify_for_usage(algorithms, &anchors, &between, time, AnyPurpose, None, None)
        .map_err(|error| chain_problem(&error))?;
    let top = anchors.iter().position(|anchor| anchor == path.anchor()).unwrap_or_default();
    let ca = tops[top].0;
    // The library does not check the validity of a trust anchor.
    if above[ca].not_after <= now {
        return Err(Problem::CaExpired(above[ca].not_after));
    }
    let used = path.intermediate_certificates().filter_map(|used| chain.iter().position(|one| *one == used.der()));
    let ca_not_after = used.chain([ca]).map(|index| above[index].not_after).min().unwrap_or(above[ca].not_after);
    let times = CertificateTimes { not_before: leaf.not_before, not_after: leaf.not_after, ca_not_after };
    Ok(Verified { times, ca, self_signed })
}

struct Fields {
    not_before: Timestamp,
    not_after: Timestamp,
    /// Whether subject and issuer are equal.
    is_self_signed: bool,
}

impl Fields {
    fn of(der: &CertificateDer<'_>, what: &'static str) -> Result<Self, Problem> {
        let unreadable = || Problem::Unreadable(what);
        let certificate = Certificate::from_der(der).map_err(|_| unreadable())?;
        let fields = certificate.tbs_certificate();
        let time = |time: &Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
            Timestamp::from_second(seconds).ok()
        };
        Ok(Self {
            not_before: time(&fields.validity().not_before).ok_or_else(unreadable)?,
            // RFC 5280 uses 9999-12-31T23:59:59Z for certificates without an expiry, which jiff cannot represent.
            not_after: time(&fields.validity().not_after).unwrap_or(Timestamp::MAX),
            is_self_signed: fields.subject() == fields.issuer(),
        })
    }
}

fn chain_problem(error: &ChainError) -> Problem {
    let at = |time: &UnixTime| {
        i64::try_from(time.as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or_default()
    };
    match error {
        ChainError::CertExpired { not_after, .. } => Problem::CaExpired(at(not_after)),
        ChainError::CertNotValidYet { not_before, .. } => {
            Problem::NotYetValid { what: "CA certificate", at: at(not_before) }
        }
        ChainError::UnknownIssuer => Problem::UnknownIssuer,
        ChainError::InvalidSignatureForPublicKey | ChainError::SignatureAlgorithmMismatch => Problem::Signature,
        ChainError::UnsupportedSignatureAlgorithmContext(_)
        | ChainError::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Problem::Algorithm,
        error => Problem::Chain(error.to_string()),
    }
}
