//! Renewals and the end of a token.

use std::time::Duration;

use keyferry::model::{FailureClass, LeaseId, Reason};
use serde_json::json;

use super::stub::{Stub, get, post};
use super::*;

fn lease() -> LeaseId {
    LeaseId("database/creds/app/x".into())
}

#[tokio::test]
async fn a_token_renewal_gives_the_new_time() {
    let auth = json!({"auth": {"client_token": TOKEN, "accessor": "acc", "lease_duration": 120, "renewable": true}});
    let stub = Stub::start([post("/v1/auth/token/renew-self").token(TOKEN).answer(200, auth)]);
    let info = vault(&stub.address()).renew_token(&token()).await.expect("renewed");
    assert_eq!((info.ttl, info.renewable), (Some(Duration::from_mins(2)), true));
    assert_eq!(info.accessor.as_deref(), Some("acc"));
}

#[tokio::test]
async fn a_refused_token_renewal_asks_whether_the_token_is_dead() {
    let denied = || errors("permission denied");
    let stub = Stub::start([
        post("/v1/auth/token/renew-self").answer(403, denied()),
        get("/v1/auth/token/lookup-self").answer(403, denied()),
        post("/v1/auth/token/renew-self").answer(403, denied()),
        get("/v1/auth/token/lookup-self").answer(200, json!({"data": {"ttl": 5, "expire_time": "x"}})),
        post("/v1/auth/token/renew-self").answer(400, errors("batch tokens cannot be renewed")),
    ]);
    let vault = vault(&stub.address());
    assert_eq!(vault.renew_token(&token()).await.expect_err("dead").class, FailureClass::TokenDead);
    let denied = vault.renew_token(&token()).await.expect_err("denied");
    assert_eq!(denied.class, FailureClass::Denied);
    assert!(denied.message.contains(r#"path "auth/token/renew-self" { capabilities = ["update"] }"#), "{denied}");
    assert_eq!(vault.renew_token(&token()).await.expect_err("batch").class, FailureClass::Invalid);
}

#[tokio::test]
async fn a_lease_renewal_sends_the_increment_and_gives_the_new_time() {
    let answer = json!({"lease_id": "database/creds/app/x", "lease_duration": 60, "renewable": true});
    let stub = Stub::start([post("/v1/sys/leases/renew")
        .token(TOKEN)
        .json(json!({"lease_id": "database/creds/app/x", "increment": 3600}))
        .answer(200, answer)]);
    let renewed = vault(&stub.address()).renew_lease(&token(), &lease(), Some(Duration::from_hours(1))).await;
    let renewed = renewed.expect("renewed");
    assert_eq!((renewed.id, renewed.duration, renewed.renewable), (Some(lease()), Duration::from_mins(1), true));
}

#[tokio::test]
async fn a_lost_lease_is_not_a_bad_request() {
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
async fn a_token_that_is_already_gone_counts_as_revoked() {
    let revoke = || post("/v1/auth/token/revoke-self").token(TOKEN);
    let stub = Stub::start([
        revoke().answer(204, ""),
        revoke().answer(403, errors("permission denied")),
        revoke().answer(500, errors("internal error")),
    ]);
    let vault = vault(&stub.address());
    assert_eq!(vault.revoke_self(&token()).await, Ok(()));
    assert_eq!(vault.revoke_self(&token()).await, Ok(()));
    assert_eq!(vault.revoke_self(&token()).await.expect_err("an error").class, FailureClass::Transient);
}
