//! A managed Secret that another writer edited.

use keyferry::kubernetes::MirrorOutcome;
use keyferry::model::{Failure, FailureClass, Mirror, OnDrift, Reason};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::stage::{LABEL, PATCH, SECRET, Stage, expect_failure, name, opaque, plain};

fn is_repaired(result: &Result<MirrorOutcome, Failure>) -> bool {
    matches!(result, Ok(MirrorOutcome::Repaired(edit)) if edit.starts_with("edited"))
}

/// Regression test: edited values stayed forever. The permissions are those of the shipped Role: `create` and `patch`
/// on one name.
#[tokio::test]
async fn edited_secret_is_repaired() {
    let Some(stage) = Stage::new("edited").await else { return };
    let agent = stage.agent().await;
    let content = stage.login(1, "Losungwort");
    agent.mirror(&name(SECRET), &opaque(), &content).await.unwrap();
    let expected = plain(&[("password", "Losungwort"), ("username", "Nutzername")]);
    let edits = [
        ("a value", json!({"data": {"password": "enp6"}})),
        ("an extra key", json!({"data": {"extra": "enp6"}})),
        ("a value and an extra key", json!({"stringData": {"password": "zzz", "extra": "zzz"}})),
        ("all values", json!({"data": {"password": "enp6", "username": "enp6"}})),
        ("a key removed", json!({"data": {"password": null}})),
        ("every key replaced", json!({"data": {"password": null, "username": null, "extra": "enp6"}})),
        ("the digest", json!({"metadata": {"annotations": {"keyferry.dev/digest": "d"}}})),
        (
            "the versions",
            json!({"metadata": {"annotations": {"keyferry.dev/source-versions":
            r#"{"secret/webapp/config":{"v":99,"t":"2100-01-01T00:00:00Z"}}"#}}}),
        ),
    ];
    for (what, edit) in edits {
        stage.change_secret(PATCH, &edit).await;
        let (repaired, data) = stage.mirrored(&agent, &opaque(), &content).await;
        assert!(is_repaired(&repaired), "{what}: {repaired:?}");
        assert_eq!(data, expected, "{what}");
        let unchanged = stage.mirrored(&agent, &opaque(), &content).await;
        assert_eq!(unchanged, (Ok(MirrorOutcome::Unchanged), expected.clone()), "{what}, second call");
    }

    // A new version and an edited Secret.
    stage.change_secret(PATCH, &json!({"data": {"password": "enp6", "extra": "enp6"}})).await;
    let expected = plain(&[("password", "Kennwort"), ("username", "Nutzername")]);
    let repaired = stage.mirrored(&agent, &opaque(), &stage.login(2, "Kennwort")).await;
    let edit = "edited by \"kubectl-patch\" (keys: extra, password)".to_owned();
    assert_eq!(repaired, (Ok(MirrorOutcome::Repaired(edit)), expected));
}

#[tokio::test]
async fn edited_secret_is_unchanged_if_drift_is_reported() {
    let Some(stage) = Stage::new("reported").await else { return };
    let agent = stage.agent().await;
    let report = Mirror { on_drift: OnDrift::Report, ..opaque() };
    agent.mirror(&name(SECRET), &report, &stage.login(1, "Losungwort")).await.unwrap();
    stage.change_secret(PATCH, &json!({"data": {"password": "enp6", "extra": "enp6"}})).await;
    let before = stage.secret().await;
    for version in [1, 2] {
        let failure = expect_failure(agent.mirror(&name(SECRET), &report, &stage.login(version, "Losungwort")).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::Drifted));
        let part = "it was edited by \"kubectl-patch\" (keys: extra, password); keyferry leaves it unchanged because \
                    onDrift is report";
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert_eq!(stage.secret().await, before);
    // The remedy in the message works.
    stage.delete_secret().await;
    let created = agent.mirror(&name(SECRET), &report, &stage.login(2, "Losungwort")).await;
    assert_eq!(created, Ok(MirrorOutcome::Created));
}

#[tokio::test]
async fn only_configured_labels_are_repaired() {
    let Some(stage) = Stage::new("tracked").await else { return };
    let agent = stage.agent().await;
    let mut mirror = opaque();
    mirror.labels.insert("team".into(), "web".into());
    agent.mirror(&name(SECRET), &mirror, &stage.login(1, "Losungwort")).await.unwrap();
    let tracked = json!({"metadata": {"labels": {"tracked-by": "x"}, "annotations": {"tracking-id": "x"}}});
    stage.change_secret(LABEL, &tracked).await;
    let unchanged = agent.mirror(&name(SECRET), &mirror, &stage.login(1, "Losungwort")).await;
    assert_eq!(unchanged, Ok(MirrorOutcome::Unchanged));
    stage.change_secret(LABEL, &json!({"metadata": {"labels": {"team": "db"}}})).await;
    let repaired = agent.mirror(&name(SECRET), &mirror, &stage.login(1, "Losungwort")).await;
    assert!(is_repaired(&repaired), "{repaired:?}");
    let labels = stage.secret().await["metadata"]["labels"].clone();
    assert_eq!((&labels["team"], &labels["tracked-by"]), (&json!("web"), &json!("x")));
}

/// A manager that applies equal values is a co-owner, and its values conflict with the next version.
#[tokio::test]
async fn co_owner_of_key_does_not_prevent_rotation() {
    let Some(stage) = Stage::new("co-owner").await else { return };
    let agent = stage.agent().await;
    agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await.unwrap();
    let same = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
                      "data": {"password": "TG9zdW5nd29ydA=="}});
    stage.secrets.patch(SECRET, &PatchParams::apply("argocd"), &Patch::Apply(&same)).await.unwrap();
    let unchanged = agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await;
    assert_eq!(unchanged, Ok(MirrorOutcome::Unchanged));
    let (outcome, data) = stage.mirrored(&agent, &opaque(), &stage.login(2, "Kennwort")).await;
    assert_eq!((outcome, data["password"].as_str()), (Ok(MirrorOutcome::Updated), "Kennwort"));
}
