//! Lists: requests and their number, the selection of secrets, and the result of each response.

use keyferry::model::{Failure, FailureClass, Glob, KvEngine, Reading, Reason, SecretList, Source, Validity, Version};
use keyferry::vault::Vault;
use serde_json::{Value, json};

use super::stub::{Exchange, Stub, get};
use super::*;

/// The list of the secrets in `secret/team`.
fn team() -> Source {
    let list = SecretList { recursive: false, include: vec![], exclude: vec![], max_count: 100, max_depth: 10 };
    Source { list: Some(list), ..source("secret/team") }
}

fn with(change: impl FnOnce(&mut SecretList)) -> Source {
    let mut source = team();
    source.list.as_mut().map(change).expect("a list");
    source
}

fn recursive() -> Source {
    with(|list| list.recursive = true)
}

fn glob(pattern: &str) -> Glob {
    Glob::new(pattern).expect(pattern)
}

fn kv2_mount() -> Exchange {
    get("/v1/sys/internal/ui/mounts/secret/team").token(TOKEN).answer(200, mount("secret/", "kv", Some("2")))
}

/// A listed folder, below `secret/metadata/`.
fn folder(path: &str, keys: &[&str]) -> Exchange {
    get(&format!("/v1/secret/metadata/{path}?list=true")).token(TOKEN).answer(200, json!({"data": {"keys": keys}}))
}

/// A secret of KV version 2, below `secret/data/`, with its path as its only value.
fn secret(path: &str, version: u64) -> Exchange {
    get(&format!("/v1/secret/data/{path}")).token(TOKEN).answer(200, kv2(&json!({"key": path}), version))
}

async fn read(vault: &Vault, source: &Source) -> Reading {
    vault.read(&token(), source).await.unwrap_or_else(|failure| panic!("{failure}"))
}

async fn reading_of(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Reading {
    let stub = Stub::start_in_any_order(script);
    read(&vault(&stub.address()), source).await
}

async fn failure_of(script: impl IntoIterator<Item = Exchange>, source: &Source) -> Failure {
    let stub = Stub::start_in_any_order(script);
    vault(&stub.address()).read(&token(), source).await.err().expect("a failure")
}

fn keys(reading: &Reading) -> Vec<&str> {
    reading.data.keys().map(String::as_str).collect()
}

fn numbers(version: &Version) -> Vec<(&str, Option<u64>)> {
    version.secrets.iter().map(|(path, version)| (path.as_str(), version.number)).collect()
}

#[tokio::test]
async fn list_sends_one_request_per_folder_and_secret_and_detects_the_engine_once() {
    let round = |version| [folder("team/", &["api", "db", "old/"]), secret("team/api", 1), secret("team/db", version)];
    let stub = Stub::start_in_any_order([kv2_mount()].into_iter().chain(round(4)));
    let vault = vault(&stub.address());
    let first = read(&vault, &team()).await;
    assert_eq!(keys(&first), ["api/key", "db/key"]);
    assert_eq!(text(&first, "db/key"), "team/db");
    assert_eq!(numbers(&first.version), [("api", Some(1)), ("db", Some(4))]);
    assert_eq!((first.version.number, first.version.created, first.validity), (None, None, Validity::Unlimited));
    assert!(first.version.secrets["db"].created.is_some());
    assert_eq!(vault.requests(), 4);
    stub.expect(round(5));
    assert_eq!(numbers(&read(&vault, &team()).await.version), [("api", Some(1)), ("db", Some(5))]);
    assert_eq!(vault.requests(), 7);
}

#[tokio::test]
async fn configured_engine_is_not_detected() {
    let v2 = Source { engine: KvEngine::V2, ..team() };
    let reading = reading_of([folder("team/", &["db"]), secret("team/db", 1)], &v2).await;
    assert_eq!(keys(&reading), ["db/key"]);
    let v1 = Source { engine: KvEngine::V1, ..team() };
    let script = [
        get("/v1/secret/team/?list=true").answer(200, json!({"data": {"keys": ["db"]}})),
        get("/v1/secret/team/db").answer(200, plain(&json!({"a": "b"}), "", 2_764_800)),
    ];
    let reading = reading_of(script, &v1).await;
    assert_eq!((text(&reading, "db/a").as_str(), reading.version), ("b", Version::default()));
    assert_eq!(reading.validity, Validity::Unlimited);
}

#[tokio::test]
async fn recursive_list_reads_selected_folders_only() {
    let source = with(|list| {
        list.recursive = true;
        list.include = vec![glob("*"), glob("web/**"), glob("*/db")];
        list.exclude = vec![glob("web/old/**"), glob("**/draft")];
    });
    let script = [
        kv2_mount(),
        folder("team/", &["draft", "shared", "api/", "web", "web/"]),
        folder("team/api/", &["db", "cache", "deep/"]),
        folder("team/web/", &["draft", "old/", "eu/"]),
        folder("team/web/eu/", &["tls"]),
        secret("team/api/db", 1),
        secret("team/shared", 2),
        secret("team/web", 3),
        secret("team/web/eu/tls", 4),
    ];
    assert_eq!(keys(&reading_of(script, &source).await), ["api/db/key", "shared/key", "web/eu/tls/key", "web/key"]);
}

#[tokio::test]
async fn mount_can_be_listed() {
    let root = Source { path: "secret".into(), ..recursive() };
    let mounts = get("/v1/sys/internal/ui/mounts/secret").answer(200, mount("secret/", "kv", Some("2")));
    // A folder with the name of a part of the API.
    let script =
        [mounts, folder("", &["data/", "db"]), folder("data/", &["db"]), secret("data/db", 1), secret("db", 1)];
    let reading = reading_of(script, &root).await;
    assert_eq!((text(&reading, "data/db/key"), text(&reading, "db/key")), ("data/db".into(), "db".into()));
}

#[tokio::test]
async fn secrets_removed_after_the_listing_are_absent() {
    let gone = |name: &str| get(&format!("/v1/secret/data/team/{name}"));
    let reading = reading_of(
        [
            kv2_mount(),
            folder("team/", &["deleted", "destroyed", "kept", "removed", "empty/"]),
            folder("team/empty/", &[]).answer(404, no_secret()),
            gone("deleted").answer(404, deleted("2026-02-03T04:05:06Z", false)),
            gone("destroyed").answer(404, deleted("", true)),
            gone("removed").answer(404, no_secret()),
            secret("team/kept", 1),
        ],
        &recursive(),
    )
    .await;
    assert_eq!((keys(&reading), numbers(&reading.version)), (vec!["kept/key"], vec![("kept", Some(1))]));
}

#[tokio::test]
async fn list_without_secrets_is_missing_and_says_why() {
    let listed = |keys: &[&str]| vec![kv2_mount(), folder("team/", keys)];

    let unselected = with(|list| list.include = vec![glob("web-*")]);
    let all_deleted = [
        kv2_mount(),
        folder("team/", &["db"]),
        get("/v1/secret/data/team/db").answer(404, deleted("2026-02-03T04:05:06Z", false)),
    ];
    let not_found = [kv2_mount(), folder("team/", &[]).answer(404, no_secret())];
    for (script, source, cause) in [
        (not_found.to_vec(), team(), "there are no secrets below this path; check the path and the namespace"),
        (listed(&[]), team(), "there are no secrets below this path"),
        (listed(&["web/"]), team(), "set `list.recursive: true`"),
        (listed(&["db"]), unselected, "select none of the secrets"),
        (all_deleted.to_vec(), team(), "all secrets below this path are deleted"),
    ] {
        let failure = failure_of(script, &source).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::SecretNotFound), "{failure}");
        assert!(
            failure.message.starts_with("failed to read secret/team: ") && failure.message.contains(cause),
            "{failure}"
        );
        assert!(failure.message.ends_with("(listed secret/metadata/team/; mount secret is KV version 2)"), "{failure}");
    }
}

#[tokio::test]
async fn denied_request_names_the_rule_for_all_folders_or_secrets() {
    let denied = |exchange: Exchange| exchange.answer(403, errors("1 error occurred:\n\t* permission denied\n\n"));
    for (source, what, rule) in [
        (team(), "list secret/team/", r#"path "secret/metadata/team/" { capabilities = ["list"] }"#),
        (recursive(), "list secret/team/", r#"path "secret/metadata/team/*" { capabilities = ["list"] }"#),
    ] {
        let failure = failure_of([kv2_mount(), denied(folder("team/", &[]))], &source).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Forbidden, Reason::Denied));
        assert_eq!(failure.message, format!("failed to {what}: permission denied (403)"));
        assert_eq!(failure.missing_rule.as_deref(), Some(rule));
    }
    let script = [kv2_mount(), folder("team/", &["db"]), denied(secret("team/db", 1))];
    let failure = failure_of(script, &team()).await;
    assert_eq!(failure.class, FailureClass::Forbidden);
    assert_eq!(failure.message, "failed to read secret/team/db: permission denied (403)");
    let rule = r#"path "secret/data/team/*" { capabilities = ["read"] }"#;
    assert_eq!(failure.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn failure_of_one_secret_fails_the_list() {
    let broken = get("/v1/secret/data/team/b").answer(500, errors("internal error"));
    let script = [kv2_mount(), folder("team/", &["a", "b"]), secret("team/a", 1), broken];
    let failure = failure_of(script, &team()).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::ServerError));
    assert!(failure.message.starts_with("failed to read secret/team/b: "), "{failure}");
    let invalid = get("/v1/secret/data/team/a").answer(403, errors("2 errors occurred:\n\t* invalid token\n\n"));
    let failure = failure_of([kv2_mount(), folder("team/", &["a"]), invalid], &team()).await;
    assert_eq!(failure.class, FailureClass::TokenInvalid);
}

#[tokio::test]
async fn list_beyond_a_maximum_reads_no_secret_and_names_the_maximum() {
    let many = with(|list| list.max_count = 2);
    let deep = with(|list| (list.recursive, list.max_depth) = (true, 2));
    let wide = with(|list| (list.recursive, list.max_count, list.max_depth) = (true, 1, 2));
    for (script, source, cause) in [
        (
            vec![folder("team/", &["a", "b", "c"])],
            many,
            "there are at least 3 secrets below this path, but `list.maxCount` is 2; raise it, or select fewer",
        ),
        (
            vec![folder("team/", &["a/"]), folder("team/a/", &["b", "c/"])],
            deep,
            "the secrets in secret/team/a/c are deeper below this path than `list.maxDepth` (2)",
        ),
        (
            vec![folder("team/", &["a/", "b/"])],
            wide,
            "there are at least 3 folders below this path, but `list.maxCount` times `list.maxDepth` is 2",
        ),
    ] {
        let failure = failure_of([kv2_mount()].into_iter().chain(script), &source).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
        assert!(failure.message.contains(cause), "{failure}");
    }
}

#[tokio::test]
async fn name_that_leads_out_of_the_folder_is_rejected() {
    for name in ["..", "../", ".", "", "/", "a/b", "../../sys/", "a\nb"] {
        let failure = failure_of([kv2_mount(), folder("team/", &["a", name])], &recursive()).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest), "{name:?}");
        assert!(failure.message.contains("which is not a valid name"), "{failure}");
    }
    let reading = reading_of(
        [
            kv2_mount(),
            folder("team/", &["..a b?#%"]),
            get("/v1/secret/data/team/..a%20b%3F%23%25").answer(200, kv2(&json!({"a": "b"}), 1)),
        ],
        &team(),
    )
    .await;
    assert_eq!(keys(&reading), ["..a b?#%/a"]);
}

#[tokio::test]
async fn keys_with_the_same_path_are_rejected() {
    let of = |path: &str, data: &Value| get(&format!("/v1/secret/data/team/{path}")).answer(200, kv2(data, 1));
    let script = [
        kv2_mount(),
        folder("team/", &["a", "a/"]),
        folder("team/a/", &["b"]),
        of("a", &json!({"b/c": "planted"})),
        of("a/b", &json!({"c": "planted"})),
    ];
    let failure = failure_of(script, &recursive()).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("two secrets produce the key a/b/c"), "{failure}");
    assert!(!failure.message.contains("planted"), "{failure}");
}

#[tokio::test]
async fn secret_with_a_lease_is_rejected() {
    let script = [
        get("/v1/secret/team/?list=true").answer(200, json!({"data": {"keys": ["db"]}})),
        get("/v1/secret/team/db").answer(200, plain(&json!({"a": "b"}), "secret/team/db/1", 60)),
    ];
    let failure = failure_of(script, &Source { engine: KvEngine::V1, ..team() }).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("secret db has a lease, which `list` does not support"), "{failure}");
}

#[tokio::test]
async fn requests_of_a_list_are_concurrent_up_to_the_limit() {
    let names: Vec<String> = (10..24).map(|number| format!("s{number}")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let reads = names.iter().map(|name| secret(&format!("team/{name}"), 1).together(SecretList::CONCURRENCY));
    let stub = Stub::start_in_any_order([kv2_mount(), folder("team/", &listed)].into_iter().chain(reads));
    let reading = read(&vault(&stub.address()), &team()).await;
    assert_eq!(reading.data.len(), names.len());
    assert_eq!(stub.most_in_flight(), SecretList::CONCURRENCY);
}

#[tokio::test]
async fn engine_without_secrets_to_list_is_rejected() {
    let database = get("/v1/sys/internal/ui/mounts/secret/team").answer(200, mount("secret/", "database", None));
    let failure = failure_of([database], &team()).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("`list` requires a KV engine, but mount secret has another one"), "{failure}");
}

#[tokio::test]
async fn mount_that_is_not_reported_is_assumed_to_be_kv2() {
    let unreported = || get("/v1/sys/internal/ui/mounts/secret/team").answer(403, errors("permission denied"));
    let round = || [folder("team/", &["db"]), secret("team/db", 1)];
    let stub = Stub::start([unreported()].into_iter().chain(round()).chain(round()));
    let vault = vault(&stub.address());
    for _ in 0..2 {
        assert_eq!(keys(&read(&vault, &team()).await), ["db/key"]);
    }
    let denied = folder("team/", &[]).answer(403, errors("permission denied"));
    let failure = failure_of([unreported(), denied], &team()).await;
    let rule = failure.missing_rule.expect("a rule");
    assert!(rule.contains("assuming that secret is a KV version 2 mount"), "{rule}");
    let missing = folder("team/", &[]).answer(404, no_secret());
    let failure = failure_of([unreported(), missing], &team()).await;
    assert!(failure.message.contains("Vault does not report the engine of mount secret"), "{failure}");
}

#[tokio::test]
async fn recreated_mount_with_other_version_is_detected_again() {
    let mounts =
        |version| get("/v1/sys/internal/ui/mounts/secret/team").answer(200, mount("secret/", "kv", Some(version)));
    let v1 = || {
        [
            get("/v1/secret/team/?list=true").answer(200, json!({"data": {"keys": ["db"]}})),
            get("/v1/secret/team/db").answer(200, plain(&json!({"key": "old"}), "", 0)),
        ]
    };
    let missing = || get("/v1/secret/team/?list=true").answer(404, no_secret());
    let script = [mounts("1")].into_iter().chain(v1()).chain([missing(), mounts("2")]);
    let stub = Stub::start(script.chain([folder("team/", &["db"]), secret("team/db", 1)]));
    let vault = vault(&stub.address());
    assert_eq!(text(&read(&vault, &team()).await, "db/key"), "old");
    assert_eq!(text(&read(&vault, &team()).await, "db/key"), "team/db");
    // A path that is still missing is listed once, and its mount is queried once.
    let missing = folder("team/", &[]).answer(404, no_secret());
    stub.expect([missing, mounts("2")]);
    let failure = vault.read(&token(), &team()).await.err().expect("a failure");
    assert_eq!(failure.class, FailureClass::Missing);
}
