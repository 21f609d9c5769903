//! One request, one answer: headers, the limit on size, the counter, and the redirect of a standby.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use zeroize::Zeroizing;

use super::{classify, lock, tls};
use crate::model::{Failure, FailureClass, Reason, VaultServer, VaultToken};

/// Largest answer that is taken. Vault itself stores at most 1 MiB in an entry (`max_entry_size` of Raft storage, 512 KiB with
/// Consul) and a Kubernetes Secret holds 1 MiB; four times that leaves room for JSON's escapes, and keeps the agent small.
const MOST_BODY_BYTES: usize = 4 * 1024 * 1024;

/// First size of the buffer for an answer without a length.
const FIRST_BUFFER: usize = 16 * 1024;

/// Sends requests to one server.
pub(super) struct Transport {
    server: VaultServer,
    base: Url,
    /// Origins to which a 307 may lead.
    allowed: Vec<Url>,
    connections: Mutex<Connections>,
    sent: AtomicU64,
}

/// The HTTP clients by origin, made from the PEM files whose fingerprint stands beside them. More than one only after a 307.
#[derive(Default)]
struct Connections {
    clients: BTreeMap<String, reqwest::Client>,
    files: tls::Fingerprint,
    /// A connection failed since the files were last compared.
    suspect: bool,
}

/// A request to make.
pub(super) struct Call<'a> {
    method: Method,
    path: &'a str,
    version: Option<u64>,
    namespace: Option<&'a str>,
    token: Option<&'a VaultToken>,
    body: Option<Zeroizing<Vec<u8>>>,
}

impl<'a> Call<'a> {
    /// `path` without `/v1/`, as a user writes it; it is percent-encoded here.
    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, version: None, namespace: None, token: None, body: None }
    }

    pub(super) fn version(mut self, version: Option<u64>) -> Self {
        self.version = version;
        self
    }

    /// `None` takes the server's.
    pub(super) fn namespace(mut self, namespace: Option<&'a str>) -> Self {
        self.namespace = namespace;
        self
    }

    pub(super) fn token(mut self, token: &'a VaultToken) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) fn body(mut self, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Some(body);
        self
    }
}

/// A whole answer, whatever its status. The body is zeroed on drop.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) path: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Zeroizing<Vec<u8>>,
    location: Option<String>,
}

impl Transport {
    pub(super) fn new(server: &VaultServer) -> Result<Self, Failure> {
        let base = url(&server.address)?;
        let mut allowed = vec![base.clone()];
        for address in &server.redirect_to {
            allowed.push(url(address)?);
        }
        Ok(Self { server: server.clone(), base, allowed, connections: Mutex::default(), sent: AtomicU64::new(0) })
    }

    pub(super) fn requests(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Has the PEM files compared with those in use before the next request.
    pub(super) fn look_at_files_again(&self) {
        lock(&self.connections).suspect = true;
    }

    /// Sends `call` once. A 307 of a standby that does not forward is followed once, and only to a configured origin, with
    /// our own path: no HTTP library knows that `X-Vault-Token` is a credential
    /// (<https://developer.hashicorp.com/vault/docs/concepts/ha#client-redirection>).
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let headers = self.headers(&call)?;
        let body = call.body.map(Bytes::from_owner);
        let own = request_url(&self.base, call.path, call.version)?;
        let answer = self.send_once(&call.method, own, call.path, headers.clone(), body.clone()).await?;
        if answer.status != StatusCode::TEMPORARY_REDIRECT {
            return Ok(answer);
        }
        let target = self.redirect_target(&answer)?;
        let there = request_url(&target, call.path, call.version)?;
        let answer = self.send_once(&call.method, there, call.path, headers, body).await?;
        if answer.status == StatusCode::TEMPORARY_REDIRECT {
            return Err(Failure::new(
                FailureClass::Transient,
                Reason::ServerError,
                format!(
                    "failed to find the active Vault server: {} redirects too; is a new leader being elected?",
                    origin(&target)
                ),
            ));
        }
        Ok(answer)
    }

    fn redirect_target(&self, answer: &Answer) -> Result<Url, Failure> {
        let location = answer.location.as_deref().unwrap_or_default();
        let target = self.base.join(location).ok().filter(Url::has_host);
        let known = target.as_ref().and_then(|url| self.allowed.iter().find(|known| known.origin() == url.origin()));
        known.cloned().ok_or_else(|| {
            let told = target.map_or_else(|| "an unreadable address".to_owned(), |url| origin(&url));
            Failure::new(
                FailureClass::Invalid,
                Reason::InvalidRequest,
                format!(
                    "failed to follow the redirect of {} to {told}: the token goes to configured servers only; \
                     if this one is yours, add it to vault.redirectTo",
                    self.server.address
                ),
            )
        })
    }

    async fn send_once(
        &self,
        method: &Method,
        url: Url,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let address = origin(&url);
        let client = self.client(&url)?;
        let mut request = client.request(method.clone(), tls::addressed(url, &self.server.tls)?).headers(headers);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let broken = |error| {
            self.look_at_files_again();
            let ca =
                self.server.tls.ca_file.as_ref().map_or("the system's store".into(), |file| file.display().to_string());
            classify::unreachable(&address, error, &ca)
        };
        let mut response = request.send().await.map_err(broken)?;
        let room = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(FIRST_BUFFER);
        let mut body = Zeroizing::new(Vec::with_capacity(room.min(MOST_BODY_BYTES)));
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MOST_BODY_BYTES {
                return Err(too_large(path));
            }
            append(&mut body, &chunk);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let retry_after = classify::retry_after(response.headers());
        Ok(Answer { status: response.status(), path: path.to_owned(), retry_after, body, location })
    }

    /// The client for the origin of `url`. Made anew where the PEM files have changed since a connection failed or a login
    /// asked to look; an unchanged file costs a read and keeps the open connection.
    fn client(&self, url: &Url) -> Result<reqwest::Client, Failure> {
        let mut connections = lock(&self.connections);
        if connections.suspect || connections.clients.is_empty() {
            let files = tls::fingerprint(&self.server.tls)?;
            if files != connections.files {
                connections.clients.clear();
                connections.files = files;
            }
            connections.suspect = false;
        }
        let key = origin(url);
        if let Some(client) = connections.clients.get(&key) {
            return Ok(client.clone());
        }
        let client = tls::client(&self.server, url)?;
        connections.clients.insert(key, client.clone());
        Ok(client)
    }

    fn headers(&self, call: &Call<'_>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        // Vault's agents and proxies may ask for it, against forged requests: https://developer.hashicorp.com/vault/api-docs
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(namespace) = call.namespace.or(self.server.namespace.as_deref()) {
            headers.insert("x-vault-namespace", header(namespace.as_bytes(), "vault.namespace")?);
        }
        if let Some(token) = call.token {
            headers.insert("x-vault-token", header(token.expose(), "the Vault token")?);
        }
        Ok(headers)
    }
}

impl Answer {
    #[cfg(test)]
    pub(super) fn for_test(status: u16, body: &str) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status"),
            path: "some/path".into(),
            retry_after: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
            location: None,
        }
    }
}

/// `scheme://host:port`, for messages and as a key.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `origin` + `/v1/` + `path`, each segment percent-encoded.
fn request_url(origin: &Url, path: &str, version: Option<u64>) -> Result<Url, Failure> {
    // A URL library would resolve these, and the request would go to another path than the user wrote.
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(Failure::new(
            FailureClass::Invalid,
            Reason::InvalidRequest,
            format!("failed to read {path}: a path has no '.' or '..' segments"),
        ));
    }
    let mut url = origin.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push("v1").extend(path.split('/'));
    }
    url.set_query(version.map(|number| format!("version={number}")).as_deref());
    Ok(url)
}

fn url(address: &str) -> Result<Url, Failure> {
    Url::parse(address).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
        Failure::new(
            FailureClass::Invalid,
            Reason::InvalidRequest,
            format!("failed to use the Vault address {address}: it must be like https://vault:8200"),
        )
    })
}

/// A header value that is zeroed when dropped and that debug output shows as "Sensitive".
fn header(value: &[u8], what: &str) -> Result<HeaderValue, Failure> {
    let shared = Bytes::from_owner(Zeroizing::new(value.to_vec()));
    let mut header = HeaderValue::from_maybe_shared(shared).map_err(|_| {
        Failure::new(
            FailureClass::Local,
            Reason::CredentialUnreadable,
            format!("failed to use {what}: it has characters that no HTTP header can carry"),
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Appends without `Vec`'s own growing, which frees the old buffer as it is.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if body.capacity() - body.len() < chunk.len() {
        let room = (body.len() + chunk.len()).max(body.capacity() * 2);
        let mut larger = Zeroizing::new(Vec::with_capacity(room));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

fn too_large(path: &str) -> Failure {
    Failure::new(
        FailureClass::Invalid,
        Reason::InvalidRequest,
        format!("failed to read {path}: the answer is larger than {} MiB", MOST_BODY_BYTES / 1024 / 1024),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tls;

    fn transport() -> Transport {
        Transport::new(&VaultServer {
            address: "https://vault:8200".into(),
            redirect_to: vec!["https://vault-1:8200".into()],
            namespace: None,
            tls: Tls::default(),
            timeout: Duration::from_secs(1),
        })
        .expect("a good address")
    }

    #[test]
    fn a_path_is_encoded_segment_by_segment_and_cannot_climb() {
        let transport = transport();
        let url = |path, version| request_url(&transport.base, path, version).map(|url| url.to_string());
        assert_eq!(
            url("secret/data/a b/ü?#%", Some(3)).expect("a path"),
            "https://vault:8200/v1/secret/data/a%20b/%C3%BC%3F%23%25?version=3"
        );
        for bad in ["secret/../sys/mounts", "./x", "a/.."] {
            assert!(url(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_redirect_leads_to_configured_origins_only() {
        let transport = transport();
        let target = |location: &str| {
            let answer = Answer { location: Some(location.into()), ..Answer::for_test(307, "") };
            transport.redirect_target(&answer).map(|url| origin(&url))
        };
        assert_eq!(target("https://vault-1:8200/v1/secret").as_deref(), Ok("https://vault-1:8200"));
        assert_eq!(target("/v1/secret").as_deref(), Ok("https://vault:8200"));
        for foreign in
            ["https://vault-1:8201/", "http://vault-1:8200/", "https://vault-1.evil/", "//evil:8200/", "data:x"]
        {
            let failure = target(foreign).expect_err(foreign);
            assert_eq!(failure.class, FailureClass::Invalid);
            assert!(failure.message.contains("vault.redirectTo"), "{failure}");
        }
    }

    #[test]
    fn a_growing_body_keeps_its_bytes() {
        let mut body = Zeroizing::new(Vec::with_capacity(2));
        for chunk in [&b"ab"[..], b"cdefg", b"", b"h"] {
            append(&mut body, chunk);
        }
        assert_eq!(&**body, b"abcdefgh");
    }
}
