//! The shipped manifests: the API server accepts them with strict validation, and Pod Security accepts their Pods.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use keyferry::model::{FileFormat, Output, OutputKind};
use serde_json::{Value, json};

use crate::policies::setup::{APPLY, ApiResult, MOUNTS, STATUS, WRITERS, accepted, denied, send, wait_until_enforced};
use crate::testbed::Servers;
use crate::testbed::binaries::find_or_build;
use crate::testbed::kube::Cluster;

pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// The objects of a shipped file, with another namespace.
pub(crate) fn objects(path: &Path, namespace: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
    for object in &mut objects {
        let metadata = &mut object["metadata"];
        let kind = if metadata["name"] == "playground" { "name" } else { "namespace" };
        metadata[kind] = json!(namespace);
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = json!(namespace);
        }
    }
    Ok(objects)
}

/// Applies an object with server-side apply; unknown fields are errors.
pub(crate) async fn apply(cluster: &Cluster, object: &Value, dry_run: bool) -> ApiResult {
    let (group, plural) = match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => ("api/v1", "namespaces"),
        "ServiceAccount" => ("api/v1", "serviceaccounts"),
        "Pod" => ("api/v1", "pods"),
        "Role" => ("apis/rbac.authorization.k8s.io/v1", "roles"),
        "RoleBinding" => ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
        "Deployment" => ("apis/apps/v1", "deployments"),
        "Job" => ("apis/batch/v1", "jobs"),
        kind => panic!("no API path is defined for kind {kind}"),
    };
    let place = object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let query = format!("fieldManager=test&fieldValidation=Strict{dry_run}");
    let path = format!("/{group}{place}/{plural}/{name}?{query}");
    send(&cluster.client, &Method::PATCH, &path, APPLY, object).await
}

/// The Pod that a workload creates.
pub(crate) fn pod_of(workload: &Value) -> Option<Value> {
    let template = workload.pointer("/spec/template")?;
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = workload["metadata"]["name"].clone();
    pod["metadata"]["namespace"] = workload["metadata"]["namespace"].clone();
    Some(pod)
}

/// A namespace under all policies, with all objects of the reference scenario except workloads, applied in the documented
/// order.
pub(crate) async fn namespace_with_policies(servers: &Servers) -> Result<(Cluster, String)> {
    let cluster = servers.kube.admin().await?;
    let namespace = format!("manifests-{:06x}", fastrand::u32(..0x0100_0000));
    for file in ["namespace", "rbac", "viewer"] {
        for object in objects(&deploy(&format!("manifests/{file}.yaml")), &namespace)? {
            accepted(file, apply(&cluster, &object, false).await)?;
        }
    }
    wait_until_enforced(servers, &cluster, &namespace, &[STATUS, WRITERS, MOUNTS]).await?;
    Ok((cluster, namespace))
}

#[tokio::test]
async fn workloads_pass_pod_security_restricted_and_all_policies() -> Result<()> {
    let name = "workloads_pass_pod_security_restricted_and_all_policies";
    let Some(servers) = Servers::shared(name).await else { return Ok(()) };
    let (cluster, namespace) = namespace_with_policies(servers).await?;
    let others = ["namespace.yaml", "rbac.yaml", "viewer.yaml", "sidecar.yaml", "unprivileged.yaml"];
    let files = std::fs::read_dir(deploy("manifests"))?.filter_map(Result::ok).map(|entry| entry.path());
    let files: Vec<_> =
        files.filter(|path| path.is_file() && !others.iter().any(|name| path.ends_with(name))).collect();
    ensure!(files.len() >= 3, "found only {files:?}");
    for file in files {
        for workload in objects(&file, &namespace)? {
            let what = file.display().to_string();
            accepted(&what, apply(&cluster, &workload, true).await)?;
            let pod = pod_of(&workload).with_context(|| format!("{what} contains an object that creates no Pods"))?;
            accepted(&format!("the Pod of {what}"), apply(&cluster, &pod, true).await)?;
            // No container gets a token by default, and only keyferry's containers mount one.
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{what}");
            for container in containers(&pod) {
                let is_agent = container["name"].as_str().unwrap_or_default().starts_with("keyferry");
                // `kubectl describe` shows why the agent exited.
                let policy = container["terminationMessagePolicy"].as_str().unwrap_or_default();
                assert!(!is_agent || policy == "FallbackToLogsOnError", "{what}: {}", container["name"]);
                let mounts = container["volumeMounts"].as_array().into_iter().flatten();
                let tokens = mounts.filter(|mount| mount["name"].as_str().unwrap_or_default().ends_with("-token"));
                assert!(is_agent || tokens.count() == 0, "{what}: {}", container["name"]);
            }
        }
    }
    Ok(())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = |kind: &str| pod["spec"][kind].as_array().into_iter().flatten();
    all("initContainers").chain(all("containers"))
}

#[tokio::test]
async fn unprivileged_workload_is_denied_with_clear_message() -> Result<()> {
    let name = "unprivileged_workload_is_denied_with_clear_message";
    let Some(servers) = Servers::shared(name).await else { return Ok(()) };
    let (cluster, namespace) = namespace_with_policies(servers).await?;
    let words = "pods of ServiceAccount \"non-privileged-sa\" may not consume Secrets in this namespace";
    for workload in objects(&deploy("manifests/unprivileged.yaml"), &namespace)? {
        denied("the Deployment", apply(&cluster, &workload, true).await, words)?;
        let mut pod = pod_of(&workload).context("a Deployment creates Pods")?;
        denied("its Pod", apply(&cluster, &pod, true).await, words)?;
        // With a listed ServiceAccount the same Pod is accepted.
        pod["spec"]["serviceAccountName"] = json!("secret-privileged-sa");
        accepted("the Pod of a listed ServiceAccount", apply(&cluster, &pod, true).await)?;
    }
    Ok(())
}

/// The smallest manifest is kept short, so it does not set the fields that Pod Security `restricted` requires.
#[tokio::test]
async fn smallest_manifest_is_accepted_without_namespace_labels() -> Result<()> {
    let name = "smallest_manifest_is_accepted_without_namespace_labels";
    let Some(servers) = Servers::shared(name).await else { return Ok(()) };
    let cluster = servers.kube.admin().await?;
    let namespace = format!("smallest-{:06x}", fastrand::u32(..0x0100_0000));
    cluster.namespace(&namespace).await?;
    cluster.service_account(&namespace, "webapp").await?;
    for workload in objects(&deploy("manifests/sidecar.yaml"), &namespace)? {
        accepted("the Deployment", apply(&cluster, &workload, true).await)?;
        let pod = pod_of(&workload).context("a Deployment creates Pods")?;
        accepted("its Pod", apply(&cluster, &pod, true).await)?;
    }
    Ok(())
}

#[test]
fn agent_accepts_arguments_and_variables_of_manifests() -> Result<()> {
    let mut containers_checked = 0;
    for file in ["sidecar.yaml", "demo.yaml", "classic.yaml", "job.yaml", "environment.yaml"] {
        let workload = objects(&deploy(&format!("manifests/{file}")), "any")?.swap_remove(0);
        let pod = pod_of(&workload).context("a workload creates Pods")?;
        for container in containers(&pod).filter(|container| container["image"] == "keyferry:0.1.0") {
            let agent = || {
                let mut agent = Command::new(env!("CARGO_BIN_EXE_keyferry"));
                agent.env_clear();
                agent
            };
            let variables = container["env"].as_array().context("variables")?.iter();
            let variables =
                variables.filter_map(|one| Some((one["name"].as_str()?, one["value"].as_str().unwrap_or("x"))));
            let checked = agent().arg("check").envs(variables).output()?;
            let output = String::from_utf8_lossy(&checked.stderr).into_owned();
            ensure!(checked.status.success(), "{file}: keyferry check: {output}");
            // Without variables, the agent reaches the configuration only if it accepts the arguments.
            let arguments = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let run = agent().args(arguments).output()?;
            let output = String::from_utf8_lossy(&run.stderr).into_owned();
            ensure!(output.contains("vault.address: is missing"), "{file}: {}: {output}", container["args"]);
            containers_checked += 1;
        }
    }
    assert_eq!(containers_checked, 6, "classic.yaml has two containers");
    Ok(())
}

/// All shipped containers of the agent have the same limits, so that a measured limit applies everywhere.
#[test]
fn agent_containers_have_equal_resources() -> Result<()> {
    let mut seen = BTreeSet::new();
    for file in ["demo.yaml", "classic.yaml", "job.yaml", "environment.yaml", "component/files/deployment.yaml"] {
        let workload = objects(&deploy(&format!("manifests/{file}")), "any")?.swap_remove(0);
        let pod = pod_of(&workload).context("a workload creates Pods")?;
        let agents = containers(&pod).filter(|container| container["image"].as_str() == Some("keyferry:0.1.0"));
        let resources: Vec<_> = agents.map(|container| container["resources"].to_string()).collect();
        assert!(!resources.is_empty(), "{file} has no container of the agent");
        seen.extend(resources);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    Ok(())
}

/// The variables of the application refer to the volume of the agent, and to an env file that the agent writes there.
#[test]
fn environment_examples_refer_to_the_env_file_of_the_agent() -> Result<()> {
    if crate::testbed::skipped("environment_examples_refer_to_the_env_file_of_the_agent") {
        return Ok(());
    }
    let example = deploy("manifests/component/environment");
    let output = Command::new(find_or_build("kubectl")?).arg("kustomize").arg(&example).output()?;
    ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
    let kustomized = serde_saphyr::from_str(&String::from_utf8(output.stdout)?)?;
    let manifest = objects(&deploy("manifests/environment.yaml"), "any")?.swap_remove(0);
    for workload in [manifest, kustomized] {
        let pod = pod_of(&workload).context("a workload creates Pods")?;
        let agent = containers(&pod).find(|container| container["image"] == "keyferry:0.1.0").context("the agent")?;
        let variables = agent["env"].as_array().context("variables")?.iter();
        let variables: HashMap<String, String> = variables
            .map(|one| (text(&one["name"]), one["value"].as_str().unwrap_or("x").to_owned()))
            .filter(|(name, _)| name != "KEYFERRY_CONFIG_INLINE")
            .collect();
        let document = named_value(&agent["env"], "KEYFERRY_CONFIG_INLINE").context("the configuration")?;
        let settings = keyferry::config::load(&variables, Some(&document))?;
        assert!(settings.mirrors.is_empty(), "no Secret");
        let is_env_file =
            |output: &&Output| matches!(output.kind, OutputKind::Whole { format: FileFormat::EnvFile, .. });
        let files = settings.outputs.iter().filter(is_env_file).filter_map(Output::known_files).flatten();
        let files: Vec<_> = files.map(|file| format!("sensitive/{file}")).collect();
        assert!(settings.directory.path.ends_with("sensitive"));
        let references = pod["spec"]["containers"][0]["env"].as_array().context("variables")?;
        for reference in references.iter().map(|variable| &variable["valueFrom"]["fileKeyRef"]) {
            assert!(files.contains(&text(&reference["path"])), "{reference}: {files:?}");
            let volumes = pod["spec"]["volumes"].as_array().context("volumes")?;
            let volume = volumes.iter().find(|volume| volume["name"] == reference["volumeName"]);
            assert!(volume.context("the volume")?["emptyDir"].is_object());
        }
        assert_eq!(references.len(), 2);
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The value of the variable `name`.
fn named_value(env: &Value, name: &str) -> Option<String> {
    let found = env.as_array()?.iter().find(|variable| variable["name"] == name)?;
    Some(text(&found["value"]))
}
