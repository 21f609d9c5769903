//! Unmanaged Secrets, adopted Secrets, and Secrets of another configuration.

use keyferry::kubernetes::MirrorOutcome;
use keyferry::model::{FailureClass, Mirror, Reason, SecretType};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::stage::{CREATE, SECRET, Stage, expect_failure, keyed, name, opaque, plain};

#[tokio::test]
async fn unmanaged_secret_is_rejected_and_unchanged() {
    let Some(stage) = Stage::new("unmanaged").await else { return };
    let agent = stage.agent().await;
    let content = stage.login(1, "Losungwort");
    let object = |labels: Value, rest: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "labels": labels}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let label = json!({"app.kubernetes.io/managed-by": "keyferry"});
    let data = json!({"data": {"password": "TG9zdW5nd29ydA==", "username": "TnV0emVybmFtZQ=="}});
    let immutable = json!({"immutable": true, "data": data["data"]});
    let cases = [
        ("empty", CREATE, object(json!({}), json!({}))),
        ("same keys, same values", CREATE, object(json!({}), data.clone())),
        ("label of keyferry, created by kubectl", CREATE, object(label.clone(), data.clone())),
        ("label of keyferry, empty", CREATE, object(label.clone(), json!({}))),
        ("label of keyferry, applied by another manager", "eve", object(label.clone(), data.clone())),
        ("field manager keyferry, by create", "keyferry", object(label, data)),
        ("immutable", CREATE, object(json!({}), immutable)),
    ];
    for (case, manager, body) in cases {
        if manager == "eve" {
            stage.secrets.patch(SECRET, &PatchParams::apply(manager), &Patch::Apply(&body)).await.unwrap();
        } else {
            stage.create_secret(manager, &body).await;
        }
        let before = stage.secret().await;
        let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &content).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::Foreign), "{case}");
        assert_eq!(stage.secret().await, before, "{case}");
        stage.delete_secret().await;
    }
    assert_eq!(agent.mirror(&name(SECRET), &opaque(), &content).await, Ok(MirrorOutcome::Created));
}

/// A Secret restored from a backup has the labels and annotations of keyferry, but no `managedFields`.
#[tokio::test]
async fn restored_secret_is_taken_over_only_with_adopt() {
    let Some(stage) = Stage::new("restored").await else { return };
    let agent = stage.agent().await;
    let adopting = Mirror { adopt: true, ..opaque() };
    agent.mirror(&name(SECRET), &opaque(), &stage.login(5, "Losungwort")).await.unwrap();
    let mut backup = stage.secret().await;
    for field in ["managedFields", "uid", "resourceVersion", "creationTimestamp"] {
        backup["metadata"].as_object_mut().unwrap().remove(field);
    }
    backup["data"]["old"] = json!("b2xk");
    stage.delete_secret().await;
    stage.create_secret("velero-server", &backup).await;

    // The versions in the annotation are ignored, because they are as old as the backup.
    let content = stage.login(3, "Kennwort");
    let failure = expect_failure(agent.mirror(&name(SECRET), &opaque(), &content).await);
    assert_eq!(failure.reason, Reason::Foreign);
    assert!(failure.message.contains("mirrors.top-secret-ks.adopt: true"), "{}", failure.message);
    let expected = plain(&[("password", "Kennwort"), ("username", "Nutzername")]);
    assert_eq!(stage.mirrored(&agent, &adopting, &content).await, (Ok(MirrorOutcome::Updated), expected.clone()));
    // The Secret is managed now, with and without `adopt`.
    assert_eq!(stage.mirrored(&agent, &adopting, &content).await, (Ok(MirrorOutcome::Unchanged), expected.clone()));
    assert_eq!(stage.mirrored(&agent, &opaque(), &content).await, (Ok(MirrorOutcome::Unchanged), expected));
}

/// If a Secret has no `managedFields`, the server creates them at the write.
#[tokio::test]
async fn adopted_secret_without_managed_fields_loses_other_keys() {
    let Some(stage) = Stage::new("unrecorded").await else { return };
    let agent = stage.agent().await;
    let labels = json!({"app.kubernetes.io/managed-by": "Helm", "team": "web"});
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "labels": labels},
                      "data": {"password": "YWx0", "old": "b2xk"}});
    stage.create_secret(CREATE, &body).await;
    stage.change_secret(CREATE, &json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(stage.secret().await["metadata"].get("managedFields"), None);
    let adopting = Mirror { adopt: true, ..opaque() };
    let expected = plain(&[("password", "Losungwort"), ("username", "Nutzername")]);
    let mirrored = stage.mirrored(&agent, &adopting, &stage.login(1, "Losungwort")).await;
    assert_eq!(mirrored, (Ok(MirrorOutcome::Updated), expected));
    let expected = json!({"app.kubernetes.io/managed-by": "keyferry", "team": "web"});
    assert_eq!(stage.secret().await["metadata"]["labels"], expected);
}

/// Regression test: two configurations with different keys overwrote one Secret alternately.
#[tokio::test]
async fn two_configurations_do_not_alternate_on_one_secret() {
    let Some(stage) = Stage::new("configurations").await else { return };
    let (one, two) = (stage.agent().await, stage.agent().await);
    let (a, b) = (keyed(&["password"]), keyed(&["username"]));
    let mut of_a = stage.content(1, &SecretType::Opaque, &[("password", "Losungwort")]);
    let mut of_b = stage.content(1, &SecretType::Opaque, &[("username", "Nutzername")]);
    let (data_a, data_b) = (plain(&[("password", "Losungwort")]), plain(&[("username", "Nutzername")]));
    (of_a.claim, of_b.claim) = (true, true);
    assert_eq!(stage.mirrored(&one, &a, &of_a).await, (Ok(MirrorOutcome::Created), data_a));
    // In a rollout, the new pods take the Secret over once.
    assert_eq!(stage.mirrored(&two, &b, &of_b).await, (Ok(MirrorOutcome::Updated), data_b.clone()));
    (of_a.claim, of_b.claim) = (false, false);
    for _ in 0..2 {
        let failure = expect_failure(mirrored_by(&one, &a, &of_a).await);
        assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::MirrorConflict));
        let expected = "another configuration writes it (pod webapp-0, keys username); this configuration has keys \
                        password; choose another Secret name for one of them, or delete the Secret";
        assert!(failure.message.ends_with(expected), "{}", failure.message);
        assert_eq!(stage.mirrored(&two, &b, &of_b).await, (Ok(MirrorOutcome::Unchanged), data_b.clone()));
    }
    // The remedy in the message works.
    stage.delete_secret().await;
    assert_eq!(mirrored_by(&one, &a, &of_a).await, Ok(MirrorOutcome::Created));
}

async fn mirrored_by(
    agent: &keyferry::kubernetes::Cluster,
    mirror: &Mirror,
    content: &keyferry::kubernetes::MirrorContent,
) -> Result<MirrorOutcome, keyferry::model::Failure> {
    agent.mirror(&name(SECRET), mirror, content).await
}

/// Regression test: after a source moved to an older secret, the Secret kept the previous value.
#[tokio::test]
async fn secret_follows_source_with_new_path() {
    let Some(stage) = Stage::new("moved").await else { return };
    let agent = stage.agent().await;
    let mut second = stage.login(7, "Losungwort");
    second.versions.values_mut().for_each(|mirrored| mirrored.request = "detect:secret/webapp/b".into());
    agent.mirror(&name(SECRET), &opaque(), &second).await.unwrap();
    let mut first = stage.login(1, "Kennwort");
    first.claim = true;
    let (outcome, data) = stage.mirrored(&agent, &opaque(), &first).await;
    assert_eq!((outcome, data["password"].as_str()), (Ok(MirrorOutcome::Updated), "Kennwort"));
}
