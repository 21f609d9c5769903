//! One connection, requests with Vault's headers, bounded answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, redirect};
use zeroize::Zeroizing;

use super::kv::Mount;
use super::tls::TlsFiles;
use crate::model::{Failure, FailureClass, Reason, VaultServer, VaultToken};

/// Largest answer that is taken: a Kubernetes Secret holds 1 MiB, base64 and JSON add to it.
const LARGEST_ANSWER: usize = 4 << 20;

/// Idle connections are kept for the next refresh; the server closes them when it likes.
const IDLE: Duration = Duration::from_secs(90);

/// The hand that speaks to Vault.
pub struct Vault {
    pub(super) server: VaultServer,
    client: Mutex<(TlsFiles, Client)>,
    /// What is known of mounts: their prefix, with a slash at the end, and how to read below it.
    pub(super) mounts: Mutex<BTreeMap<String, Mount>>,
    requests: AtomicU64,
}

/// An answer, whatever its status. The body is zeroed on drop.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What to ask.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below `/v1/`, already escaped where needed.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a VaultToken>,
    /// Overrides the server's namespace.
    pub(super) namespace: Option<&'a str>,
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
}

impl Vault {
    /// Prepares the client; nothing is sent.
    ///
    /// # Errors
    /// If the TLS files cannot be read or used.
    pub fn new(server: &VaultServer) -> Result<Self, Failure> {
        let files = TlsFiles::read(&server.tls)?;
        let client = build(server, &files)?;
        Ok(Self {
            server: server.clone(),
            client: Mutex::new((files, client)),
            mounts: Mutex::default(),
            requests: AtomicU64::new(0),
        })
    }

    /// Requests sent since the start, for the metric.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The client; TLS files that changed are taken over. While they are half-written the old ones serve.
    fn client(&self, look: bool) -> Client {
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if look
            && let Ok(files) = TlsFiles::read(&self.server.tls)
            && files != current.0
            && let Ok(client) = build(&self.server, &files)
        {
            *current = (files, client);
        }
        current.1.clone()
    }

    /// Sends one request; a standby's redirect to a configured host is followed once.
    pub(super) async fn send(&self, what: &str, ask: Ask<'_>) -> Result<Answer, Failure> {
        let has_tls_files = self.server.tls.ca_file.is_some() || self.server.tls.client.is_some();
        let client = self.client(has_tls_files);
        let url = format!("{}/v1/{}", self.server.address, ask.path);
        let (answer, location) = self.send_to(&client, what, &url, &ask).await?;
        if answer.status != 307 {
            return Ok(answer);
        }
        let location = location.unwrap_or_default();
        let known = std::iter::once(&self.server.address).chain(&self.server.redirect_to);
        // With the slash: "http://vault:8200" must not allow "http://vault:82001".
        if !known.into_iter().any(|host| location.starts_with(&format!("{host}/v1/"))) {
            let to = host_of(&location);
            let message = format!(
                "{what}: vault redirects to {to}, which is not configured; the token would leak to a host that nobody \
                 named: add it to vault.redirectTo if it is yours"
            );
            return Err(Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message));
        }
        Ok(self.send_to(&client, what, &location, &ask).await?.0)
    }

    async fn send_to(
        &self,
        client: &Client,
        what: &str,
        url: &str,
        ask: &Ask<'_>,
    ) -> Result<(Answer, Option<String>), Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut headers = HeaderMap::new();
        // Agents and proxies may demand it: https://developer.hashicorp.com/vault/api-docs#the-x-vault-request-header
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        let header = |bytes: &[u8]| {
            HeaderValue::from_bytes(bytes).map_err(|_| {
                let message = format!("{what}: the token or the namespace has characters that a header cannot have");
                Failure::new(FailureClass::Invalid, Reason::CredentialUnreadable, message)
            })
        };
        if let Some(token) = ask.token {
            let mut value = header(token.expose())?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        if let Some(namespace) = ask.namespace.or(self.server.namespace.as_deref()) {
            headers.insert("x-vault-namespace", header(namespace.as_bytes())?);
        }
        let mut request = client.request(ask.method.clone(), url).headers(headers);
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let mut response = request.send().await.map_err(|error| unreachable(what, error))?;
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let retry_after = text(RETRY_AFTER).and_then(|value| value.trim().parse().ok());
        let location = text(LOCATION).map(str::to_owned);
        let status = response.status().as_u16();
        let mut body = Zeroizing::new(Vec::with_capacity(2048));
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(what, error))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                let message = format!("{what}: the answer is larger than {} MiB", LARGEST_ANSWER >> 20);
                return Err(Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((Answer { status, body, retry_after }, location))
    }
}

fn build(server: &VaultServer, files: &TlsFiles) -> Result<Client, Failure> {
    let builder = Client::builder()
        // The token header is not among those that the library strips when it follows to another host.
        .redirect(redirect::Policy::none())
        // A proxy from the environment would see secrets; Vault is reached directly.
        .no_proxy()
        .timeout(server.timeout)
        .connect_timeout(server.timeout)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .user_agent(concat!("keyferry/", env!("CARGO_PKG_VERSION")));
    let builder = match files.config(&server.tls)? {
        Some(config) => builder.tls_backend_preconfigured(config),
        None if server.address.starts_with("https:") => builder,
        // Plain HTTP: reading the system's authorities would be work for nothing.
        None => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| {
        let message = format!("failed to set up the vault client: {}", Failure::chain(&error.without_url()));
        Failure::new(FailureClass::Local, Reason::CredentialUnreadable, message)
    })
}

fn unreachable(what: &str, error: reqwest::Error) -> Failure {
    let message = format!("{what}: {}", Failure::chain(&error.without_url()));
    Failure::new(FailureClass::Unreachable, Reason::VaultUnreachable, message)
}

/// Scheme, host and port of a URL, for a message.
fn host_of(url: &str) -> String {
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    url[..end].to_owned()
}
