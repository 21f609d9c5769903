//! Redirects of a standby.

use keyferry::model::FailureClass;
use serde_json::json;

use super::stub::{Stub, get};
use super::*;

const READ: &str = "/v1/secret/data/webapp/config";

#[tokio::test]
async fn redirect_to_configured_server_repeats_request() {
    let active = Stub::start([get(READ).token(TOKEN).answer(200, kv2(&json!({"a": "b"}), 1))]);
    let location = format!("{}/elsewhere", active.address());
    let standby = Stub::start([get(READ).token(TOKEN).answer(307, "").answer_header("location", &location)]);
    let server = VaultServer { redirect_to: vec![active.address()], ..server(&standby.address()) };
    assert!(vault_at(&server).read(&token(), &source("secret/webapp/config")).await.is_ok());
}

#[tokio::test]
async fn redirect_to_unconfigured_server_sends_no_token() {
    // An empty script, so any request fails the test.
    let other = Stub::start([]);
    let location = format!("{}{READ}", other.address());
    let standby = Stub::start([get(READ).answer(307, "").answer_header("location", &location)]);
    let failure =
        vault(&standby.address()).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains(&other.address()) && failure.message.contains("vault.redirectTo"), "{failure}");
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn redirect_loop_is_transient() {
    let (one, two) = (Stub::start([]), Stub::start([]));
    one.expect([get(READ).answer(307, "").answer_header("location", &format!("{}{READ}", two.address()))]);
    two.expect([get(READ).answer(307, "").answer_header("location", &format!("{}{READ}", one.address()))]);
    let server = VaultServer { redirect_to: vec![two.address()], ..server(&one.address()) };
    let failure = vault_at(&server).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!(failure.class, FailureClass::Transient);
}

#[tokio::test]
async fn redirect_other_than_307_is_not_followed() {
    let standby = Stub::start([get(READ).answer(302, "").answer_header("location", READ)]);
    let failure =
        vault(&standby.address()).read(&token(), &source("secret/webapp/config")).await.err().expect("a failure");
    assert_eq!(failure.class, FailureClass::Invalid);
}
