//! Conditions of the agent's Pod, and Events on it.

use jiff::Timestamp;
use keyferry::model::{ConditionStatus, ConditionType, EventType, FailureClass, PodEvent, Reason};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::stage::{POD, Stage, condition, expect_failure};

#[tokio::test]
async fn conditions_are_merged_with_other_conditions() {
    let Some(stage) = Stage::new("conditions").await else { return };
    let others = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Test"}]}});
    stage.pods.patch_status(POD, &PatchParams::default(), &Patch::Strategic(others)).await.unwrap();
    let agent = stage.agent().await;
    let all = ConditionType::ALL.map(|kind| condition(kind, ConditionStatus::False));
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    agent.report(&all, at("2026-01-01T00:00:00Z")).await.unwrap();
    let reported = stage.pod().await;
    let find = |pod: &Value, kind: &str| {
        pod["status"]["conditions"].as_array().unwrap().iter().find(|found| found["type"] == kind).cloned().unwrap()
    };
    assert_eq!(find(&reported, "Ready")["reason"], "Test");
    for kind in ConditionType::ALL {
        let found = find(&reported, kind.as_str());
        assert_eq!(found["status"], "False");
        assert_eq!(found["observedGeneration"], reported["metadata"]["generation"]);
        assert_eq!(found["lastTransitionTime"], "2026-01-01T00:00:00Z");
    }

    // An equal report changes nothing, because the time is the last change of status.
    agent.report(&all, at("2026-01-02T00:00:00Z")).await.unwrap();
    assert_eq!(stage.pod().await["metadata"]["resourceVersion"], reported["metadata"]["resourceVersion"]);

    // The agent uses the Pod's generation from the response.
    let image = json!({"spec": {"containers": [{"name": "webapp", "image": "other"}]}});
    stage.pods.patch(POD, &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    agent
        .report(&[condition(ConditionType::SecretsReady, ConditionStatus::True)], at("2026-01-03T00:00:00Z"))
        .await
        .unwrap();
    let reported = stage.pod().await;
    assert_eq!(reported["metadata"]["generation"], 2);
    let ready = find(&reported, "keyferry.dev/SecretsReady");
    assert_eq!((&ready["status"], &ready["observedGeneration"]), (&json!("True"), &json!(2)));
    assert_eq!(ready["lastTransitionTime"], "2026-01-03T00:00:00Z");
    assert_eq!(find(&reported, "keyferry.dev/Mirrored")["status"], "False");
}

/// If only the container stops, the agent must not revoke the leases of the application.
#[tokio::test]
async fn report_returns_whether_pod_is_being_deleted() {
    let Some(stage) = Stage::new("deleting").await else { return };
    let agent = stage.agent().await;
    let ready = [condition(ConditionType::SecretsReady, ConditionStatus::True)];
    assert!(!agent.report(&ready, Timestamp::now()).await.unwrap().deleting);
    stage.pods.delete(POD, &DeleteParams::default().grace_period(60)).await.unwrap();
    assert!(agent.report(&ready, Timestamp::now()).await.unwrap().deleting);
}

#[tokio::test]
async fn pod_with_same_name_but_other_uid_is_not_changed() {
    let Some(stage) = Stage::new("uid").await else { return };
    let before = stage.pod().await;
    let ready = [condition(ConditionType::SecretsReady, ConditionStatus::True)];
    let agent = stage.agent_with(&stage.kubeconfig_of(&stage.account), "00000000-0000-4000-8000-000000000000").await;
    let failure = expect_failure(agent.report(&ready, Timestamp::now()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::ObjectNotFound));
    assert_eq!(stage.pod().await, before);

    stage.pods.delete(POD, &DeleteParams::default().grace_period(0)).await.unwrap();
    let failure = expect_failure(agent.report(&ready, Timestamp::now()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::ObjectNotFound));
}

#[tokio::test]
async fn event_is_recorded_on_pod() {
    let Some(stage) = Stage::new("events").await else { return };
    let agent = stage.agent().await;
    let event = PodEvent { kind: EventType::Warning, reason: Reason::Stale, message: "ü".repeat(2000) };
    agent.record(&event, Timestamp::now()).await.unwrap();
    agent.record(&event, Timestamp::now()).await.unwrap();
    let selector = format!("involvedObject.uid={},reason=Stale,type=Warning", stage.pod_uid().await);
    let found = stage.events.list(&ListParams::default().fields(&selector)).await.unwrap().items;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].source.as_ref().unwrap().component.as_deref(), Some("keyferry"));
}
