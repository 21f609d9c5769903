//! Verification of issued certificates, and their normal form.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use serde_json::json;

use super::key::PrivateKey;
use super::verify::Problem;
use super::{Data, csr, usable};
use crate::model::{CertificateRequest, CertificateTimes, KeyType, SecretValue};

/// A CA, an intermediate CA that it signed, or a server.
struct Entity {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn year(number: i32) -> Timestamp {
    at(&format!("{number}-01-01T00:00:00Z"))
}

fn params(name: &str, years: (i32, i32), ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn root(name: &str, years: (i32, i32)) -> Entity {
    let (params, key) = (params(name, years, true), KeyPair::generate().expect("a key"));
    let pem = params.self_signed(&key).expect("a certificate").pem();
    Entity { params, key, pem }
}

impl Entity {
    fn sign(&self, params: CertificateParams, key: KeyPair) -> Entity {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).expect("a certificate").pem();
        Entity { params, key, pem }
    }

    fn server(&self, years: (i32, i32)) -> Entity {
        self.sign(params("web", years, false), KeyPair::generate().expect("a key"))
    }

    fn intermediate(&self, name: &str, years: (i32, i32)) -> Entity {
        self.sign(params(name, years, true), KeyPair::generate().expect("a key"))
    }
}

/// The data of Vault's response.
fn response(leaf: &Entity, key: &str, chain: &[&Entity]) -> Data {
    let text = |text: &str| SecretValue::Text(text.into());
    let list: Vec<_> = chain.iter().map(|one| one.pem.trim_end()).collect();
    Data::from([
        ("certificate".into(), text(leaf.pem.trim_end())),
        ("private_key".into(), text(key)),
        ("issuing_ca".into(), text(chain.first().map_or("", |ca| ca.pem.trim_end()))),
        ("ca_chain".into(), SecretValue::Json(json!(list).to_string().into())),
        ("expiration".into(), SecretValue::Json("1".into())),
        ("serial_number".into(), text("01:02")),
    ])
}

fn checked(leaf: &Entity, chain: &[&Entity], now: Timestamp) -> Result<(Data, CertificateTimes), Problem> {
    usable(response(leaf, &leaf.key.serialize_pem(), chain), None, now)
}

fn problem(leaf: &Entity, chain: &[&Entity], now: Timestamp) -> Problem {
    checked(leaf, chain, now).err().expect("a problem")
}

fn text<'a>(data: &'a Data, key: &str) -> &'a str {
    data.get(key).and_then(|value| value.bytes().expose_str()).unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn values_are_pem_with_one_newline_after_each_block() {
    let root = root("root", (2020, 2040));
    let middle = root.intermediate("middle", (2020, 2030));
    let leaf = middle.server((2025, 2027));
    let (data, times) = checked(&leaf, &[&middle, &root], year(2026)).expect("it verifies");
    let lines = |pems: &[&Entity]| pems.iter().map(|one| one.pem.replace('\r', "")).collect::<String>();
    assert_eq!(text(&data, "certificate"), lines(&[&leaf]));
    assert_eq!(text(&data, "private_key"), leaf.key.serialize_pem().replace('\r', ""));
    assert_eq!(text(&data, "issuing_ca"), lines(&[&middle]));
    assert_eq!(text(&data, "ca_chain"), lines(&[&middle, &root]));
    assert_eq!(text(&data, "intermediates"), lines(&[&middle]), "a server does not send its root");
    assert_eq!(text(&data, "ca"), lines(&[&root]));
    assert_eq!(text(&data, "serial_number"), "01:02");
    assert_eq!(data.len(), 7, "numbers such as `expiration` are left out");
    let expected = CertificateTimes { not_before: year(2025), not_after: year(2027), ca_not_after: year(2030) };
    assert_eq!(times, expected);
}

#[test]
fn chain_ends_at_the_topmost_certificate_of_the_response() {
    let root = root("root", (2020, 2040));
    let upper = root.intermediate("upper", (2020, 2030));
    let lower = upper.intermediate("lower", (2020, 2030));
    let leaf = lower.server((2025, 2027));
    // Vault knows the root only if it was imported.
    let (data, _) = checked(&leaf, &[&lower, &upper], year(2026)).expect("it verifies");
    assert_eq!(text(&data, "ca"), upper.pem.replace('\r', ""));
    assert_eq!(text(&data, "intermediates"), text(&data, "ca_chain"));
    let direct = root.server((2025, 2027));
    let (data, _) = checked(&direct, &[&root], year(2026)).expect("it verifies");
    assert_eq!(text(&data, "intermediates"), "");
    let mut without_chain = response(&direct, &direct.key.serialize_pem(), &[&root]);
    without_chain.remove("ca_chain");
    let (data, _) = usable(without_chain, None, year(2026)).expect("it verifies");
    assert_eq!(text(&data, "ca_chain"), root.pem.replace('\r', ""));
    let mut client = params("client", (2025, 2027), false);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    let client = root.sign(client, KeyPair::generate().expect("a key"));
    assert!(checked(&client, &[&root], year(2026)).is_ok(), "for any purpose");
}

#[test]
fn certificate_that_does_not_fit_is_rejected() {
    let (ca, other) = (root("root", (2020, 2040)), root("root", (2020, 2040)));
    let middle = ca.intermediate("middle", (2020, 2026));
    let leaf = ca.server((2025, 2027));
    let mismatch = usable(response(&leaf, &other.key.serialize_pem(), &[&ca]), None, year(2026));
    assert_eq!(mismatch.err(), Some(Problem::KeyMismatch));
    let stranger = root("stranger", (2020, 2040));
    assert_eq!(problem(&leaf, &[&stranger], year(2026)), Problem::UnknownIssuer);
    assert_eq!(problem(&leaf, &[&other], year(2026)), Problem::Signature, "a CA with the same name and another key");
    assert_eq!(
        problem(&middle.server((2025, 2027)), &[&stranger, &ca], year(2026)),
        Problem::UnknownIssuer,
        "an intermediate CA is missing"
    );
    let old = root("old", (2020, 2026));
    let june = at("2026-06-01T00:00:00Z");
    assert_eq!(problem(&ca.server((2020, 2025)), &[&ca], june), Problem::Expired(year(2025)));
    for (leaf, chain) in [
        (middle.server((2025, 2027)), vec![&middle, &ca]),
        (old.server((2025, 2027)), vec![&old]),
        (old.server((2025, 2026)), vec![&old]),
    ] {
        assert_eq!(problem(&leaf, &chain, june), Problem::CaExpired(year(2026)));
    }
    let mut unreadable = response(&leaf, &leaf.key.serialize_pem(), &[&ca]);
    unreadable.insert(
        "private_key".into(),
        SecretValue::Text("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----".into()),
    );
    assert_eq!(usable(unreadable, None, year(2026)).err(), Some(Problem::Key("is not PKCS#8")));
    for key in ["certificate", "private_key", "issuing_ca"] {
        let mut data = response(&leaf, &leaf.key.serialize_pem(), &[&ca]);
        data.remove(key);
        assert_eq!(usable(data, None, year(2026)).err(), Some(Problem::Missing(key)));
    }
}

#[test]
fn new_certificate_may_be_ahead_of_this_clock() {
    let ca = root("root", (2020, 2040));
    let leaf = ca.server((2026, 2027));
    let early = |seconds| year(2026) - jiff::SignedDuration::from_secs(seconds);
    let (_, times) = checked(&leaf, &[&ca], early(240)).expect("within the tolerance");
    assert_eq!(times.not_before, year(2026));
    assert_eq!(problem(&leaf, &[&ca], early(3600)), Problem::NotYetValid { what: "certificate", at: year(2026) });
}

#[test]
fn keys_of_all_supported_types_are_verified() {
    let ca = root("root", (2020, 2040));
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let leaf = ca.sign(params("web", (2025, 2027), false), key);
        assert!(checked(&leaf, &[&ca], year(2026)).is_ok(), "{algorithm:?}");
    }
}

fn wanted(key: KeyType) -> CertificateRequest {
    CertificateRequest {
        key: Some(key),
        common_name: Some("wéb \"0\",".to_owned()),
        alt_names: vec!["web-0.example.com".into(), "admin@example.com".into()],
        ip_sans: vec!["10.0.0.7".parse().expect("an address"), "fd00::7".parse().expect("an address")],
        uri_sans: vec!["spiffe://example.com/web".into()],
        ttl: Some(Duration::from_secs(60)),
        renew_before: None,
    }
}

#[test]
fn own_keys_sign_their_requests() {
    let ca = root("root", (2020, 2040));
    for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Ed25519] {
        let key = PrivateKey::generate(kind).expect("a key");
        let request = csr::create(&wanted(kind), &key).expect("a request");
        // Verifies the signature.
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let names: Vec<_> = parsed.params.subject_alt_names.iter().map(|name| format!("{name:?}")).collect();
        let name = parsed.params.distinguished_name.get(&DnType::CommonName).map(|name| format!("{name:?}"));
        assert!(name.as_ref().is_some_and(|name| name.contains("wéb")), "{name:?}");
        assert_eq!(names.len(), 5, "{names:?}");
        let issuer = Issuer::from_params(&ca.params, &ca.key);
        let pem = parsed.signed_by(&issuer).expect("a certificate").pem();
        let leaf = Entity { params: ca.params.clone(), key: KeyPair::generate().expect("a key"), pem };
        let mut data = response(&leaf, "", &[&ca]);
        data.remove("private_key");
        let now = Timestamp::now();
        let (data, _) = usable(data, Some(key), now).unwrap_or_else(|problem| panic!("{kind}: {problem}"));
        assert!(text(&data, "private_key").starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
        assert!(KeyPair::from_pem(text(&data, "private_key")).is_ok() || kind == KeyType::Ed25519, "{kind}");
    }
    let first = PrivateKey::generate(KeyType::EcP256).expect("a key");
    let second = PrivateKey::generate(KeyType::EcP256).expect("a key");
    assert!(first.to_pem() != second.to_pem(), "each certificate has its own key");
}
