//! The kustomize components: what they add to a workload, and that the API server accepts it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::manifests::{apply, deploy, namespace_with_policies, objects, pod_of};
use crate::policies::setup::accepted;
use crate::testbed::Servers;
use crate::testbed::binaries::find_or_build;

/// Sorts lists of named items, because kustomize inserts the items of a patch first. Keeps the order of containers.
fn sorted(mut value: Value) -> Value {
    match &mut value {
        Value::Array(list) => {
            for item in list.iter_mut() {
                *item = sorted(item.take());
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                *item = sorted(item.take());
                if let (true, Value::Array(list)) = (["env", "volumes", "volumeMounts"].contains(&key.as_str()), item) {
                    list.sort_by_key(|named| named["name"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
        _ => {}
    }
    value
}

/// The output of kustomize for an overlay of `deploy/manifests/component`; `None` if the test is skipped. `application` is
/// YAML that is inserted before the containers of the example's Deployment.
fn kustomized(test: &str, components: &[&str], application: &str) -> Result<Option<Value>> {
    if crate::testbed::skipped(test) {
        return Ok(None);
    }
    // Copy the example and the components, and replace its list of components: kustomize accepts no absolute paths.
    let copy = tempfile::tempdir()?;
    for directory in std::fs::read_dir(deploy("manifests/component"))? {
        let directory = directory?;
        std::fs::create_dir(copy.path().join(directory.file_name()))?;
        for file in std::fs::read_dir(directory.path())? {
            let file = file?;
            std::fs::copy(file.path(), copy.path().join(directory.file_name()).join(file.file_name()))?;
        }
    }
    let example = copy.path().join("example");
    let file = example.join("kustomization.yaml");
    let mut kustomization: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
    if !components.is_empty() {
        kustomization["components"] = json!(components);
    }
    std::fs::write(&file, kustomization.to_string())?;
    let deployment = example.join("deployment.yaml");
    let before = std::fs::read_to_string(&deployment)?;
    std::fs::write(&deployment, before.replace("      containers:\n", &format!("{application}      containers:\n")))?;
    let output = Command::new(find_or_build("kubectl")?).arg("kustomize").arg(&example).output()?;
    ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
    let mut made: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout)?)?;
    let label = made["metadata"].as_object_mut().context("an object")?.remove("labels");
    assert_eq!(label, Some(json!({"keyferry.dev/files": "true"})), "the label that the components select");
    Ok(Some(made))
}

#[test]
fn kustomize_component_produces_demo_manifest() -> Result<()> {
    let Some(made) = kustomized("kustomize_component_produces_demo_manifest", &[], "")? else {
        return Ok(());
    };
    let demo = objects(&deploy("manifests/demo.yaml"), "playground")?.swap_remove(0);
    assert_eq!(sorted(made), sorted(demo));
    Ok(())
}

#[test]
fn kustomize_ca_component_extends_files_component() -> Result<()> {
    let test = "kustomize_ca_component_extends_files_component";
    let Some(made) = kustomized(test, &["../files", "../ca"], "")? else { return Ok(()) };
    let pod = &made["spec"]["template"]["spec"];
    let agent = &pod["initContainers"][0];
    let named = |list: &Value, name: &str| list.as_array()?.iter().find(|item| item["name"] == name).cloned();
    assert_eq!(named(&agent["env"], "VAULT_CACERT").context("the variable")?["value"], "/etc/keyferry/ca/ca.crt");
    let mount = named(&agent["volumeMounts"], "keyferry-vault-ca").context("the mount")?;
    assert_eq!(mount["mountPath"], "/etc/keyferry/ca");
    let volume = named(&pod["volumes"], "keyferry-vault-ca").context("the volume")?;
    assert_eq!(volume["configMap"]["name"], "vault-ca");
    // Nothing that needs a permission.
    assert_eq!(pod["readinessGates"], Value::Null);
    assert_eq!(named(&pod["volumes"], "keyferry-api-token"), None);
    assert_eq!(named(&agent["env"], "POD_NAME"), None);
    Ok(())
}

#[test]
fn kustomize_seed_component_mounts_optional_secret_in_agent_only() -> Result<()> {
    let test = "kustomize_seed_component_mounts_optional_secret_in_agent_only";
    let Some(made) = kustomized(test, &["../files", "../report", "../seed"], "")? else { return Ok(()) };
    let pod = &made["spec"]["template"]["spec"];
    let agent = &pod["initContainers"][0];
    let named = |list: &Value, name: &str| list.as_array()?.iter().find(|item| item["name"] == name).cloned();
    let directory = named(&agent["env"], "KEYFERRY_SEED").context("the variable")?["value"].clone();
    let mount = named(&agent["volumeMounts"], "keyferry-seed").context("the mount")?;
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&directory, &json!(true)));
    let volume = named(&pod["volumes"], "keyferry-seed").context("the volume")?;
    let mirror = named(&agent["env"], "KEYFERRY_MIRROR").context("the mirror")?["value"].clone();
    assert_eq!(volume["secret"], json!({"secretName": mirror, "optional": true}));
    assert_eq!(named(&pod["containers"][0]["volumeMounts"], "keyferry-seed"), None);
    Ok(())
}

#[test]
fn kustomize_refresh_component_mounts_annotations_in_agent_only() -> Result<()> {
    let test = "kustomize_refresh_component_mounts_annotations_in_agent_only";
    let Some(made) = kustomized(test, &["../files", "../refresh"], "")? else { return Ok(()) };
    let pod = &made["spec"]["template"]["spec"];
    let agent = &pod["initContainers"][0];
    let named = |list: &Value, name: &str| list.as_array()?.iter().find(|item| item["name"] == name).cloned();
    let file = named(&agent["env"], "KEYFERRY_ANNOTATIONS_FILE").context("the variable")?["value"].clone();
    let mount = named(&agent["volumeMounts"], "keyferry-pod").context("the mount")?;
    let item = &named(&pod["volumes"], "keyferry-pod").context("the volume")?["downwardAPI"]["items"][0];
    assert_eq!(item["fieldRef"]["fieldPath"], "metadata.annotations");
    let mounted =
        format!("{}/{}", mount["mountPath"].as_str().context("a path")?, item["path"].as_str().context("a path")?);
    assert_eq!(file, json!(mounted));
    assert_eq!(mount["subPath"], Value::Null, "the kubelet does not update a file that is mounted by subPath");
    assert_eq!(named(&pod["containers"][0]["volumeMounts"], "keyferry-pod"), None);
    Ok(())
}

#[test]
fn kustomize_components_notify_and_restart_extend_files_component() -> Result<()> {
    let test = "kustomize_components_notify_and_restart_extend_files_component";
    let Some(made) = kustomized(test, &["../files", "../notify"], "")? else { return Ok(()) };
    let pod = &made["spec"]["template"]["spec"];
    let agent = &pod["initContainers"][0];
    assert_eq!(pod["shareProcessNamespace"], true);
    let application = &pod["containers"][0]["securityContext"];
    assert_eq!(agent["securityContext"]["runAsUser"], application["runAsUser"], "the same UID");
    assert_eq!(agent["securityContext"]["runAsNonRoot"], true, "the rest of the security context stays");

    let Some(made) = kustomized(test, &["../files", "../restart"], "")? else { return Ok(()) };
    let agent = &made["spec"]["template"]["spec"]["initContainers"][0];
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    assert_eq!((&agent["restartPolicyRules"], &agent["restartPolicy"]), (&rule, &json!("Always")));
    let named = |name: &str| agent["env"].as_array()?.iter().find(|item| item["name"] == name).cloned();
    assert_eq!(named("KEYFERRY_CHECKPOINT").context("the variable")?["value"], "/run/keyferry/checkpoint");
    Ok(())
}

#[tokio::test]
async fn api_server_accepts_the_rule_that_restarts_all_containers() -> Result<()> {
    let test = "api_server_accepts_the_rule_that_restarts_all_containers";
    let Some(servers) = Servers::shared(test).await else { return Ok(()) };
    let Some(mut made) = kustomized(test, &["../files", "../restart"], "")? else { return Ok(()) };
    let (cluster, namespace) = namespace_with_policies(servers).await?;
    made["metadata"]["namespace"] = json!(namespace);
    accepted(test, apply(&cluster, &made, true).await)?;
    let pod = pod_of(&made).context("a Pod")?;
    accepted(test, apply(&cluster, &pod, true).await)?;
    Ok(())
}

/// The agent accepts the arguments and variables of the manifests, up to the first request to Vault.

#[test]
fn kustomize_component_precedes_application_init_containers() -> Result<()> {
    let own = "      initContainers:\n        - {name: own, image: own}\n";
    let test = "kustomize_component_precedes_application_init_containers";
    let Some(made) = kustomized(test, &["../files"], own)? else { return Ok(()) };
    let names: Vec<_> = made["spec"]["template"]["spec"]["initContainers"]
        .as_array()
        .context("init containers")?
        .iter()
        .map(|container| container["name"].as_str())
        .collect();
    assert_eq!(names, [Some("keyferry"), Some("own")], "init containers that start later find the files");
    Ok(())
}
