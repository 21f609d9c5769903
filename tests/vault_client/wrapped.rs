//! A wrapped secret: its creation path is checked, it is unwrapped once, and a new wrapping token is a new secret.

use keyferry::model::{Failure, FailureClass, Reading, Reason};
use serde_json::{Value, json};

use super::login::Files;
use super::stub::{Exchange, Stub, post};
use super::*;

const PATH: &str = "secret/data/webapp";

fn wrapped(files: &Files, token: &str) -> Source {
    Source { wrapping_token_file: Some(files.write("wrapping-token", token)), ..source(PATH) }
}

fn lookup(token: &str, creation_path: &str) -> Exchange {
    post("/v1/sys/wrapping/lookup")
        .without("x-vault-token")
        .json(json!({"token": token}))
        .answer(200, json!({"data": {"creation_path": creation_path, "creation_ttl": 60}}))
}

fn unwrap(token: &str, answer: Value) -> Exchange {
    post("/v1/sys/wrapping/unwrap").token(token).answer(200, answer)
}

async fn read(vault: &Vault, source: &Source) -> Result<Reading, Failure> {
    let found = vault.one_time_secrets().read_wrapped(source)?;
    vault.unwrap(source, found).await
}

async fn password(vault: &Vault, source: &Source) -> String {
    let reading = read(vault, source).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(reading.data.len(), 1);
    text(&reading, "password")
}

#[tokio::test]
async fn secret_is_unwrapped_once_and_new_token_is_new_secret() {
    let files = Files::new();
    let source = wrapped(&files, "hvs.first\n");
    let stub = Stub::start([
        lookup("hvs.first", PATH),
        unwrap("hvs.first", kv2(&json!({"password": "one"}), 3)),
        lookup("hvs.second", PATH),
        // Not of KV version 2, such as `vault write -wrap-ttl=10m sys/wrapping/wrap`.
        unwrap("hvs.second", plain(&json!({"password": "two"}), "", 0)),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..3 {
        assert_eq!(password(&vault, &source).await, "one");
    }
    files.write("wrapping-token", "hvs.second");
    assert_eq!(password(&vault, &source).await, "two");
    std::fs::remove_file(source.wrapping_token_file.as_ref().expect("a file")).expect("removed");
    assert_eq!(password(&vault, &source).await, "two", "the file is no longer needed");
}

#[tokio::test]
async fn unwrapped_secret_is_restored_in_next_process() {
    let files = Files::new();
    let source = wrapped(&files, "hvs.first");
    let stub = Stub::start([lookup("hvs.first", PATH), unwrap("hvs.first", kv2(&json!({"password": "one"}), 3))]);
    let first = vault(&stub.address());
    assert_eq!(password(&first, &source).await, "one");
    let saved = first.one_time_secrets().saved();
    let next = vault(&stub.address());
    next.one_time_secrets().restore(saved);
    assert_eq!(password(&next, &source).await, "one");
}

#[tokio::test]
async fn used_or_replaced_wrapping_token_mentions_interception() {
    let files = Files::new();
    let source = wrapped(&files, "hvs.first");
    let used = post("/v1/sys/wrapping/lookup").answer(400, errors("wrapping token is not valid or does not exist"));
    let stub = Stub::start([used, lookup("hvs.first", "sys/wrapping/wrap")]);
    let vault = vault(&stub.address());
    for part in [
        "failed to look up the wrapping token of the secret: Vault answered 400: wrapping token is not valid or does not \
         exist; the wrapping token has expired or was already used; deliver a new one. An earlier process of this pod may have \
         used it before a restart. If none did, the secret MAY HAVE BEEN INTERCEPTED",
        "failed to unwrap the secret: expected a wrapping token created by secret/data/webapp, found one created by \
         sys/wrapping/wrap; the secret MAY HAVE BEEN INTERCEPTED and replaced",
    ] {
        let failure = read(&vault, &source).await.err().expect("a failure");
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
        assert!(failure.message.starts_with(part) && !failure.message.contains("hvs."), "{failure}");
    }
}

#[tokio::test]
async fn unusable_content_is_an_error_and_is_not_unwrapped_again() {
    let files = Files::new();
    let source = wrapped(&files, "hvs.first");
    let login = json!({"data": null, "auth": {"client_token": "hvs.planted-child"}});
    let stub = Stub::start([lookup("hvs.first", PATH), unwrap("hvs.first", login)]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let failure = read(&vault, &source).await.err().expect("a failure");
        assert_eq!(failure.reason, Reason::InvalidRequest);
        assert!(failure.message.starts_with("failed to use the unwrapped secret of secret/data/webapp"), "{failure}");
    }
}
