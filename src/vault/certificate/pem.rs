//! PEM text (RFC 7468).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::pem::{LineEnding, encode_string};

use crate::model::SecretBytes;

/// All certificates in a PEM text, up to the first malformed block.
pub(super) fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text).map_while(Result::ok).collect()
}

/// The certificates as PEM text, one after the other.
pub(super) fn encode<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> SecretBytes {
    certificates.into_iter().map(|one| block("CERTIFICATE", one)).collect::<String>().into()
}

/// One block in 64 columns, with a newline at its end, in an allocation of its exact size.
pub(super) fn block(label: &str, der: &[u8]) -> String {
    encode_string(label, LineEnding::LF, der).expect("the text has the size that was computed for it")
}
