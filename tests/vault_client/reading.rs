//! Reads: the path for each engine, the number of requests, and what is made of the answers.

use std::time::Duration;

use keyferry::model::{Failure, FailureClass, KvEngine, Reading, Reason, Source, Validity};
use serde_json::json;

use super::stub::{Exchange, Stub, get};
use super::*;

const PREFLIGHT: &str = "/v1/sys/internal/ui/mounts/secret/webapp/config";

/// The failure of one read against `script`.
pub(crate) async fn refused(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Failure {
    let stub = Stub::start(script);
    vault(&stub.address()).read(&token(), source).await.err().expect("a failure")
}

/// The reading of one read against `script`.
pub(crate) async fn given(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Reading {
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
        assert_eq!(reading.validity, Validity::Unlimited);
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
        assert_eq!(reading.validity, Validity::Unlimited, "the default TTL of KV version 1 is no lease");
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
async fn a_deleted_version_is_told_with_its_time() {
    let read = || get("/v1/secret/data/webapp/config");
    for (answer, status, words) in [
        (gone("2026-02-03T04:05:06Z", false), 404, "version 3 was deleted at 2026-02-03T04:05:06Z"),
        (gone("", true), 404, "version 3 was permanently destroyed"),
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
    assert!(failure.message.contains("requested secret/data/webapp/config; mount secret is KV version 2"), "{failure}");
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
        assert_eq!(reading.validity, Validity::Unlimited);
    }
}

#[tokio::test]
async fn a_bare_403_has_the_rule_to_add_and_costs_no_lookup() {
    let script = [
        get("/v1/secret/data/webapp/config").answer(403, errors("1 error occurred:\n\t* permission denied\n\n")),
        get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))),
    ];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Forbidden, Reason::Denied));
    assert_eq!(failure.message, "failed to read secret/webapp/config: permission denied (403)");
    let rule = r#"path "secret/data/webapp/config" { capabilities = ["read"] }"#;
    assert_eq!(failure.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn a_403_of_a_mount_that_is_only_guessed_says_so() {
    let script = [
        get("/v1/team/data/kv/webapp").answer(403, errors("permission denied")),
        get("/v1/sys/internal/ui/mounts/team/kv/webapp").answer(403, errors("preflight capability check returned 403")),
    ];
    let failure = refused(script, &source("team/kv/webapp")).await;
    assert_eq!(failure.class, FailureClass::Forbidden);
    let rule = failure.missing_rule.expect("a rule");
    assert!(
        rule.starts_with(r#"path "team/data/kv/webapp" { capabilities = ["read"] }, assuming that team is a KV version 2"#),
        "{rule}"
    );
}

#[tokio::test]
async fn a_token_that_the_server_does_not_know_costs_one_request() {
    for words in ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n", "bad token"] {
        let script = [get("/v1/secret/data/webapp/config").answer(403, errors(words))];
        let failure = refused(script, &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::TokenInvalid, Reason::TokenExpired));
        assert_eq!(failure.missing_rule, None);
    }
}

#[tokio::test]
async fn a_passing_403_does_not_make_a_nested_mount_forgotten() {
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
async fn further_fields_of_kv_version_2_do_not_matter_where_the_engine_is_known() {
    let mut more = kv2(&json!({"a": "b"}), 4);
    more["data"]["shared_with"] = json!([]);
    let read = || get("/v1/secret/data/webapp/config").answer(200, more.clone());
    let set = Source { engine: KvEngine::V2, ..source("secret/webapp/config") };
    assert_eq!(given([read()], &set).await.version.number, Some(4));
    let learned = Stub::start([read(), get(PREFLIGHT).answer(200, mount("secret/", "kv", Some("2"))), read()]);
    let vault = vault(&learned.address());
    for _ in 0..2 {
        assert_eq!(text(&reading_by(&vault).await, "a"), "b");
    }
}

#[tokio::test]
async fn a_page_of_an_ingress_is_not_an_absent_secret() {
    for body in ["<html>404 page not found</html>", "404 page not found\n", ""] {
        let script = [get("/v1/secret/data/webapp/config").answer(404, body)];
        let failure = refused(script, &source("secret/webapp/config")).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::ServerError));
        assert!(failure.message.contains("the response with status 404 is not from Vault"), "{failure}");
    }
    let script = [get("/v1/secret/data/webapp/config").answer(403, "<html>blocked</html>")];
    let failure = refused(script, &source("secret/webapp/config")).await;
    assert_eq!((failure.class, failure.missing_rule), (FailureClass::Transient, None));
}

#[tokio::test]
async fn a_warning_of_vault_is_cut() {
    let mut answer = kv2(&json!({}), 1);
    answer["warnings"] = json!(["x".repeat(5000)]);
    let reading = given([get("/v1/secret/data/a").answer(200, answer)], &source("secret/a")).await;
    assert_eq!(reading.warnings.iter().map(|warning| warning.chars().count()).collect::<Vec<_>>(), [301]);
}

#[tokio::test]
async fn a_plain_request_to_an_https_port_says_so() {
    let page = "Client sent an HTTP request to an HTTPS server.\n";
    let script = [get("/v1/secret/data/a").answer(400, page)];
    let failure = refused(script, &source("secret/a")).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("this is an HTTPS port; use https://"), "{failure}");
}

#[tokio::test]
async fn a_mount_that_was_made_anew_with_another_version_is_found_again() {
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
    assert!(large.message.contains("the response is larger than 4 MiB"), "{large}");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_unreachable() {
    let stub = Stub::start([get("/v1/secret/data/webapp/config").hang()]);
    let impatient = VaultServer { timeout: Duration::from_millis(200), ..server(&stub.address()) };
    let failure = vault_at(&impatient).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::VaultUnreachable));
    assert!(failure.message.ends_with("no answer within 200ms"), "{failure}");
    let closed = vault("http://127.0.0.1:1").read(&token(), &source("secret/a")).await.err().expect("a failure");
    assert_eq!(closed.class, FailureClass::Unreachable);
    assert!(closed.message.ends_with("connection refused; check the port, and that Vault is running"), "{closed}");
}
