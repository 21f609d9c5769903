//! Kubeconfigs, and clients created from them.

use std::path::Path;

use anyhow::Result;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::pki;

/// A path of the testbed as text.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory's name is UTF-8")
}

/// The credentials in a kubeconfig.
pub fn client_certificate(pair: &pki::Pair) -> Value {
    json!({"client-certificate": pair.certificate, "client-key": pair.key})
}

/// Text of a kubeconfig.
pub fn kubeconfig(url: &str, ca: &str, namespace: &str, user: &Value) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": url, "certificate-authority-data": BASE64_STANDARD.encode(ca)}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    })
    .to_string()
}

/// A client from the text of a kubeconfig.
pub async fn client_from(kubeconfig: &str) -> Result<Client> {
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::from_yaml(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
