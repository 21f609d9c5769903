//! The rendered chart, without a cluster.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::helm::{Helm, NEWEST, OLD, Of, chart, one, scenarios, text_of};
use super::testbed::binaries;

/// The objects of a manifest of `deploy/`.
fn manifest(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(chart().join("../manifests").join(file)).expect("a manifest");
    serde_saphyr::from_multiple(&text).expect("YAML")
}

#[test]
fn chart_unit_tests_pass() {
    let Some(helm) = Helm::shared("chart_unit_tests_pass") else { return };
    let unittest = binaries::find_or_build("helm-unittest").expect("helm-unittest");
    for of in [Of::Keyferry, Of::Webapp] {
        let path = helm.path(of);
        let output = Command::new(&unittest).arg("--strict").arg(&path).output().expect("helm-unittest runs");
        let text = text_of(&output);
        assert!(output.status.success(), "{text}");
        // A run that finds no tests passes too.
        let entries = std::fs::read_dir(Path::new(&path).join("tests")).expect("tests/ is readable");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let suites = names.filter(|name| name.to_string_lossy().ends_with("_test.yaml")).count();
        let passed = format!("Test Suites: {suites} passed, {suites} total");
        assert!(suites > 0 && text.contains(&passed), "{suites} suites, but:\n{text}");
    }
}

#[test]
fn scenarios_pass_helm_lint() {
    let Some(helm) = Helm::shared("scenarios_pass_helm_lint") else { return };
    for of in [Of::Keyferry, Of::Webapp] {
        for scenario in scenarios() {
            let (path, values) = (helm.path(of), helm.values(of, &scenario).expect("values"));
            let arguments = ["lint", "--strict", "--quiet", "--kube-version", NEWEST, "--values", &values, &path];
            let output = helm.run(&arguments).expect("helm runs");
            assert!(output.status.success(), "{of:?}, {scenario}: {}", text_of(&output));
        }
    }
}

#[test]
fn agent_accepts_rendered_configuration() {
    let Some(helm) = Helm::shared("agent_accepts_rendered_configuration") else { return };
    for scenario in scenarios().iter().filter(|scenario| *scenario != "off") {
        for of in [Of::Keyferry, Of::Webapp] {
            let objects = helm.scenario(of, scenario, "playground").expect("rendered");
            let text = one(&objects, "ConfigMap")["data"]["config.yaml"].as_str().expect("a configuration");
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            let output = Command::new(env!("CARGO_BIN_EXE_keyferry"))
                .args(["check", "--config"])
                .arg(file.path())
                .env_clear()
                .env("KEYFERRY_CHECKPOINT", "/run/keyferry/checkpoint")
                .env("POD_NAME", "webapp-0")
                .env("POD_UID", "a2a51b3c-8a2b-4e0c-9a57-6c1fbc3a4f0f")
                .env("POD_NAMESPACE", "playground")
                .env("POD_IP", "10.0.0.7")
                .output()
                .expect("the agent runs");
            assert!(output.status.success(), "{scenario}: {}\n{text}", text_of(&output));
        }
    }
}

#[test]
fn agent_accepts_rendered_commands() {
    let Some(helm) = Helm::shared("agent_accepts_rendered_commands") else { return };
    let mut commands = 0;
    for scenario in scenarios().iter().filter(|scenario| *scenario != "off") {
        let objects = helm.scenario(Of::Webapp, scenario, "playground").expect("rendered");
        let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
        let lists = [&pod["initContainers"], &pod["containers"]];
        let containers = lists.into_iter().flat_map(|list| list.as_array().expect("a list"));
        for agent in
            containers.filter(|container| container["name"].as_str().is_some_and(|n| n.starts_with("keyferry")))
        {
            let probes = ["startupProbe", "livenessProbe"].map(|probe| &agent[probe]["exec"]["command"]);
            for command in probes.into_iter().chain([&agent["args"]]).filter_map(Value::as_array) {
                let words =
                    command.iter().map(|word| word.as_str().expect("a word")).filter(|word| *word != "/keyferry");
                // With `--help`, unknown arguments before it are still errors.
                let output = Command::new(env!("CARGO_BIN_EXE_keyferry")).args(words).arg("--help").output();
                let output = output.expect("the agent runs");
                assert!(output.status.success(), "{scenario}: {command:?}: {}", text_of(&output));
                commands += 1;
            }
        }
    }
    assert!(commands > 5, "{commands}");
}

#[test]
fn disabled_chart_leaves_application_unchanged() {
    let Some(helm) = Helm::shared("disabled_chart_leaves_application_unchanged") else { return };
    assert_eq!(helm.scenario(Of::Keyferry, "off", "playground").expect("rendered"), Vec::<Value>::new());
    let objects = helm.scenario(Of::Webapp, "off", "playground").expect("rendered");
    assert_eq!(objects.len(), 1, "{objects:#?}");
    let pod = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    for key in ["initContainers", "volumes", "readinessGates"] {
        assert_eq!(pod.get(key), None, "{key}");
    }
    assert_eq!(pod["containers"].as_array().expect("containers").len(), 1);
    assert_eq!(pod["containers"][0].get("volumeMounts"), None);
    assert_eq!(pod["serviceAccountName"], "default");
    assert!(!pod.to_string().contains("keyferry\""), "{pod:#}");
}

#[test]
fn unknown_value_is_rejected() {
    let Some(helm) = Helm::shared("unknown_value_is_rejected") else { return };
    let unknown =
        ["vault.adress=x", "mod=init", "mode=sidcar", "config.sources.a.pth=x", "mirror.names=x", "secrets[0].path=x"];
    for value in unknown {
        let own = helm.values(Of::Keyferry, "reference").expect("values");
        let rejected = helm.render(Of::Keyferry, "playground", NEWEST, &["--values", &own, "--set", value]);
        assert!(format!("{:#}", rejected.expect_err(value)).contains("values don't meet"), "{value}");
        let nested = format!("keyferry.{value}");
        let rejected = helm.render(Of::Webapp, "playground", NEWEST, &["--set", &nested]);
        assert!(format!("{:#}", rejected.expect_err(value)).contains("values don't meet"), "{nested}");
    }
}

#[test]
fn missing_values_are_reported_together() {
    let Some(helm) = Helm::shared("missing_values_are_reported_together") else { return };
    let error = format!("{:#}", helm.render(Of::Keyferry, "playground", OLD, &[]).expect_err("nothing is set"));
    for what in ["vault.address is missing", "auth.role is missing", "secrets is empty", "set mode: classic"] {
        assert!(error.contains(what), "{what} is not reported: {error}");
    }
}

/// RBAC rules and bindings, without names and labels, which can differ.
fn permissions(objects: &[Value]) -> Value {
    json!({
        "rules": one(objects, "Role")["rules"],
        "roleRef": one(objects, "RoleBinding")["roleRef"],
        "subjects": one(objects, "RoleBinding")["subjects"],
        "token": one(objects, "ServiceAccount")["automountServiceAccountToken"],
    })
}

#[test]
fn chart_permissions_match_manifests() {
    let Some(helm) = Helm::shared("chart_permissions_match_manifests") else { return };
    let objects = helm.scenario(Of::Keyferry, "reference", "playground").expect("rendered");
    let viewer = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        name.ends_with("pod-viewer") || name == "non-privileged-sa"
    };
    let own: Vec<Value> = objects.iter().filter(|object| !viewer(object)).cloned().collect();
    assert_eq!(permissions(&own), permissions(&manifest("rbac.yaml")));
    let mut viewers: Vec<Value> = objects.iter().filter(viewer).cloned().collect();
    for object in &mut viewers {
        if object["kind"] == "RoleBinding" {
            object["roleRef"]["name"] = json!("pod-viewer");
        }
    }
    assert_eq!(permissions(&viewers), permissions(&manifest("viewer.yaml")));
}

/// A Deployment without the expected differences: the chart configures the agent with a file, the manifest with variables.
fn comparable(mut deployment: Value) -> Value {
    let without = |list: &mut Value, field: &str, name: &str| {
        list.as_array_mut().expect("a list").retain(|one| one[field] != name);
    };
    deployment["metadata"] = json!(null);
    // The checksum of the configuration.
    let template = deployment["spec"]["template"]["metadata"].as_object_mut().expect("metadata");
    template.remove("annotations");
    let pod = &mut deployment["spec"]["template"]["spec"];
    without(&mut pod["volumes"], "name", "keyferry-config");
    let agent = &mut pod["initContainers"][0];
    without(&mut agent["volumeMounts"], "name", "keyferry-config");
    agent.as_object_mut().expect("a container").remove("env").expect("variables");
    // `IfNotPresent` is the default for a tag other than `latest`.
    agent.as_object_mut().expect("a container").remove("imagePullPolicy");
    deployment
}

#[test]
fn example_deployment_matches_manifest() {
    let Some(helm) = Helm::shared("example_deployment_matches_manifest") else { return };
    let objects = helm.render(Of::Webapp, "playground", NEWEST, &[]).expect("rendered");
    let chart = comparable(one(&objects, "Deployment").clone());
    let manifest = comparable(one(&manifest("demo.yaml"), "Deployment").clone());
    assert!(chart == manifest, "the chart's:\n{chart:#}\nthe manifest's:\n{manifest:#}");
}

#[test]
fn login_change_replaces_pods_but_source_change_does_not() {
    let Some(helm) = Helm::shared("login_change_replaces_pods_but_source_change_does_not") else {
        return;
    };
    let template = |changes: &[&str]| {
        let arguments: Vec<&str> = changes.iter().flat_map(|change| ["--set", *change]).collect();
        let objects = helm.render(Of::Webapp, "playground", NEWEST, &arguments).expect("rendered");
        one(&objects, "Deployment")["spec"]["template"].clone()
    };
    let before = template(&[]);
    for same in [
        "keyferry.secrets={secret/webapp/config,secret/webapp/more}",
        "keyferry.refresh=30s",
        "keyferry.mirror.labels.team=a",
        "keyferry.config.vault.timeout=3s",
    ] {
        assert!(template(&[same]) == before, "{same} must not replace pods");
    }
    for other in [
        "keyferry.auth.role=another",
        "keyferry.auth.mount=another",
        "keyferry.vault.address=https://another.example.com",
        "keyferry.vault.namespace=team-a",
        "keyferry.config.auth.role=another",
    ] {
        assert!(template(&[other]) != before, "{other} must replace pods");
    }
    // In mode init the configuration is read once, so every change must replace pods.
    let once = ["keyferry.mode=init"];
    assert!(template(&[once[0], "keyferry.refresh=30s"]) != template(&once), "mode init");
}
