//! A real Vault server. Not `-dev`, because tests stop it, restart it with its data, and seal it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::binaries::{self, Binaries};
use super::watchdog::{Process, Watchdog};
use super::{free_port, pki, wait_until};

pub use super::admin::Admin;

/// Options of a Vault server.
#[derive(Default, Clone)]
pub struct Options {
    /// Serve HTTPS with a certificate for 127.0.0.1, localhost and `endpoint`; the CA certificate is `Vault::ca_file`.
    pub tls: bool,
    /// Listening address. Default: a free loopback port.
    pub endpoint: Option<Endpoint>,
}

/// An address in other network namespaces (`inside`), and the address at which this process reaches it (`outside`).
#[derive(Clone)]
pub struct Endpoint {
    pub inside: SocketAddr,
    pub outside: SocketAddr,
}

/// A running, unsealed Vault with KV version 2 at `secret/` and a file audit device.
pub struct Vault {
    address: String,
    inside: String,
    directory: PathBuf,
    binary: PathBuf,
    ca_file: Option<PathBuf>,
    process: Mutex<Option<Process>>,
    root_token: String,
    unseal_key: String,
    /// Held while a plugin is registered: tests share the server.
    plugins: Mutex<()>,
}

impl Vault {
    /// Starts, initializes and unseals Vault.
    pub async fn start(binaries: &Binaries, watchdog: &Watchdog, options: Options) -> Result<Self> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let Endpoint { inside, outside } = options.endpoint.unwrap_or(Endpoint { inside: loopback, outside: loopback });
        let port = outside.port();
        let directory = watchdog.directory.join(format!("vault-{port}"));
        let data = watchdog.memory.join(format!("vault-{port}"));
        std::fs::create_dir_all(directory.join("plugins"))?;
        std::fs::create_dir_all(&data)?;
        let scheme = if options.tls { "https" } else { "http" };
        let mut vault = Self {
            address: format!("{scheme}://{outside}"),
            inside: format!("{scheme}://{inside}"),
            binary: binaries.vault.clone(),
            ca_file: None,
            process: Mutex::new(None),
            root_token: String::new(),
            unseal_key: String::new(),
            plugins: Mutex::new(()),
            directory,
        };
        let tls = if options.tls {
            let authority = pki::Authority::new("keyferry test Vault", &vault.directory.join("pki"))?;
            let pair =
                authority.issue("vault", "vault", None, &["127.0.0.1", "localhost", &inside.ip().to_string()])?;
            let files = json!({"tls_cert_file": pair.certificate, "tls_key_file": pair.key});
            vault.ca_file = Some(authority.file);
            files
        } else {
            json!({"tls_disable": true})
        };
        let cluster = format!("127.0.0.1:{}", free_port()?);
        let mut listener = json!({"address": inside, "cluster_address": cluster});
        merge(&mut listener, tls);
        // <https://developer.hashicorp.com/vault/docs/configuration>
        let config = json!({
            "api_addr": vault.inside,
            "disable_mlock": true,
            "listener": [{"tcp": listener}],
            "plugin_directory": std::fs::canonicalize(vault.directory.join("plugins"))?,
            // The only persistent storage of a minimal Vault. The path is in memory, because raft syncs every write.
            "cluster_addr": format!("https://{cluster}"),
            "storage": {"raft": {"node_id": "one", "path": data, "performance_multiplier": "1"}},
        });
        pki::write(&vault.directory.join("config.json"), &config.to_string())?;
        vault.spawn(watchdog).await?;
        vault.initialize().await?;
        vault.unseal().await?;

        let admin = vault.admin()?;
        // Since Vault 1.20 the API can create audit devices only where the configuration allows it.
        admin
            .ok(
                Method::PUT,
                "sys/audit/file",
                json!({"type": "file", "options": {"file_path": vault.audit_file(), "log_raw": "false"}}),
            )
            .await?;
        admin.enable_secrets("secret", "kv", json!({"version": "2"})).await?;
        vault.offer_plugin("auth", "kubernetes", "vault-plugin-auth-kubernetes").await?;
        Ok(vault)
    }

    /// An existing Vault. Methods that need its process or its files return an error or nothing.
    pub fn existing(address: String, inside: String, root_token: String) -> Self {
        Self {
            address,
            inside,
            directory: PathBuf::new(),
            binary: PathBuf::new(),
            ca_file: None,
            process: Mutex::new(None),
            root_token,
            unseal_key: String::new(),
            plugins: Mutex::new(()),
        }
    }

    async fn spawn(&self, watchdog: &Watchdog) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = watchdog.command(&self.binary);
        command
            .arg("server")
            .arg(format!("-config={}", self.directory.join("config.json").display()))
            .env_remove("VAULT_TOKEN")
            // A killed Vault leaves the sockets of its plugins, so they must be in a directory that the watchdog removes.
            .env("TMPDIR", &self.directory)
            .env("VAULT_PLUGIN_TMPDIR", &self.directory)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = watchdog.spawn(&mut command)?;
        let admin = self.admin()?;
        let ready = tokio::select! {
            ready = wait_until("Vault responds", Duration::from_secs(30), || async {
                admin.request(Method::GET, "sys/seal-status", Value::Null).await.ok()
            }) => ready.map(|_| ()),
            ended = process.wait(Duration::from_secs(60)) => Err(anyhow::anyhow!("Vault exited: {ended:?}")),
        };
        ready.with_context(|| {
            format!("failed to start Vault; its log ends with:\n{}", binaries::tail(&self.log_file(), 15))
        })?;
        *self.process.lock().await = Some(process);
        Ok(())
    }

    async fn initialize(&mut self) -> Result<()> {
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        let answer = self.admin()?.ok(Method::PUT, "sys/init", body).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("the response of sys/init has no keys");
        self.unseal_key = text(&answer["keys"][0])?;
        self.root_token = text(&answer["root_token"])?;
        Ok(())
    }

    /// Makes sure that the catalog has a plugin of this type (`auth`, `secret`, `database`) and name. If it is not built in,
    /// registers `program`.
    pub async fn offer_plugin(&self, kind: &str, name: &str, program: &str) -> Result<()> {
        let _one_at_a_time = self.plugins.lock().await;
        let admin = self.admin()?;
        let entry = format!("sys/plugins/catalog/{kind}/{name}");
        if admin.request(Method::GET, &entry, Value::Null).await?.0 == 200 {
            return Ok(());
        }
        let plugin = binaries::find_or_build(program)?;
        let bytes = std::fs::read(&plugin).with_context(|| format!("failed to read {}", plugin.display()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        // Vault rejects a symlink that leads out of the plugin directory.
        std::fs::copy(&plugin, self.directory.join("plugins").join(program))?;
        let body = json!({"sha256": sha256, "command": program});
        admin.ok(Method::PUT, &entry, body).await.map(drop)
    }

    /// `http://127.0.0.1:PORT`, for `VAULT_ADDR`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address inside the network namespace of the server, for pods.
    pub fn address_inside(&self) -> &str {
        &self.inside
    }

    /// PEM file of the CA certificate, with `Options::tls`.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    pub fn log_file(&self) -> PathBuf {
        self.directory.join("vault.log")
    }

    fn audit_file(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// Entries of the audit log so far: requests and responses, with hashed secrets.
    pub fn audit_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Requests to a path in the audit log, without responses.
    pub fn audited_requests(&self, path: &str) -> Vec<Value> {
        let request = |line: &Value| line["type"] == "request" && line["request"]["path"] == path;
        self.audit_lines().into_iter().filter(request).collect()
    }

    /// A client with the root token. It is bound to the current runtime, so each test creates its own.
    pub fn admin(&self) -> Result<Admin> {
        Admin::new(&self.address, &self.root_token, self.ca_file())
    }

    /// A client with another token.
    pub fn client(&self, token: &str) -> Result<Admin> {
        Admin::new(&self.address, token, self.ca_file())
    }

    /// Stops the process; the data stays.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.stop(Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Starts Vault after `stop`, on the same port, and unseals it.
    pub async fn start_again(&self, watchdog: &Watchdog) -> Result<()> {
        self.start_again_sealed(watchdog).await?;
        self.unseal().await
    }

    /// As `start_again`, but leaves Vault sealed.
    pub async fn start_again_sealed(&self, watchdog: &Watchdog) -> Result<()> {
        ensure!(self.process.lock().await.is_none(), "Vault is running");
        self.spawn(watchdog).await
    }

    /// Suspends the process: connections hang until `thaw`.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP).await
    }

    pub async fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).await
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        self.process.lock().await.as_mut().context("Vault is not running")?.signal(signal)
    }

    /// Seals Vault: every request returns 503 until `unseal`.
    pub async fn seal(&self) -> Result<()> {
        self.admin()?.ok(Method::PUT, "sys/seal", Value::Null).await.map(|_| ())
    }

    pub async fn unseal(&self) -> Result<()> {
        let admin = self.admin()?;
        admin.ok(Method::PUT, "sys/unseal", json!({"key": self.unseal_key})).await?;
        // An active Vault has loaded its mounts.
        wait_until("Vault is active", Duration::from_secs(20), || async {
            let (status, _) = admin.request(Method::GET, "sys/health", Value::Null).await.ok()?;
            (status == 200).then_some(())
        })
        .await
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
