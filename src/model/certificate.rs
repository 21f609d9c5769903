//! The certificate that a source requests.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{Parameter, Parameters};

/// A certificate to request from Vault's PKI engine. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Type of the key that the agent creates; only a CSR leaves the agent (`sign`). `None`: Vault creates the key (`issue`).
    pub key: Option<KeyType>,
    /// Common name.
    pub common_name: Option<String>,
    /// DNS names and email addresses for the subject alternative names.
    pub alt_names: Vec<String>,
    /// IP addresses for the subject alternative names.
    pub ip_sans: Vec<IpAddr>,
    /// URIs for the subject alternative names.
    pub uri_sans: Vec<String>,
    /// Requested lifetime; `None` is the default of the role.
    pub ttl: Option<Duration>,
    /// Time before the expiry at which to renew. If it is `None` or not less than the lifetime, the certificate is renewed
    /// after two thirds of the lifetime.
    pub renew_before: Option<Duration>,
}

impl CertificateRequest {
    /// The parameters for Vault that the request sets, without the key and the CSR
    /// (<https://developer.hashicorp.com/vault/api-docs/secret/pki#generate-certificate-and-key>).
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(","));
        let texts = [
            ("common_name", self.common_name.clone()),
            ("alt_names", list(self.alt_names.clone())),
            ("ip_sans", list(self.ip_sans.iter().map(ToString::to_string).collect())),
            ("uri_sans", list(self.uri_sans.clone())),
            ("ttl", self.ttl.map(|ttl| format!("{}s", ttl.as_secs()))),
        ];
        let set = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Parameter::Text(text?))));
        set.collect()
    }
}

/// Type of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    #[default]
    EcP256,
    /// ECDSA on the curve P-384.
    EcP384,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Ed25519 => "ed25519",
        })
    }
}
