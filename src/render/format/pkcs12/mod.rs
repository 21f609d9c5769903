//! PKCS#12 files (RFC 7292) with the algorithms that OpenSSL 3 and Java 17 (8u301 and later) write: PBES2 with PBKDF2-HMAC-SHA256 and
//! AES-256-CBC, and an HMAC-SHA256.
//!
//! The private key, the password, and all keys that are derived from it are zeroed after use, but `ring` leaves copies on the stack
//! and in its signing key.

mod asn1;
mod content;
mod password;
mod salts;
#[cfg(test)]
mod tests;

use der::Encode as _;
use der::asn1::{Any, BmpString, ObjectIdentifier, OctetString, SetOfVec};
use ring::digest::{SHA256, digest};
use x509_cert::attr::Attribute;

use asn1::{CertBag, ContentInfo, EncryptedContentInfo, EncryptedData, EncryptedPrivateKeyInfo, Pfx, SafeBag};
pub(in crate::render) use content::{Content, content};
use password::Password;
use salts::Salts;

use crate::model::SecretBytes;

/// The file with `content`. `password` is printable ASCII. `alias` is the name of the entry; each further certificate of a trust store
/// has it with a number.
///
/// # Errors
/// If a part cannot be encoded, which its size rules out.
pub(in crate::render) fn file(content: &Content, password: &str, alias: Option<&str>) -> der::Result<SecretBytes> {
    let key = content.private_key.as_ref().map(SecretBytes::expose);
    let parts = content.certificates.iter().map(Vec::as_slice).chain(alias.map(str::as_bytes));
    let salts = Salts::new(key.unwrap_or_default(), parts);
    let password = Password { text: password, salts: &salts };
    let mut safes = Vec::new();
    if let (Some(key), Some(certificate)) = (key, content.certificates.first()) {
        let (algorithm, data) = password.encrypt("key", key)?;
        let value = Any::encode_from(&EncryptedPrivateKeyInfo { algorithm, data })?;
        let attributes = attributes([friendly_name(alias)?, Some(local_key_id(certificate)?)])?;
        let bag = SafeBag { id: asn1::SHROUDED_KEY_BAG, value, attributes };
        safes.push(data_of(&vec![bag].to_der()?)?);
    }
    let numbered = content.certificates.iter().enumerate();
    let bags = numbered.map(|(index, der)| certificate_bag(index, der, key.is_some(), alias));
    let (algorithm, data) = password.encrypt("certificates", &bags.collect::<der::Result<Vec<_>>>()?.to_der()?)?;
    let encrypted = EncryptedContentInfo { content_type: asn1::DATA, algorithm, data };
    let encrypted = Any::encode_from(&EncryptedData { version: 0, content: encrypted })?;
    safes.push(ContentInfo { content_type: asn1::ENCRYPTED_DATA, content: encrypted });
    let safes = safes.to_der()?;
    let file = Pfx { version: 3, mac_data: password.authenticate(&safes)?, auth_safe: data_of(&safes)? };
    Ok(SecretBytes::new(file.to_der()?))
}

fn certificate_bag(index: usize, der: &[u8], in_keystore: bool, alias: Option<&str>) -> der::Result<SafeBag> {
    let value = CertBag { id: asn1::X509_CERTIFICATE, value: OctetString::new(der)? };
    let attributes = match (in_keystore, index) {
        (true, 0) => attributes([friendly_name(alias)?, Some(local_key_id(der)?)])?,
        (true, _) => None,
        (false, _) => {
            let alias = alias.map(|alias| if index == 0 { alias.to_owned() } else { format!("{alias}-{}", index + 1) });
            let any_usage = Any::encode_from(&asn1::ANY_EXTENDED_KEY_USAGE)?;
            let trusted = attribute(asn1::TRUSTED_KEY_USAGE, any_usage)?;
            attributes([friendly_name(alias.as_deref())?, Some(trusted)])?
        }
    };
    Ok(SafeBag { id: asn1::CERT_BAG, value: Any::encode_from(&value)?, attributes })
}

/// `None` without any: the set must not be empty.
fn attributes(all: [Option<Attribute>; 2]) -> der::Result<Option<SetOfVec<Attribute>>> {
    let all: Vec<_> = all.into_iter().flatten().collect();
    if all.is_empty() { Ok(None) } else { SetOfVec::try_from(all).map(Some) }
}

fn friendly_name(alias: Option<&str>) -> der::Result<Option<Attribute>> {
    let name = |alias| attribute(asn1::FRIENDLY_NAME, Any::encode_from(&BmpString::from_utf8(alias)?)?);
    alias.map(name).transpose()
}

/// Connects the private key with its certificate.
fn local_key_id(certificate: &[u8]) -> der::Result<Attribute> {
    let id = OctetString::new(digest(&SHA256, certificate).as_ref())?;
    attribute(asn1::LOCAL_KEY_ID, Any::encode_from(&id)?)
}

fn attribute(oid: ObjectIdentifier, value: Any) -> der::Result<Attribute> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value])? })
}

fn data_of(content: &[u8]) -> der::Result<ContentInfo> {
    let content = Any::encode_from(&OctetString::new(content)?)?;
    Ok(ContentInfo { content_type: asn1::DATA, content })
}
