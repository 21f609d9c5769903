//! HTTP client for one server: TLS and PEM files, size limit, request counter, and redirects. Independent of Vault's API, but
//! messages name Vault, because users configure the address of Vault.
//!
//! - **Redirects of the HTTP library are disabled.** It would send the token header, which it does not recognize as a
//!   credential, to any host.
//! - **Proxies from the environment are not used.** A forgotten `HTTP_PROXY` would expose tokens and secrets to a third party.

mod body;
mod clients;
mod diagnose;
mod error;
mod response;
mod tls;
mod upgrade;
mod url;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use zeroize::Zeroizing;

use clients::{Clients, Protocol, connect_timeout};
use diagnose::{RequestContext, diagnose};
pub(super) use error::HttpError;
pub(super) use response::Response;
pub(super) use upgrade::Upgrade;
use url::origin;

use crate::model::{SecretBytes, VaultServer};

/// Sends requests to one server.
pub(super) struct Http {
    server: VaultServer,
    base: Url,
    /// Origins that a redirect is allowed to point to.
    allowed: Vec<Url>,
    clients: Clients,
    sent: AtomicU64,
}

/// A request, not yet bound to an origin.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Path without a leading slash. `send` percent-encodes it.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// JSON text.
    pub(super) body: Option<Bytes>,
}

impl Http {
    pub(super) fn new(server: &VaultServer) -> Result<Self, HttpError> {
        let base = url::parse(&server.address)?;
        let mut allowed = vec![base.clone()];
        for address in &server.redirect_to {
            allowed.push(url::parse(address)?);
        }
        Ok(Self { server: server.clone(), base, allowed, clients: Clients::default(), sent: AtomicU64::new(0) })
    }

    /// Number of requests sent so far.
    pub(super) fn requests(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests a comparison of the PEM files with those in use before the next request.
    pub(super) fn compare_files(&self) {
        self.clients.compare_files();
    }

    /// Whether the next request reads PEM files.
    pub(super) fn needs_files(&self) -> bool {
        self.clients.needs_files(&self.server)
    }

    /// Compares the PEM files with those in use, if a comparison is due.
    pub(super) fn read_files(&self) -> Result<(), HttpError> {
        self.clients.read_files(&self.server)
    }

    /// Sends `request` once. Follows one 307, only to a configured origin, and with the path of `request`
    /// (<https://developer.hashicorp.com/vault/docs/concepts/ha#client-redirection>).
    pub(super) async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let response = self.send_to(&self.base, request.clone()).await?;
        if response.status != StatusCode::TEMPORARY_REDIRECT {
            return Ok(response);
        }
        let target = self.redirect_target(&response)?;
        let response = self.send_to(target, request).await?;
        if response.status == StatusCode::TEMPORARY_REDIRECT {
            return Err(HttpError::RedirectLoop(origin(target)));
        }
        Ok(response)
    }

    fn redirect_target(&self, response: &Response) -> Result<&Url, HttpError> {
        let location = response.location.as_deref().unwrap_or_default();
        let target = self.base.join(location).ok().filter(Url::has_host);
        let known = target.as_ref().and_then(|url| self.allowed.iter().find(|known| known.origin() == url.origin()));
        known.ok_or_else(|| HttpError::RedirectRefused {
            from: self.server.address.clone(),
            to: target.map_or_else(|| "an unreadable address".to_owned(), |url| origin(&url)),
        })
    }

    async fn send_to(&self, to: &Url, request: Request) -> Result<Response, HttpError> {
        let url = url::join(to, &request.path, &request.query)?;
        let client = self.clients.get(&self.server, &url, Protocol::Any)?;
        let url = tls::with_server_name(url, &self.server.tls)?;
        let mut call = client.request(request.method, url).headers(request.headers);
        if let Some(body) = request.body {
            call = call.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut response = call.send().await.map_err(|error| self.unreachable(to, error))?;
        let body = body::read(&mut response).await.map_err(|error| self.unreachable(to, error))?;
        let body = body.ok_or(HttpError::TooLarge { path: request.path })?;
        let response = Response::new(response.status(), response.headers(), body);
        if response.is_from_tls_port() {
            return Err(HttpError::TlsPort(origin(to)));
        }
        Ok(response)
    }

    fn unreachable(&self, to: &Url, error: reqwest::Error) -> HttpError {
        self.compare_files();
        let tls = &self.server.tls;
        let ca = tls.ca_file.as_ref().map_or("the system's store".to_owned(), |file| file.display().to_string());
        let timeout = self.server.timeout;
        let context = RequestContext { request: timeout, connect: connect_timeout(timeout), ca: &ca };
        HttpError::Unreachable { address: origin(to), cause: diagnose(error, &context) }
    }
}

/// A header value that is zeroed on drop and shown as "Sensitive" in debug output. `invalid` is the error if it cannot be sent.
pub(super) fn sensitive_header(value: &[u8], invalid: HttpError) -> Result<HeaderValue, HttpError> {
    let shared = Bytes::from_owner(Zeroizing::new(value.to_vec()));
    let mut header = HeaderValue::from_maybe_shared(shared).map_err(|_| invalid)?;
    header.set_sensitive(true);
    Ok(header)
}

/// A request body that is zeroed when its last clone is dropped.
pub(super) fn body(secret: SecretBytes) -> Bytes {
    struct Owner(SecretBytes);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Bytes::from_owner(Owner(secret))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Tls;

    #[test]
    fn redirect_to_unconfigured_origin_is_rejected() {
        let http = Http::new(&VaultServer {
            address: "https://vault:8200".into(),
            redirect_to: vec!["https://vault-1:8200".into()],
            namespace: None,
            tls: Tls::default(),
            timeout: Duration::from_secs(1),
        })
        .expect("a good address");
        let target = |location: &str| {
            let response = Response { location: Some(location.into()), ..Response::for_test(307, "") };
            http.redirect_target(&response).map(origin).map_err(|error| error.to_string())
        };
        assert_eq!(target("https://vault-1:8200/v1/secret").as_deref(), Ok("https://vault-1:8200"));
        assert_eq!(target("/v1/secret").as_deref(), Ok("https://vault:8200"));
        for foreign in
            ["https://vault-1:8201/", "http://vault-1:8200/", "https://vault-1.evil/", "//evil:8200/", "data:x"]
        {
            let refused = target(foreign).expect_err(foreign);
            assert!(refused.contains("add it to vault.redirectTo"), "{refused}");
        }
    }
}
