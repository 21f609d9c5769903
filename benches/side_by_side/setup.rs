//! The setup of a measurement: a Vault with the reference scenario, and the binaries to compare.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::runtime::Runtime;

use super::Result;
use super::testbed::binaries::Binaries;
use super::testbed::{Case, Servers, reference_scenario};

/// A Vault with the reference scenario, and the binaries to compare.
pub struct Setup {
    /// `http://host:port`
    pub address: String,
    /// Role of the auth method `kubernetes`.
    pub role: String,
    /// File with a `ServiceAccount` token that the role accepts.
    pub jwt_file: PathBuf,
    /// Path of the secret, as for `vault kv get`. KV version 2; the first component is the mount.
    pub secret: String,
    /// Keys of the secret with their values; each becomes a file.
    pub files: Vec<(String, String)>,
    /// The `vault` binary, for `vault agent`.
    pub vault: PathBuf,
    /// The static release binary.
    pub keyferry: PathBuf,
}

/// The started servers; they stop when this value is dropped.
pub struct Started {
    _servers: Servers,
    _case: Case,
    _runtime: Runtime,
}

impl Setup {
    /// Starts a real Vault and a real API server of the testbed, with the names of the reference scenario.
    pub fn start() -> Result<(Self, Started)> {
        let keyferry = Self::release_binary()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let binaries = Binaries::find_or_build()?;
        let (servers, case) = runtime.block_on(async {
            let servers = Servers::start_from(&binaries).await?;
            let case = Case::reference(&servers).await?;
            Ok::<_, anyhow::Error>((servers, case))
        })?;
        let setup = Self {
            address: servers.vault.address().to_owned(),
            role: case.role.clone(),
            jwt_file: case.jwt_file.clone(),
            secret: case.secret_path(),
            files: reference_files(),
            vault: binaries.vault,
            keyferry,
        };
        Ok((setup, Started { _servers: servers, _case: case, _runtime: runtime }))
    }

    /// Uses running servers: `KEYFERRY_BENCH_ADDR`, `_ROLE`, `_JWT_FILE`, `_VAULT` (the binary), `_SECRET` (optional).
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| {
            let name = format!("KEYFERRY_BENCH_{name}");
            std::env::var(&name).map_err(|_| format!("{name} is not set"))
        };
        Ok(Self {
            address: variable("ADDR")?,
            role: variable("ROLE")?,
            jwt_file: variable("JWT_FILE")?.into(),
            secret: variable("SECRET").unwrap_or_else(|_| "secret/webapp/config".into()),
            files: reference_files(),
            vault: variable("VAULT")?.into(),
            keyferry: Self::release_binary()?,
        })
    }

    /// The release binary of `just build`, or the one that `KEYFERRY_BENCH_BINARY` names.
    pub fn release_binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("KEYFERRY_BENCH_BINARY") {
            return Ok(path.into());
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let path = target.join(triple).join("release/keyferry");
        if path.is_file() { Ok(path) } else { Err(format!("{} not found; run `just build`", path.display()).into()) }
    }

    /// The secret's mount and the path below it.
    pub fn mount_and_path(&self) -> (&str, &str) {
        self.secret.split_once('/').unwrap_or((&self.secret, ""))
    }

    /// `secret/data/webapp/config`
    pub fn api_path(&self) -> String {
        let (mount, path) = self.mount_and_path();
        format!("{mount}/data/{path}")
    }

    /// Versions of the compared programs, for the head of the report.
    pub fn versions(&self) -> String {
        let version = |binary: &Path| {
            let output = Command::new(binary).arg("--version").output().ok()?;
            // Without the date that Vault adds.
            Some(String::from_utf8_lossy(&output.stdout).lines().next()?.split(',').next()?.to_owned())
        };
        let shown = |binary: &Path| version(binary).unwrap_or_else(|| binary.display().to_string());
        format!("{}; {}", shown(&self.keyferry), shown(&self.vault))
    }
}

fn reference_files() -> Vec<(String, String)> {
    let data = reference_scenario::secret_data();
    let values = data.as_object().into_iter().flatten();
    values.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
