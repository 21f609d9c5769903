//! The shipped manifests, and the few things that a test changes in them.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::testbed::cluster::output;

/// The agent's image, as all manifests name it.
const AGENT: &str = "keyferry:0.1.0";

/// An object of `deploy/`, as it is shipped but for what the test changed.
#[derive(Clone)]
pub struct Object(pub Value);

/// All objects of a file below `deploy/`.
pub fn read(file: &str) -> Result<Vec<Object>> {
    let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("failed to parse {path}"))?;
    Ok(objects.into_iter().map(Object).collect())
}

/// What `kubectl kustomize` makes of a directory below `deploy/`.
pub fn kustomize(kubectl: &mut Command, directory: &str) -> Result<Vec<Object>> {
    let path = format!("{}/deploy/{directory}", env!("CARGO_MANIFEST_DIR"));
    let text = output(kubectl.args(["kustomize", &path]))?;
    Ok(serde_saphyr::from_multiple::<Value>(&text)?.into_iter().map(Object).collect())
}

/// The one object of this kind in a file.
pub fn one(file: &str, kind: &str) -> Result<Object> {
    let found = read(file)?.into_iter().find(|object| object.0["kind"] == kind);
    found.with_context(|| format!("{file} has no {kind}"))
}

impl Object {
    /// Gives it another namespace, also where a binding names one.
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

    /// The container of that name, of whatever kind.
    pub fn container(&mut self, name: &str) -> &mut Value {
        let pod = self.pod();
        let kind = ["initContainers", "containers"].into_iter().find(|kind| {
            pod[*kind].as_array().is_some_and(|all| all.iter().any(|container| container["name"] == name))
        });
        let all = pod[kind.unwrap_or_else(|| panic!("no container {name}"))].as_array_mut().expect("just looked at");
        all.iter_mut().find(|container| container["name"] == name).expect("just looked at")
    }

    pub fn agent(&mut self) -> &mut Value {
        self.container("keyferry")
    }

    /// Sets a variable of the agent, in each container that it has; an empty value takes it away.
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

    /// The application replaced by a shell script, with the same mounts and the same rights.
    pub fn script(mut self, script: &str) -> Self {
        let app = self.container("webapp");
        app["image"] = json!("keyferry-toolbox:0.1.0");
        app["args"] = json!([script]);
        // A shell that starts programs all the time starves on the share of the demo application.
        app["resources"] = json!({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}});
        for left_out in ["readinessProbe", "ports"] {
            app.as_object_mut().expect("a container").remove(left_out);
        }
        self
    }

    /// Changes whatever has no word of its own here.
    pub fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A script that does nothing until it is told to end, then at once.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";
