//! Vault's answers as types. Values stay raw JSON text until they are put into `SecretBytes`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// `errors` of a refusal.
#[derive(Deserialize)]
pub(super) struct Errors {
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

/// A login's or renewal's `auth`.
#[derive(Deserialize)]
pub(super) struct AuthAnswer {
    pub(super) auth: AuthBlock,
}

#[derive(Deserialize)]
pub(super) struct AuthBlock {
    pub(super) client_token: String,
    #[serde(default)]
    pub(super) accessor: Option<String>,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// Any secret engine's answer.
#[derive(Deserialize)]
pub(super) struct SecretAnswer<'a> {
    #[serde(default)]
    pub(super) lease_id: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) warnings: Option<Vec<String>>,
}

/// `data` of a KV v2 read. `deny_unknown_fields`: a KV v1 secret that happens to have these keys has others, too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KvTwo<'a> {
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) metadata: KvMetadata,
}

#[derive(Deserialize)]
pub(super) struct KvMetadata {
    pub(super) version: u64,
    pub(super) created_time: String,
    #[serde(default)]
    pub(super) deletion_time: String,
    #[serde(default)]
    pub(super) destroyed: bool,
}

/// Key to raw JSON value.
pub(super) type RawData<'a> = BTreeMap<String, &'a RawValue>;

/// `auth/token/lookup-self`.
#[derive(Deserialize)]
pub(super) struct LookupAnswer {
    pub(super) data: LookupData,
}

#[derive(Deserialize)]
pub(super) struct LookupData {
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) accessor: Option<String>,
    #[serde(default)]
    pub(super) expire_time: Option<String>,
}

/// `sys/internal/ui/mounts/<path>`.
#[derive(Deserialize)]
pub(super) struct MountAnswer {
    pub(super) data: MountData,
}

#[derive(Deserialize)]
pub(super) struct MountData {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) options: Option<MountOptions>,
}

#[derive(Deserialize)]
pub(super) struct MountOptions {
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `sys/wrapping/lookup`.
#[derive(Deserialize)]
pub(super) struct WrapAnswer {
    pub(super) data: WrapData,
}

#[derive(Deserialize)]
pub(super) struct WrapData {
    pub(super) creation_path: String,
}

/// `sys/wrapping/unwrap` of a secret id.
#[derive(Deserialize)]
pub(super) struct UnwrappedAnswer {
    pub(super) data: UnwrappedData,
}

#[derive(Deserialize)]
pub(super) struct UnwrappedData {
    pub(super) secret_id: String,
}
