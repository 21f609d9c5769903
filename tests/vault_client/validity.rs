//! Validity of readings.

use std::time::Duration;

use keyferry::model::{KvEngine, Lease, LeaseId, Source, Validity};
use serde_json::json;

use super::reading::reading_of;
use super::stub::get;
use super::*;

#[tokio::test]
async fn dynamic_secret_has_lease() {
    let script = [
        get("/v1/db/data/creds/app").answer(405, errors("unsupported operation")),
        get("/v1/sys/internal/ui/mounts/db/creds/app").answer(200, mount("db/", "database", None)),
        get("/v1/db/creds/app").answer(200, plain(&json!({"username": "u"}), "db/creds/app/x", 3600)),
    ];
    let reading = reading_of(script, &source("db/creds/app")).await;
    let lease = Lease { id: LeaseId::Id("db/creds/app/x".into()), duration: Duration::from_hours(1), renewable: true };
    assert_eq!(reading.validity, Validity::Lease(lease));
}

#[tokio::test]
async fn other_engine_states_validity_in_several_fields() {
    let other = Source { engine: KvEngine::Other, ..source("engine/app") };
    let year = Duration::from_hours(365 * 24);
    let role =
        |ttl: Value| json!({"last_vault_rotation": "2026-01-01T00:00:00Z", "rotation_period": 86400, "ttl": ttl});
    for (answer, expected) in [
        (plain(&json!({"username": "u"}), "", 60), Validity::Expires(Duration::from_mins(1))),
        (plain(&json!({"username": "u"}), "", 0), Validity::Unlimited),
        (plain(&json!({"username": "u"}), "", u64::MAX), Validity::Expires(year)),
        (plain(&role(json!(1800)), "", 0), Validity::Rotates(Duration::from_mins(30))),
        (plain(&role(json!(0)), "", 0), Validity::Rotates(Duration::ZERO)),
        (plain(&role(json!(u64::MAX)), "", 0), Validity::Rotates(year)),
        (plain(&json!({"token": "eyJ", "ttl": 86400}), "", 0), Validity::Expires(Duration::from_hours(24))),
        (plain(&json!({"token": "ya29", "token_ttl": 3599}), "", 0), Validity::Expires(Duration::from_secs(3599))),
    ] {
        assert_eq!(reading_of([get("/v1/engine/app").answer(200, answer)], &other).await.validity, expected);
    }
}

#[tokio::test]
async fn static_role_of_ldap_rotates() {
    let role = json!({
        "dn": "cn=app,dc=example,dc=com", "username": "app", "password": "new", "last_password": "old",
        "last_pass_phrase": null, "ttl": 1800, "rotation_period": 3600,
        "last_vault_rotation": "2026-01-01T09:30:00.123456789+02:00",
    });
    let mut answer = plain(&role, "", 0);
    answer["mount_type"] = json!("ldap");
    let reading = reading_of(
        [get("/v1/ldap/static-cred/app").answer(200, answer)],
        &Source { engine: KvEngine::Other, ..source("ldap/static-cred/app") },
    )
    .await;
    assert_eq!(reading.validity, Validity::Rotates(Duration::from_mins(30)));
    assert_eq!((text(&reading, "password"), text(&reading, "last_password")), ("new".into(), "old".into()));
}

#[tokio::test]
async fn expiry_in_data_uses_server_clock() {
    let other = Source { engine: KvEngine::Other, ..source("gcp/static-account/app/token") };
    let answer = plain(&json!({"token": "ya29", "expires_at_seconds": 784_115_377}), "", 0);
    let read = get("/v1/gcp/static-account/app/token")
        .answer(200, answer)
        .answer_header("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    // 784111777 is the time in the Date header.
    assert_eq!(reading_of([read], &other).await.validity, Validity::Expires(Duration::from_hours(1)));
}

#[tokio::test]
async fn kv_values_do_not_set_validity() {
    let other = Source { engine: KvEngine::Other, ..source("kv/app") };
    let mut answer = plain(&json!({"last_vault_rotation": "2026-01-01T00:00:00Z", "ttl": 1, "token": "x"}), "", 1);
    answer["mount_type"] = json!("kv");
    assert_eq!(reading_of([get("/v1/kv/app").answer(200, answer)], &other).await.validity, Validity::Unlimited);
}
