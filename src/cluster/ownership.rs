//! Whether a Secret is ours.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::FIELD_MANAGER;
use super::annotations::MANAGED_BY;

/// Why a Secret is not ours to write.
///
/// Apply merges silently: into a Secret that somebody else made it would add our keys, and where a value is equal it would
/// make us its co-owner. Somebody who may write the Secret could also put our label on it, to have secrets delivered into an
/// object that they can read. So three things must hold: our label, an apply of ours, and nobody else's hand on the data.
pub(super) fn foreign(metadata: &ObjectMeta) -> Option<String> {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY.0));
    if label.map(String::as_str) != Some(MANAGED_BY.1) {
        return Some(format!("it does not have the label {}={}", MANAGED_BY.0, MANAGED_BY.1));
    }
    let managers = metadata.managed_fields.as_deref().unwrap_or_default();
    let holds_data = |fields: &serde_json::Value| ["f:data", "f:type"].iter().any(|field| fields.get(*field).is_some());
    let ours = managers.iter().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.fields_v1.as_ref().is_some_and(|fields| holds_data(&fields.0))
    });
    if !ours {
        return Some("its data was not applied by keyferry".into());
    }
    let other = managers.iter().find(|entry| {
        entry.manager.as_deref() != Some(FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some())
    });
    other.map(|entry| format!("\"{}\" wrote to its data too", entry.manager.as_deref().unwrap_or("somebody")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(label: bool, managers: &[(&str, &str, Value)]) -> ObjectMeta {
        let managers: Vec<_> = managers
            .iter()
            .map(|(manager, operation, fields)| json!({"manager": manager, "operation": operation, "fieldsV1": fields}))
            .collect();
        let labels = if label { json!({MANAGED_BY.0: MANAGED_BY.1}) } else { json!({}) };
        serde_json::from_value(json!({"labels": labels, "managedFields": managers})).expect("metadata")
    }

    #[test]
    fn only_what_we_applied_alone_is_ours() {
        let data = || json!({"f:data": {"f:a": {}}});
        let label = || json!({"f:metadata": {}});
        assert_eq!(foreign(&secret(true, &[("keyferry", "Apply", data())])), None);
        assert_eq!(
            foreign(&secret(true, &[("keyferry", "Apply", data()), ("kubectl-label", "Update", label())])),
            None
        );
        for theirs in [
            secret(false, &[("keyferry", "Apply", data())]),
            secret(true, &[("kubectl-create", "Update", data())]),
            secret(true, &[("keyferry", "Update", data())]),
            secret(true, &[("keyferry", "Apply", label())]),
            secret(true, &[("keyferry", "Apply", data()), ("kubectl-patch", "Update", data())]),
            secret(true, &[]),
        ] {
            assert!(foreign(&theirs).is_some());
        }
    }
}
