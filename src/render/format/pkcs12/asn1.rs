//! The ASN.1 types of a PKCS#12 file: RFC 7292 (sections 4 and 5), RFC 5652 (sections 3 and 8), RFC 8018 (appendix A), and
//! RFC 5958 (section 3). Only what keyferry writes.

use der::Sequence;
use der::asn1::{Any, Null, ObjectIdentifier, OctetString, SetOfVec};
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// RFC 5652, section 4.
pub(super) const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// RFC 5652, section 8.
pub(super) const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
/// RFC 7292, section 4.2.2.
pub(super) const SHROUDED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
/// RFC 7292, section 4.2.3.
pub(super) const CERT_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
/// RFC 7292, section 4.2.3.
pub(super) const X509_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
/// RFC 2985, section 5.5.1.
pub(super) const FRIENDLY_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
/// RFC 2985, section 5.5.2.
pub(super) const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");
/// `ORACLE_TRUSTED_KEY_USAGE`. Java takes only certificates with this attribute as trusted
/// (<https://github.com/openjdk/jdk/blob/jdk-21-ga/src/java.base/share/classes/sun/security/util/KnownOIDs.java>).
pub(super) const TRUSTED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113894.746875.1.1");
/// RFC 5280, section 4.2.1.12.
pub(super) const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const HMAC_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const AES256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// The whole file.
#[derive(Sequence)]
pub(super) struct Pfx {
    /// Always 3.
    pub(super) version: u8,
    pub(super) auth_safe: ContentInfo,
    pub(super) mac_data: MacData,
}

#[derive(Sequence)]
pub(super) struct ContentInfo {
    pub(super) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) content: Any,
}

#[derive(Sequence)]
pub(super) struct MacData {
    pub(super) mac: DigestInfo,
    pub(super) salt: OctetString,
    pub(super) iterations: u32,
}

#[derive(Sequence)]
pub(super) struct DigestInfo {
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) digest: OctetString,
}

#[derive(Sequence)]
pub(super) struct SafeBag {
    pub(super) id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) value: Any,
    /// `None` if there are none.
    pub(super) attributes: Option<SetOfVec<Attribute>>,
}

#[derive(Sequence)]
pub(super) struct CertBag {
    pub(super) id: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) value: OctetString,
}

#[derive(Sequence)]
pub(super) struct EncryptedPrivateKeyInfo {
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) data: OctetString,
}

#[derive(Sequence)]
pub(super) struct EncryptedData {
    /// Always 0.
    pub(super) version: u8,
    pub(super) content: EncryptedContentInfo,
}

#[derive(Sequence)]
pub(super) struct EncryptedContentInfo {
    pub(super) content_type: ObjectIdentifier,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    pub(super) data: OctetString,
}

#[derive(Sequence)]
pub(super) struct Pbes2Parameters {
    pub(super) key_derivation: AlgorithmIdentifierOwned,
    pub(super) encryption: AlgorithmIdentifierOwned,
}

#[derive(Sequence)]
pub(super) struct Pbkdf2Parameters {
    pub(super) salt: OctetString,
    pub(super) iterations: u32,
    pub(super) function: AlgorithmIdentifierOwned,
}

/// PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC.
pub(super) fn pbes2(salt: &[u8], iterations: u32, iv: &[u8]) -> der::Result<AlgorithmIdentifierOwned> {
    let function = algorithm(HMAC_WITH_SHA256, Any::encode_from(&Null)?);
    let derivation = Pbkdf2Parameters { salt: OctetString::new(salt)?, iterations, function };
    let parameters = Pbes2Parameters {
        key_derivation: algorithm(PBKDF2, Any::encode_from(&derivation)?),
        encryption: algorithm(AES256_CBC, Any::encode_from(&OctetString::new(iv)?)?),
    };
    Ok(algorithm(PBES2, Any::encode_from(&parameters)?))
}

/// SHA-256, as the hash of an HMAC.
pub(super) fn sha256() -> der::Result<AlgorithmIdentifierOwned> {
    Ok(algorithm(SHA256, Any::encode_from(&Null)?))
}

fn algorithm(oid: ObjectIdentifier, parameters: Any) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: Some(parameters) }
}
