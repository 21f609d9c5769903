//! Leases without a database: KV version 1 with `leased_passthrough` issues them, with the duration `ttl` of the data.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use crate::setup::Setup;

/// A mount of leased secrets.
pub struct Leased {
    pub mount: String,
}

impl Leased {
    pub async fn new(setup: &Setup<'_>) -> Result<Self> {
        let mount = format!("leased-{}", setup.case.kv_mount);
        let body = json!({"type": "kv", "options": {"version": "1", "leased_passthrough": "true"}});
        setup.case.admin.put(&format!("sys/mounts/{mount}"), body).await?;
        Ok(Self { mount })
    }

    /// Writes the secret `app`.
    pub async fn put(&self, setup: &Setup<'_>, data: Value) -> Result<()> {
        setup.case.leaks.plant_data(&json!({"password": data["password"]}));
        setup.case.admin.put(&format!("{}/app", self.mount), data).await.map(drop)
    }

    /// Whether the checkpoint at `file` contains the lease.
    pub fn is_saved(&self, file: &std::path::Path) -> bool {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("\"id\":\"{}/", self.path())))
    }

    pub fn path(&self) -> String {
        format!("{}/app", self.mount)
    }

    /// Number of live leases of the secret `app`.
    pub async fn alive(&self, setup: &Setup<'_>) -> Result<usize> {
        let list = Method::from_bytes(b"LIST")?;
        let path = format!("sys/leases/lookup/{}/app", self.mount);
        let (_, answer) = setup.case.admin.request(list, &path, Value::Null).await?;
        Ok(answer["data"]["keys"].as_array().map_or(0, Vec::len))
    }
}

/// Replaces the policy of the case: it allows reads of these paths.
pub async fn allow(setup: &Setup<'_>, paths: &[&str]) -> Result<()> {
    let rules: String = paths.iter().map(|path| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n")).collect();
    setup.case.admin.policy(&setup.case.role, &rules).await
}

/// API path of a KV version 2 secret of the case, for policies.
pub fn data_path(setup: &Setup<'_>, secret: &str) -> String {
    format!("{}/data/{secret}", setup.case.kv_mount)
}

/// Writes a KV version 2 secret of the case.
pub async fn put_secret(setup: &Setup<'_>, secret: &str, data: Value) -> Result<u64> {
    setup.case.leaks.plant_data(&data);
    setup.case.admin.put_kv(&setup.case.kv_mount, secret, &data).await
}
