//! What a write sends.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::super::annotations::encode;
use super::super::{DIGEST, FIELD_MANAGER, MANAGED_BY, MirrorContent, SOURCE_VERSIONS};
use crate::model::{Mirror, MirrorOwner, ObjectName, SecretBytes};

/// A resourceVersion that no Secret has and that the server ignores where there is none: with it an apply can only create.
/// 201 where the Secret is absent, 409 where it is present (tried on 1.37: of 8 at once, one wins).
const CREATE_ONLY: &str = "1";

/// What the write depends on. The uid stops us from making a Secret again that was deleted meanwhile, which the
/// resourceVersion alone does not.
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

    pub(super) fn seen(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }
    }
}

/// The user's and ours; ours win, since ownership hangs on them.
pub(super) fn labels(mirror: &Mirror) -> BTreeMap<String, String> {
    let mut labels = mirror.labels.clone();
    labels.insert(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned());
    labels
}

pub(super) fn annotations(mirror: &Mirror, content: &MirrorContent) -> BTreeMap<String, String> {
    let mut all = mirror.annotations.clone();
    all.insert(DIGEST.to_owned(), content.digest.clone());
    all.insert(SOURCE_VERSIONS.to_owned(), encode(&content.versions));
    all
}

/// The apply's body; borrowed, so that values are copied once, into the request.
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
    pub(super) fn new(name: &'a ObjectName, guard: &'a Guard, mirror: &'a Mirror, content: &'a MirrorContent) -> Self {
        let metadata = MetadataBody {
            name: name.as_str(),
            guard,
            labels: labels(mirror),
            annotations: annotations(mirror, content),
            owner_references: mirror.owner.iter().map(OwnerBody::from).collect(),
        };
        let (secret_type, data) = (mirror.secret_type.as_str(), Data(&content.data));
        Self { api_version: "v1", kind: "Secret", metadata, secret_type, data }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataBody<'a> {
    name: &'a str,
    #[serde(flatten)]
    guard: &'a Guard,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<OwnerBody<'a>>,
}

/// Without `blockOwnerDeletion`, which would need `update` on the owner's finalizers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnerBody<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    uid: &'a str,
}

impl<'a> From<&'a MirrorOwner> for OwnerBody<'a> {
    fn from(owner: &'a MirrorOwner) -> Self {
        match owner {
            MirrorOwner::Object { api_version, kind, name, uid } => Self { api_version, kind, name: name.as_str(), uid },
            MirrorOwner::ServiceAccount => Self { api_version: "v1", kind: "ServiceAccount", name: "", uid: "" },
        }
    }
}

/// Values as base64, written straight into the body.
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
