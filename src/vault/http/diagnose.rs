//! Maps errors of the HTTP library to causes.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::error::ConnectionError;
use crate::vault::server_text::quoted_list;

/// DER object identifiers and their common names. The first match applies, so parameters (curves) come before the algorithms that
/// they belong to.
const ALGORITHMS: &[(&[u8], &str)] = &[
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "a P-521 key"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "a secp256k1 key"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], "ECDSA with SHA-512 (usual for P-521 keys)"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "ECDSA with SHA-1"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "RSA with SHA-1"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "RSA with MD5"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04], "DSA"),
];

/// Facts about the failed request for its message.
pub(super) struct RequestContext<'a> {
    /// Timeout of the request.
    pub(super) request: Duration,
    /// Timeout of connection setup.
    pub(super) connect: Duration,
    /// Source of the trusted CA certificates.
    pub(super) ca: &'a str,
}

pub(super) fn diagnose(error: reqwest::Error, context: &RequestContext<'_>) -> ConnectionError {
    let error = error.without_url();
    if let Some(tls) = tls_error(&error) {
        return tls_cause(tls, chain(&error), context.ca);
    }
    let chain = chain(&error);
    if chain.contains("keep-alive timed out") {
        return ConnectionError::Silent;
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => ConnectionError::NoConnection(context.connect),
        (true, false) => ConnectionError::NoAnswer(context.request),
        (false, true) if io_kind(&error) == Some(ErrorKind::ConnectionRefused) => ConnectionError::Refused,
        (false, true) if chain.starts_with("dns error: ") => {
            ConnectionError::Unresolved(chain.rsplit(": ").next().unwrap_or_default().to_owned())
        }
        (false, _) => ConnectionError::Other(chain),
    }
}

fn tls_cause(error: &rustls::Error, cause: String, ca: &str) -> ConnectionError {
    let certificate = match error {
        rustls::Error::InvalidMessage(_) => return ConnectionError::NotTls,
        rustls::Error::InvalidCertificate(certificate) => certificate,
        _ => return ConnectionError::Other(cause),
    };
    match certificate {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ConnectionError::UnknownIssuer(ca.to_owned())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().map(|name| bare_name(name).to_owned()).collect();
            ConnectionError::WrongName { expected: expected.to_str().into_owned(), found: quoted_list(&names) }
        }
        CertificateError::ExpiredContext { not_after, .. } => ConnectionError::Expired(time(" at ", *not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            ConnectionError::NotValidYet(time(" before ", *not_before))
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            ConnectionError::Algorithm(algorithm(&[signature_algorithm_id]))
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => ConnectionError::Algorithm(algorithm(&[public_key_algorithm_id, signature_algorithm_id])),
        // rustls passes this webpki error on without its own variant.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => ConnectionError::CaAsLeaf,
        _ => ConnectionError::Other(cause),
    }
}

/// The name in `DnsName("vault")` or `IpAddress(10.0.0.1)`, as webpki writes the names of a certificate.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn time(before: &str, time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| format!("{before}{time}")).unwrap_or_default()
}

fn algorithm(identifiers: &[&Vec<u8>]) -> String {
    let has = |expected: &[u8]| {
        identifiers.iter().any(|identifier| identifier.windows(expected.len()).any(|window| window == expected))
    };
    let known = ALGORITHMS.iter().find(|(expected, _)| has(expected));
    known.map_or("an unknown signature algorithm", |(_, name)| name).to_owned()
}

/// The causes, outermost first, without generic texts.
fn chain(error: &reqwest::Error) -> String {
    const GENERIC: &[&str] =
        &["error sending request", "client error", "connection error", "request or response body error"];
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        let text = current.to_string();
        // Some libraries repeat the text of the source.
        if let Some(last) = parts.last_mut()
            && last.ends_with(&text)
        {
            last.truncate(last.len() - text.len());
            last.truncate(last.trim_end_matches([':', ' ']).len());
        }
        parts.push(text);
        next = current.source();
    }
    let root = parts.pop().unwrap_or_default();
    parts.retain(|part| !part.is_empty() && !GENERIC.iter().any(|generic| part.starts_with(generic)));
    parts.push(root);
    parts.join(": ")
}

/// The kind of the innermost I/O error in a chain.
fn io_kind(error: &reqwest::Error) -> Option<ErrorKind> {
    let mut kind = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        kind = current.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
        next = current.source();
    }
    kind
}

/// The TLS error in the chain, if there is one. `io::Error` does not return its inner error from `source()`.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_algorithm_is_named() {
        // AlgorithmIdentifier of ecPublicKey with secp521r1, and of ecdsa-with-SHA256.
        let p521 = vec![0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x23];
        let sha256 = vec![0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        assert_eq!(algorithm(&[&p521, &sha256]), "a P-521 key");
        assert_eq!(algorithm(&[&sha256]), "an unknown signature algorithm");
    }
}
