//! Determines from metadata alone whether keyferry manages a Secret, and which fields other managers wrote.
//!
//! Threat: an attacker with permission to create Secrets in the namespace, but not to read them, creates the Secret
//! first. The attacker adds the label of keyferry and, for example, an annotation that makes a replicator copy the
//! Secret to another namespace. A blind apply would merge the secret values into that object. Therefore a Secret counts
//! as managed only if `managedFields` records that the field manager `keyferry` *applied* the label or the digest
//! annotation. Anyone can write a label, but the API server maintains `managedFields`.
//!
//! Limit: the name of a field manager is free text, so anyone with permission to *patch* the Secret can write as
//! `keyferry`. That permission also gives access to every value. A Role with `resourceNames` restricts it to one
//! Secret.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::{DIGEST, FIELD_MANAGER, MANAGED_BY};

/// Checks that keyferry manages the object. The error is the cause for a message.
///
/// The digest annotation counts like the label, so that a Secret whose label another writer changed or removed is an
/// edited Secret of keyferry and not the Secret of someone else.
pub(super) fn check_managed(meta: &ObjectMeta) -> Result<(), String> {
    if managed_annotation(meta, DIGEST).is_some() {
        return Ok(());
    }
    if meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_none_or(|value| value != FIELD_MANAGER) {
        return Err(format!("it has no label {MANAGED_BY}: {FIELD_MANAGER}"));
    }
    if !managed_keys(meta, LABELS).contains(MANAGED_BY) {
        return Err(format!("its label {MANAGED_BY} was not applied by field manager {FIELD_MANAGER}"));
    }
    Ok(())
}

/// Path of a part of an object in `fieldsV1`.
pub(super) type FieldPath = &'static [&'static str];
pub(super) const DATA: FieldPath = &["f:data"];
/// `managedFields` can contain the write-only field that a client sent instead of `data`.
const STRING_DATA: FieldPath = &["f:stringData"];
pub(super) const LABELS: FieldPath = &["f:metadata", "f:labels"];
pub(super) const ANNOTATIONS: FieldPath = &["f:metadata", "f:annotations"];

/// Names below `path` that keyferry owns through an apply.
pub(super) fn managed_keys(meta: &ObjectMeta, path: FieldPath) -> BTreeSet<&str> {
    entries(meta).filter(|entry| is_managed(entry)).flat_map(|entry| keys(entry, path)).collect()
}

/// Value of the annotation `key` if keyferry owns it, so that values from other writers are ignored.
pub(super) fn managed_annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let value = meta.annotations.as_ref()?.get(key)?;
    managed_keys(meta, ANNOTATIONS).contains(key).then_some(value.as_str())
}

/// Names below `path` that other field managers own and keyferry does not, each with its manager. A key with both
/// owners has the value of keyferry: a change by one manager removes the ownership of the others.
pub(super) fn unmanaged_keys(meta: &ObjectMeta, path: FieldPath) -> BTreeSet<(&str, &str)> {
    let owned = managed_keys(meta, path);
    let others = entries(meta).filter(|entry| !is_managed(entry));
    let named = others.flat_map(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        keys(entry, path).map(move |key| (key, manager))
    });
    named.filter(|(key, _)| !owned.contains(key)).collect()
}

/// Data keys that other field managers own and keyferry does not, each with its manager.
pub(super) fn unmanaged_data(meta: &ObjectMeta) -> BTreeSet<(&str, &str)> {
    let owned = managed_keys(meta, DATA);
    let both = unmanaged_keys(meta, DATA).into_iter().chain(unmanaged_keys(meta, STRING_DATA));
    both.filter(|(key, _)| !owned.contains(key)).collect()
}

/// UIDs of the owner references that keyferry owns. Their entries have the form `k:{"uid":"..."}`.
pub(super) fn managed_owners(meta: &ObjectMeta) -> BTreeSet<String> {
    let references = |entry: &ManagedFieldsEntry| {
        let all = at(entry, &["f:metadata", "f:ownerReferences"])?.as_object()?;
        let uid = |key: &String| {
            let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            Some(key.get("uid")?.as_str()?.to_owned())
        };
        Some(all.keys().filter_map(uid).collect::<Vec<_>>())
    };
    entries(meta).filter(|entry| is_managed(entry)).filter_map(references).flatten().collect()
}

fn entries(meta: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    meta.managed_fields.iter().flatten()
}

/// Whether keyferry applied the entry. An *update* under its name does not count: keyferry writes by apply, and its
/// merge patches only remove keys.
fn is_managed(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn at<'a>(entry: &'a ManagedFieldsEntry, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(&entry.fields_v1.as_ref()?.0, |value, name| value.get(name))
}

/// Names of the entries `f:<name>` below `path`. The entry `.` means the map itself and is skipped.
fn keys(entry: &ManagedFieldsEntry, path: FieldPath) -> impl Iterator<Item = &str> {
    let fields = at(entry, path).and_then(Value::as_object);
    fields.into_iter().flat_map(serde_json::Map::keys).filter_map(|field| field.strip_prefix("f:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn full() -> Value {
        json!({
            "f:data": {"f:username": {}, "f:password": {}},
            "f:metadata": {
                "f:annotations": {"f:keyferry.dev/digest": {}},
                "f:labels": {"f:app.kubernetes.io/managed-by": {}, "f:team": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u-9\"}": {}},
            },
            "f:type": {},
        })
    }

    fn meta(labels: &Value, entries: &[Value]) -> ObjectMeta {
        serde_json::from_value(json!({"name": "x", "labels": labels, "managedFields": entries})).expect("metadata")
    }

    #[test]
    fn secret_is_managed_only_if_keyferry_applied_its_label() {
        let managed = json!({"app.kubernetes.io/managed-by": "keyferry"});
        let label_only = json!({"f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}}});
        let data_only = json!({"f:data": {"f:a": {}}});
        let mut status = entry("keyferry", "Apply", &full());
        status["subresource"] = json!("status");
        let applied = || entry("keyferry", "Apply", &full());
        let table = [
            ("managed", meta(&managed, &[applied()]), None),
            ("labeled by a tracker", meta(&managed, &[applied(), entry("argocd", "Update", &label_only)]), None),
            (
                "key changed by another manager",
                meta(&managed, &[applied(), entry("kubectl-patch", "Update", &data_only)]),
                None,
            ),
            ("empty, created by kubectl", meta(&json!({}), &[]), Some("no label")),
            (
                "managed by Helm",
                meta(&json!({"app.kubernetes.io/managed-by": "Helm"}), &[entry("helm", "Update", &full())]),
                Some("no label"),
            ),
            ("faked label, no record", meta(&managed, &[]), Some("not applied by")),
            ("faked label, other manager", meta(&managed, &[entry("eve", "Update", &full())]), Some("not applied")),
            ("keyferry, by update", meta(&managed, &[entry("keyferry", "Update", &full())]), Some("not applied by")),
            ("keyferry, on the status only", meta(&managed, &[status]), Some("not applied by")),
            (
                "keyferry applied data but not the label",
                meta(&managed, &[entry("keyferry", "Apply", &data_only), entry("eve", "Apply", &label_only)]),
                Some("not applied by"),
            ),
        ];
        let digest = |mut meta: ObjectMeta| {
            meta.annotations = Some([("keyferry.dev/digest".to_owned(), "d".to_owned())].into());
            meta
        };
        let helm = json!({"app.kubernetes.io/managed-by": "Helm"});
        let without_label = json!({"f:metadata": {"f:annotations": {"f:keyferry.dev/digest": {}}}});
        let edited = [
            ("label removed", digest(meta(&json!({}), &[applied()])), None),
            ("label changed", digest(meta(&helm, &[entry("keyferry", "Apply", &without_label)])), None),
            ("faked digest", digest(meta(&managed, &[entry("eve", "Update", &without_label)])), Some("not applied by")),
        ];
        for (case, meta, expected) in table.into_iter().chain(edited) {
            match (check_managed(&meta), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) => assert!(why.contains(part), "{case}: {why}"),
                (result, _) => panic!("{case}: {result:?}"),
            }
        }
    }

    #[test]
    fn unmanaged_data_keys_are_listed_with_their_manager() {
        let others = |manager: &str, operation: &str, fields: Value| {
            let entries = [entry("keyferry", "Apply", &full()), entry(manager, operation, &fields)];
            let meta = meta(&json!({}), &entries);
            unmanaged_data(&meta).into_iter().map(|(key, by)| format!("{key} by {by}")).collect::<Vec<_>>()
        };
        let both = json!({"f:data": {".": {}, "f:extra": {}, "f:password": {}}});
        assert_eq!(others("kubectl-patch", "Update", both), ["extra by kubectl-patch"], "keyferry owns password too");
        assert_eq!(others("eve", "Update", json!({"f:stringData": {"f:s": {}}})), ["s by eve"]);
        assert_eq!(others("keyferry", "Update", json!({"f:data": {"f:x": {}}})), ["x by keyferry"], "not an apply");
        // An entry whose only key was removed.
        assert!(others("before-first-apply", "Update", json!({"f:data": {}})).is_empty());
    }

    #[test]
    fn managed_keys_annotations_and_owners_are_listed() {
        let mut meta = meta(
            &json!({}),
            &[entry("keyferry", "Apply", &full()), entry("eve", "Apply", &json!({"f:data": {"f:e": {}}}))],
        );
        assert_eq!(managed_keys(&meta, DATA), BTreeSet::from(["password", "username"]));
        assert_eq!(managed_keys(&meta, LABELS), BTreeSet::from([MANAGED_BY, "team"]));
        assert_eq!(managed_owners(&meta), BTreeSet::from(["u-9".to_owned()]));
        meta.annotations = Some([("keyferry.dev/digest", "d"), ("eve", "e")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!(managed_annotation(&meta, "keyferry.dev/digest"), Some("d"));
        assert_eq!(managed_annotation(&meta, "eve"), None);
    }
}
