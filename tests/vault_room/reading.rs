//! Reads: the path for each engine, the number of requests, and what is made of the answers.

use std::time::Duration;

use keyferry::model::{Failure, FailureClass, KvEngine, LeaseId, Reading, Reason, Source};
use serde_json::json;

use super::stub::{Exchange, Stub, get};
use super::*;

const PREFLIGHT: &str = "/v1/sys/internal/ui/mounts/secret/webapp/config";

fn alive() -> Exchange {
    get("/v1/auth/token/lookup-self").token(TOKEN).answer(200, json!({"data": {"ttl": 60, "expire_time": "x"}}))
}

/// The failure of one read against `script`.
async fn refused(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Failure {
    let stub = Stub::start(script);
    vault(&stub.address()).read(&token(), source).await.err().expect("a failure")
}

/// The reading of one read against `script`.
async fn given(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Reading {
    let stub = Stub::start(script);
    vault(&stub.address()).read(&token(), source).await.unwrap_or_else(|failure| panic!("{failure}"))
}

/// What this client reads now.
async fn reading_by(vault: &Vault) -> Reading {
    vault.read(&token(), &source("secret/webapp/config")).await.unwrap_or_else(|failure| panic!("{failure}"))
}

#[tokio::test]
async fn a_version_2_secret_costs_one_request_first_and_one_again_over_one_connection() {
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
        let reading = reading_by(&vault).await;
        assert_eq!((text(&reading, "username"), text(&reading, "port")), ("Nutzername".into(), "5432".into()));
        assert_eq!(reading.version.number, Some(7));
        assert_eq!(reading.version.created, "2026-01-02T03:04:05.678901234Z".parse().ok());
        assert_eq!(reading.lease, None);
    }
    assert_eq!((vault.requests(), stub.connections()), (2, 1));
}

#[tokio::test]
async fn a_version_1_secret_costs_three_requests_first_and_one_again() {
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
        let reading = reading_by(&vault).await;
        assert_eq!(text(&reading, "password"), "Losungwort");
        assert_eq!(reading.lease, None, "the default TTL of KV version 1 is no lease");
    }
    assert_eq!(vault.requests(), 4);
}

#[tokio::test]
async fn a_nested_mount_is_found_once() {
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
async fn a_named_mount_needs_no_question() {
    let named = Source { mount: Some("team/kv".into()), ..source("team/kv/webapp") };
    given([get("/v1/team/kv/data/webapp").answer(200, kv2(&json!({}), 1))], &named).await;
}

#[tokio::test]
async fn an_engine_that_is_set_is_not_looked_for() {
    let with = |engine| Source { engine, ..source("kv/app") };
    given([get("/v1/kv/data/app").answer(200, kv2(&json!({}), 1))], &with(KvEngine::V2)).await;
    given([get("/v1/kv/app").answer(200, plain(&json!({}), "", 5))], &with(KvEngine::V1)).await;
    given([get("/v1/kv/app").answer(200, plain(&json!({}), "", 5))], &with(KvEngine::Other)).await;
    let odd =
        refused([get("/v1/kv/data/app").answer(200, plain(&json!({"a": "b"}), "", 0))], &with(KvEngine::V2)).await;
    assert_eq!(odd.class, FailureClass::Invalid);
}

#[tokio::test]
async fn a_path_with_data_written_out_is_read_as_it_is() {
    let reading = given(
        [get("/v1/secret/data/webapp/config").answer(200, kv2(&json!({"a": "b"}), 2))],
        &source("secret/data/webapp/config"),
    )
    .await;
    assert_eq!((text(&reading, "a").as_str(), reading.version.number), ("b", Some(2)));
}

#[tokio::test]
async fn a_version_1_secret_that_has_a_key_named_data_is_not_taken_for_version_2() {
    let trap = json!({"data": {"a": "b"}, "metadata": {"version": "one"}});
    let reading = given(
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
async fn a_version_pin_is_sent_and_refused_where_there_are_no_versions() {
    let pinned = Source { version: Some(3), ..source("secret/webapp/config") };
    let read = get("/v1/secret/data/webapp/config?version=3");
    given([read.clone().answer(200, kv2(&json!({}), 3))], &pinned).await;
    let preflight = get(PREFLIGHT).answer(200, mount("secret/", "kv", None));
    let failure = refused([read.answer(404, no_secret()), preflight], &pinned).await;
    assert_eq!(failure.class, FailureClass::Invalid, "{failure}");
}

#[tokio::test]
async fn a_dynamic_secret_has_its_lease() {
    let script = [
        get("/v1/database/data/creds/app").answer(405, errors("unsupported operation")),
        get("/v1/sys/internal/ui/mounts/database/creds/app").answer(200, mount("database/", "database", None)),
        get("/v1/database/creds/app").answer(200, plain(&json!({"username": "u"}), "database/creds/app/x", 3600)),
    ];
    let lease = given(script, &source("database/creds/app")).await.lease.expect("a lease");
    assert_eq!(lease.id, Some(LeaseId("database/creds/app/x".into())));
    assert_eq!((lease.duration, lease.renewable), (Duration::from_hours(1), true));
}

#[tokio::test]
async fn an_engine_with_a_time_but_no_lease_says_when_to_reading_by() {
    let other = Source { engine: KvEngine::Other, ..source("database/static-creds/app") };
    let read = || get("/v1/database/static-creds/app");
    let reading = given([read().answer(200, plain(&json!({"username": "u"}), "", 60))], &other).await;
    assert_eq!(reading.lease.map(|lease| (lease.id, lease.duration)), Some((None, Duration::from_mins(1))));
    let role = json!({"last_vault_rotation": "2026-01-01T00:00:00Z", "rotation_period": 86400, "ttl": 1800});
    let reading = given([read().answer(200, plain(&role, "", 0))], &other).await;
    assert_eq!(reading.lease.map(|lease| (lease.id, lease.duration)), Some((None, Duration::from_mins(30))));
    let reading = given([read().answer(200, plain(&json!({"username": "u"}), "", 0))], &other).await;
    assert_eq!(reading.lease, None);
}

#[tokio::test]
async fn a_deleted_version_is_told_with_its_time() {
    let read = || get("/v1/secret/data/webapp/config");
    for (answer, status, words) in [
        (gone("2026-02-03T04:05:06Z", false), 404, "version 3 was deleted at 2026-02-03T04:05:06Z"),
        (gone("", true), 404, "version 3 was destroyed"),
        (gone("", false), 200, "version 3 holds no data"),
    ] {
        let failure = refused([read().answer(status, answer)], &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::SecretDeleted));
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn an_absent_secret_is_told_with_its_mount() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))),
    ];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::SecretNotFound));
    assert!(failure.message.contains("asked for secret/data/webapp/config; secret is KV version 2"), "{failure}");
}

#[tokio::test]
async fn without_a_right_to_ask_for_the_mount_the_path_is_read_as_it_is() {
    let plain_read = || get("/v1/secret/webapp/config").answer(200, plain(&json!({"a": "b"}), "", 99));
    let stub = Stub::start([
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(404, no_secret()),
        plain_read(),
        plain_read(),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let reading = reading_by(&vault).await;
        assert_eq!(reading.lease, None);
    }
}

#[tokio::test]
async fn a_missing_policy_is_told_as_the_rule_to_add() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(403, errors("1 error occurred:\n\t* permission denied\n\n")),
        get(PREFLIGHT).answer(403, errors("preflight capability check returned 403")),
        alive(),
    ];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::Denied));
    let rule = r#"path "secret/data/webapp/config" { capabilities = ["read"] }"#;
    assert!(failure.message.contains(rule), "{failure}");
}

#[tokio::test]
async fn a_dead_token_is_not_taken_for_a_missing_policy() {
    let denied = |path| get(path).answer(403, errors("permission denied"));
    let script = [denied("/v1/secret/data/webapp/config"), denied(PREFLIGHT), denied("/v1/auth/token/lookup-self")];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::TokenDead, Reason::TokenExpired));
}

#[tokio::test]
async fn a_dead_token_on_a_known_mount_costs_two_requests() {
    let read = || get("/v1/secret/data/webapp/config");
    let stub = Stub::start([
        read().answer(200, kv2(&json!({}), 1)),
        read().answer(403, errors("permission denied")),
        get("/v1/auth/token/lookup-self").answer(403, errors("bad token")),
    ]);
    let vault = vault(&stub.address());
    assert!(vault.read(&token(), &source("secret/webapp/config")).await.is_ok());
    let failure = vault.read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!(failure.class, FailureClass::TokenDead);
}

#[tokio::test]
async fn a_lookup_that_fails_is_reported_as_what_it_is() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(403, errors("permission denied")),
        get(PREFLIGHT).answer(403, errors("permission denied")),
        get("/v1/auth/token/lookup-self").close(),
    ];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
}

#[tokio::test]
async fn a_mount_that_was_made_anew_with_another_version_is_found_again() {
    let stub = Stub::start([
        get("/v1/secret/data/webapp/config").answer(200, kv2(&json!({}), 1)),
        get("/v1/secret/data/webapp/config").answer(403, errors("permission denied")),
        alive(),
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
async fn an_outage_while_asking_for_the_mount_is_not_taken_for_an_answer() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(404, no_secret()),
        get(PREFLIGHT).answer(503, errors("Vault is sealed")),
    ];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::Sealed));
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let read =
        get("/v1/secret/data/webapp/config").answer(429, errors("rate limited")).answer_header("retry-after", "9");
    let failure = refused([read], &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::RateLimited));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn an_answer_that_is_not_vaults_or_too_large_is_refused() {
    let read = || get("/v1/secret/data/webapp/config");
    let page = refused([read().answer(200, "<html>planted</html>")], &source("secret/webapp/config")).await;
    assert_eq!(page.class, FailureClass::Transient);
    assert!(!page.message.contains("planted"), "{page}");
    let large = refused([read().answer(200, "x".repeat(5 << 20))], &source("secret/webapp/config")).await;
    assert!(large.message.contains("larger than 4 MiB"), "{large}");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_unreachable() {
    let stub = Stub::start([get("/v1/secret/data/webapp/config").hang()]);
    let impatient = VaultServer { timeout: Duration::from_millis(200), ..server(&stub.address()) };
    let failure = vault_at(&impatient).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(failure.message.contains("timeout"), "{failure}");
    let closed = vault("http://127.0.0.1:1").read(&token(), &source("secret/a")).await.err().expect("a failure");
    assert_eq!(closed.class, FailureClass::Unreachable);
    assert!(closed.message.contains("refused"), "{closed}");
}
