//! `status`

use super::super::diagnostics::Diagnostics;
use super::super::raw::RawStatus;
use super::is_plain;
use crate::model::{ObjectName, StatusReport};

/// Variables of the container from which the agent learns its Pod.
const DOWNWARD_API: &str = "env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
     {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}, \
     {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]";

pub(super) fn parse(raw: RawStatus, diagnostics: &mut Diagnostics) -> StatusReport {
    for (key, value) in [("podName", &raw.pod_name), ("podNamespace", &raw.pod_namespace)] {
        if let Some((text, error)) = value.as_ref().and_then(|text| Some((text, ObjectName::new(text).err()?))) {
            diagnostics.invalid(&format!("status.{key}"), text.as_str(), error.to_string());
        }
    }
    if let Some(uid) = raw.pod_uid.as_deref().filter(|uid| !is_plain(uid) || uid.contains(' ')) {
        diagnostics.invalid("status.podUid", uid, "must be a UID; set POD_UID from metadata.uid");
    }
    if let Some(files) = raw.kubeconfig.as_deref().filter(|files| files.contains(':')) {
        diagnostics.invalid("status.kubeconfig", files, "must be one file; lists of files are not supported");
    }
    // The name addresses the Pod. The UID protects a later Pod of the same name.
    let known = raw.pod_name.is_some() && raw.pod_uid.is_some();
    for (key, asked) in [("conditions", raw.conditions), ("events", raw.events)] {
        if asked == Some(true) && !known {
            let message = format!("requires the Pod's name and UID; add to the container {DOWNWARD_API}");
            diagnostics.forbidden(&format!("status.{key}"), message);
        }
    }
    StatusReport {
        conditions: raw.conditions.unwrap_or(known),
        events: raw.events.unwrap_or(known),
        pod_name: raw.pod_name,
        pod_uid: raw.pod_uid,
        pod_namespace: raw.pod_namespace,
        kubeconfig: raw.kubeconfig.map(Into::into),
    }
}
