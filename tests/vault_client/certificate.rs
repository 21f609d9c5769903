//! Requests for certificates. The simulated server cannot sign a CSR; `tests/integration/agent/certificates.rs` does.

use std::time::Duration;

use jiff::Timestamp;
use keyferry::model::{
    CertificateRequest, Failure, FailureClass, KeyType, Parameter, Reading, Reason, RequestMethod, Source, Validity,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::stub::{Exchange, Stub, post};
use super::{TOKEN, errors, source, text, token, vault};

fn wanted(key: Option<KeyType>) -> Source {
    let action = if key.is_some() { "sign" } else { "issue" };
    Source {
        method: RequestMethod::Write,
        parameters: [("exclude_cn_from_sans".to_owned(), Parameter::Boolean(true))].into(),
        certificate: Some(CertificateRequest {
            key,
            common_name: Some("web.example.com".into()),
            alt_names: vec!["a.example.com".into(), "b.example.com".into()],
            ip_sans: vec!["10.0.0.7".parse().expect("an address")],
            uri_sans: Vec::new(),
            ttl: Some(Duration::from_hours(1)),
            renew_before: None,
        }),
        ..source(&format!("pki/{action}/web"))
    }
}

async fn issue(exchange: Exchange, source: &Source) -> Result<Reading, Failure> {
    let stub = Stub::start([exchange]);
    let wanted = source.certificate.as_ref().expect("a certificate");
    vault(&stub.address()).issue(&token(), source, wanted, Timestamp::now()).await
}

/// Vault's response with a certificate of a new CA. `own_key`: the key belongs to the certificate.
fn response(own_key: bool, lease: &str) -> Value {
    let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate").pem();
    let leaf = CertificateParams::new(["web.example.com".to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&params, &ca_key)).expect("a certificate").pem();
    let key = if own_key { key } else { KeyPair::generate().expect("a key") };
    json!({"lease_id": lease, "lease_duration": 60, "data": {
        "certificate": leaf.trim_end(), "private_key": key.serialize_pem().trim_end(), "private_key_type": "ec",
        "issuing_ca": ca.trim_end(), "ca_chain": [ca.trim_end()], "serial_number": "01", "expiration": 1,
    }})
}

#[tokio::test]
async fn issue_asks_for_pem_and_pkcs8_with_all_names() {
    let body = json!({
        "common_name": "web.example.com", "alt_names": "a.example.com,b.example.com", "ip_sans": "10.0.0.7",
        "ttl": "3600s", "exclude_cn_from_sans": true, "format": "pem", "private_key_format": "pkcs8",
    });
    let exchange = post("/v1/pki/issue/web").token(TOKEN).json(body).answer(200, response(true, ""));
    let reading = issue(exchange, &wanted(None)).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(text(&reading, "private_key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let Validity::Certificate(times) = reading.validity else { panic!("{:?}", reading.validity) };
    assert!(times.not_before < times.not_after, "from the certificate, not from `expiration`");
}

#[tokio::test]
async fn role_with_leases_gives_a_lease() {
    let exchange = post("/v1/pki/issue/web").answer(200, response(true, "pki/issue/web/1"));
    let reading = issue(exchange, &wanted(None)).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(reading.validity.lease().map(|lease| lease.duration), Some(Duration::from_mins(1)));
}

#[tokio::test]
async fn certificate_that_does_not_fit_is_rejected_and_not_requested_soon() {
    let exchange = post("/v1/pki/issue/web").answer(200, response(false, ""));
    let failure = issue(exchange, &wanted(None)).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::CertificateInvalid));
    let expected = "failed to issue a certificate at pki/issue/web: the public key of the certificate does not \
                    match the private key";
    assert_eq!(failure.message, expected);
    assert_eq!(failure.retry_after, Some(Duration::from_mins(5)));
}

#[tokio::test]
async fn denied_and_rejected_requests_name_the_endpoint() {
    let exchange = post("/v1/pki/sign/web").answer(403, errors("permission denied"));
    let denied = issue(exchange, &wanted(Some(KeyType::Ed25519))).await.err().expect("a failure");
    assert!(denied.message.starts_with("failed to sign a certificate at pki/sign/web: "), "{denied}");
    let rule = "path \"pki/sign/web\" { capabilities = [\"update\"] }";
    assert_eq!(denied.missing_rule.as_deref(), Some(rule));
    let exchange = post("/v1/pki/issue/web").answer(400, errors("unknown role: web"));
    let unknown = issue(exchange, &wanted(None)).await.err().expect("a failure");
    assert_eq!((unknown.class, unknown.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(unknown.message.contains("unknown role: web"), "{unknown}");
}
