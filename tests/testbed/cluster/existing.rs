//! A cluster that is there already, as kind, k3d, minikube or `just cluster-up` make one, and a Vault in development mode that both
//! this machine and pods reach. Tests that need power over the node are skipped.

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

/// `1`: use the cluster of `KUBECONFIG`.
const WANTED: &str = "KEYFERRY_E2E_CLUSTER";
const VAULT: &str = "KEYFERRY_E2E_VAULT_ADDR";
const VAULT_TOKEN: &str = "KEYFERRY_E2E_VAULT_TOKEN";
/// Vault's address in pods, if it is another one there.
const VAULT_IN_PODS: &str = "KEYFERRY_E2E_VAULT_ADDR_IN_PODS";
/// The API server as Vault reaches it, if not by the address in `KUBECONFIG`.
const API_SERVER: &str = "KEYFERRY_E2E_API_SERVER";

pub(super) fn is_wanted() -> bool {
    std::env::var(WANTED).is_ok_and(|value| value == "1")
}

/// See that both answer, and say what must be there.
pub(super) async fn connect() -> Result<RealCluster> {
    let needed =
        |name: &str| std::env::var(name).with_context(|| format!("{WANTED}=1 needs {name}; see docs/testbed.md"));
    let kube = Kube::existing(PathBuf::from(needed("KUBECONFIG")?), std::env::var(API_SERVER).ok()).await?;
    let address = needed(VAULT)?;
    let inside = std::env::var(VAULT_IN_PODS).unwrap_or_else(|_| address.clone());
    let vault = Vault::existing(address, inside, needed(VAULT_TOKEN)?);
    let (status, _) = vault.admin()?.request(Method::GET, "auth/token/lookup-self", Value::Null).await?;
    ensure!(status == 200, "Vault at {VAULT} answered {status} about the token of {VAULT_TOKEN}");
    print_uncaptured(
        "using the cluster of KUBECONFIG; it must have the images keyferry:0.1.0, keyferry-webapp:0.1.0 and \
         keyferry-toolbox:0.1.0 (docs/testbed.md tells how to make and load them)",
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
