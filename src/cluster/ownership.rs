//! Whether a Secret is ours to write, judged from its metadata alone.
//!
//! The attack: someone who may create Secrets in the namespace but not read them makes one with our name before us, with
//! our label, and with annotations or an extra owner that suit him: an annotation by which a replicator copies it to his
//! namespace, say. A blind apply would merge our values silently into his object, and equal values would even
//! make us its co-owner. So a Secret is ours only if the server's own record of who wrote what says that our manager
//! *applied* the mark, and that nobody else has a hand in the data. Labels are what anyone can write; `managedFields` is
//! kept by the server.
//!
//! What this cannot stop: a field manager's name is free text, so who may *patch* the Secret can write as `keyferry`. He
//! could read every value anyway, since `patch` is a read right; the wall there is a Role that names one Secret.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::{FIELD_MANAGER, MANAGED_BY};

/// `Ok` if the object is ours, else why not, for a person.
pub(super) fn check(meta: &ObjectMeta) -> Result<(), String> {
    if meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_none_or(|value| value != FIELD_MANAGER) {
        return Err(format!("it has no label {MANAGED_BY}: {FIELD_MANAGER}"));
    }
    if !keys_of_ours(meta, &["f:metadata", "f:labels"]).contains(MANAGED_BY) {
        return Err(format!("its label {MANAGED_BY} was not applied by field manager {FIELD_MANAGER}"));
    }
    let other = entries(meta).find(|entry| !is_ours(entry) && owns_data(entry));
    other.map_or(Ok(()), |entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        Err(format!("field manager {manager:?} wrote to its data"))
    })
}

/// The names below `path` (such as `["f:metadata", "f:labels"]`) that our own applies own.
pub(super) fn keys_of_ours<'a>(meta: &'a ObjectMeta, path: &[&str]) -> BTreeSet<&'a str> {
    let below = |entry: &'a ManagedFieldsEntry| {
        let top = &entry.fields_v1.as_ref()?.0;
        path.iter().try_fold(top, |value, name| value.get(name))?.as_object()
    };
    let fields = entries(meta).filter(|entry| is_ours(entry)).filter_map(below).flat_map(serde_json::Map::keys);
    fields.filter_map(|field| field.strip_prefix("f:")).collect()
}

/// How many owner references our own applies own; each is an entry `k:{"uid":"..."}`.
pub(super) fn owners_of_ours(meta: &ObjectMeta) -> usize {
    let owners = |entry: &ManagedFieldsEntry| {
        let all = entry.fields_v1.as_ref()?.0.get("f:metadata")?.get("f:ownerReferences")?.as_object()?;
        Some(all.keys().filter(|key| key.starts_with("k:")).count())
    };
    entries(meta).filter(|entry| is_ours(entry)).filter_map(owners).sum()
}

fn entries(meta: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    meta.managed_fields.iter().flatten()
}

/// An *update* under our name is not ours: we only ever apply.
fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn owns_data(entry: &ManagedFieldsEntry) -> bool {
    let has = |fields: &Value| fields.get("f:data").is_some() || fields.get("f:stringData").is_some();
    entry.fields_v1.as_ref().is_some_and(|fields| has(&fields.0))
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
            },
            "f:type": {},
        })
    }

    fn meta(labels: &Value, entries: &[Value]) -> ObjectMeta {
        serde_json::from_value(json!({"name": "x", "labels": labels, "managedFields": entries})).expect("metadata")
    }

    #[test]
    fn only_what_we_applied_is_ours() {
        let ours = json!({"app.kubernetes.io/managed-by": "keyferry"});
        let label_only = json!({"f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}}});
        let data_only = json!({"f:data": {"f:a": {}}});
        let string_data = json!({"f:stringData": {"f:a": {}}});
        let table = [
            ("ours", meta(&ours, &[entry("keyferry", "Apply", &full())]), None),
            (
                "labelled by a tracker",
                meta(&ours, &[entry("keyferry", "Apply", &full()), entry("argocd", "Update", &label_only)]),
                None,
            ),
            ("empty, made by kubectl", meta(&json!({}), &[]), Some("no label")),
            (
                "of another tool",
                meta(&json!({"app.kubernetes.io/managed-by": "Helm"}), &[entry("helm", "Update", &full())]),
                Some("no label"),
            ),
            ("faked label, no record", meta(&ours, &[]), Some("not applied by")),
            (
                "faked label, other manager",
                meta(&ours, &[entry("kubectl-create", "Update", &full())]),
                Some("not applied"),
            ),
            ("our name, by update", meta(&ours, &[entry("keyferry", "Update", &full())]), Some("not applied by")),
            (
                "our name on the status only",
                meta(
                    &ours,
                    &[{
                        let mut status = entry("keyferry", "Apply", &full());
                        status["subresource"] = json!("status");
                        status
                    }],
                ),
                Some("not applied by"),
            ),
            (
                "we are in it, but not its label",
                meta(&ours, &[entry("keyferry", "Apply", &data_only), entry("eve", "Apply", &label_only)]),
                Some("not applied by"),
            ),
            (
                "somebody changed a key",
                meta(&ours, &[entry("keyferry", "Apply", &full()), entry("kubectl-patch", "Update", &data_only)]),
                Some("\"kubectl-patch\" wrote"),
            ),
            (
                "somebody co-owns a key",
                meta(&ours, &[entry("keyferry", "Apply", &full()), entry("eve", "Apply", &data_only)]),
                Some("\"eve\" wrote"),
            ),
            (
                "an update under our name",
                meta(&ours, &[entry("keyferry", "Apply", &full()), entry("keyferry", "Update", &data_only)]),
                Some("\"keyferry\" wrote"),
            ),
            (
                "string data",
                meta(&ours, &[entry("keyferry", "Apply", &full()), entry("eve", "Update", &string_data)]),
                Some("\"eve\" wrote"),
            ),
        ];
        for (case, meta, expected) in table {
            match (check(&meta), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) => assert!(why.contains(part), "{case}: {why}"),
                (verdict, _) => panic!("{case}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn the_keys_of_ours_are_named() {
        let meta = meta(
            &json!({}),
            &[entry("keyferry", "Apply", &full()), entry("eve", "Apply", &json!({"f:data": {"f:e": {}}}))],
        );
        assert_eq!(keys_of_ours(&meta, &["f:data"]), BTreeSet::from(["password", "username"]));
        assert_eq!(keys_of_ours(&meta, &["f:metadata", "f:labels"]), BTreeSet::from([MANAGED_BY, "team"]));
        assert!(keys_of_ours(&meta, &["f:none"]).is_empty());
    }
}
