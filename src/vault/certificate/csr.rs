//! Certificate signing requests (PKCS#10, RFC 2986).

use rustls::SignatureScheme;
use x509_cert::SubjectPublicKeyInfo;
use x509_cert::attr::{Attribute, AttributeTypeAndValue, Attributes};
use x509_cert::der::asn1::{Any, BitString, Ia5String, ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{self, Decode as _, Encode as _, ErrorKind};
use x509_cert::ext::ToExtension as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::key::PrivateKey;
use super::pem;
use crate::model::{CertificateRequest, KeyType};

/// RFC 5280, appendix A.1.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// RFC 5758, section 3.2, and RFC 8410, section 3.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A request for the names of `wanted`, signed with `key`, as PEM text. Vault takes the names from it unless the role sets
/// `use_csr_common_name` or `use_csr_sans` to false.
///
/// # Errors
/// If a name cannot be encoded, which the configuration rules out.
pub(super) fn create(wanted: &CertificateRequest, key: &PrivateKey) -> der::Result<String> {
    let failed = || der::Error::from(ErrorKind::Failed);
    let public = key.public().ok_or_else(failed)?;
    let subject = subject(wanted.common_name.as_deref())?;
    let names = alternative_names(wanted)?;
    let mut attributes = Attributes::new();
    if !names.is_empty() {
        let names = SubjectAltName(names).to_extension(&subject, &[])?;
        attributes.insert(Attribute::try_from(ExtensionReq(vec![names]))?)?;
    }
    let public_key = SubjectPublicKeyInfo::from_der(public.as_ref())?;
    let info = CertReqInfo { version: Version::V1, subject, public_key, attributes };
    let (scheme, oid) = match wanted.key.unwrap_or_default() {
        KeyType::EcP256 => (SignatureScheme::ECDSA_NISTP256_SHA256, ECDSA_WITH_SHA256),
        KeyType::EcP384 => (SignatureScheme::ECDSA_NISTP384_SHA384, ECDSA_WITH_SHA384),
        KeyType::Ed25519 => (SignatureScheme::ED25519, ED25519),
    };
    let signer = key.signing().choose_scheme(&[scheme]).ok_or_else(failed)?;
    let signature = signer.sign(&info.to_der()?).map_err(|_| failed())?;
    let algorithm = AlgorithmIdentifierOwned { oid, parameters: None };
    let request = CertReq { info, algorithm, signature: BitString::from_bytes(&signature)? };
    Ok(pem::block("CERTIFICATE REQUEST", &request.to_der()?))
}

fn subject(common_name: Option<&str>) -> der::Result<Name> {
    let mut names = RdnSequence::default();
    if let Some(text) = common_name {
        let value = Any::encode_from(&Utf8StringRef::new(text)?)?;
        let attribute = AttributeTypeAndValue { oid: COMMON_NAME, value };
        names.push(RelativeDistinguishedName::try_from(vec![attribute])?);
    }
    Name::from_der(&names.to_der()?)
}

fn alternative_names(wanted: &CertificateRequest) -> der::Result<Vec<GeneralName>> {
    let alt = wanted.alt_names.iter().map(|name| {
        let text = Ia5String::new(name)?;
        Ok(if name.contains('@') { GeneralName::Rfc822Name(text) } else { GeneralName::DnsName(text) })
    });
    let ip = wanted.ip_sans.iter().map(|address| Ok(GeneralName::from(*address)));
    let uri = wanted.uri_sans.iter().map(|uri| Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?)));
    alt.chain(ip).chain(uri).collect()
}
