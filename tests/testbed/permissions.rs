//! The shipped RBAC manifest, for the namespace of a test: tests use the file that users apply.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The shipped manifest.
const SHIPPED: &str = include_str!("../../deploy/manifests/rbac.yaml");

/// The namespace in the shipped manifest.
const NAMESPACE: &str = "playground";

/// The shipped manifest for another namespace.
pub struct Permissions {
    /// The `ServiceAccount` to which the manifest binds the Role.
    pub account: String,
    /// The whole manifest; only namespaces differ.
    pub yaml: String,
}

/// The shipped manifest with `namespace` instead of its own.
///
/// # Errors
/// If an object is not in the expected namespace, or if the Role is not bound to exactly one `ServiceAccount`.
pub fn shipped_for(namespace: &str) -> Result<Permissions> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(SHIPPED).context("deploy/manifests/rbac.yaml")?;
    let mut accounts = BTreeSet::new();
    for object in &mut objects {
        let kind = object["kind"].as_str().context("an object without a kind")?.to_owned();
        replace(&mut object["metadata"]["namespace"], namespace).with_context(|| kind.clone())?;
        let binds_role = kind == "RoleBinding" && object["roleRef"]["name"] == "keyferry";
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            replace(&mut subject["namespace"], namespace).with_context(|| format!("a subject of {kind}"))?;
            if binds_role {
                accounts.insert(subject["name"].as_str().context("a subject without a name")?.to_owned());
            }
        }
    }
    ensure!(accounts.len() == 1, "deploy/manifests/rbac.yaml gives the Role keyferry to {accounts:?}");
    // JSON is YAML.
    let yaml = objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
    let left = yaml.contains(&json!(NAMESPACE).to_string());
    ensure!(!left || namespace == NAMESPACE, "{NAMESPACE} is left in {yaml}");
    Ok(Permissions { account: accounts.pop_first().context("there is one")?, yaml })
}

fn replace(field: &mut Value, namespace: &str) -> Result<()> {
    ensure!(*field == NAMESPACE, "the namespace in deploy/manifests/rbac.yaml is {field}, not {NAMESPACE}");
    *field = json!(namespace);
    Ok(())
}
