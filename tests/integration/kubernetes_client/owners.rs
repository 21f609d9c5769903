//! Owner references of the mirrored Secret.

use std::time::Duration;

use keyferry::kubernetes::MirrorOutcome;
use keyferry::model::{Mirror, MirrorOwner, StatusReport};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::stage::{POD, SECRET, Stage, connected, name, opaque};
use crate::testbed::wait_until;

fn by_account() -> Mirror {
    Mirror { owner: Some(MirrorOwner::ServiceAccount), ..opaque() }
}

async fn owners(stage: &Stage) -> Value {
    stage.secret().await["metadata"].get("ownerReferences").cloned().unwrap_or_default()
}

/// Kubernetes deletes the Secret together with the application (`helm uninstall`).
#[tokio::test]
async fn service_account_of_agent_owns_secret() {
    let Some(stage) = Stage::new("account").await else { return };
    let agent = stage.agent().await;
    let content = stage.login(1, "Losungwort");
    assert_eq!(agent.mirror(&name(SECRET), &by_account(), &content).await, Ok(MirrorOutcome::Created));
    let uid = stage.account_uid().await;
    let expected = json!([{"apiVersion": "v1", "kind": "ServiceAccount", "name": stage.account, "uid": uid}]);
    assert_eq!(owners(&stage).await, expected, "neither blockOwnerDeletion nor controller");
    assert_eq!(agent.mirror(&name(SECRET), &by_account(), &content).await, Ok(MirrorOutcome::Unchanged));
}

/// The garbage collector would search the owner in the Secret's namespace and delete the Secret immediately.
#[tokio::test]
async fn credentials_without_service_account_give_no_owner() {
    let Some(stage) = Stage::new("no-account").await else { return };
    let status = StatusReport {
        conditions: false,
        events: false,
        pod_name: Some(POD.into()),
        pod_uid: None,
        pod_namespace: Some(stage.namespace.clone()),
        kubeconfig: Some(stage.admin.clone()),
    };
    let agent = connected(keyferry::kubernetes::Cluster::connect(&status, jiff::Timestamp::now()).await);
    let content = stage.login(1, "Losungwort");
    assert_eq!(agent.mirror(&name(SECRET), &by_account(), &content).await, Ok(MirrorOutcome::Created));
    assert_eq!(owners(&stage).await, Value::Null);
    assert_eq!(agent.mirror(&name(SECRET), &by_account(), &content).await, Ok(MirrorOutcome::Unchanged));
}

/// Denies changes of owners in one namespace with the message of `OwnerReferencesPermissionEnforcement`, because the
/// plugin itself cannot be enabled for one namespace.
const ENFORCEMENT: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAMESPACE}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}
  matchConditions:
  - {name: namespace, expression: request.namespace == 'NAMESPACE'}
  validations:
  - expression: object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
    message: "cannot set an ownerRef on a resource you can't delete: , <nil>"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAMESPACE}
spec: {policyName: NAMESPACE, validationActions: [Deny]}
"#;

#[tokio::test]
async fn secret_is_written_without_denied_owner_change() {
    let Some(stage) = Stage::new("enforced").await else { return };
    let agent = stage.agent().await;
    agent.mirror(&name(SECRET), &opaque(), &stage.login(1, "Losungwort")).await.unwrap();
    stage.cluster.apply(&stage.namespace, &ENFORCEMENT.replace("NAMESPACE", &stage.namespace)).await.unwrap();
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": POD, "uid": stage.pod_uid().await});
    let change = json!({"metadata": {"ownerReferences": [owner]}});
    wait_until("the policy is active", Duration::from_secs(30), || async {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        stage.secrets.patch(SECRET, &dry, &Patch::Merge(&change)).await.err()
    })
    .await
    .unwrap();

    // The update with a change of owners is denied; the values are written anyway.
    let (outcome, data) = stage.mirrored(&agent, &by_account(), &stage.login(2, "Kennwort")).await;
    assert_eq!((outcome, data["password"].as_str()), (Ok(MirrorOutcome::Updated), "Kennwort"));
    assert_eq!(owners(&stage).await, Value::Null);
    // The next call writes nothing.
    let again = agent.mirror(&name(SECRET), &by_account(), &stage.login(2, "Kennwort")).await;
    assert_eq!(again, Ok(MirrorOutcome::Unchanged));

    // A new Secret gets its owner. It keeps the owner if the configuration has none, because the removal is denied too.
    stage.delete_secret().await;
    let created = agent.mirror(&name(SECRET), &by_account(), &stage.login(2, "Kennwort")).await;
    assert_eq!(created, Ok(MirrorOutcome::Created));
    assert_eq!(owners(&stage).await[0]["uid"], stage.account_uid().await);
    let (outcome, data) = stage.mirrored(&agent, &opaque(), &stage.login(3, "Losungwort")).await;
    assert_eq!((outcome, data["password"].as_str()), (Ok(MirrorOutcome::Updated), "Losungwort"));
    assert_eq!(owners(&stage).await[0]["uid"], stage.account_uid().await);
}
