//! Requests with a method or parameters.

use std::collections::BTreeMap;
use std::time::Duration;

use keyferry::model::{FailureClass, Parameter, Reason, RequestMethod, Source, Validity};
use serde_json::json;

use super::reading::{failure_of, reading_of};
use super::stub::{Stub, get, post};
use super::{TOKEN, errors, mount, source, text, token, vault};

fn text_of(value: &str) -> Parameter {
    Parameter::Text(value.into())
}

fn issue() -> Source {
    Source {
        method: RequestMethod::Write,
        parameters: BTreeMap::from([
            ("common_name".into(), text_of("web-0.example.com")),
            ("exclude_cn_from_sans".into(), Parameter::Boolean(true)),
            ("not_before_duration".into(), Parameter::Integer(30)),
            ("uri_sans".into(), Parameter::List(vec![text_of("spiffe://a"), text_of("spiffe://b")])),
        ]),
        ..source("pki/issue/web")
    }
}

#[tokio::test]
async fn write_sends_parameters_as_json() {
    let body = json!({
        "common_name": "web-0.example.com", "exclude_cn_from_sans": true, "not_before_duration": 30,
        "uri_sans": ["spiffe://a", "spiffe://b"],
    });
    let answer = json!({"data": {"certificate": "PEM", "private_key": "KEY", "expiration": 1_767_312_000}});
    let exchange = post("/v1/pki/issue/web").token(TOKEN).json(body).answer(200, answer);
    let exchange = exchange.answer_header("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    let reading = reading_of([exchange], &issue()).await;
    assert_eq!((text(&reading, "certificate"), text(&reading, "private_key")), ("PEM".into(), "KEY".into()));
    assert_eq!(reading.validity, Validity::Expires(Duration::from_hours(24)));
}

#[tokio::test]
async fn read_sends_parameters_as_query() {
    let spec = Source {
        parameters: BTreeMap::from([
            ("ttl".into(), text_of("1h")),
            ("scope".into(), Parameter::List(vec![text_of("a b"), text_of("c&d")])),
        ]),
        ..source("aws/creds/web")
    };
    let answer = json!({"lease_id": "aws/creds/web/1", "lease_duration": 60, "data": {"access_key": "A"}});
    let path = "/v1/aws/creds/web?scope=a+b&scope=c%26d&ttl=1h";
    let reading = reading_of([get(path).token(TOKEN).answer(200, answer)], &spec).await;
    assert_eq!(reading.validity.lease().map(|lease| lease.duration), Some(Duration::from_mins(1)));
}

#[tokio::test]
async fn denied_write_names_the_rule() {
    let failure = failure_of([post("/v1/pki/issue/web").answer(403, errors("permission denied"))], &issue()).await;
    assert_eq!(failure.class, FailureClass::Forbidden);
    assert!(failure.message.starts_with("failed to write pki/issue/web: "), "{}", failure.message);
    let rule = r#"path "pki/issue/web" { capabilities = ["update"] }"#;
    assert_eq!(failure.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn response_without_data_is_an_invalid_request() {
    for (status, body, found) in [(204, String::new(), "no data"), (200, json!({"data": null}).to_string(), "no data")]
    {
        let failure = failure_of([post("/v1/pki/issue/web").answer(status, body)], &issue()).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
        assert!(failure.message.contains(found), "{}", failure.message);
    }
}

#[tokio::test]
async fn write_to_kv_is_refused_after_one_query_of_the_mount() {
    let write = Source { path: "kv/app".into(), ..issue() };
    let preflight = || get("/v1/sys/internal/ui/mounts/kv/app").answer(200, mount("kv/", "kv", None));
    let failure = failure_of([preflight()], &write).await;
    assert_eq!(failure.reason, Reason::InvalidRequest);
    assert!(failure.message.contains("mount kv is a KV engine"), "{failure}");
    // Other engines are queried once.
    let write = Source { path: "certs/issue/web".into(), ..issue() };
    let answer = || post("/v1/certs/issue/web").answer(200, json!({"data": {"certificate": "PEM"}}));
    let described = get("/v1/sys/internal/ui/mounts/certs/issue/web").answer(200, mount("certs/", "pki", None));
    let stub = Stub::start([described, answer(), answer()]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        assert!(vault.read(&token(), &write).await.is_ok());
    }
}
