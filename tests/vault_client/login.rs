//! Logins: the request of each method, credential files, and rejections.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyferry::model::{Auth, AuthMethod, Failure, FailureClass, Reason, Session};
use serde_json::json;
use tempfile::TempDir;

use super::stub::{Stub, get, post};
use super::*;

pub(crate) fn auth(mount: &str, method: AuthMethod) -> Auth {
    Auth { mount: mount.into(), namespace: None, method }
}

pub(crate) fn issued(ttl: u64) -> Value {
    json!({"auth": {"client_token": TOKEN, "accessor": "acc", "lease_duration": ttl, "renewable": true}})
}

pub(crate) fn failure_of(result: Result<Session, Failure>) -> Failure {
    result.err().expect("a refusal")
}

pub(crate) fn accepted(result: Result<Session, Failure>) -> Session {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}

/// Credential files of one test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
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
async fn kubernetes_login_reads_token_file_each_time() {
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
            .answer(200, issued(3600))
    };
    let stub = Stub::start([login(&first)]);
    let vault = vault(&stub.address());
    let session = accepted(vault.login(&kubernetes).await);
    assert!(session.self_issued && !session.lookup_denied && session.token.expose() == TOKEN.as_bytes());
    assert_eq!(session.info.ttl, Some(Duration::from_hours(1)));
    let rotated = first.replace("c2lnbmF0dXJl", "cm90YXRlZA");
    files.write("jwt", &rotated);
    stub.expect([login(&rotated)]);
    accepted(vault.login(&kubernetes).await);
    assert_eq!(stub.connections(), 1, "unchanged TLS files keep the connection");
}

#[tokio::test]
async fn token_with_wrong_audience_is_not_sent() {
    let files = Files::new();
    let (file, _) = files.jwt("https://kubernetes.default.svc");
    let method = AuthMethod::Kubernetes { role: "webapp".into(), jwt_file: file, audience: Some("vault".into()) };
    let stub = Stub::start([]);
    let failure = failure_of(vault(&stub.address()).login(&auth("kubernetes", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::CredentialUnreadable));
}

#[tokio::test]
async fn unreadable_credential_is_local_failure() {
    let stub = Stub::start([]);
    let method = AuthMethod::Jwt { role: None, jwt_file: "/nowhere/jwt".into() };
    let failure = failure_of(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::CredentialUnreadable));
    assert!(failure.message.contains("/nowhere/jwt"), "{failure}");
}

#[tokio::test]
async fn jwt_login_uses_default_role_and_auth_namespace() {
    let files = Files::new();
    let (file, jwt) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: None, jwt_file: file };
    let auth = Auth { namespace: Some("platform".into()), ..auth("jwt/prod", method) };
    let stub = Stub::start([
        post("/v1/auth/jwt/prod/login")
            .header("x-vault-namespace", "platform")
            .json(json!({"jwt": jwt}))
            .answer(200, issued(60)),
        get("/v1/secret/data/a").header("x-vault-namespace", "team").answer(200, kv2(&json!({}), 1)),
        // The token belongs to the namespace of the login.
        post("/v1/auth/token/revoke-self").header("x-vault-namespace", "platform").answer(204, ""),
    ]);
    let vault = vault_at(&VaultServer { namespace: Some("team".into()), ..server(&stub.address()) });
    let session = accepted(vault.login(&auth).await);
    assert!(vault.read(&session.token, &source("secret/a")).await.is_ok());
    assert_eq!(vault.revoke_self(&session.token).await, Ok(()));
}

#[tokio::test]
async fn rejected_login_does_not_quote_credential() {
    let files = Files::new();
    let (file, jwt) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: Some("webapp".into()), jwt_file: file };
    for status in [400, 403] {
        let stub = Stub::start([post("/v1/auth/jwt/login").answer(status, errors(&format!("cannot verify {jwt}")))]);
        let failure = failure_of(vault(&stub.address()).login(&auth("jwt", method.clone())).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused), "{status}");
        assert!(failure.message.contains("cannot verify (credential)"), "{failure}");
    }
    let stub = Stub::start([post("/v1/auth/jwt/login").answer(503, errors("Vault is sealed"))]);
    let failure = failure_of(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::Sealed));
}

#[tokio::test]
async fn rejected_login_names_role_service_account_and_audience() {
    let files = Files::new();
    let claims = json!({"aud": ["vault"], "sub": "system:serviceaccount:drill:app"}).to_string();
    let file = files.write("jwt", &format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)));
    let method = AuthMethod::Kubernetes { role: "webapp".into(), jwt_file: file, audience: Some("vault".into()) };
    let stub = Stub::start([
        post("/v1/auth/kubernetes/login").answer(403, errors("service account name not authorized")),
        post("/v1/auth/kubernetes/login").answer(403, errors("1 error occurred:\n\t* permission denied\n\n")),
        post("/v1/auth/kubernetes/login").answer(404, errors("no handler for route")),
    ]);
    let vault = vault(&stub.address());
    let login = auth("kubernetes", method);
    let failure = failure_of(vault.login(&login).await);
    assert_eq!(
        failure.message,
        "failed to log in at auth/kubernetes/login (role \"webapp\", ServiceAccount drill/app, audience \"vault\"): Vault \
         answered 403: service account name not authorized; check that the role exists and that its \
         bound_service_account_names, bound_service_account_namespaces and audience accept this token"
    );
    let failure = failure_of(vault.login(&login).await);
    assert!(
        failure.message.contains("permission denied; check the mount and the namespace of the auth method"),
        "{failure}"
    );
    assert!(
        failure.message.contains("if the ServiceAccount was deleted or re-created, re-create the pod"),
        "{failure}"
    );
    let failure = failure_of(vault.login(&login).await);
    assert!(failure.message.ends_with("check the mount and the namespace of the auth method"), "{failure}");
}

#[tokio::test]
async fn early_token_is_transient() {
    let files = Files::new();
    let (file, _) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: Some("webapp".into()), jwt_file: file };
    let early = "error validating token: invalid not before (nbf) claim: token not yet valid";
    let stub = Stub::start([post("/v1/auth/jwt/login").answer(400, errors(early))]);
    let failure = failure_of(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::LoginRefused));
    assert!(failure.message.contains("clocks"), "{failure}");
}

#[tokio::test]
async fn ingress_page_is_not_a_rejected_login() {
    let files = Files::new();
    let (file, _) = files.jwt("vault");
    let method = AuthMethod::Jwt { role: Some("webapp".into()), jwt_file: file };
    let stub = Stub::start([post("/v1/auth/jwt/login").answer(404, "<html>404 page not found</html>")]);
    let failure = failure_of(vault(&stub.address()).login(&auth("jwt", method)).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::ServerError));
    assert!(failure.message.contains("the response with status 404 is not from Vault"), "{failure}");
}

#[tokio::test]
async fn given_token_is_looked_up_and_not_self_issued() {
    let files = Files::new();
    let file = files.write("token", "hvs.planted-token\n");
    let known = json!({"data": {"accessor": "acc", "ttl": 0, "expire_time": null, "renewable": false}});
    let lookup = || get("/v1/auth/token/lookup-self").token(TOKEN);
    let unknown = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
    let stub = Stub::start([
        lookup().answer(200, known.clone()),
        lookup().answer(200, known),
        lookup().answer(403, errors(unknown)),
    ]);
    let vault = vault(&stub.address());
    for method in [AuthMethod::Token { token: TOKEN.into() }, AuthMethod::TokenFile { file: file.clone() }] {
        let session = accepted(vault.login(&auth("", method)).await);
        assert_eq!((session.self_issued, session.lookup_denied, session.info.ttl), (false, false, None));
    }
    let failure = failure_of(vault.login(&auth("", AuthMethod::TokenFile { file })).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
    assert!(failure.message.contains("Vault does not recognize the token (expired, revoked"), "{failure}");
}

#[tokio::test]
async fn given_token_without_default_policy_is_used() {
    let bare = errors("1 error occurred:\n\t* permission denied\n\n");
    let stub = Stub::start([
        get("/v1/auth/token/lookup-self").token(TOKEN).header("x-vault-namespace", "team").answer(403, bare),
        get("/v1/secret/data/a").token(TOKEN).answer(200, kv2(&json!({}), 1)),
    ]);
    let vault = vault(&stub.address());
    let given = Auth { namespace: Some("team".into()), ..auth("", AuthMethod::Token { token: TOKEN.into() }) };
    let session = accepted(vault.login(&given).await);
    assert_eq!((session.self_issued, session.lookup_denied), (false, true));
    assert_eq!((session.info.ttl, session.info.renewable), (None, false));
    assert_eq!(session.token.namespace(), Some("team"));
    assert!(vault.read(&session.token, &source("secret/a")).await.is_ok());
}

#[tokio::test]
async fn given_token_lookup_keeps_message_of_other_failures() {
    let given = || auth("", AuthMethod::Token { token: TOKEN.into() });
    let lookup = || get("/v1/auth/token/lookup-self");
    let stub = Stub::start([
        lookup().answer(400, "Client sent an HTTP request to an HTTPS server.\n"),
        lookup().answer(307, "").answer_header("location", "https://other.test:8200/v1/x"),
        lookup().answer(503, errors("Vault is sealed")),
    ]);
    let vault = vault(&stub.address());
    let failure = failure_of(vault.login(&given()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(failure.message.contains("this is an HTTPS port; use https://"), "{failure}");
    let failure = failure_of(vault.login(&given()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
    assert!(
        failure.message.contains("to https://other.test:8200: the token is sent only to configured servers"),
        "{failure}"
    );
    assert!(failure.message.contains("add it to vault.redirectTo"), "{failure}");
    let failure = failure_of(vault.login(&given()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::Sealed));
}

#[tokio::test]
async fn malformed_token_file_is_explained_and_not_sent() {
    let files = Files::new();
    let stub = Stub::start([]);
    for (content, words) in [
        ("hvs.one\nhvs.two\n", "several lines"),
        ("\u{feff}hvs.one", "byte order mark"),
        (r#"{"auth": {"client_token": "hvs.one"}}"#, "found JSON"),
    ] {
        let file = files.write("token", content);
        let failure = failure_of(vault(&stub.address()).login(&auth("", AuthMethod::TokenFile { file })).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::CredentialUnreadable));
        assert!(failure.message.contains(words) && !failure.message.contains("hvs."), "{failure}");
    }
}

#[tokio::test]
async fn fifo_token_file_is_rejected_without_blocking() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a FIFO");
    let stub = Stub::start([]);
    let failure = failure_of(vault(&stub.address()).login(&auth("", AuthMethod::TokenFile { file })).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Local, Reason::CredentialUnreadable));
    assert!(failure.message.contains("expected a regular file, found a FIFO"), "{failure}");
}
