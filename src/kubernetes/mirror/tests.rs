//! Requests and decisions, without a server.

mod decisions;
mod drift;
mod owners;
mod rejections;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::MirroredVersion;
use super::super::client;
use super::*;
use crate::model::{FilePath, MirrorKey, MirrorOwner, OnDrift, SecretBytes, SecretType, SourceName, Version};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).expect(text)
}

/// The mirror that wrote [`current`].
fn mirror() -> Mirror {
    let key = |text: &str| MirrorKey { key: text.into(), file: FilePath::new(text).expect(text), optional: None };
    Mirror {
        secret_type: SecretType::BasicAuth,
        keys: vec![key("password"), key("username")],
        labels: [("team".to_owned(), "web".to_owned())].into(),
        annotations: [("note".to_owned(), "n".to_owned())].into(),
        owner: Some(object_owner("u-9")),
        allow_leased: false,
        on_drift: OnDrift::Repair,
        adopt: false,
    }
}

fn object_owner(uid: &str) -> MirrorOwner {
    MirrorOwner::Object {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: name("webapp"),
        uid: uid.into(),
    }
}

fn content(version: u64) -> MirrorContent {
    let value = |text: &str| Arc::new(SecretBytes::from(text));
    let version = MirroredVersion {
        request: "detect:s/config".into(),
        version: Version { number: Some(version), ..Version::default() },
    };
    MirrorContent {
        data: [("password".to_owned(), value("Losungwort")), ("username".to_owned(), value("Nutzername"))].into(),
        versions: [(SourceName::new("config").expect("a name"), version)].into(),
        digest: "d".into(),
        accept_older: false,
        claim: false,
    }
}

fn body(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).expect("JSON")
}

/// Metadata of the Secret that the API server returns after keyferry has applied version 3.
fn current() -> Value {
    current_after(&mirror(), &content(3))
}

fn current_after(mirror: &Mirror, content: &MirrorContent) -> Value {
    let desired = DesiredSecret::new(mirror, content, Some(&name("webapp-abc")));
    let fields = |names: Vec<&String>| -> Value {
        names.into_iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({
        "name": "x", "uid": "u-1", "resourceVersion": "7",
        "labels": desired.labels,
        "annotations": desired.annotations,
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "webapp", "uid": "u-9"}],
        "managedFields": [{"manager": "keyferry", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:data": fields(content.data.keys().collect()),
            "f:metadata": {
                "f:annotations": fields(desired.annotations.keys().collect()),
                "f:labels": fields(desired.labels.keys().collect()),
                "f:ownerReferences": {"k:{\"uid\":\"u-9\"}": {}},
            },
            "f:type": {},
        }}],
    })
}

/// Changes `current` as if another manager had written `fields`.
fn edited(current: &mut Value, manager: &str, fields: &Value) {
    let own = &mut current["managedFields"][0]["fieldsV1"];
    for path in ["f:data", "f:metadata/f:labels", "f:metadata/f:annotations"] {
        let at = |value: &Value| path.split('/').try_fold(value.clone(), |value, step| value.get(step).cloned());
        let Some(taken) = at(fields) else { continue };
        let map = path.split('/').fold(&mut *own, |value, step| &mut value[step]).as_object_mut().expect("an object");
        map.retain(|key, _| taken.get(key).is_none());
    }
    let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
    current["managedFields"].as_array_mut().expect("a list").push(entry);
}

fn decision(change: impl FnOnce(&mut Value), mirror: &Mirror, content: &MirrorContent) -> Result<Decision, Failure> {
    let mut current = current();
    change(&mut current);
    let current: ObjectMeta = serde_json::from_value(current).expect("metadata");
    let (namespace, secret) = (name("ns"), name("x"));
    let target = Target { namespace: &namespace, name: &secret };
    let mut desired = DesiredSecret::new(mirror, content, Some(&name("webapp-xyz")));
    let memory = Mutex::default();
    let owner = owner::desired(mirror, &target, None, &memory);
    desired.owners = owner::for_current(&current, owner.as_ref(), &target, &memory);
    decide(&target, &current, mirror, content, &desired)
}

fn write(outcome: MirrorOutcome) -> Decision {
    let remove_unmanaged = matches!(outcome, MirrorOutcome::Repaired(_));
    Decision::Write(Plan { outcome, force: true, remove_unmanaged })
}

fn leave(outcome: MirrorOutcome) -> Decision {
    Decision::Leave(outcome)
}

#[test]
fn dry_run_stores_nothing_and_claims_no_fields() {
    let request = Target { namespace: &name("ns"), name: &name("x") }.dry_run();
    assert_eq!(request.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry-look&dryRun=All");
    assert_eq!(request.headers()["accept"], client::METADATA_ONLY);
    assert_eq!(body(&request), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}));
}

#[test]
fn write_contains_desired_state_and_guards() {
    let (namespace, secret) = (name("ns"), name("x"));
    let target = Target { namespace: &namespace, name: &secret };
    let meta: ObjectMeta = serde_json::from_value(current()).expect("metadata");
    let (mirror, content) = (mirror(), content(3));
    let mut desired = DesiredSecret::new(&mirror, &content, Some(&name("webapp-abc")));
    desired.owners = owner::desired(&mirror, &target, None, &Mutex::default()).into_iter().collect();
    let request = target.apply(&Guard::of(&meta), &desired, true);
    assert_eq!(request.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry&force=true");
    assert_eq!(request.headers()["accept"], client::METADATA_ONLY);
    let mut expected = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {
            "name": "x", "uid": "u-1", "resourceVersion": "7",
            "labels": {"team": "web", "app.kubernetes.io/managed-by": "keyferry"},
            "annotations": {
                "note": "n", "keyferry.dev/digest": "d", "keyferry.dev/written-by": "webapp-abc",
                "keyferry.dev/source-versions": r#"{"config":{"v":3,"r":"detect:s/config"}}"#,
                "keyferry.dev/configuration": configuration::fingerprint(&mirror, &content),
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "webapp", "uid": "u-9"}],
        },
        "data": {"password": "TG9zdW5nd29ydA==", "username": "TnV0emVybmFtZQ=="},
    });
    assert_eq!(body(&request), expected);

    let created = target.apply(&Guard::create_only(), &desired, false);
    assert_eq!(created.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry&force=false");
    expected["metadata"]["resourceVersion"] = json!("1");
    expected["metadata"].as_object_mut().expect("an object").remove("uid");
    assert_eq!(body(&created), expected);
}

#[test]
fn unmanaged_keys_are_removed_with_guards_and_without_values() {
    let meta: ObjectMeta = serde_json::from_value(current()).expect("metadata");
    let request = Target { namespace: &name("ns"), name: &name("x") }.remove(&meta, &["extra"]);
    assert_eq!(request.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry");
    assert_eq!(request.headers()["content-type"], "application/merge-patch+json");
    let expected = json!({"metadata": {"uid": "u-1", "resourceVersion": "7"}, "data": {"extra": null}});
    assert_eq!(body(&request), expected);
}
