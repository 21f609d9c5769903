//! Conditions of our Pod, and Events on it.

use jiff::Timestamp;
use keyferry::model::{ConditionStatus, ConditionType, FailureClass, Notice, NoticeKind, Reason};
use serde_json::{Value, json};

use super::stage::{POD, Stage, condition, refused};

#[tokio::test]
async fn conditions_are_merged_into_those_of_others() {
    let Some(stage) = Stage::new("conditions") else { return };
    let others = r#"{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Test"}]}}"#;
    stage.kubectl(&["patch", "pod", POD, "--subresource=status", "--type=strategic", "-p", others], "");
    let agent = stage.agent().await;
    let all = ConditionType::ALL.map(|kind| condition(kind, ConditionStatus::False));
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    agent.report(&all, at("2026-01-01T00:00:00Z")).await.unwrap();
    let reported = stage.get("pod", POD);
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

    // The same again changes nothing, for the time is that of the last change of status.
    agent.report(&all, at("2026-01-02T00:00:00Z")).await.unwrap();
    assert_eq!(stage.get("pod", POD)["metadata"]["resourceVersion"], reported["metadata"]["resourceVersion"]);

    // The Pod's own generation is taken over as soon as an answer tells it.
    stage.kubectl(&["set", "image", &format!("pod/{POD}"), &format!("{POD}=other")], "");
    agent
        .report(&[condition(ConditionType::SecretsReady, ConditionStatus::True)], at("2026-01-03T00:00:00Z"))
        .await
        .unwrap();
    let reported = stage.get("pod", POD);
    assert_eq!(reported["metadata"]["generation"], 2);
    let ready = find(&reported, "keyferry.dev/SecretsReady");
    assert_eq!((&ready["status"], &ready["observedGeneration"]), (&json!("True"), &json!(2)));
    assert_eq!(ready["lastTransitionTime"], "2026-01-03T00:00:00Z");
    assert_eq!(find(&reported, "keyferry.dev/Mirrored")["status"], "False");
}

#[tokio::test]
async fn a_pod_that_only_has_our_pods_name_is_not_touched() {
    let Some(stage) = Stage::new("uid") else { return };
    let before = stage.get("pod", POD);
    let ready = [condition(ConditionType::SecretsReady, ConditionStatus::True)];
    let agent = stage.agent_with(&stage.kubeconfig_of("webapp"), "00000000-0000-4000-8000-000000000000").await;
    let failure = refused(agent.report(&ready, Timestamp::now()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::ObjectNotFound));
    assert_eq!(stage.get("pod", POD), before);

    stage.kubectl(&["delete", "pod", POD, "--force", "--grace-period=0"], "");
    let failure = refused(agent.report(&ready, Timestamp::now()).await);
    assert_eq!((failure.class, failure.reason), (FailureClass::Missing, Reason::ObjectNotFound));
}

#[tokio::test]
async fn an_event_is_found_on_the_pod() {
    let Some(stage) = Stage::new("events") else { return };
    let agent = stage.agent().await;
    let notice = Notice { kind: NoticeKind::Warning, reason: Reason::Stale, message: "ü".repeat(2000) };
    agent.record(&notice, Timestamp::now()).await.unwrap();
    agent.record(&notice, Timestamp::now()).await.unwrap();
    let uid = stage.get("pod", POD)["metadata"]["uid"].as_str().unwrap().to_owned();
    let selector = format!("involvedObject.uid={uid},reason=Stale,type=Warning");
    let found = stage.kubectl(&["get", "events", "--field-selector", &selector, "-o", "json"], "");
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
    assert_eq!(found["items"][0]["source"]["component"], "keyferry");
}
