//! Denied requests, missing objects, and an unreachable server.

use jiff::Timestamp;
use keyferry::kubernetes::Cluster;
use keyferry::model::{ConditionStatus, ConditionType, EventType, FailureClass, PodEvent, Reason, StatusReport};
use serde_json::{Value, json};

use super::stage::{SECRET, Stage, condition, connected, expect_failure, name, opaque};

#[tokio::test]
async fn missing_permission_is_reported_with_rule() {
    let Some(stage) = Stage::new("permissions").await else { return };
    let uid = stage.pod_uid().await;
    let denied = stage.agent_with(&stage.kubeconfig_of("no-permissions"), &uid).await;
    let content = stage.login(1, "Losungwort");
    let event = PodEvent { kind: EventType::Normal, reason: Reason::Published, message: "m".into() };
    let ready = [condition(ConditionType::SecretsReady, ConditionStatus::True)];
    let failures = [
        (expect_failure(denied.mirror(&name(SECRET), &opaque(), &content).await), "resourceNames: [top-secret-ks]"),
        (expect_failure(denied.report(&ready, Timestamp::now()).await), "resources: [pods/status], verbs: [patch]"),
        (expect_failure(denied.record(&event, Timestamp::now()).await), "resources: [events], verbs: [create]"),
        // The Role allows only one Secret name.
        (
            expect_failure(stage.agent().await.mirror(&name("other"), &opaque(), &content).await),
            "resourceNames: [other]",
        ),
    ];
    for (failure, rule) in failures {
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::Forbidden));
        assert!(failure.message.contains(rule), "{}", failure.message);
    }
}

/// Regression test: a value was equal to the namespace, and the message named an admission policy as the cause.
#[tokio::test]
async fn missing_permission_is_reported_if_value_equals_namespace() {
    let Some(stage) = Stage::new("word").await else { return };
    let agent = stage.agent_with(&stage.kubeconfig_of("no-permissions"), &stage.pod_uid().await).await;
    let values = [("password", "Losungwort"), ("username", stage.namespace.as_str())];
    let content = stage.content(1, &keyferry::model::SecretType::Opaque, &values);
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &content).await);
    let expected = format!(
        "failed to write Secret {0}/{SECRET}: the API server answered 403 (RBAC): ServiceAccount {0}/no-permissions is not \
         allowed to; the Role needs the rule {{apiGroups: [\"\"], resources: [secrets], resourceNames: [{SECRET}], \
         verbs: [create, patch]}}",
        stage.namespace
    );
    assert_eq!(failure.message, expected);
}

#[tokio::test]
async fn invalid_token_and_unreachable_server_are_retryable() {
    let Some(stage) = Stage::new("unreachable").await else { return };
    let path = stage.kubeconfig_of(&stage.account);
    std::fs::write(stage.token_of(&stage.account), "not-a-token").unwrap();
    let agent = stage.agent_with(&path, "u").await;
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, Reason::CredentialUnreadable));
    assert!(failure.message.contains("re-create the pod"), "{}", failure.message);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://{closed}"));
    std::fs::write(&path, config.to_string()).unwrap();
    // `connect` makes no request and succeeds.
    let agent = stage.agent_with(&path, "u").await;
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Unreachable, Reason::ApiUnavailable));
}

#[tokio::test]
async fn unknown_namespace_is_missing() {
    let Some(stage) = Stage::new("namespace").await else { return };
    let status = StatusReport {
        conditions: false,
        events: false,
        pod_name: None,
        pod_uid: None,
        pod_namespace: Some("nowhere".into()),
        kubeconfig: Some(stage.admin.clone()),
    };
    let agent = connected(Cluster::connect(&status, Timestamp::now()).await);
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::ObjectNotFound));
    let failure = expect_failure(agent.report(&[], Timestamp::now()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::ObjectNotFound));
}
