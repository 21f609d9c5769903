//! The mirrored Secret and the requests for it.

use std::fmt;

use bytes::Bytes;
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::super::FIELD_MANAGER;
use super::super::classify::RequestContext;
use super::super::client;
use super::body::{DesiredSecret, Guard, SecretBody};
use crate::model::{Failure, FailureClass, ObjectName, Reason};

/// Field manager of the dry run. It never owns a field.
///
/// An empty dry-run apply as [`FIELD_MANAGER`] would show the Secret without keyferry's labels, annotations, and entry
/// in `managedFields`.
const DRY_RUN_MANAGER: &str = "keyferry-look";

/// Maximum number of names in a message, so that conditions stay short.
const MAX_NAMES: usize = 10;

/// Name and namespace of the mirrored Secret.
pub(super) struct Target<'a> {
    pub(super) namespace: &'a ObjectName,
    pub(super) name: &'a ObjectName,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

impl Target<'_> {
    /// Describes every request as a write, including the dry run, which needs the same permissions.
    pub(super) fn context(&self) -> RequestContext {
        let rule = format!(
            r#"{{apiGroups: [""], resources: [secrets], resourceNames: [{}], verbs: [create, patch]}}"#,
            self.name
        );
        RequestContext { what: format!("write {self}"), rule }
    }

    /// A failure that is not an error response of the API server.
    pub(super) fn failure(&self, class: FailureClass, reason: Reason, cause: &str) -> Failure {
        Failure::new(class, reason, format!("failed to mirror to {self}: {cause}"))
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.name)
    }

    /// An empty dry-run apply, which reads the metadata. It requires only permission to `patch`, and the metadata-only
    /// response contains no value.
    pub(super) fn dry_run(&self) -> Request<Bytes> {
        let path = format!("{}?fieldManager={DRY_RUN_MANAGER}&dryRun=All", self.path());
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name.as_str()}});
        client::request(Method::PATCH, path, client::APPLY, client::to_body(&body))
    }

    /// Applies `desired`. Without `force`, a field that another manager changed is a conflict.
    pub(super) fn apply(&self, guard: &Guard, desired: &DesiredSecret<'_>, force: bool) -> Request<Bytes> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}&force={force}", self.path());
        let body = SecretBody::new(self.name, guard, desired);
        client::request(Method::PATCH, path, client::APPLY, client::to_body(&body))
    }

    /// Removes unmanaged `keys` from the data, which an apply cannot do. A merge patch adds no ownership.
    pub(super) fn remove(&self, current: &ObjectMeta, keys: &[&str]) -> Request<Bytes> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", self.path());
        let data: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let body = json!({"metadata": Guard::of(current), "data": data});
        client::request(Method::PATCH, path, client::MERGE, client::to_body(&body))
    }
}

/// Formats names as `a, b` for a message, and the number of names beyond [`MAX_NAMES`].
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let first = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
