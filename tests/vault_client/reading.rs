//! Reads: the request path for each engine, the number of requests, and the result of each response.

use std::time::Duration;

use keyferry::model::{Failure, FailureClass, KvEngine, Reading, Reason, Source, Validity};
use serde_json::json;

use super::stub::{Exchange, Stub, get};
use super::*;

const PREFLIGHT: &str = "/v1/sys/internal/ui/mounts/secret/webapp/config";

/// The failure of one read against `script`.
pub(crate) async fn failure_of(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Failure {
    let stub = Stub::start(script);
    vault(&stub.address()).read(&token(), source).await.err().expect("a failure")
}

/// The reading of one read against `script`.
pub(crate) async fn reading_of(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Reading {
    let stub = Stub::start(script);
    vault(&stub.address()).read(&token(), source).await.unwrap_or_else(|failure| panic!("{failure}"))
}

/// A successful read by this client.
async fn read_with(vault: &Vault) -> Reading {
    vault.read(&token(), &source("secret/webapp/config")).await.unwrap_or_else(|failure| panic!("{failure}"))
}

#[tokio::test]
async fn kv2_read_sends_one_request_over_one_connection() {
    let read = || {
        get("/v1/secret/data/webapp/config")
            .token(TOKEN)
            .header("x-vault-request", "true")
            .without("x-vault-namespace")
            .answer(200, kv2(&json!({"username": "Nutzername", "port": 5432}), 7))
    };
    let stub = Stub::start([read(), read()]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let reading = read_with(&vault).await;
        assert_eq!((text(&reading, "username"), text(&reading, "port")), ("Nutzername".into(), "5432".into()));
        assert_eq!(reading.version.number, Some(7));
        assert_eq!(reading.version.created, "2026-01-02T03:04:05.678901234Z".parse().ok());
        assert_eq!(reading.validity, Validity::Unlimited);
    }
    assert_eq!((vault.requests(), stub.connections()), (2, 1));
}

#[tokio::test]
async fn kv1_read_sends_three_requests_first_then_one() {
    let plain_read =
        || get("/v1/secret/webapp/config").answer(200, plain(&json!({"password": "Losungwort"}), "", 2_764_800));
    let stub = Stub::start([
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).token(TOKEN).answer(200, mount("secret/", "kv", None)),
        plain_read(),
        plain_read(),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let reading = read_with(&vault).await;
        assert_eq!(text(&reading, "password"), "Losungwort");
        assert_eq!(reading.validity, Validity::Unlimited, "the default TTL of KV version 1 is no lease");
    }
    assert_eq!(vault.requests(), 4);
}

#[tokio::test]
async fn default_path_of_another_engine_is_read_unchanged() {
    let credentials = || plain(&json!({"username": "v-app", "password": "x"}), "database/creds/app/1", 3600);
    let stub = Stub::start([
        get("/v1/database/creds/app").answer(200, credentials()),
        get("/v1/database/creds/app").answer(200, credentials()),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let reading = vault.read(&token(), &source("database/creds/app")).await.expect("credentials");
        assert!(matches!(reading.validity, Validity::Lease(_)), "{:?}", reading.validity);
    }
    assert_eq!(vault.requests(), 2);
}

#[tokio::test]
async fn kv2_at_the_default_path_of_another_engine_is_detected() {
    let read = || get("/v1/aws/data/webapp").answer(200, kv2(&json!({"a": "b"}), 1));
    for refused in [(404, no_secret()), (403, errors("permission denied"))] {
        let stub = Stub::start([
            get("/v1/aws/webapp").answer(refused.0, refused.1),
            get("/v1/sys/internal/ui/mounts/aws/webapp").answer(200, mount("aws/", "kv", Some("2"))),
            read(),
            read(),
        ]);
        let vault = vault(&stub.address());
        for _ in 0..2 {
            let reading = vault.read(&token(), &source("aws/webapp")).await.expect("the secret");
            assert_eq!(text(&reading, "a"), "b");
        }
    }
}

#[tokio::test]
async fn nested_mount_is_detected_once() {
    let read = || get("/v1/team/kv/data/webapp").answer(200, kv2(&json!({"a": "b"}), 1));
    let stub = Stub::start([
        get("/v1/team/data/kv/webapp").answer(403, errors("permission denied")),
        get("/v1/sys/internal/ui/mounts/team/kv/webapp").answer(200, mount("team/kv/", "kv", Some("2"))),
        read(),
        read(),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        assert!(vault.read(&token(), &source("team/kv/webapp")).await.is_ok());
    }
}

#[tokio::test]
async fn configured_mount_is_not_queried() {
    let named = Source { mount: Some("team/kv".into()), ..source("team/kv/webapp") };
    reading_of([get("/v1/team/kv/data/webapp").answer(200, kv2(&json!({}), 1))], &named).await;
}

#[tokio::test]
async fn configured_engine_is_not_detected() {
    let with = |engine| Source { engine, ..source("kv/app") };
    reading_of([get("/v1/kv/data/app").answer(200, kv2(&json!({}), 1))], &with(KvEngine::V2)).await;
    reading_of([get("/v1/kv/app").answer(200, plain(&json!({}), "", 5))], &with(KvEngine::V1)).await;
    reading_of([get("/v1/kv/app").answer(200, plain(&json!({}), "", 5))], &with(KvEngine::Other)).await;
    let failure =
        failure_of([get("/v1/kv/data/app").answer(200, plain(&json!({"a": "b"}), "", 0))], &with(KvEngine::V2)).await;
    assert_eq!(failure.class, FailureClass::Invalid);
}

#[tokio::test]
async fn path_with_data_segment_is_read_unchanged() {
    let reading = reading_of(
        [get("/v1/secret/data/webapp/config").answer(200, kv2(&json!({"a": "b"}), 2))],
        &source("secret/data/webapp/config"),
    )
    .await;
    assert_eq!((text(&reading, "a").as_str(), reading.version.number), ("b", Some(2)));
}

#[tokio::test]
async fn kv1_secret_with_key_data_is_not_parsed_as_kv2() {
    let trap = json!({"data": {"a": "b"}, "metadata": {"version": "one"}});
    let reading = reading_of(
        [
            get("/v1/secret/data/webapp/config").answer(200, plain(&trap, "", 0)),
            get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("1"))),
            get("/v1/secret/webapp/config").answer(200, plain(&json!({"real": "yes"}), "", 0)),
        ],
        &source("secret/webapp/config"),
    )
    .await;
    assert_eq!(text(&reading, "real"), "yes");
}

#[tokio::test]
async fn version_is_sent_and_rejected_for_kv1() {
    let pinned = Source { version: Some(3), ..source("secret/webapp/config") };
    let read = get("/v1/secret/data/webapp/config?version=3");
    reading_of([read.clone().answer(200, kv2(&json!({}), 3))], &pinned).await;
    let preflight = get(PREFLIGHT).answer(200, mount("secret/", "kv", None));
    let failure = failure_of([read.answer(404, no_secret()), preflight], &pinned).await;
    assert_eq!(failure.class, FailureClass::Invalid, "{failure}");
}

#[tokio::test]
async fn deleted_version_failure_names_deletion_time() {
    let read = || get("/v1/secret/data/webapp/config");
    for (answer, status, words) in [
        (deleted("2026-02-03T04:05:06Z", false), 404, "version 3 was deleted at 2026-02-03T04:05:06Z"),
        (deleted("", true), 404, "version 3 was permanently destroyed"),
        (deleted("", false), 200, "version 3 holds no data"),
    ] {
        let failure = failure_of([read().answer(status, answer)], &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::SecretDeleted));
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn missing_secret_failure_names_request_path_and_mount() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))),
    ];
    let failure = failure_of(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::SecretNotFound));
    assert!(failure.message.contains("requested secret/data/webapp/config; mount secret is KV version 2"), "{failure}");
}

#[tokio::test]
async fn path_is_read_unchanged_if_mount_query_is_denied() {
    let plain_read = || get("/v1/secret/webapp/config").answer(200, plain(&json!({"a": "b"}), "", 99));
    let stub = Stub::start([
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(404, no_secret()),
        plain_read(),
        plain_read(),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let reading = read_with(&vault).await;
        assert_eq!(reading.validity, Validity::Unlimited);
    }
}

#[tokio::test]
async fn bare_403_returns_missing_rule_without_lookup() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(403, errors("1 error occurred:\n\t* permission denied\n\n")),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))),
    ];
    let failure = failure_of(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Forbidden, Reason::Denied));
    assert_eq!(failure.message, "failed to read secret/webapp/config: permission denied (403)");
    let rule = r#"path "secret/data/webapp/config" { capabilities = ["read"] }"#;
    assert_eq!(failure.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn missing_rule_states_that_mount_is_assumed() {
    let script = [
        get("/v1/team/data/kv/webapp").answer(403, errors("permission denied")),
        get("/v1/sys/internal/ui/mounts/team/kv/webapp").answer(403, errors("preflight capability check returned 403")),
    ];
    let failure = failure_of(script, &source("team/kv/webapp")).await;
    assert_eq!(failure.class, FailureClass::Forbidden);
    let rule = failure.missing_rule.expect("a rule");
    assert!(
        rule.starts_with(
            r#"path "team/data/kv/webapp" { capabilities = ["read"] }, assuming that team is a KV version 2"#
        ),
        "{rule}"
    );
}

#[tokio::test]
async fn invalid_token_fails_after_one_request() {
    for words in ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n", "bad token"] {
        let script = [get("/v1/secret/data/webapp/config").answer(403, errors(words))];
        let failure = failure_of(script, &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::TokenInvalid, Reason::TokenExpired));
        assert_eq!(failure.missing_rule, None);
    }
}

#[tokio::test]
async fn temporary_403_keeps_known_nested_mount() {
    let read = || get("/v1/team/kv/data/webapp");
    let preflight = || get("/v1/sys/internal/ui/mounts/team/kv/webapp");
    let stub = Stub::start([
        get("/v1/team/data/kv/webapp").answer(404, no_secret()),
        preflight().answer(200, mount("team/kv/", "kv", Some("2"))),
        read().answer(200, kv2(&json!({}), 1)),
        read().answer(403, errors("permission denied")),
        preflight().answer(403, errors("permission denied")),
        read().answer(200, kv2(&json!({}), 1)),
    ]);
    let vault = vault(&stub.address());
    let source = source("team/kv/webapp");
    assert!(vault.read(&token(), &source).await.is_ok());
    let failure = vault.read(&token(), &source).await.err().expect("a failure");
    let rule = r#"path "team/kv/data/webapp" { capabilities = ["read"] }"#;
    assert_eq!((failure.class, failure.missing_rule.as_deref()), (FailureClass::Forbidden, Some(rule)));
    assert!(vault.read(&token(), &source).await.is_ok());
}

#[tokio::test]
async fn unknown_kv2_fields_are_ignored_for_known_engine() {
    let mut more = kv2(&json!({"a": "b"}), 4);
    more["data"]["shared_with"] = json!([]);
    let read = || get("/v1/secret/data/webapp/config").answer(200, more.clone());
    let set = Source { engine: KvEngine::V2, ..source("secret/webapp/config") };
    assert_eq!(reading_of([read()], &set).await.version.number, Some(4));
    let learned = Stub::start([read(), get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))), read()]);
    let vault = vault(&learned.address());
    for _ in 0..2 {
        assert_eq!(text(&read_with(&vault).await, "a"), "b");
    }
}

#[tokio::test]
async fn ingress_page_is_not_a_missing_secret() {
    for body in ["<html>404 page not found</html>", "404 page not found\n", ""] {
        let script = [get("/v1/secret/data/webapp/config").answer(404, body)];
        let failure = failure_of(script, &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::ServerError));
        assert!(failure.message.contains("the response with status 404 is not from Vault"), "{failure}");
    }
    let script = [get("/v1/secret/data/webapp/config").answer(403, "<html>blocked</html>")];
    let failure = failure_of(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.missing_rule), (FailureClass::Transient, None));
}

#[tokio::test]
async fn long_vault_warning_is_shortened() {
    let mut answer = kv2(&json!({}), 1);
    answer["warnings"] = json!(["x".repeat(5000)]);
    let reading = reading_of([get("/v1/secret/data/a").answer(200, answer)], &source("secret/a")).await;
    assert_eq!(reading.warnings.iter().map(|warning| warning.chars().count()).collect::<Vec<_>>(), [301]);
}

#[tokio::test]
async fn http_to_https_port_is_explained() {
    let page = "Client sent an HTTP request to an HTTPS server.\n";
    let script = [get("/v1/secret/data/a").answer(400, page)];
    let failure = failure_of(script, &source("secret/a")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("this is an HTTPS port; use https://"), "{failure}");
}

#[tokio::test]
async fn recreated_mount_with_other_version_is_detected_again() {
    let stub = Stub::start([
        get("/v1/secret/data/webapp/config").answer(200, kv2(&json!({}), 1)),
        get("/v1/secret/data/webapp/config").answer(403, errors("permission denied")),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("1"))),
        get("/v1/secret/webapp/config").answer(200, plain(&json!({"a": "b"}), "", 0)),
        get("/v1/secret/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))),
        get("/v1/secret/data/webapp/config").answer(200, kv2(&json!({}), 1)),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..3 {
        vault.read(&token(), &source("secret/webapp/config")).await.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[tokio::test]
async fn outage_during_mount_query_is_transient() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(503, errors("Vault is sealed")),
    ];
    let failure = failure_of(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::Sealed));
}

#[tokio::test]
async fn rate_limit_returns_retry_after() {
    let read =
        get("/v1/secret/data/webapp/config").answer(429, errors("rate limited")).answer_header("retry-after", "9");
    let failure = failure_of([read], &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::RateLimited));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn response_not_from_vault_or_too_large_is_rejected() {
    let read = || get("/v1/secret/data/webapp/config");
    let page = failure_of([read().answer(200, "<html>planted</html>")], &source("secret/webapp/config")).await;
    assert_eq!(page.class, FailureClass::Transient);
    assert!(!page.message.contains("planted"), "{page}");
    let large = failure_of([read().answer(200, "x".repeat(5 << 20))], &source("secret/webapp/config")).await;
    assert!(large.message.contains("the response is larger than 4 MiB"), "{large}");
}

#[tokio::test]
async fn timeout_and_closed_port_are_unreachable() {
    let stub = Stub::start([get("/v1/secret/data/webapp/config").hang()]);
    let impatient = VaultServer { timeout: Duration::from_millis(200), ..server(&stub.address()) };
    let failure = vault_at(&impatient).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(failure.message.ends_with("no answer within 200ms"), "{failure}");
    let closed = vault("http://127.0.0.1:1").read(&token(), &source("secret/a")).await.err().expect("a failure");
    assert_eq!(closed.class, FailureClass::Unreachable);
    assert!(closed.message.ends_with("connection refused; check the port, and that Vault is running"), "{closed}");
}
