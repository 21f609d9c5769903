//! The desired Secret and the body of the request that applies it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::super::annotations::encode;
use super::super::{CONFIGURATION, DIGEST, FIELD_MANAGER, MANAGED_BY, MirrorContent, SOURCE_VERSIONS, WRITTEN_BY};
use super::configuration;
use crate::model::{Mirror, ObjectName, SecretBytes};

/// A `resourceVersion` that no existing Secret has, so that an apply with it can only create. The server responds with
/// 201 if the Secret does not exist and with 409 if it does (observed on 1.37, also with 8 concurrent requests).
const CREATE_ONLY: &str = "1";

/// Preconditions of a write. With the `uid`, the write fails if the Secret was deleted; the `resourceVersion` alone
/// would let it create the Secret again.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Guard {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

impl Guard {
    pub(super) fn create_only() -> Self {
        Self { uid: None, resource_version: Some(CREATE_ONLY.to_owned()) }
    }

    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }
    }
}

/// Desired state of the Secret.
pub(super) struct DesiredSecret<'a> {
    pub(super) secret_type: &'static str,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) data: &'a BTreeMap<String, Arc<SecretBytes>>,
}

impl<'a> DesiredSecret<'a> {
    /// Adds keyferry's labels and annotations to the configured ones. On a conflict keyferry's take precedence, because
    /// ownership depends on them.
    pub(super) fn new(mirror: &Mirror, content: &'a MirrorContent, pod: Option<&ObjectName>) -> Self {
        let mut labels = mirror.labels.clone();
        labels.insert(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned());
        let mut annotations = mirror.annotations.clone();
        annotations.insert(DIGEST.to_owned(), content.digest.clone());
        annotations.insert(SOURCE_VERSIONS.to_owned(), encode(&content.versions));
        annotations.insert(CONFIGURATION.to_owned(), configuration::fingerprint(mirror, content));
        if let Some(pod) = pod {
            annotations.insert(WRITTEN_BY.to_owned(), pod.to_string());
        }
        let secret_type = mirror.secret_type.as_str();
        Self { secret_type, labels, annotations, owners: Vec::new(), data: &content.data }
    }
}

/// Body of the apply. It borrows the values, so that the only copy is in the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretBody<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: MetadataBody<'a>,
    #[serde(rename = "type")]
    secret_type: &'static str,
    data: Data<'a>,
}

impl<'a> SecretBody<'a> {
    pub(super) fn new(name: &'a ObjectName, guard: &'a Guard, desired: &'a DesiredSecret<'_>) -> Self {
        let metadata = MetadataBody {
            name: name.as_str(),
            guard,
            labels: &desired.labels,
            annotations: &desired.annotations,
            owner_references: &desired.owners,
        };
        Self { api_version: "v1", kind: "Secret", metadata, secret_type: desired.secret_type, data: Data(desired.data) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataBody<'a> {
    name: &'a str,
    #[serde(flatten)]
    guard: &'a Guard,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    owner_references: &'a [OwnerReference],
}

/// Serializes values as base64 without an intermediate buffer.
struct Data<'a>(&'a BTreeMap<String, Arc<SecretBytes>>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Value<'a>(&'a SecretBytes);
        impl Serialize for Value<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&Base64Display::new(self.0.expose(), &STANDARD))
            }
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &Value(value))?;
        }
        map.end()
    }
}
