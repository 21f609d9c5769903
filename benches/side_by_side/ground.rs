//! Where the measurement happens: a Vault with the article's case, and the binaries to compare.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Result;

/// The article's case on real servers.
pub struct Ground {
    /// `http://host:port`
    pub address: String,
    /// Role of the auth method `kubernetes`.
    pub role: String,
    /// File with a ServiceAccount's token that the role accepts.
    pub jwt_file: PathBuf,
    /// Path of the secret as `vault kv get` takes it; KV version 2, its mount is the first component.
    pub secret: String,
    /// Keys of the secret with their values; each becomes a file.
    pub files: Vec<(String, String)>,
    /// The peer: `vault agent`.
    pub vault: PathBuf,
    /// The static release binary.
    pub keyferry: PathBuf,
}

impl Ground {
    /// From servers that somebody started: `KEYFERRY_BENCH_ADDR`, `_ROLE`, `_JWT_FILE`, `_VAULT` (the binary).
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
            files: [("username", "Nutzername"), ("password", "Losungwort")].map(|(k, v)| (k.into(), v.into())).into(),
            vault: variable("VAULT")?.into(),
            keyferry: Self::release_binary()?,
        })
    }

    /// The binary that is shipped, made by `just build`; `KEYFERRY_BENCH_BINARY` names another.
    pub fn release_binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("KEYFERRY_BENCH_BINARY") {
            return Ok(path.into());
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let path = target.join(triple).join("release/keyferry");
        if path.is_file() { Ok(path) } else { Err(format!("{} is not there; run: just build", path.display()).into()) }
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

    /// What is compared, for the head of the report.
    pub fn versions(&self) -> String {
        let version = |binary: &Path| {
            let output = Command::new(binary).arg("--version").output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
        };
        let told = |binary: &Path| version(binary).unwrap_or_else(|| binary.display().to_string());
        format!("{}; {}", told(&self.keyferry), told(&self.vault))
    }
}
