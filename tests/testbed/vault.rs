//! A real Vault server: not `-dev`, because tests stop it, start it again with its data, and seal it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::binaries::{self, Binaries};
use super::guardian::{Guardian, Process};
use super::{free_port, pki, wait_until};

/// How to run it.
#[derive(Default, Clone)]
pub struct Options {
    /// Serve HTTPS with a certificate for 127.0.0.1, localhost and `place`; its authority is `Vault::ca_file`.
    pub tls: bool,
    /// Where it listens, if not on a free loopback port.
    pub place: Option<Place>,
}

/// An address in other namespaces, and how this process reaches it.
#[derive(Clone)]
pub struct Place {
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
    plugin_registered: bool,
}

impl Vault {
    /// Start, initialise, unseal.
    pub async fn start(binaries: &Binaries, guardian: &Guardian, options: Options) -> Result<Self> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let Place { inside, outside } = options.place.unwrap_or(Place { inside: loopback, outside: loopback });
        let port = outside.port();
        let directory = guardian.directory.join(format!("vault-{port}"));
        let data = guardian.memory.join(format!("vault-{port}"));
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
            plugin_registered: false,
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
            // The one persistent storage that a minimal Vault has too. In memory, because it syncs every write.
            "cluster_addr": format!("https://{cluster}"),
            "storage": {"raft": {"node_id": "one", "path": data, "performance_multiplier": "1"}},
        });
        pki::write(&vault.directory.join("config.json"), &config.to_string())?;
        vault.spawn(guardian).await?;
        vault.initialise().await?;
        vault.unseal().await?;

        let admin = vault.admin()?;
        // From 1.20 on audit devices may be made by the API only where the configuration allows it; a file below is the default.
        admin
            .ok(
                Method::PUT,
                "sys/audit/file",
                json!({"type": "file", "options": {"file_path": vault.audit_file(), "log_raw": "false"}}),
            )
            .await?;
        admin.enable_secrets("secret", "kv", json!({"version": "2"})).await?;
        vault.plugin_registered = vault.offer_kubernetes(&admin).await?;
        Ok(vault)
    }

    async fn spawn(&self, guardian: &Guardian) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = guardian.command(&self.binary);
        command
            .arg("server")
            .arg(format!("-config={}", self.directory.join("config.json").display()))
            .env_remove("VAULT_TOKEN")
            // Sockets of plugins: a Vault that is killed leaves them, so they belong where the guardian cleans up.
            .env("TMPDIR", &self.directory)
            .env("VAULT_PLUGIN_TMPDIR", &self.directory)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = guardian.spawn(&mut command)?;
        let admin = self.admin()?;
        let ready = tokio::select! {
            ready = wait_until("Vault answers", Duration::from_secs(30), || async {
                admin.request(Method::GET, "sys/seal-status", Value::Null).await.ok()
            }) => ready.map(|_| ()),
            ended = process.wait(Duration::from_secs(60)) => Err(anyhow::anyhow!("vault ended: {ended:?}")),
        };
        ready.with_context(|| {
            format!("failed to start Vault; its log ends with:\n{}", binaries::tail(&self.log_file(), 15))
        })?;
        *self.process.lock().await = Some(process);
        Ok(())
    }

    async fn initialise(&mut self) -> Result<()> {
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        let answer = self.admin()?.ok(Method::PUT, "sys/init", body).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("sys/init answered without keys");
        self.unseal_key = text(&answer["keys"][0])?;
        self.root_token = text(&answer["root_token"])?;
        Ok(())
    }

    /// Makes `kubernetes` a method that can be enabled: inside a full Vault, a plugin for a minimal one.
    async fn offer_kubernetes(&self, admin: &Admin) -> Result<bool> {
        let inside = admin.list("sys/plugins/catalog/auth").await?;
        if inside["data"]["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key == "kubernetes")) {
            return Ok(false);
        }
        let plugin = Binaries::vault_plugin()?;
        let name = "vault-plugin-auth-kubernetes";
        let bytes = std::fs::read(&plugin).with_context(|| format!("failed to read {}", plugin.display()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        // Vault wants the file itself inside the directory, no link that leads out.
        std::fs::copy(&plugin, self.directory.join("plugins").join(name))?;
        let body = json!({"sha256": sha256, "command": name});
        admin.ok(Method::PUT, "sys/plugins/catalog/auth/kubernetes", body).await?;
        Ok(true)
    }

    /// `http://127.0.0.1:PORT`, for `VAULT_ADDR`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its address where it runs; for pods, if that is in a cluster's namespaces.
    pub fn address_inside(&self) -> &str {
        &self.inside
    }

    /// PEM of the authority behind the certificate, with `Options::tls`.
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

    /// The audit log so far: one request or response each, secrets hashed.
    pub fn audit_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Requests (not responses) in the audit log to a path.
    pub fn audited_requests(&self, path: &str) -> Vec<Value> {
        let request = |line: &Value| line["type"] == "request" && line["request"]["path"] == path;
        self.audit_lines().into_iter().filter(request).collect()
    }

    /// A client with the root token. It belongs to the runtime that uses it, so each test makes its own.
    pub fn admin(&self) -> Result<Admin> {
        Admin::new(&self.address, &self.root_token, self.ca_file())
    }

    /// A client with another token.
    pub fn client(&self, token: &str) -> Result<Admin> {
        Admin::new(&self.address, token, self.ca_file())
    }

    /// End the process; the data stays.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.stop(Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Start it again after `stop`, on the same port, unsealed.
    pub async fn start_again(&self, guardian: &Guardian) -> Result<()> {
        self.start_again_sealed(guardian).await?;
        self.unseal().await
    }

    /// As `start_again`, but leave it sealed, as a restarted Vault is.
    pub async fn start_again_sealed(&self, guardian: &Guardian) -> Result<()> {
        ensure!(self.process.lock().await.is_none(), "Vault is running");
        self.spawn(guardian).await
    }

    /// Stop the process without ending it: connections hang until `thaw`.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP).await
    }

    pub async fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).await
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        self.process.lock().await.as_mut().context("Vault is not running")?.signal(signal)
    }

    /// Seal it: every request answers 503 until `unseal`.
    pub async fn seal(&self) -> Result<()> {
        self.admin()?.ok(Method::PUT, "sys/seal", Value::Null).await.map(|_| ())
    }

    pub async fn unseal(&self) -> Result<()> {
        let admin = self.admin()?;
        admin.ok(Method::PUT, "sys/unseal", json!({"key": self.unseal_key})).await?;
        // Unsealed, and active: mounts are loaded.
        wait_until("Vault is active", Duration::from_secs(20), || async {
            let (status, _) = admin.request(Method::GET, "sys/health", Value::Null).await.ok()?;
            (status == 200).then_some(())
        })
        .await
    }
}

/// A small client for what tests and the demo set up, with a token that may do it.
pub struct Admin {
    http: reqwest::Client,
    address: String,
    token: String,
}

impl Admin {
    fn new(address: &str, token: &str, ca_file: Option<&Path>) -> Result<Self> {
        let mut builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15));
        if let Some(file) = ca_file {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(file)?)?]);
        }
        Ok(Self { http: builder.build()?, address: address.to_owned(), token: token.to_owned() })
    }

    /// Any request, with the path after `/v1/`. `Value::Null` sends no body; an empty answer is `Null`.
    pub async fn request(&self, method: Method, path: &str, body: Value) -> Result<(u16, Value)> {
        let mut request = self.http.request(method.clone(), format!("{}/v1/{path}", self.address));
        if !self.token.is_empty() {
            request = request.header("X-Vault-Token", &self.token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let failed = || format!("failed to send {method} {path}");
        let answer = request.send().await.with_context(failed)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.with_context(failed)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// As `request`, but anything other than 2xx is an error that tells Vault's words.
    pub async fn ok(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let (status, answer) = self.request(method.clone(), path, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: Vault answered {status}: {}", answer["errors"]);
        }
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ok(Method::GET, path, Value::Null).await
    }

    pub async fn list(&self, path: &str) -> Result<Value> {
        self.ok(Method::from_bytes(b"LIST")?, path, Value::Null).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Result<Value> {
        self.ok(Method::PUT, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.ok(Method::DELETE, path, Value::Null).await.map(|_| ())
    }

    /// Write a KV version 2 secret; gives the new version. A mount answers 400 for a moment after it was made.
    pub async fn put_kv(&self, mount: &str, path: &str, data: &Value) -> Result<u64> {
        let answer = wait_until("the KV mount takes a write", Duration::from_secs(10), || async {
            match self.request(Method::PUT, &format!("{mount}/data/{path}"), json!({"data": data})).await {
                Ok((400, answer)) if answer.to_string().contains("pgrading") => None,
                other => Some(other),
            }
        })
        .await??;
        ensure!(answer.0 == 200, "failed to write {mount}/{path}: Vault answered {}: {}", answer.0, answer.1["errors"]);
        answer.1["data"]["version"].as_u64().context("a KV write answered without a version")
    }

    /// Enable a secrets engine.
    pub async fn enable_secrets(&self, path: &str, engine: &str, options: Value) -> Result<()> {
        self.put(&format!("sys/mounts/{path}"), json!({"type": engine, "options": options})).await.map(|_| ())
    }

    /// Enable an auth method.
    pub async fn enable_auth(&self, path: &str, method: &str) -> Result<()> {
        self.put(&format!("sys/auth/{path}"), json!({"type": method})).await.map(|_| ())
    }

    /// Write a policy, in HCL.
    pub async fn policy(&self, name: &str, hcl: &str) -> Result<()> {
        self.put(&format!("sys/policies/acl/{name}"), json!({"policy": hcl})).await.map(|_| ())
    }

    /// Write `auth/<mount>/role/<name>`; most methods keep their roles there.
    pub async fn role(&self, mount: &str, name: &str, role: Value) -> Result<()> {
        self.put(&format!("auth/{mount}/role/{name}"), role).await.map(|_| ())
    }

    /// Make a token; gives the token and its accessor.
    pub async fn create_token(&self, request: Value) -> Result<(String, String)> {
        let answer = self.put("auth/token/create", request).await?;
        let text = |key: &str| answer["auth"][key].as_str().map(str::to_owned).context("no token in the answer");
        Ok((text("client_token")?, text("accessor")?))
    }

    /// Log in; gives the whole `auth` of the answer.
    pub async fn login(&self, mount: &str, body: Value) -> Result<Value> {
        Ok(self.put(&format!("auth/{mount}/login"), body).await?["auth"].take())
    }

    /// What is known of a token by its accessor, or `None` if it is gone.
    pub async fn token(&self, accessor: &str) -> Result<Option<Value>> {
        let (status, mut answer) =
            self.request(Method::POST, "auth/token/lookup-accessor", json!({"accessor": accessor})).await?;
        match status {
            200 => Ok(Some(answer["data"].take())),
            // Vault 1.21 answers 400, others 403 or 404; the words are the same.
            _ if answer["errors"].to_string().contains("invalid accessor") => Ok(None),
            // The accessor was there, its token is gone: it was revoked between Vault's two look-ups. Root is denied nothing.
            403 if answer["errors"].to_string().contains("permission denied") => Ok(None),
            other => bail!("lookup of an accessor answered {other}: {}", answer["errors"]),
        }
    }

    /// Accessors of the tokens alive that were made by a login at this mount.
    pub async fn accessors_of(&self, mount: &str) -> Result<Vec<String>> {
        let answer = self.list("auth/token/accessors").await?;
        let mut found = Vec::new();
        for accessor in answer["data"]["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let login = format!("auth/{mount}/login");
            if self.token(accessor).await?.is_some_and(|token| token["path"] == login.as_str()) {
                found.push(accessor.to_owned());
            }
        }
        Ok(found)
    }

    /// Revoke a token from outside, as an operator does.
    pub async fn revoke_accessor(&self, accessor: &str) -> Result<()> {
        self.put("auth/token/revoke-accessor", json!({"accessor": accessor})).await.map(|_| ())
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
