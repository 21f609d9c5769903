//! A child token of the agent's token: creation, and renewal, lookup, and revocation by itself.

use std::time::Duration;

use keyferry::model::{FailureClass, Lease, LeaseId, Parameter, Reason, RequestMethod, Validity};
use serde_json::{Value, json};

use super::reading::{failure_of, reading_of};
use super::stub::{Stub, get, post};
use super::*;

const CHILD: &str = "hvs.planted-child";

/// The request for a child token.
fn child_source(path: &str) -> Source {
    let policies = Parameter::List(vec![Parameter::Text("webapp".into())]);
    let parameters =
        [("policies", policies), ("renewable", Parameter::Boolean(true)), ("ttl", Parameter::Text("3600s".into()))];
    Source {
        method: RequestMethod::CreateToken,
        parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..source(path)
    }
}

/// The response to the request, as Vault 1.21 sends it.
fn created(token: &str, token_type: &str) -> Value {
    json!({
        "request_id": "r", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null, "wrap_info": null,
        "warnings": ["TTL of \"1h\" exceeded the effective max_ttl"],
        "auth": {
            "client_token": token, "accessor": "child-accessor", "policies": ["default", "webapp"],
            "token_policies": ["default", "webapp"], "metadata": null, "lease_duration": 600, "renewable": true,
            "entity_id": "", "token_type": token_type, "orphan": false, "mfa_requirement": null, "num_uses": 0,
        },
        "mount_type": "token",
    })
}

fn child() -> LeaseId {
    LeaseId::Token(VaultToken::new(CHILD))
}

#[tokio::test]
async fn child_token_has_requested_policies_and_its_own_ttl() {
    let body = json!({"policies": ["webapp"], "renewable": true, "ttl": "3600s"});
    let create = post("/v1/auth/token/create").token(TOKEN).json(body).answer(200, created(CHILD, "service"));
    let reading = reading_of([create], &child_source("auth/token/create")).await;
    assert_eq!((reading.data.len(), text(&reading, "token")), (1, CHILD.into()));
    let lease = Lease { id: child(), duration: Duration::from_mins(10), renewable: true };
    assert_eq!(reading.validity, Validity::Lease(lease));
    assert_eq!(reading.warnings, ["TTL of \"1h\" exceeded the effective max_ttl"]);
    assert!(!format!("{:?}", reading.validity).contains(CHILD));
}

#[tokio::test]
async fn denied_creation_names_the_rule() {
    let path = "auth/token/create/webapp";
    let denied = || post("/v1/auth/token/create/webapp").answer(403, errors("1 error occurred: * permission denied"));
    let failure = failure_of([denied()], &child_source(path)).await;
    assert_eq!((failure.class, failure.reason), (FailureClass::Forbidden, Reason::Denied));
    assert_eq!(failure.message, "failed to create a token at auth/token/create/webapp: permission denied (403)");
    let rule = r#"path "auth/token/create/webapp" { capabilities = ["update"] }"#;
    assert_eq!(failure.missing_rule.as_deref(), Some(rule));
}

#[tokio::test]
async fn unusable_token_is_an_error_that_says_what_to_do() {
    let path = "auth/token/create";
    let answers = [
        (200, created("", "service"), "Vault returned no token"),
        (200, created(TOKEN, "service"), "Vault returned the token of keyferry"),
        (200, created(CHILD, "batch"), "set `token_type` of the token role to `service`"),
        (400, errors("child policies must be subset of parent"), "child policies must be subset of parent"),
    ];
    for (status, answer, part) in answers {
        let failure = failure_of([post("/v1/auth/token/create").answer(status, answer)], &child_source(path)).await;
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::InvalidRequest), "{part}");
        let begin = "failed to create a token at auth/token/create: ";
        assert!(failure.message.starts_with(begin) && failure.message.contains(part), "{failure}");
        assert!(!failure.message.contains("planted"), "{failure}");
    }
    // A login or a lookup has the same shape, but only this request may deliver a token.
    let login = post("/v1/auth/token/create").answer(200, created(CHILD, "service"));
    let write = Source { method: RequestMethod::Write, engine: KvEngine::Other, ..child_source(path) };
    assert_eq!(failure_of([login], &write).await.reason, Reason::InvalidRequest);
}

#[tokio::test]
async fn child_token_renews_looks_up_and_revokes_itself() {
    let stub = Stub::start([
        post("/v1/auth/token/renew-self")
            .token(CHILD)
            .json(json!({"increment": 600}))
            .answer(200, created(CHILD, "service")),
        get("/v1/auth/token/lookup-self").token(CHILD).answer(200, json!({"data": {"ttl": 600, "renewable": true}})),
        post("/v1/auth/token/revoke-self").token(CHILD).answer(204, ""),
    ]);
    let vault = vault(&stub.address());
    let renewed = vault.renew_lease(&token(), &child(), Some(Duration::from_mins(10))).await.expect("renewed");
    assert_eq!((renewed.id, renewed.duration, renewed.renewable), (child(), Duration::from_mins(10), true));
    assert_eq!(vault.look_up_lease(&token(), &child()).await, Ok(()));
    assert_eq!(vault.revoke_lease(&token(), &child()).await, Ok(()));
}

#[tokio::test]
async fn lost_child_token_does_not_make_the_agents_token_invalid() {
    let unknown = || errors("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");
    let bare = || errors("1 error occurred:\n\t* permission denied\n\n");
    let stub = Stub::start([
        post("/v1/auth/token/renew-self").token(CHILD).answer(403, unknown()),
        get("/v1/auth/token/lookup-self").token(CHILD).answer(403, unknown()),
        post("/v1/auth/token/revoke-self").token(CHILD).answer(403, unknown()),
        post("/v1/auth/token/renew-self").token(CHILD).answer(403, bare()),
    ]);
    let vault = vault(&stub.address());
    let lost = vault.renew_lease(&token(), &child(), None).await.expect_err("lost");
    assert_eq!((lost.class, lost.reason), (FailureClass::Missing, Reason::LeaseLost));
    let message = "failed to renew the child token: Vault does not recognize it (expired or revoked); keyferry creates \
                   another one";
    assert_eq!(lost.message, message);
    let lost = vault.look_up_lease(&token(), &child()).await.expect_err("lost");
    assert_eq!((lost.class, lost.reason), (FailureClass::Missing, Reason::LeaseLost));
    assert_eq!(vault.revoke_lease(&token(), &child()).await, Ok(()), "it is gone");
    let denied = vault.renew_lease(&token(), &child(), None).await.expect_err("denied");
    let rule = r#"path "auth/token/renew-self" { capabilities = ["update"] }"#;
    assert_eq!((denied.class, denied.missing_rule.as_deref()), (FailureClass::Forbidden, Some(rule)));
}
