//! Common parts of requests to Vault: path prefix and headers.

use http::{HeaderMap, HeaderValue, Method};

use super::super::error::VaultError;
use super::super::http::{Http, HttpError, Request, Response, Upgrade, body, sensitive_header};
use crate::model::{SecretBytes, VaultServer, VaultToken};

/// The API of one server.
pub(in crate::vault) struct Api {
    http: Http,
    /// Namespace of calls that do not set one.
    namespace: Option<String>,
}

/// A request to the API.
pub(in crate::vault) struct Call<'a> {
    method: Method,
    path: &'a str,
    query: Vec<(String, String)>,
    namespace: Option<&'a str>,
    token: Option<&'a VaultToken>,
    body: Option<SecretBytes>,
}

impl<'a> Call<'a> {
    /// `path` has no `/v1/` and is not percent-encoded.
    pub(in crate::vault) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, query: Vec::new(), namespace: None, token: None, body: None }
    }

    /// Names and values, not percent-encoded.
    pub(in crate::vault) fn query(self, query: Vec<(String, String)>) -> Self {
        Self { query, ..self }
    }

    /// `None` is the namespace of the server. An empty namespace sends no header, which is the root namespace of `OpenBao`.
    pub(super) fn namespace(self, namespace: Option<&'a str>) -> Self {
        Self { namespace, ..self }
    }

    pub(in crate::vault) fn token(self, token: &'a VaultToken) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(super) fn body(self, body: SecretBytes) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Api {
    pub(in crate::vault) fn new(server: &VaultServer) -> Result<Self, VaultError> {
        Ok(Self { http: Http::new(server)?, namespace: server.namespace.clone() })
    }

    /// See [`Http::requests`].
    pub(in crate::vault) fn requests(&self) -> u64 {
        self.http.requests()
    }

    /// See [`Http::compare_files`].
    pub(in crate::vault) fn compare_files(&self) {
        self.http.compare_files();
    }

    /// See [`Http::needs_files`].
    pub(in crate::vault) fn needs_files(&self) -> bool {
        self.http.needs_files()
    }

    /// See [`Http::read_files`].
    pub(in crate::vault) fn read_files(&self) -> Result<(), VaultError> {
        Ok(self.http.read_files()?)
    }

    /// Sends `call` once.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response, VaultError> {
        Ok(self.http.send(self.request(call)?).await?)
    }

    /// Sends `call` once, and requests a WebSocket.
    pub(in crate::vault) async fn upgrade(&self, call: Call<'_>) -> Result<Upgrade, VaultError> {
        Ok(self.http.upgrade(self.request(call)?).await?)
    }

    fn request(&self, call: Call<'_>) -> Result<Request, VaultError> {
        let mut headers = HeaderMap::new();
        // Vault Agent and Vault Proxy can require it against SSRF: https://developer.hashicorp.com/vault/api-docs
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        let namespace = call.namespace.or(self.namespace.as_deref()).map(|text| text.trim_matches('/'));
        if let Some(namespace) = namespace.filter(|text| !text.is_empty()) {
            headers.insert("x-vault-namespace", sensitive_header(namespace.as_bytes(), HttpError::Namespace)?);
        }
        if let Some(token) = call.token {
            headers.insert("x-vault-token", sensitive_header(token.expose(), HttpError::Token)?);
        }
        Ok(Request {
            method: call.method,
            path: format!("v1/{}", call.path),
            query: call.query,
            headers,
            body: call.body.map(body),
        })
    }
}
