//! An existing cluster, for example from kind, k3d, minikube or `just cluster-up`, and a Vault in dev mode that this machine
//! and pods can reach. Tests that need control of the node are skipped.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::super::binaries::{find_or_build, print_uncaptured};
use super::super::kube::Kube;
use super::super::vault::Vault;
use super::super::watchdog::Watchdog;
use super::RealCluster;

/// If `1`, tests use the cluster of `KUBECONFIG`.
const WANTED: &str = "KEYFERRY_E2E_CLUSTER";
const VAULT: &str = "KEYFERRY_E2E_VAULT_ADDR";
const VAULT_TOKEN: &str = "KEYFERRY_E2E_VAULT_TOKEN";
/// Vault's address for pods. Default: the same address.
const VAULT_IN_PODS: &str = "KEYFERRY_E2E_VAULT_ADDR_IN_PODS";
/// URL of the API server for Vault. Default: the URL in `KUBECONFIG`.
const API_SERVER: &str = "KEYFERRY_E2E_API_SERVER";

pub(super) fn is_wanted() -> bool {
    std::env::var(WANTED).is_ok_and(|value| value == "1")
}

/// Connects to both, and prints which images the cluster must have.
pub(super) async fn connect() -> Result<RealCluster> {
    let needed =
        |name: &str| std::env::var(name).with_context(|| format!("{WANTED}=1 requires {name}; see docs/testbed.md"));
    let kube = Kube::existing(PathBuf::from(needed("KUBECONFIG")?), std::env::var(API_SERVER).ok()).await?;
    let address = needed(VAULT)?;
    let inside = std::env::var(VAULT_IN_PODS).unwrap_or_else(|_| address.clone());
    let vault = Vault::existing(address, inside, needed(VAULT_TOKEN)?);
    let (status, _) = vault.admin()?.request(Method::GET, "auth/token/lookup-self", Value::Null).await?;
    ensure!(status == 200, "the Vault of {VAULT} rejected the token of {VAULT_TOKEN}: status {status}");
    print_uncaptured(
        "using the cluster of KUBECONFIG; it must have the images keyferry:0.1.0, keyferry-webapp:0.1.0 and \
         keyferry-toolbox:0.1.0 (docs/testbed.md explains how to build and load them)",
    );
    Ok(RealCluster {
        kube,
        vault,
        control: None,
        kubectl: find_or_build("kubectl")?,
        watchdog: Watchdog::start()?,
        _lock: None,
        images: OnceCell::new(),
    })
}
