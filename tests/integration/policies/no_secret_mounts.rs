//! Pods whose `ServiceAccount` is not on the namespace's list cannot consume a Secret in any way.

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::{Value, json};

use super::setup::{
    ApiResult, MERGE, MOUNTS, PolicySetup, STRATEGIC, accepted, consumer, denied, pod, send, wait_until_enforced,
};

const WORKLOADS: [(&str, &str, &str); 7] = [
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("batch/v1", "Job", "jobs"),
    ("batch/v1", "CronJob", "cronjobs"),
    ("v1", "ReplicationController", "replicationcontrollers"),
];

async fn setup(test: &str) -> Result<Option<PolicySetup>> {
    // With a space, as users write lists.
    let listed = json!({"keyferry.dev/secret-mounts-allowed-for": "listed, second"});
    let Some(setup) = PolicySetup::new(test, &[MOUNTS], listed).await? else { return Ok(None) };
    for account in ["listed", "second", "plain"] {
        setup.account(account).await?;
    }
    Ok(Some(setup))
}

fn words(account: &str) -> String {
    format!(
        "pods of ServiceAccount \"{account}\" may not consume Secrets in this namespace; mount the files of keyferry, or \
         add the ServiceAccount to the namespace annotation keyferry.dev/secret-mounts-allowed-for"
    )
}

async fn create(setup: &PolicySetup, pod: &Value) -> ApiResult {
    send(&setup.admin.client, &Method::POST, &setup.core("pods?dryRun=All"), "", pod).await
}

/// Every reference to a Secret: a field of the Pod or of its container, and its value.
fn references() -> Vec<(&'static str, &'static str, Value)> {
    let reference = json!({"name": "s"});
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
        json!([volume])
    };
    let init = |key: &str, value: Value| {
        let mut container = pod("any")["spec"]["containers"][0].clone();
        container["name"] = json!("before");
        container[key] = value;
        json!([container])
    };
    let env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let env_from = json!([{"secretRef": reference}]);
    vec![
        ("a volume", "volumes", volume(json!({"secret": {"secretName": "s"}}))),
        ("an optional volume", "volumes", volume(json!({"secret": {"secretName": "s", "optional": true}}))),
        (
            "a projected volume",
            "volumes",
            volume(json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": reference}]}})),
        ),
        ("a variable", "env", env.clone()),
        ("all variables", "envFrom", env_from.clone()),
        ("a variable of an init container", "initContainers", init("env", env)),
        ("all variables of an init container", "initContainers", init("envFrom", env_from)),
        (
            "a CSI driver",
            "volumes",
            volume(json!({"csi": {"driver": "example.com", "nodePublishSecretRef": reference}})),
        ),
        ("flexVolume", "volumes", volume(json!({"flexVolume": {"driver": "example.com/d", "secretRef": reference}}))),
        ("cinder", "volumes", volume(json!({"cinder": {"volumeID": "v", "secretRef": reference}}))),
        ("cephfs", "volumes", volume(json!({"cephfs": {"monitors": ["m"], "secretRef": reference}}))),
        ("rbd", "volumes", volume(json!({"rbd": {"monitors": ["m"], "image": "i", "secretRef": reference}}))),
        (
            "iscsi",
            "volumes",
            volume(json!({"iscsi": {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.com.example:d", "lun": 0,
                "secretRef": reference}})),
        ),
        (
            "scaleIO",
            "volumes",
            volume(json!({"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": reference}})),
        ),
        ("storageos", "volumes", volume(json!({"storageos": {"volumeName": "v", "secretRef": reference}}))),
        ("azureFile", "volumes", volume(json!({"azureFile": {"secretName": "s", "shareName": "n"}}))),
    ]
}

#[tokio::test]
async fn unlisted_pod_cannot_consume_secret() -> Result<()> {
    let name = "unlisted_pod_cannot_consume_secret";
    let Some(setup) = setup(name).await? else { return Ok(()) };
    for (what, key, value) in references() {
        let answer = create(&setup, &consumer("plain", key, value.clone())).await;
        denied(what, answer, &words("plain"))?;
        accepted(what, create(&setup, &consumer("listed", key, value)).await)?;
    }
    let (_, key, value) = references().swap_remove(0);
    let mut unnamed = consumer("any", key, value.clone());
    unnamed["spec"].as_object_mut().context("an object")?.remove("serviceAccountName");
    denied("no ServiceAccount named", create(&setup, &unnamed).await, &words("default"))?;
    accepted("the second account of the list", create(&setup, &consumer("second", key, value)).await)?;
    Ok(())
}

#[tokio::test]
async fn non_secret_volumes_are_allowed_for_unlisted_account() -> Result<()> {
    let Some(setup) = setup("non_secret_volumes_are_allowed_for_unlisted_account").await? else { return Ok(()) };
    let token = json!({"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}});
    for (what, key, value) in [
        ("a memory volume", "volumes", json!([{"name": "v", "emptyDir": {"medium": "Memory"}}])),
        ("a projected token", "volumes", json!([{"name": "v", "projected": {"sources": [token]}}])),
        ("a ConfigMap", "volumes", json!([{"name": "v", "configMap": {"name": "c"}}])),
        ("a CSI driver without a Secret", "volumes", json!([{"name": "v", "csi": {"driver": "example.com"}}])),
        ("a variable", "env", json!([{"name": "E", "value": "e"}])),
        ("variables of a ConfigMap", "envFrom", json!([{"configMapRef": {"name": "c"}}])),
        ("an image pull secret, for the kubelet", "imagePullSecrets", json!([{"name": "s"}])),
    ] {
        accepted(what, create(&setup, &consumer("plain", key, value)).await)?;
    }
    Ok(())
}

#[tokio::test]
async fn debug_container_cannot_consume_secret() -> Result<()> {
    let Some(setup) = setup("debug_container_cannot_consume_secret").await? else { return Ok(()) };
    let admin = &setup.admin.client;
    accepted("a Pod", send(admin, &Method::POST, &setup.core("pods"), "", &pod("plain")).await)?;
    let path = setup.core("pods/plain/ephemeralcontainers?dryRun=All");
    let with = |env: Value| {
        let mut container = pod("plain")["spec"]["containers"][0].clone();
        container["name"] = json!("debug");
        container["env"] = json!([env]);
        json!({"spec": {"ephemeralContainers": [container]}})
    };
    let plain = with(json!({"name": "E", "value": "e"}));
    accepted("without a Secret", send(admin, &Method::PATCH, &path, STRATEGIC, &plain).await)?;
    let secret = with(json!({"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}));
    denied("with a Secret", send(admin, &Method::PATCH, &path, STRATEGIC, &secret).await, &words("plain"))
}

/// A workload of this kind, and the API path of its collection.
fn workload(namespace: &str, kind: (&str, &str, &str), pod: &Value) -> (String, Value) {
    let (version, kind, plural) = kind;
    let group = if version == "v1" { "api/v1".to_owned() } else { format!("apis/{version}") };
    let mut template = json!({"metadata": {"labels": {"app": "w"}}, "spec": pod["spec"]});
    template["spec"].as_object_mut().expect("an object").remove("nodeName");
    let selector = json!({"matchLabels": {"app": "w"}});
    let spec = match kind {
        "Job" | "CronJob" => {
            template["spec"]["restartPolicy"] = json!("Never");
            let job = json!({"template": template});
            if kind == "Job" { job } else { json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}) }
        }
        "ReplicationController" => json!({"selector": {"app": "w"}, "template": template}),
        "StatefulSet" => json!({"serviceName": "w", "selector": selector, "template": template}),
        _ => json!({"selector": selector, "template": template}),
    };
    let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "w"}, "spec": spec});
    (format!("/{group}/namespaces/{namespace}/{plural}"), object)
}

#[tokio::test]
async fn workload_is_denied_with_same_message_as_pod() -> Result<()> {
    let Some(setup) = setup("workload_is_denied_with_same_message_as_pod").await? else { return Ok(()) };
    for kind in WORKLOADS {
        for (what, key, value) in [references().swap_remove(0), references().swap_remove(3)] {
            let what = format!("{} with {what}", kind.1);
            for account in ["plain", "listed"] {
                let (path, object) = workload(&setup.namespace, kind, &consumer(account, key, value.clone()));
                let made = send(&setup.admin.client, &Method::POST, &format!("{path}?dryRun=All"), "", &object).await;
                if account == "plain" {
                    denied(&what, made, &words("plain"))?;
                } else {
                    accepted(&what, made)?;
                }
            }
        }
        let (path, object) = workload(&setup.namespace, kind, &pod("plain"));
        accepted(kind.1, send(&setup.admin.client, &Method::POST, &path, "", &object).await)?;
        // Changes of the template are checked as well; a Job's template cannot change.
        if kind.1 != "Job" {
            let pods = &consumer("plain", "volumes", references().swap_remove(0).2);
            let (path, object) = workload(&setup.namespace, kind, pods);
            let change = json!({"spec": object["spec"]});
            let changed = send(&setup.admin.client, &Method::PATCH, &format!("{path}/w"), MERGE, &change).await;
            denied(&format!("a change of {}", kind.1), changed, &words("plain"))?;
        }
    }
    Ok(())
}

/// After a namespace opts in, controllers must still be able to clean up, for example to scale an old `ReplicaSet` to zero.
#[tokio::test]
async fn existing_workload_can_scale_or_drop_secret_but_not_roll_out_with_it() -> Result<()> {
    let name = "existing_workload_can_scale_or_drop_secret_but_not_roll_out_with_it";
    let Some(setup) = PolicySetup::new(name, &[], json!({})).await? else { return Ok(()) };
    setup.account("plain").await?;
    let admin = &setup.admin.client;
    let mounts = consumer("plain", "volumes", references().swap_remove(0).2);
    for kind in WORKLOADS {
        let (path, object) = workload(&setup.namespace, kind, &mounts);
        accepted(kind.1, send(admin, &Method::POST, &path, "", &object).await)?;
    }
    let path = format!("/api/v1/namespaces/{}", setup.namespace);
    let opts_in = json!({"metadata": {"labels": {"keyferry.dev/no-secret-mounts": "true"}}});
    accepted("the label", send(admin, &Method::PATCH, &path, MERGE, &opts_in).await)?;
    wait_until_enforced(setup.servers, &setup.admin, &setup.namespace, &[MOUNTS]).await?;

    for kind in WORKLOADS {
        let (path, object) = workload(&setup.namespace, kind, &mounts);
        let path = format!("{path}/w");
        let change = match kind.1 {
            "Job" => json!({"spec": {"suspend": true}}),
            "CronJob" => json!({"spec": {"suspend": true, "jobTemplate": {"metadata": {"labels": {"a": "b"}}}}}),
            "DaemonSet" => json!({"spec": {"minReadySeconds": 7}}),
            _ => json!({"spec": {"replicas": 0}}),
        };
        accepted(&format!("{} scaled", kind.1), send(admin, &Method::PATCH, &path, MERGE, &change).await)?;
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        accepted(&format!("{} labelled", kind.1), send(admin, &Method::PATCH, &path, MERGE, &label).await)?;
        if kind.1 != "Job" {
            let place =
                if kind.1 == "CronJob" { "/spec/jobTemplate/spec/template/spec" } else { "/spec/template/spec" };
            let mut other = json!({"spec": object["spec"]});
            *other.pointer_mut(place).context(place)?.pointer_mut("/containers/0/image").context("image")? = json!("b");
            let changed = send(admin, &Method::PATCH, &path, MERGE, &other).await;
            denied(&format!("{} with other Pods that mount it", kind.1), changed, &words("plain"))?;
            other.pointer_mut(place).context(place)?["volumes"] = Value::Null;
            let fixed = send(admin, &Method::PATCH, &path, MERGE, &other).await;
            accepted(&format!("{} without the Secret", kind.1), fixed)?;
        }
    }
    Ok(())
}
