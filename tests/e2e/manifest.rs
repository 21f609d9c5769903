//! The shipped manifests, and the changes that tests make to them.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::testbed::cluster::output;

/// The agent's image in all manifests.
const AGENT: &str = "keyferry:0.1.0";

/// An object of `deploy/`, with the changes of the test.
#[derive(Clone)]
pub struct Object(pub Value);

/// All objects of a file below `deploy/`.
pub fn read(file: &str) -> Result<Vec<Object>> {
    let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("failed to parse {path}"))?;
    Ok(objects.into_iter().map(Object).collect())
}

/// The output of `kubectl kustomize` for a directory below `deploy/`.
pub fn kustomize(kubectl: &mut Command, directory: &str) -> Result<Vec<Object>> {
    let path = format!("{}/deploy/{directory}", env!("CARGO_MANIFEST_DIR"));
    let text = output(kubectl.args(["kustomize", &path]))?;
    Ok(serde_saphyr::from_multiple::<Value>(&text)?.into_iter().map(Object).collect())
}

/// The object of this kind in a file.
pub fn one(file: &str, kind: &str) -> Result<Object> {
    let found = read(file)?.into_iter().find(|object| object.0["kind"] == kind);
    found.with_context(|| format!("{file} has no {kind}"))
}

impl Object {
    /// Sets the namespace, including the one in the subjects of a binding.
    pub fn namespace(mut self, namespace: &str) -> Self {
        if self.0["kind"] == "Namespace" {
            self.0["metadata"]["name"] = json!(namespace);
        } else {
            self.0["metadata"]["namespace"] = json!(namespace);
        }
        for subject in self.0.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = json!(namespace);
        }
        self
    }

    /// The specification of its pods.
    pub fn pod(&mut self) -> &mut Value {
        &mut self.0["spec"]["template"]["spec"]
    }

    /// The container of that name, init containers included.
    pub fn container(&mut self, name: &str) -> &mut Value {
        let pod = self.pod();
        let kind = ["initContainers", "containers"].into_iter().find(|kind| {
            pod[*kind].as_array().is_some_and(|all| all.iter().any(|container| container["name"] == name))
        });
        let all = pod[kind.unwrap_or_else(|| panic!("no container {name}"))].as_array_mut().expect("just found");
        all.iter_mut().find(|container| container["name"] == name).expect("just found")
    }

    pub fn agent(&mut self) -> &mut Value {
        self.container("keyferry")
    }

    /// Sets an environment variable in each container of the agent; an empty value removes it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let pod = self.pod();
        for kind in ["initContainers", "containers"] {
            for agent in pod.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
                if agent["image"] != AGENT {
                    continue;
                }
                let env = agent["env"].as_array_mut().expect("the agent has variables");
                env.retain(|variable| variable["name"] != name);
                if !value.is_empty() {
                    env.push(json!({"name": name, "value": value}));
                }
            }
        }
        self
    }

    /// Replaces the application by a shell script with the same mounts and permissions.
    pub fn script(mut self, script: &str) -> Self {
        let app = self.container("webapp");
        app["image"] = json!("keyferry-toolbox:0.1.0");
        app["args"] = json!([script]);
        // A shell that starts many programs needs more CPU than the demo application.
        app["resources"] = json!({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
        for left_out in ["readinessProbe", "ports"] {
            app.as_object_mut().expect("a container").remove(left_out);
        }
        self
    }

    /// Applies any other change.
    pub fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A script that waits for SIGTERM and then exits immediately.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";
