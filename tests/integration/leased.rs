//! Leases without a database: KV version 1 issues them when told to. `ttl` in the data is the lease's duration.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::Stage;

/// A mount of such secrets.
pub struct Leased {
    pub mount: String,
}

impl Leased {
    pub async fn new(stage: &Stage<'_>) -> Result<Self> {
        let mount = format!("leased-{}", stage.case.kv_mount);
        let body = json!({"type": "kv", "options": {"version": "1", "leased_passthrough": "true"}});
        stage.case.admin.put(&format!("sys/mounts/{mount}"), body).await?;
        Ok(Self { mount })
    }

    /// Writes the secret `app`.
    pub async fn put(&self, stage: &Stage<'_>, data: Value) -> Result<()> {
        stage.case.leaks.plant_data(&json!({"password": data["password"]}));
        stage.case.admin.put(&format!("{}/app", self.mount), data).await.map(drop)
    }

    pub fn path(&self) -> String {
        format!("{}/app", self.mount)
    }

    /// Leases of it that are alive in Vault.
    pub async fn alive(&self, stage: &Stage<'_>) -> Result<usize> {
        let list = Method::from_bytes(b"LIST")?;
        let path = format!("sys/leases/lookup/{}/app", self.mount);
        let (_, answer) = stage.case.admin.request(list, &path, Value::Null).await?;
        Ok(answer["data"]["keys"].as_array().map_or(0, Vec::len))
    }
}

/// Replaces the policy of the case: these paths may be read.
pub async fn allow(stage: &Stage<'_>, paths: &[&str]) -> Result<()> {
    let rules: String = paths.iter().map(|path| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n")).collect();
    stage.case.admin.policy(&stage.case.role, &rules).await
}

/// The path of a KV version 2 secret of the case in requests and policies.
pub fn data_path(stage: &Stage<'_>, secret: &str) -> String {
    format!("{}/data/{secret}", stage.case.kv_mount)
}

/// Writes a KV version 2 secret of the case.
pub async fn put_secret(stage: &Stage<'_>, secret: &str, data: Value) -> Result<u64> {
    stage.case.leaks.plant_data(&data);
    stage.case.admin.put_kv(&stage.case.kv_mount, secret, &data).await
}
