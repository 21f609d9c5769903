//! A Vault client for test setup and checks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::wait_until;

/// A Vault client with a fixed token, for the setup and the checks of tests and demo.
pub struct Admin {
    http: reqwest::Client,
    address: String,
    token: String,
}

impl Admin {
    pub(super) fn new(address: &str, token: &str, ca_file: Option<&Path>) -> Result<Self> {
        let mut builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15));
        if let Some(file) = ca_file {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(file)?)?]);
        }
        Ok(Self { http: builder.build()?, address: address.to_owned(), token: token.to_owned() })
    }

    /// Sends a request to `/v1/{path}` and returns its status and JSON body. `Value::Null` sends no body; an empty response
    /// is `Null`.
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

    /// As `request`, but any status other than 2xx is an error that contains Vault's messages.
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

    /// As `put`, with a body as text: numbers keep their digits.
    pub async fn put_text(&self, path: &str, body: String) -> Result<()> {
        let request = self.http.put(format!("{}/v1/{path}", self.address)).header("X-Vault-Token", &self.token);
        let answer = request.body(body).send().await.with_context(|| format!("failed to send PUT {path}"))?;
        ensure!(answer.status().is_success(), "PUT {path}: Vault answered {}", answer.status());
        Ok(())
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.ok(Method::DELETE, path, Value::Null).await.map(|_| ())
    }

    /// Writes a KV version 2 secret and returns its version. Retries the 400 that Vault returns while it upgrades a new mount.
    pub async fn put_kv(&self, mount: &str, path: &str, data: &Value) -> Result<u64> {
        let answer = wait_until("the KV mount accepts a write", Duration::from_secs(10), || async {
            match self.request(Method::PUT, &format!("{mount}/data/{path}"), json!({"data": data})).await {
                Ok((400, answer)) if answer.to_string().contains("pgrading") => None,
                other => Some(other),
            }
        })
        .await??;
        ensure!(answer.0 == 200, "failed to write {mount}/{path}: Vault answered {}: {}", answer.0, answer.1["errors"]);
        answer.1["data"]["version"].as_u64().context("the response to a KV write has no version")
    }

    /// Enables a secrets engine.
    pub async fn enable_secrets(&self, path: &str, engine: &str, options: Value) -> Result<()> {
        self.put(&format!("sys/mounts/{path}"), json!({"type": engine, "options": options})).await.map(|_| ())
    }

    /// Enables an auth method.
    pub async fn enable_auth(&self, path: &str, method: &str) -> Result<()> {
        self.put(&format!("sys/auth/{path}"), json!({"type": method})).await.map(|_| ())
    }

    /// Writes a policy, in HCL.
    pub async fn policy(&self, name: &str, hcl: &str) -> Result<()> {
        self.put(&format!("sys/policies/acl/{name}"), json!({"policy": hcl})).await.map(|_| ())
    }

    /// Writes `auth/<mount>/role/<name>`, where most auth methods store their roles.
    pub async fn role(&self, mount: &str, name: &str, role: Value) -> Result<()> {
        self.put(&format!("auth/{mount}/role/{name}"), role).await.map(|_| ())
    }

    /// Creates a token; returns the token and its accessor.
    pub async fn create_token(&self, request: Value) -> Result<(String, String)> {
        let answer = self.put("auth/token/create", request).await?;
        let text = |key: &str| answer["auth"][key].as_str().map(str::to_owned).context("the response has no token");
        Ok((text("client_token")?, text("accessor")?))
    }

    /// Logs in; returns the `auth` block of the response.
    pub async fn login(&self, mount: &str, body: Value) -> Result<Value> {
        Ok(self.put(&format!("auth/{mount}/login"), body).await?["auth"].take())
    }

    /// Looks up a token by its accessor; `None` if the token no longer exists.
    pub async fn token(&self, accessor: &str) -> Result<Option<Value>> {
        let (status, mut answer) =
            self.request(Method::POST, "auth/token/lookup-accessor", json!({"accessor": accessor})).await?;
        match status {
            200 => Ok(Some(answer["data"].take())),
            // Vault 1.21 returns 400, other versions 403 or 404, all with the same message.
            _ if answer["errors"].to_string().contains("invalid accessor") => Ok(None),
            // The token was revoked between Vault's lookups of the accessor and of the token: nothing else denies root.
            403 if answer["errors"].to_string().contains("permission denied") => Ok(None),
            other => bail!("failed to look up an accessor: Vault answered {other}: {}", answer["errors"]),
        }
    }

    /// Accessors of the live tokens that logins at this mount created.
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

    /// Revokes a token by its accessor, as an operator does.
    pub async fn revoke_accessor(&self, accessor: &str) -> Result<()> {
        self.put("auth/token/revoke-accessor", json!({"accessor": accessor})).await.map(|_| ())
    }
}
