//! State of the running cluster, in a directory of root that does not survive a reboot.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::testbed::pki;

const DIRECTORY: &str = "/run/keyferry-cluster";

/// Addresses and files of a running cluster. Written when everything is ready.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) vault_address: String,
    pub(crate) vault_address_in_pods: String,
    pub(crate) vault_token_file: PathBuf,
    pub(crate) api_server_in_pods: String,
    /// A command that imports the archive named by its last argument.
    pub(crate) import: Vec<String>,
}

impl State {
    /// The state, if the cluster is ready and its process is running.
    pub(crate) fn running() -> Result<Option<Self>> {
        let Ok(text) = fs::read(PathBuf::from(DIRECTORY).join("state.json")) else { return Ok(None) };
        let state = serde_json::from_slice(&text).context("failed to read the cluster's state")?;
        Ok(process().map(|_| state))
    }

    pub(crate) fn write(&self) -> Result<()> {
        let (file, temporary) = (directory()?.join("state.json"), directory()?.join("state.new"));
        pki::write(&temporary, &serde_json::to_string_pretty(self)?)?;
        fs::rename(temporary, file).context("failed to write the cluster's state")
    }
}

/// PID of the cluster's process, if it is starting or running.
pub(crate) fn process() -> Option<u32> {
    let process = fs::read_to_string(PathBuf::from(DIRECTORY).join("process")).ok()?.trim().parse().ok()?;
    // The PID can have been reused by another program.
    let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    command.ends_with(b"\0run\0").then_some(process)
}

/// Records this process as the cluster's process, which is not ready yet.
pub(crate) fn write_process() -> Result<()> {
    // Left by a killed cluster.
    remove_file(&directory()?.join("state.json"))?;
    pki::write(&directory()?.join("process"), &std::process::id().to_string())
}

/// Creates the directory on demand; only root can read it.
pub(crate) fn directory() -> Result<PathBuf> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(DIRECTORY)
        .with_context(|| format!("failed to create {DIRECTORY}"))?;
    Ok(DIRECTORY.into())
}

fn remove_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn remove() -> Result<()> {
    match fs::remove_dir_all(DIRECTORY) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {DIRECTORY}"))
        }
        _ => Ok(()),
    }
}
