//! Sources that read the previous version too: the number of requests, and what counts as no previous version.

use keyferry::model::{Failure, FailureClass, KvEngine, Reading, Reason, Source};
use serde_json::json;

use super::reading::{failure_of, reading_of};
use super::stub::{Exchange, Stub, get};
use super::{TOKEN, deleted, errors, kv2, mount, no_secret, plain, source, text, token, vault};

const PATH: &str = "/v1/secret/data/webapp";

fn both() -> Source {
    Source { previous: Some(".previous".into()), ..source("secret/webapp") }
}

fn latest(version: u64) -> Exchange {
    get(PATH).token(TOKEN).answer(200, kv2(&json!({"password": "new", "port": 5432}), version))
}

fn previous(version: u64) -> Exchange {
    get(&format!("{PATH}?version={version}")).token(TOKEN)
}

fn keys(reading: &Reading) -> Vec<&str> {
    reading.data.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn previous_version_costs_one_more_request_per_read() {
    let old = || previous(6).answer(200, kv2(&json!({"password": "old", "user": "only-old"}), 6));
    let stub = Stub::start([latest(7), old(), latest(7), old()]);
    let vault = vault(&stub.address());
    for round in 1..=2 {
        let reading = vault.read(&token(), &both()).await.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(keys(&reading), ["password", "password.previous", "port", "user.previous"]);
        assert_eq!((text(&reading, "password"), text(&reading, "password.previous")), ("new".into(), "old".into()));
        assert_eq!((reading.version.number, reading.version.previous), (Some(7), Some(6)));
        assert_eq!(vault.requests(), 2 * round);
    }
}

#[tokio::test]
async fn first_version_has_no_previous_one() {
    assert_eq!(keys(&reading_of([latest(1)], &both()).await), ["password", "port"]);
}

#[tokio::test]
async fn deleted_destroyed_or_pruned_version_is_no_previous_one() {
    let mut empty = deleted("", false);
    empty["data"]["metadata"]["version"] = json!(6);
    let of = |deletion_time, destroyed| {
        let mut answer = deleted(deletion_time, destroyed);
        answer["data"]["metadata"]["version"] = json!(6);
        answer
    };
    for (status, answer) in
        [(404, of("2026-02-03T04:05:06Z", false)), (404, of("", true)), (404, no_secret()), (200, empty)]
    {
        let reading = reading_of([latest(7), previous(6).answer(status, answer)], &both()).await;
        assert_eq!((keys(&reading), reading.version.previous), (vec!["password", "port"], None));
    }
}

#[tokio::test]
async fn reading_is_both_versions_or_none() {
    let failed = async |status, answer: String| -> Failure {
        failure_of([latest(7), previous(6).answer(status, answer)], &both()).await
    };
    let unavailable = failed(503, errors("Vault is sealed").to_string()).await;
    assert_eq!((unavailable.class, unavailable.reason), (FailureClass::Transient, Reason::Sealed));
    assert!(unavailable.message.starts_with("failed to read version 6 of secret/webapp: "), "{unavailable}");
    assert_eq!(failed(429, errors("quota").to_string()).await.reason, Reason::RateLimited);
    // A page of a proxy, a mount that disappears, and another version say nothing about the previous version.
    assert_eq!(failed(404, "<html>".into()).await.class, FailureClass::Transient);
    assert_eq!(failed(404, errors("no handler for route").to_string()).await.class, FailureClass::Missing);
    assert_eq!(failed(200, kv2(&json!({}), 7).to_string()).await.class, FailureClass::Invalid);
    let denied = failed(403, errors("permission denied").to_string()).await;
    assert_eq!((denied.class, denied.reason), (FailureClass::Forbidden, Reason::Denied));
    let rule = r#"path "secret/data/webapp" { capabilities = ["read"] }, without a denial of the parameter "version""#;
    assert_eq!(denied.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn key_that_ends_with_the_suffix_is_an_error_that_hides_values() {
    let both_names = json!({"password": "pl@nted", "password.previous": "pl@nted"});
    let script =
        [get(PATH).answer(200, kv2(&both_names, 2)), previous(1).answer(200, kv2(&json!({"password": "pl@nted"}), 1))];
    let failure = failure_of(script, &both()).await;
    assert_eq!(failure.class, FailureClass::Invalid);
    let expected = "failed to read secret/webapp: key \"password.previous\" exists, so the previous version of a key cannot \
                    have this name; set another `previous.suffix`";
    assert_eq!(failure.message, expected);
}

#[tokio::test]
async fn engine_without_versions_is_an_error_that_names_the_setting() {
    let detected = [
        get(PATH).answer(404, no_secret()),
        get("/v1/sys/internal/ui/mounts/secret/webapp").answer(200, mount("secret/", "kv", None)),
    ];
    let failure = failure_of(detected, &both()).await;
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("`previous` requires KV version 2, but mount secret"), "{failure}");
    // The engine is found in the response.
    let written_out = Source { path: "secret/data/webapp".into(), ..both() };
    let failure = failure_of([get(PATH).answer(200, plain(&json!({"a": "b"}), "", 0))], &written_out).await;
    assert!(failure.message.contains("`previous` requires KV version 2"), "{failure}");
}

#[tokio::test]
async fn previous_version_is_read_from_the_detected_path() {
    let script = [
        get("/v1/team/data/kv/webapp").answer(403, errors("permission denied")),
        get("/v1/sys/internal/ui/mounts/team/kv/webapp").answer(200, mount("team/kv/", "kv", Some("2"))),
        get("/v1/team/kv/data/webapp").answer(200, kv2(&json!({"a": "new"}), 2)),
        get("/v1/team/kv/data/webapp?version=1").answer(200, kv2(&json!({"a": "old"}), 1)),
    ];
    let nested = Source { path: "team/kv/webapp".into(), ..both() };
    assert_eq!(keys(&reading_of(script, &nested).await), ["a", "a.previous"]);
    let named = Source { engine: KvEngine::V2, ..both() };
    assert_eq!(keys(&reading_of([latest(2), previous(1).answer(404, no_secret())], &named).await).len(), 2);
}
