//! The rendered chart on a real API server, with its schemas, admission, and Pod Security `restricted`.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::helm::{Helm, Of, scenarios};
use super::testbed::Servers;
use super::testbed::kube::Cluster;

/// A namespace that enforces Pod Security `restricted`.
async fn restricted(cluster: &Cluster, name: &str) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    api.patch(name, &PatchParams::apply("keyferry-testbed"), &Patch::Apply(&namespace)).await?;
    Ok(())
}

#[tokio::test]
async fn scenarios_pass_api_server_and_pod_security_restricted() {
    let test = "scenarios_pass_api_server_and_pod_security_restricted";
    let (Some(helm), Some(servers)) = (Helm::shared(test), Servers::shared(test).await) else { return };
    let cluster = servers.kube.admin().await.expect("a client");
    for scenario in scenarios() {
        let namespace = format!("chart-{scenario}");
        restricted(&cluster, &namespace).await.expect("a namespace");
        // No controller creates it here.
        cluster.service_account(&namespace, "default").await.expect("an account");
        let objects = helm.scenario(Of::Webapp, &scenario, &namespace).expect("rendered");
        // An apply rejects fields that are not in the schema.
        for object in &objects {
            let applied = cluster.apply(&namespace, &object.to_string()).await;
            applied.unwrap_or_else(|error| panic!("{scenario}: {error:#}\n{object:#}"));
        }
        // For a Deployment, Pod Security only warns. It enforces on Pods, which no controller creates here.
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let template = &deployment["spec"]["template"];
        let pod =
            json!({"metadata": {"name": "webapp", "labels": template["metadata"]["labels"]}, "spec": template["spec"]});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = api.create(&dry, &pod).await.unwrap_or_else(|error| panic!("{scenario}: {error:#}"));
        check_no_field_dropped(&scenario, template, &serde_json::to_value(made).expect("JSON"));
    }
}

/// The API server silently drops fields of disabled feature gates.
fn check_no_field_dropped(scenario: &str, rendered: &Value, accepted: &Value) {
    fn inside(part: &Value, whole: &Value, path: &str) {
        match (part, whole) {
            (Value::Object(part), Value::Object(whole)) => {
                for (key, value) in part {
                    let other = whole.get(key).unwrap_or_else(|| panic!("{path}.{key} was dropped"));
                    inside(value, other, &format!("{path}.{key}"));
                }
            }
            (Value::Array(part), Value::Array(whole)) => {
                assert!(part.len() <= whole.len(), "{path} is shorter");
                part.iter().zip(whole).for_each(|(part, whole)| inside(part, whole, path));
            }
            (part, whole) => assert_eq!(part, whole, "{path}"),
        }
    }
    inside(&rendered["spec"], &accepted["spec"], scenario);
}
