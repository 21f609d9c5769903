//! A token that is bound to a Pod can write keyferry's conditions of that Pod and nothing else.

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
        // As the kubelet does.
        let conditions = json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]);
        let running = json!({"status": {"conditions": conditions, "message": "runs"}});
        for pod in ["a", "b"] {
            let path = setup.core(&format!("pods/{pod}/status"));
            accepted("the kubelet", send(&setup.admin.client, &Method::PATCH, &path, STRATEGIC, &running).await)?;
        }
        let (a, b) = (setup.client("app", Some(("a", &a))).await?, setup.client("app", Some(("b", &b))).await?);
        let unbound = setup.client("app", None).await?;
        Ok(Some(Self { setup, a, b, unbound }))
    }

    async fn patch(&self, client: &Client, pod: &str, kind: &str, body: &Value) -> ApiResult {
        let path = self.setup.core(&format!("pods/{pod}/status?fieldManager=keyferry"));
        send(client, &Method::PATCH, &path, kind, body).await
    }

    /// A Pod without its `managedFields`.
    async fn get(&self, pod: &str) -> Result<Value> {
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
        ("the first condition", &pods.a, "a", STRATEGIC, &one),
        ("the same condition again", &pods.a, "a", STRATEGIC, &one),
        ("a second condition", &pods.a, "a", STRATEGIC, &condition("keyferry.dev/Mirrored")),
        ("a removed condition", &pods.a, "a", STRATEGIC, &gone),
        ("another pod with its own token", &pods.b, "b", STRATEGIC, &one),
        ("server-side apply", &pods.b, "b", APPLY, &applied),
        // The policy applies only to ServiceAccounts of the namespace.
        ("an administrator", &pods.setup.admin.client, "a", STRATEGIC, &condition("example.com/Other")),
    ] {
        accepted(what, pods.patch(client, pod, kind, body).await)?;
    }
    let conditions = pods.get("a").await?["status"]["conditions"].clone();
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
    let before = (pods.get("a").await?, pods.get("b").await?);

    let ready = condition("keyferry.dev/SecretsReady");
    denied("pod a, token of b", pods.patch(&pods.b, "a", STRATEGIC, &ready).await, r#"bound to pod "b""#)?;
    denied("pod b, token of a", pods.patch(&pods.a, "b", STRATEGIC, &ready).await, r#"bound to pod "a""#)?;
    denied("unbound token", pods.patch(&pods.unbound, "a", STRATEGIC, &ready).await, r#"bound to pod """#)?;

    let scheduled = &before.0["status"]["conditions"][0];
    for (what, kind, body, words) in [
        ("the condition Ready", STRATEGIC, condition("Ready"), FOREIGN),
        ("a condition of another domain", STRATEGIC, condition("example.com/X"), FOREIGN),
        ("a domain with keyferry.dev as prefix", STRATEGIC, condition("keyferry.development/X"), FOREIGN),
        ("no status", STRATEGIC, json!({"status": null}), FOREIGN),
        (
            "a removed condition of the kubelet",
            STRATEGIC,
            json!({"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}),
            FOREIGN,
        ),
        (
            "a condition replaced by a duplicate of another",
            JSON_PATCH,
            json!([{"op": "replace", "path": "/status/conditions", "value": [scheduled, scheduled]}]),
            FOREIGN,
        ),
        ("a label", STRATEGIC, json!({"metadata": {"labels": {"app": "other"}}}), METADATA),
        ("no labels", STRATEGIC, json!({"metadata": {"labels": null}}), METADATA),
        ("an annotation", STRATEGIC, json!({"metadata": {"annotations": {"example.com/a": "b"}}}), METADATA),
        ("a finalizer", STRATEGIC, json!({"metadata": {"finalizers": ["example.com/stay"]}}), METADATA),
        ("the phase", STRATEGIC, json!({"status": {"phase": "Failed"}}), OTHER_FIELD),
        ("a changed field", STRATEGIC, json!({"status": {"message": "another message"}}), OTHER_FIELD),
        ("a removed field", STRATEGIC, json!({"status": {"message": null}}), OTHER_FIELD),
        ("a new field", STRATEGIC, json!({"status": {"podIP": "10.0.0.7"}}), OTHER_FIELD),
    ] {
        denied(what, pods.patch(&pods.a, "a", kind, &body).await, words)?;
    }
    assert_eq!(before, (pods.get("a").await?, pods.get("b").await?), "something was stored");
    Ok(())
}

#[tokio::test]
async fn own_pod_status_policy_ignores_namespace_without_label() -> Result<()> {
    let Some(pods) = Pods::new("own_pod_status_policy_ignores_namespace_without_label", &[]).await? else {
        return Ok(());
    };
    // The reason for the policy: with RBAC alone, one pod can stop another.
    let stopped = json!({"status": {"phase": "Failed"}});
    accepted("the phase of another pod", pods.patch(&pods.b, "a", STRATEGIC, &stopped).await)?;
    assert_eq!(pods.get("a").await?["status"]["phase"], "Failed");
    Ok(())
}
