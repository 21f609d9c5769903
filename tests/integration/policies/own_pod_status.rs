//! A token that is bound to a Pod writes keyferry's conditions of that Pod, and nothing else.

use anyhow::{Context as _, Result};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::setup::{APPLY, ApiResult, JSON_PATCH, PolicySetup, STATUS, STRATEGIC, accepted, condition, denied, send};

const FOREIGN: &str = "only conditions of type keyferry.dev/*";
const METADATA: &str = "metadata may not be changed";
const OTHER_FIELD: &str = "only status.conditions may be changed";

/// Two Pods of one `ServiceAccount`, and a token of each.
struct Pods {
    setup: PolicySetup,
    a: Client,
    b: Client,
    unbound: Client,
}

impl Pods {
    async fn new(test: &str, policies: &[&str]) -> Result<Option<Self>> {
        let Some(setup) = PolicySetup::new(test, policies, json!({})).await? else { return Ok(None) };
        setup.account("app").await?;
        let a = setup.admin.pod(&setup.namespace, "a", "app").await?;
        let b = setup.admin.pod(&setup.namespace, "b", "app").await?;
        // As the kubelet would.
        let conditions = json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]);
        let running = json!({"status": {"conditions": conditions, "message": "runs"}});
        for pod in ["a", "b"] {
            let path = setup.core(&format!("pods/{pod}/status"));
            accepted("the kubelet's", send(&setup.admin.client, &Method::PATCH, &path, STRATEGIC, &running).await)?;
        }
        let (a, b) = (setup.client("app", Some(("a", &a))).await?, setup.client("app", Some(("b", &b))).await?);
        let unbound = setup.client("app", None).await?;
        Ok(Some(Self { setup, a, b, unbound }))
    }

    async fn patch(&self, client: &Client, pod: &str, kind: &str, body: &Value) -> ApiResult {
        let path = self.setup.core(&format!("pods/{pod}/status?fieldManager=keyferry"));
        send(client, &Method::PATCH, &path, kind, body).await
    }

    /// What a Pod is, without the record of who wrote what.
    async fn now(&self, pod: &str) -> Result<Value> {
        let api: Api<Pod> = Api::namespaced(self.setup.admin.client.clone(), &self.setup.namespace);
        let mut pod = serde_json::to_value(api.get(pod).await?)?;
        let metadata = pod["metadata"].as_object_mut().context("a Pod has metadata")?;
        metadata.remove("managedFields");
        Ok(pod)
    }
}

#[tokio::test]
async fn pod_token_can_write_keyferry_conditions_of_own_pod() -> Result<()> {
    let name = "pod_token_can_write_keyferry_conditions_of_own_pod";
    let Some(pods) = Pods::new(name, &[STATUS]).await? else { return Ok(()) };
    let one = condition("keyferry.dev/SecretsReady");
    let gone = json!({"status": {"conditions": [{"type": "keyferry.dev/Mirrored", "$patch": "delete"}]}});
    let applied = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"},
        "status": {"conditions": [{"type": "keyferry.dev/SecretsFresh", "status": "True"}]},
    });
    for (what, client, pod, kind, body) in [
        ("the first", &pods.a, "a", STRATEGIC, &one),
        ("the same again", &pods.a, "a", STRATEGIC, &one),
        ("a second one", &pods.a, "a", STRATEGIC, &condition("keyferry.dev/Mirrored")),
        ("one less", &pods.a, "a", STRATEGIC, &gone),
        ("of the other pod, by its own token", &pods.b, "b", STRATEGIC, &one),
        ("by apply", &pods.b, "b", APPLY, &applied),
        // Whoever is no ServiceAccount of the namespace is not asked.
        ("an administrator", &pods.setup.admin.client, "a", STRATEGIC, &condition("example.com/Other")),
    ] {
        accepted(what, pods.patch(client, pod, kind, body).await)?;
    }
    let conditions = pods.now("a").await?["status"]["conditions"].clone();
    let kinds: Vec<_> = conditions.as_array().context("a list")?.iter().filter_map(|c| c["type"].as_str()).collect();
    for kind in ["keyferry.dev/SecretsReady", "PodScheduled", "Ready", "example.com/Other"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    assert!(!kinds.contains(&"keyferry.dev/Mirrored"), "{kinds:?}");
    Ok(())
}

#[tokio::test]
async fn pod_token_cannot_change_anything_else_in_pod() -> Result<()> {
    let name = "pod_token_cannot_change_anything_else_in_pod";
    let Some(pods) = Pods::new(name, &[STATUS]).await? else { return Ok(()) };
    let before = (pods.now("a").await?, pods.now("b").await?);

    let ours = condition("keyferry.dev/SecretsReady");
    denied("of a by b", pods.patch(&pods.b, "a", STRATEGIC, &ours).await, r#"bound to pod "b""#)?;
    denied("of b by a", pods.patch(&pods.a, "b", STRATEGIC, &ours).await, r#"bound to pod "a""#)?;
    denied("by no pod", pods.patch(&pods.unbound, "a", STRATEGIC, &ours).await, r#"bound to pod """#)?;

    let scheduled = &before.0["status"]["conditions"][0];
    for (what, kind, body, words) in [
        ("readiness", STRATEGIC, condition("Ready"), FOREIGN),
        ("a stranger's condition", STRATEGIC, condition("example.com/X"), FOREIGN),
        ("a prefix of our prefix", STRATEGIC, condition("keyferry.development/X"), FOREIGN),
        ("no status", STRATEGIC, json!({"status": null}), FOREIGN),
        (
            "one taken out",
            STRATEGIC,
            json!({"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}),
            FOREIGN,
        ),
        (
            "one pushed out by another that is there twice",
            JSON_PATCH,
            json!([{"op": "replace", "path": "/status/conditions", "value": [scheduled, scheduled]}]),
            FOREIGN,
        ),
        ("a label", STRATEGIC, json!({"metadata": {"labels": {"app": "other"}}}), METADATA),
        ("no labels", STRATEGIC, json!({"metadata": {"labels": null}}), METADATA),
        ("an annotation", STRATEGIC, json!({"metadata": {"annotations": {"example.com/a": "b"}}}), METADATA),
        ("a finalizer", STRATEGIC, json!({"metadata": {"finalizers": ["example.com/stay"]}}), METADATA),
        ("the end of the pod", STRATEGIC, json!({"status": {"phase": "Failed"}}), OTHER_FIELD),
        ("another field", STRATEGIC, json!({"status": {"message": "says something else"}}), OTHER_FIELD),
        ("a field less", STRATEGIC, json!({"status": {"message": null}}), OTHER_FIELD),
        ("a new field", STRATEGIC, json!({"status": {"podIP": "10.0.0.7"}}), OTHER_FIELD),
    ] {
        denied(what, pods.patch(&pods.a, "a", kind, &body).await, words)?;
    }
    assert_eq!(before, (pods.now("a").await?, pods.now("b").await?), "something was stored");
    Ok(())
}

#[tokio::test]
async fn own_pod_status_policy_ignores_namespace_without_label() -> Result<()> {
    let Some(pods) = Pods::new("own_pod_status_policy_ignores_namespace_without_label", &[]).await? else {
        return Ok(());
    };
    // This is why the policy is there: by RBAC alone one pod may stop another.
    let stopped = json!({"status": {"phase": "Failed"}});
    accepted("the end of another pod", pods.patch(&pods.b, "a", STRATEGIC, &stopped).await)?;
    assert_eq!(pods.now("a").await?["status"]["phase"], "Failed");
    Ok(())
}
