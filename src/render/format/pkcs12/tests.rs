//! What a file contains, read back with the password.

use aes::Aes256;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use der::Decode as _;
use der::asn1::{Any, BmpString, ObjectIdentifier, OctetString};
use rcgen::{CertificateParams, KeyPair};
use ring::{hmac, pbkdf2};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::super::FormatError;
use super::asn1::{
    self, CertBag, ContentInfo, EncryptedData, EncryptedPrivateKeyInfo, Pbes2Parameters, Pbkdf2Parameters, Pfx, SafeBag,
};
use super::password::integrity_key;
use super::{Content, content, file};
use crate::model::SecretBytes;

const PASSWORD: &str = "Losungswort 1";

/// A key and its certificate, as PEM.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![name.to_owned()]).expect("params").self_signed(&key);
    (key.serialize_pem(), certificate.expect("a certificate").pem())
}

fn parsed(values: &[&str]) -> Result<Content, FormatError> {
    let bytes: Vec<_> = values.iter().map(|text| SecretBytes::from(*text)).collect();
    let names: Vec<_> = (0..values.len()).map(|index| format!("k{index}")).collect();
    let keyed: Vec<_> = names.iter().map(String::as_str).zip(&bytes).collect();
    content(&keyed)
}

fn made(values: &[&str], password: &str, alias: Option<&str>) -> SecretBytes {
    let content = parsed(values).unwrap_or_else(|error| panic!("{error}"));
    file(&content, password, alias).expect("a file")
}

/// DER of a PEM block.
fn der_of(pem: &str) -> Vec<u8> {
    der::pem::decode_vec(pem.as_bytes()).expect("PEM").1
}

/// The bags of a file: first those of the private key, then those of the certificates.
fn bags(file: &SecretBytes, password: &str) -> Vec<Vec<SafeBag>> {
    let pfx = Pfx::from_der(file.expose()).expect("a file");
    assert_eq!(pfx.version, 3);
    let octets = |info: &ContentInfo| {
        assert_eq!(info.content_type, asn1::DATA);
        info.content.decode_as::<OctetString>().expect("octets").into_bytes().to_vec()
    };
    let safes = octets(&pfx.auth_safe);
    let iterations = pfx.mac_data.iterations.try_into().expect("not zero");
    let key = integrity_key(password, pfx.mac_data.salt.as_bytes(), iterations);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    assert!(hmac::verify(&key, &safes, pfx.mac_data.mac.digest.as_bytes()).is_ok(), "the code of the content");
    let safes = Vec::<ContentInfo>::from_der(&safes).expect("contents");
    let bags = safes.iter().map(|safe| {
        let bags = if safe.content_type == asn1::ENCRYPTED_DATA {
            let data = safe.content.decode_as::<EncryptedData>().expect("encrypted").content;
            decrypted(&data.algorithm, data.data.as_bytes(), password)
        } else {
            octets(safe)
        };
        Vec::<SafeBag>::from_der(&bags).expect("bags")
    });
    bags.collect()
}

/// The parameters of an encryption.
fn parameters(algorithm: &AlgorithmIdentifierOwned) -> (Pbkdf2Parameters, OctetString) {
    let pbes2 = algorithm.parameters.as_ref().expect("parameters").decode_as::<Pbes2Parameters>().expect("PBES2");
    let inner = |algorithm: &AlgorithmIdentifierOwned| algorithm.parameters.clone().expect("parameters");
    let derivation = inner(&pbes2.key_derivation).decode_as().expect("PBKDF2");
    (derivation, inner(&pbes2.encryption).decode_as().expect("a vector"))
}

fn decrypted(algorithm: &AlgorithmIdentifierOwned, data: &[u8], password: &str) -> Vec<u8> {
    let (derivation, iv) = parameters(algorithm);
    let (mut key, iterations) = ([0; 32], derivation.iterations.try_into().expect("not zero"));
    let salt = derivation.salt.as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut key);
    let mut data = data.to_vec();
    let cipher = Decryptor::<Aes256>::new_from_slices(&key, iv.as_bytes()).expect("sizes");
    cipher.decrypt_padded::<Pkcs7>(&mut data).expect("padding").to_vec()
}

fn private_key(bag: &SafeBag, password: &str) -> Vec<u8> {
    assert_eq!(bag.id, asn1::SHROUDED_KEY_BAG);
    let key = bag.value.decode_as::<EncryptedPrivateKeyInfo>().expect("a key");
    decrypted(&key.algorithm, key.data.as_bytes(), password)
}

fn certificate(bag: &SafeBag) -> Vec<u8> {
    assert_eq!(bag.id, asn1::CERT_BAG);
    bag.value.decode_as::<CertBag>().expect("a certificate").value.into_bytes().to_vec()
}

fn attribute(bag: &SafeBag, oid: ObjectIdentifier) -> Option<Any> {
    let all = bag.attributes.as_ref()?;
    all.iter().find(|attribute| attribute.oid == oid).and_then(|attribute| attribute.values.get(0).cloned())
}

fn friendly_name(bag: &SafeBag) -> Option<String> {
    attribute(bag, asn1::FRIENDLY_NAME).map(|name| name.decode_as::<BmpString>().expect("text").to_string())
}

#[test]
fn keystore_has_key_with_certificate_and_chain() {
    let ((key, leaf), (_, ca)) = (pair("web"), pair("ca"));
    for order in [[leaf.as_str(), &ca, &key], [&key, &ca, &leaf], [&[ca.as_str(), &leaf].concat(), &ca, &key]] {
        let made = made(&order, PASSWORD, Some("wéb"));
        let [keys, certificates] = bags(&made, PASSWORD).try_into().unwrap_or_else(|_| panic!("two contents"));
        assert_eq!((keys.len(), certificates.len()), (1, 2), "each certificate once");
        assert_eq!(private_key(&keys[0], PASSWORD), der_of(&key));
        assert_eq!(certificate(&certificates[0]), der_of(&leaf), "the one of the key is the first");
        assert_eq!(certificate(&certificates[1]), der_of(&ca));
        let id = |bag| attribute(bag, asn1::LOCAL_KEY_ID);
        assert!(id(&keys[0]).is_some() && id(&keys[0]) == id(&certificates[0]) && id(&certificates[1]).is_none());
        assert_eq!(friendly_name(&keys[0]).as_deref(), Some("wéb"));
        assert_eq!(friendly_name(&certificates[0]).as_deref(), Some("wéb"));
        assert!(certificates[1].attributes.is_none());
    }
    let without_alias = bags(&made(&[&leaf, &key], PASSWORD, None), PASSWORD);
    assert_eq!(friendly_name(&without_alias[0][0]), None);
}

#[test]
fn trust_store_has_trusted_certificates_with_own_names() {
    let ((_, one), (_, other)) = (pair("one"), pair("other"));
    let [certificates] = bags(&made(&[&one, &other], PASSWORD, Some("ca")), PASSWORD)
        .try_into()
        .unwrap_or_else(|_| panic!("one content"));
    let names: Vec<_> = certificates.iter().map(friendly_name).collect();
    assert_eq!(names, [Some("ca".to_owned()), Some("ca-2".to_owned())]);
    for bag in &certificates {
        assert!(attribute(bag, asn1::TRUSTED_KEY_USAGE).is_some(), "trusted by Java");
        assert!(attribute(bag, asn1::LOCAL_KEY_ID).is_none());
    }
}

#[test]
fn equal_content_has_equal_bytes_and_no_salt_twice() {
    let ((key, leaf), (_, ca)) = (pair("web"), pair("ca"));
    let base = made(&[&leaf, &key], PASSWORD, None);
    assert!(base == made(&[&key, &leaf], PASSWORD, None));
    let salts = |file: &SecretBytes| {
        let text: Vec<_> =
            file.expose().windows(18).filter(|part| part[..2] == [0x04, 0x10]).map(<[u8]>::to_vec).collect();
        assert!(text.len() >= 3, "salt, vector, and the salt of the code");
        text
    };
    let others = [
        made(&[&leaf, &key], PASSWORD, Some("web")),
        made(&[&leaf, &ca, &key], PASSWORD, None),
        made(&[&leaf], PASSWORD, None),
    ];
    for other in &others {
        assert!(salts(other).iter().all(|salt| !salts(&base).contains(salt)), "other content has other salts");
    }
    let [one, mut two] = [PASSWORD, "Losungswort 2"].map(|password| salts(&made(&[&leaf, &key], password, None)));
    two.retain(|salt| one.contains(salt));
    assert!(two.len() >= 5, "two salts, two vectors, and the salt of the code: the password is no input of the salts");
}

/// Replicas of different versions have to write the same bytes, as long as the format does not change.
#[test]
fn bytes_stay_stable() {
    let content = Content { private_key: Some("key".into()), certificates: vec![b"certificate".to_vec()] };
    let file = file(&content, PASSWORD, Some("web")).expect("a file");
    assert_eq!(
        hex(ring::digest::digest(&ring::digest::SHA256, file.expose()).as_ref()),
        "0cffe59bf1236a448ee412a3042b25f795591b26cd3578db81a0a4575df239f3"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Expected value from another implementation: `openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt id:3 -kdfopt iter:1000
/// -kdfopt hexsalt:000102030405060708090a0b0c0d0e0f
/// -kdfopt hexpass:004c006f00730075006e006700730077006f00720074002000310000 PKCS12KDF`.
#[test]
fn integrity_key_is_that_of_openssl() {
    let salt: Vec<u8> = (0..16).collect();
    let key = integrity_key(PASSWORD, &salt, 1000.try_into().expect("not zero"));
    assert_eq!(hex(key.as_ref()), "c0d3b3110b08d2dc6102bae9be1ff765cd7d683c5239c443bd0388074dc1527f");
}

#[test]
fn unusable_values_are_refused_by_name() {
    let ((key, leaf), (other_key, other)) = (pair("web"), pair("other"));
    let sec1 = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
    let request = leaf.replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let name = |index| format!("k{index}");
    for (values, expected) in [
        (vec![leaf.as_str(), "text"], FormatError::NotPem(name(1))),
        (vec![&leaf, &sec1], FormatError::NotPkcs8(name(1))),
        (vec![&request, &key], FormatError::NotForPkcs12(name(0))),
        (vec![broken, &key], FormatError::NotACertificate(name(0))),
        (vec![&leaf, &key, &other_key], FormatError::SecondPrivateKey(name(2))),
        (vec![&other, &key], FormatError::KeyMismatch(name(1))),
        (vec![&key], FormatError::NoCertificate),
        (vec![], FormatError::NoCertificate),
        (vec![&leaf, ""], FormatError::NotPem(name(1))),
    ] {
        assert_eq!(parsed(&values).err(), Some(expected));
    }
    assert!(parsed(&[&leaf, "", &key]).is_ok(), "a certificate without intermediates");
    let columns = format!("-----BEGIN PRIVATE KEY-----\n {}\r\n-----END PRIVATE KEY-----", {
        key.lines().filter(|line| !line.starts_with('-')).collect::<String>()
    });
    assert!(parsed(&[&leaf, &columns]).is_ok(), "in one line");
}
