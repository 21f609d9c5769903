//! Logins: each method's request, its credential files, and refusals.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyferry::model::{Auth, AuthMethod, Failure, FailureClass, Reason};
use keyferry::vault::Session;
use serde_json::json;
use tempfile::TempDir;

use super::stub::{Exchange, Stub, get, post};
use super::*;

const LOOKUP: &str = "/v1/sys/wrapping/lookup";
const UNWRAP: &str = "/v1/sys/wrapping/unwrap";
const CREATION_PATH: &str = "auth/approle/role/webapp/secret-id";

fn auth(mount: &str, method: AuthMethod) -> Auth {
    Auth { mount: mount.into(), namespace: None, method }
}

fn made(ttl: u64) -> Value {
    json!({"auth": {"client_token": TOKEN, "accessor": "acc", "lease_duration": ttl, "renewable": true}})
}

fn refusal(result: Result<Session, Failure>) -> Failure {
    result.err().expect("a refusal")
}

fn accepted(result: Result<Session, Failure>) -> Session {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}

/// Credential files of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, content).expect("written");
        file
    }

    fn jwt(&self, audience: &str) -> (PathBuf, String) {
        let claims = URL_SAFE_NO_PAD.encode(json!({"aud": [audience], "sub": "x"}).to_string());
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2lnbmF0dXJl");
        (self.write("jwt", &format!("{jwt}\n")), jwt)
    }
}

#[tokio::test]
async fn kubernetes_sends_the_token_as_the_file_has_it_now() {
    let files = Files::new();
    let (file, first) = files.jwt("vault");
    let kubernetes = auth(
        "kubernetes",
        AuthMethod::Kubernetes { role: "webapp".into(), jwt_file: file, audience: Some("vault".into()) },
    );
    let login = |jwt: &str| {
        post("/v1/auth/kubernetes/login")
            .without("x-vault-token")
            .header("content-type", "application/json")
            .json(json!({"role": "webapp", "jwt": jwt}))
            .answer(200, made(3600))
    };
    let stub = Stub::start([login(&first)]);
    let vault = vault(&stub.address());
    let session = accepted(vault.login(&kubernetes).await);
    assert!(session.own && session.token.expose() == TOKEN.as_bytes());
    assert_eq!(session.info.ttl, Some(Duration::from_hours(1)));
    let rotated = first.replace("c2lnbmF0dXJl", "cm90YXRlZA");
    files.write("jwt", &rotated);
    stub.expect([login(&rotated)]);
    accepted(vault.login(&kubernetes).await);
    assert_eq!(stub.connections(), 1, "unchanged TLS files keep the connection");
}

#[tokio::test]
async fn a_token_for_another_audience_is_not_sent() {
    let files = Files::new();
    let (file, _) = files.jwt("https://kubernetes.default.svc");
    let method = AuthMethod::Kubernetes { role: "webapp".into(), jwt_file: file, audience: Some("vault".into()) };
    let stub = Stub::start([]);
    let failure = refusal(vault(&stub.address()).login(&auth("kubernetes", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::CredentialUnreadable));
}

#[tokio::test]
async fn an_unreadable_credential_is_our_own_fault() {
    let stub = Stub::start([]);
    let method = AuthMethod::Jwt { role: None, jwt_file: "/nowhere/jwt".into() };
    let failure = refusal(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::CredentialUnreadable));
    assert!(failure.message.contains("/nowhere/jwt"), "{failure}");
}

#[tokio::test]
async fn a_jwt_login_may_leave_the_role_to_the_mount_and_has_its_own_namespace() {
    let files = Files::new();
    let (file, jwt) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: None, jwt_file: file };
    let auth = Auth { namespace: Some("platform".into()), ..auth("jwt/prod", method) };
    let stub = Stub::start([
        post("/v1/auth/jwt/prod/login")
            .header("x-vault-namespace", "platform")
            .json(json!({"jwt": jwt}))
            .answer(200, made(60)),
        get("/v1/secret/data/a").header("x-vault-namespace", "team").answer(200, kv2(&json!({}), 1)),
        // The token lives in the namespace of the login.
        post("/v1/auth/token/revoke-self").header("x-vault-namespace", "platform").answer(204, ""),
    ]);
    let vault = vault_at(&VaultServer { namespace: Some("team".into()), ..server(&stub.address()) });
    let session = accepted(vault.login(&auth).await);
    assert!(vault.read(&session.token, &source("secret/a")).await.is_ok());
    assert_eq!(vault.revoke_self(&session.token).await, Ok(()));
}

#[tokio::test]
async fn a_refused_login_does_not_quote_the_credential() {
    let files = Files::new();
    let (file, jwt) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: Some("webapp".into()), jwt_file: file };
    for status in [400, 403] {
        let stub = Stub::start([post("/v1/auth/jwt/login").answer(status, errors(&format!("cannot verify {jwt}")))]);
        let failure = refusal(vault(&stub.address()).login(&auth("jwt", method.clone())).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused), "{status}");
        assert!(failure.message.contains("cannot verify (credential)"), "{failure}");
    }
    let stub = Stub::start([post("/v1/auth/jwt/login").answer(503, errors("Vault is sealed"))]);
    let failure = refusal(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::Sealed));
}

#[tokio::test]
async fn a_given_token_is_checked_and_is_not_ours() {
    let files = Files::new();
    let file = files.write("token", "hvs.planted-token\n");
    let known = json!({"data": {"accessor": "acc", "ttl": 0, "expire_time": null, "renewable": false}});
    let lookup = || get("/v1/auth/token/lookup-self").token(TOKEN);
    let stub =
        Stub::start([lookup().answer(200, known.clone()), lookup().answer(200, known), lookup().answer(403, "{}")]);
    let vault = vault(&stub.address());
    for method in [AuthMethod::Token { token: TOKEN.into() }, AuthMethod::TokenFile { file: file.clone() }] {
        let session = accepted(vault.login(&auth("", method)).await);
        assert_eq!((session.own, session.info.ttl), (false, None));
    }
    let failure = refusal(vault.login(&auth("", AuthMethod::TokenFile { file })).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
}

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
async fn approle_removes_the_secret_id_after_success_only_and_can_log_in_again() {
    let files = Files::new();
    let (auth, file) = approle(&files, "planted-secret\n", false, true);
    let stub = Stub::start([
        approle_login("planted-secret").answer(500, errors("busy")),
        approle_login("planted-secret").answer(200, made(60)),
        approle_login("planted-secret").answer(200, made(60)),
    ]);
    let vault = vault(&stub.address());
    refusal(vault.login(&auth).await);
    assert!(file.exists());
    accepted(vault.login(&auth).await);
    assert!(!file.exists());
    accepted(vault.login(&auth).await);
}

#[tokio::test]
async fn a_wrapped_secret_id_is_checked_then_opened_once() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let stub = Stub::start([
        lookup(CREATION_PATH),
        unwrap(),
        // The login is repeated, the unwrapping is not: the token in the file works once.
        approle_login("planted-secret").answer(500, errors("busy")),
        approle_login("planted-secret").answer(200, made(60)),
    ]);
    let vault = vault(&stub.address());
    refusal(vault.login(&auth).await);
    accepted(vault.login(&auth).await);
}

#[tokio::test]
async fn a_wrapping_token_of_another_making_is_not_opened() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let stub = Stub::start([lookup("sys/wrapping/wrap")]);
    let failure = refusal(vault(&stub.address()).login(&auth).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
    assert!(failure.message.contains("INTERCEPTED"), "{failure}");
}

#[tokio::test]
async fn a_used_wrapping_token_is_an_alarm_and_an_outage_is_not() {
    let files = Files::new();
    let (auth, _) = approle(&files, "hvs.wrapping-token", true, false);
    let used = "wrapping token is not valid or does not exist: hvs.wrapping-token";
    for script in [
        vec![lookup(CREATION_PATH).answer(400, errors(used))],
        vec![lookup(CREATION_PATH), unwrap().answer(400, errors(used))],
    ] {
        let stub = Stub::start(script);
        let failure = refusal(vault(&stub.address()).login(&auth).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
        assert!(failure.message.contains("INTERCEPTED") && !failure.message.contains("hvs."), "{failure}");
    }
    let stub = Stub::start([lookup(CREATION_PATH).answer(500, errors("internal error"))]);
    let failure = refusal(vault(&stub.address()).login(&auth).await);
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(!failure.message.contains("INTERCEPTED"), "{failure}");
}
