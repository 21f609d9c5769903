//! Renewal, lookup and revocation of tokens and leases.

use std::time::Duration;

use keyferry::model::{FailureClass, LeaseId, Reason};
use serde_json::json;

use super::stub::{Exchange, Stub, get, post};
use super::*;

fn lease() -> LeaseId {
    LeaseId::Id("database/creds/app/x".into())
}

#[tokio::test]
async fn token_renewal_returns_new_ttl() {
    let auth = json!({"auth": {"client_token": TOKEN, "accessor": "acc", "lease_duration": 120, "renewable": true}});
    let stub = Stub::start([post("/v1/auth/token/renew-self").token(TOKEN).answer(200, auth)]);
    let info = vault(&stub.address()).renew_token(&token()).await.expect("renewed");
    assert_eq!((info.ttl, info.renewable), (Some(Duration::from_mins(2)), true));
}

const UNKNOWN: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
const BARE: &str = "1 error occurred:\n\t* permission denied\n\n";

#[tokio::test]
async fn only_vaults_invalid_token_error_marks_token_invalid() {
    let renew = || post("/v1/auth/token/renew-self").token(TOKEN);
    let lookup = || get("/v1/auth/token/lookup-self").token(TOKEN);
    let stub = Stub::start([
        renew().answer(403, errors(UNKNOWN)),
        renew().answer(403, errors("bad token")),
        renew().answer(403, errors(BARE)),
        renew().answer(400, errors("batch tokens cannot be renewed")),
        lookup().answer(403, errors(UNKNOWN)),
        lookup().answer(403, errors(BARE)),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let invalid = vault.renew_token(&token()).await.expect_err("invalid");
        assert_eq!((invalid.class, invalid.reason), (FailureClass::TokenInvalid, Reason::TokenExpired));
    }
    let denied = vault.renew_token(&token()).await.expect_err("denied");
    assert_eq!((denied.class, denied.reason), (FailureClass::Forbidden, Reason::Denied));
    let rule = r#"path "auth/token/renew-self" { capabilities = ["update"] }"#;
    assert_eq!(denied.missing_rule.as_deref(), Some(rule));
    assert_eq!(denied.message, "failed to renew the Vault token: permission denied (403)");
    assert_eq!(vault.renew_token(&token()).await.expect_err("batch").class, FailureClass::Invalid);
    assert_eq!(vault.lookup_self(&token()).await.expect_err("invalid").class, FailureClass::TokenInvalid);
    let denied = vault.lookup_self(&token()).await.expect_err("denied");
    let rule = r#"path "auth/token/lookup-self" { capabilities = ["read"] }"#;
    assert_eq!((denied.class, denied.missing_rule.as_deref()), (FailureClass::Forbidden, Some(rule)));
}

#[tokio::test]
async fn token_calls_use_namespace_of_token() {
    let in_namespace = |exchange: Exchange| exchange.token(TOKEN).header("x-vault-namespace", "platform");
    let auth = json!({"auth": {"client_token": TOKEN, "lease_duration": 0, "renewable": true}});
    let stub = Stub::start([
        in_namespace(get("/v1/auth/token/lookup-self")).answer(200, json!({"data": {"ttl": -3, "expire_time": "x"}})),
        in_namespace(post("/v1/auth/token/renew-self")).answer(200, auth),
        in_namespace(post("/v1/auth/token/revoke-self")).answer(204, ""),
        get("/v1/secret/data/a").header("x-vault-namespace", "team").answer(200, kv2(&json!({}), 1)),
        post("/v1/auth/token/revoke-self").without("x-vault-namespace").answer(204, ""),
    ]);
    let vault = vault_at(&VaultServer { namespace: Some("team".into()), ..server(&stub.address()) });
    let platform = token().in_namespace(Some("platform".into()));
    let looked_up = vault.lookup_self(&platform).await.expect("known");
    assert_eq!(looked_up.ttl, None, "frozen times of a standby: the expiry is unknown");
    assert_eq!(vault.renew_token(&platform).await.expect("renewed").ttl, Some(Duration::ZERO));
    assert_eq!(vault.revoke_self(&platform).await, Ok(()));
    assert!(vault.read(&platform, &source("secret/a")).await.is_ok());
    let root = token().in_namespace(Some(String::new()));
    assert_eq!(vault.revoke_self(&root).await, Ok(()));
}

#[tokio::test]
async fn namespace_that_is_no_header_is_an_error_of_the_configuration() {
    let stub = Stub::start([]);
    let vault = vault_at(&VaultServer { namespace: Some("team\n".into()), ..server(&stub.address()) });
    for token in [token(), token().in_namespace(Some("team\u{1}".into()))] {
        let failure = vault.lookup_self(&token).await.expect_err("no header");
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest));
        assert!(failure.message.contains("correct vault.namespace or auth.namespace"), "{failure}");
    }
}

#[tokio::test]
async fn lease_renewal_sends_increment_and_returns_new_ttl() {
    let answer = json!({"lease_id": "database/creds/app/x", "lease_duration": 60, "renewable": true});
    let stub = Stub::start([post("/v1/sys/leases/renew")
        .token(TOKEN)
        .json(json!({"lease_id": "database/creds/app/x", "increment": 3600}))
        .answer(200, answer)]);
    let renewed = vault(&stub.address()).renew_lease(&token(), &lease(), Some(Duration::from_hours(1))).await;
    let renewed = renewed.expect("renewed");
    assert_eq!((renewed.id, renewed.duration, renewed.renewable), (lease(), Duration::from_mins(1), true));
}

#[tokio::test]
async fn lost_lease_is_missing_and_not_invalid() {
    let renew = || post("/v1/sys/leases/renew").json(json!({"lease_id": "database/creds/app/x"}));
    let stub = Stub::start([
        renew().answer(400, errors("lease not found")),
        renew().answer(400, errors("lease is not renewable")),
        renew().answer(400, errors("something else")),
    ]);
    let vault = vault(&stub.address());
    for _ in 0..2 {
        let lost = vault.renew_lease(&token(), &lease(), None).await.expect_err("lost");
        assert_eq!((lost.class, lost.reason), (FailureClass::Missing, Reason::LeaseLost));
    }
    let bad = vault.renew_lease(&token(), &lease(), None).await.expect_err("bad");
    assert_eq!(bad.reason, Reason::InvalidRequest);
}

#[tokio::test]
async fn revoking_invalid_token_succeeds() {
    let revoke = || post("/v1/auth/token/revoke-self").token(TOKEN);
    let stub = Stub::start([
        revoke().answer(204, ""),
        revoke().answer(403, errors(UNKNOWN)),
        revoke().answer(403, errors(BARE)),
        revoke().answer(500, errors("internal error")),
    ]);
    let vault = vault(&stub.address());
    assert_eq!(vault.revoke_self(&token()).await, Ok(()));
    assert_eq!(vault.revoke_self(&token()).await, Ok(()));
    let denied = vault.revoke_self(&token()).await.expect_err("it may still live");
    assert_eq!(denied.class, FailureClass::Forbidden);
    assert_eq!(vault.revoke_self(&token()).await.expect_err("an error").class, FailureClass::Transient);
}
