//! The secret ID of an `AppRole`: plain, removed after use, wrapped, cached.

use std::path::PathBuf;

use keyferry::model::{Auth, AuthMethod, FailureClass, Reason};
use serde_json::json;

use super::login::{Files, accepted, auth, failure_of, issued};
use super::stub::{Exchange, Stub, post};
use super::*;

const LOOKUP: &str = "/v1/sys/wrapping/lookup";
const UNWRAP: &str = "/v1/sys/wrapping/unwrap";
const CREATION_PATH: &str = "auth/approle/role/webapp/secret-id";

fn approle(files: &Files, secret_id: &str, wrapped: bool, remove: bool) -> (Auth, PathBuf) {
    let file = files.write("secret-id", secret_id);
    let method = AuthMethod::AppRole {
        role_id_file: files.write("role-id", "planted-role\n"),
        secret_id_file: Some(file.clone()),
        wrapped_creation_path: wrapped.then(|| CREATION_PATH.to_owned()),
        remove_secret_id: remove,
    };
    (auth("approle", method), file)
}

fn approle_login(secret_id: &str) -> Exchange {
    post("/v1/auth/approle/login").json(json!({"role_id": "planted-role", "secret_id": secret_id}))
}

fn lookup(creation_path: &str) -> Exchange {
    post(LOOKUP)
        .without("x-vault-token")
        .json(json!({"token": "hvs.wrapping-token"}))
        .answer(200, json!({"data": {"creation_path": creation_path, "creation_ttl": 60}}))
}

fn unwrap() -> Exchange {
    post(UNWRAP).token("hvs.wrapping-token").answer(200, json!({"data": {"secret_id": "planted-secret"}}))
}

#[tokio::test]
async fn secret_id_is_removed_after_success_and_reused_from_cache() {
    let files = Files::new();
    let (auth, file) = approle(&files, "planted-secret\n", false, true);
    let stub = Stub::start([
        approle_login("planted-secret").answer(500, errors("busy")),
        approle_login("planted-secret").answer(200, issued(60)),
        approle_login("planted-secret").answer(200, issued(60)),
    ]);
    let vault = vault(&stub.address());
    failure_of(vault.login(&auth).await);
    assert!(file.exists());
    accepted(vault.login(&auth).await);
    assert!(!file.exists());
    accepted(vault.login(&auth).await);
}

#[tokio::test]
async fn wrapped_secret_id_is_checked_then_unwrapped_once() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let stub = Stub::start([
        lookup(CREATION_PATH),
        unwrap(),
        // Only the login is repeated, because the wrapping token in the file works once.
        approle_login("planted-secret").answer(500, errors("busy")),
        approle_login("planted-secret").answer(200, issued(60)),
    ]);
    let vault = vault(&stub.address());
    failure_of(vault.login(&auth).await);
    accepted(vault.login(&auth).await);
}

#[tokio::test]
async fn wrapping_token_with_wrong_creation_path_is_not_unwrapped() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let stub = Stub::start([lookup("sys/wrapping/wrap")]);
    let failure = failure_of(vault(&stub.address()).login(&auth).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
    assert!(failure.message.contains("INTERCEPTED"), "{failure}");
}

#[tokio::test]
async fn used_wrapping_token_reports_interception_but_outage_does_not() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let used = "wrapping token is not valid or does not exist: hvs.wrapping-token";
    for script in [
        vec![lookup(CREATION_PATH).answer(400, errors(used))],
        vec![lookup(CREATION_PATH), unwrap().answer(400, errors(used))],
    ] {
        let stub = Stub::start(script);
        let failure = failure_of(vault(&stub.address()).login(&auth).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
        assert!(failure.message.contains("INTERCEPTED") && !failure.message.contains("hvs."), "{failure}");
        assert!(
            failure.message.contains("An earlier process of this pod may have used it before a restart"),
            "{failure}"
        );
    }
    let stub = Stub::start([lookup(CREATION_PATH).answer(500, errors("internal error"))]);
    let failure = failure_of(vault(&stub.address()).login(&auth).await);
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(!failure.message.contains("INTERCEPTED"), "{failure}");
}

#[tokio::test]
async fn new_client_reuses_cached_secret_id() {
    let files = Files::new();
    let (wrapped, _) = approle(&files, "hvs.wrapping-token", true, true);
    let stub = Stub::start([
        lookup(CREATION_PATH),
        unwrap(),
        approle_login("planted-secret").answer(200, issued(60)),
        approle_login("planted-secret").answer(200, issued(60)),
    ]);
    let secret_ids = OneTimeSecrets::default();
    for seconds in [5, 6] {
        let server = VaultServer { timeout: Duration::from_secs(seconds), ..server(&stub.address()) };
        let vault = Vault::new(&server, secret_ids.clone()).expect("a good address");
        accepted(vault.login(&wrapped).await);
    }
}

#[tokio::test]
async fn rejected_secret_id_failure_names_next_step() {
    let files = Files::new();
    let (plain, _) = approle(&files, "planted-secret", false, false);
    let stub = Stub::start([approle_login("planted-secret").answer(400, errors("invalid role or secret ID"))]);
    let failure = failure_of(vault(&stub.address()).login(&plain).await);
    assert!(failure.message.ends_with("if the secret ID was used up or has expired, deliver a new one"), "{failure}");
}

#[tokio::test]
async fn wrapped_secret_id_can_be_saved_before_the_login() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, true);
    let stub = Stub::start([
        lookup(CREATION_PATH),
        unwrap(),
        approle_login("planted-secret").answer(200, issued(60)),
        approle_login("planted-secret").answer(200, issued(60)),
    ]);
    let vault = vault(&stub.address());
    for is_first in [true, false] {
        let credential = vault.read_credential(&auth).expect("readable");
        let (credential, is_unwrapped) = vault.unwrap_credential(&auth, credential).await.expect("usable");
        assert_eq!(is_unwrapped, is_first);
        assert_eq!((vault.requests(), vault.one_time_secrets().saved().len()), (if is_first { 2 } else { 3 }, 1));
        accepted(vault.log_in(&auth, credential).await);
    }
}
