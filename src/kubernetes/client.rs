//! HTTP client of the API server: one connection, one attempt per request, metadata-only responses.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};

use super::account::{self, Account};
use super::token_file::TokenFile;
use crate::model::{Failure, FailureClass, Reason, SecretBytes};

/// Timeout for connection setup, for each write, and for the response. A request concerns one small object and takes
/// milliseconds, unless the API server calls an admission webhook, for which its default timeout is 10 s
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>).
const TIMEOUT: Duration = Duration::from_secs(10);

/// `Accept` header that requests metadata only. A plain response to an apply contains every value of the Secret,
/// including values of a Secret that keyferry does not manage.
pub(super) const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Merge patch: sets and removes single fields.
pub(super) const MERGE: &str = "application/merge-patch+json";
/// Server-side apply. The body is JSON, which is valid YAML.
pub(super) const APPLY: &str = "application/apply-patch+yaml";
/// Strategic merge patch: merges lists by key, so that other conditions stay unchanged.
pub(super) const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
pub(super) const JSON: &str = "application/json";

/// Maximum size of a response in bytes. An object in etcd has at most 1.5 MiB.
const MAX_RESPONSE: usize = 2 << 20;

pub(super) struct Api {
    client: Client,
    token: Option<TokenFile>,
    account: Option<Account>,
    /// Serializes requests, so that there is only one connection with its TLS buffers. Files never wait for the API
    /// server, so that the delay is harmless.
    turn: tokio::sync::Mutex<()>,
}

pub(super) struct Response {
    pub(super) code: StatusCode,
    /// From `Retry-After`, which the API server sends in seconds only.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Response {
    /// The metadata of the object in the body of a success.
    pub(super) fn metadata(&self, what: &str) -> Result<ObjectMeta, Failure> {
        #[derive(Deserialize)]
        struct Object {
            metadata: ObjectMeta,
        }
        serde_json::from_slice(&self.body).map(|Object { metadata }| metadata).map_err(|_| {
            let message = format!(
                "failed to {what}: the API server's response has no object metadata; check that no proxy \
                 changes responses"
            );
            Failure::new(FailureClass::Transient, Reason::ApiUnavailable, message)
        })
    }
}

/// Creates a client. The second value is the namespace of the kubeconfig or of the `ServiceAccount`.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<(Api, String), Failure> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| {
            unusable("API credentials in /var/run/secrets/kubernetes.io/serviceaccount", &error, MOUNT_TOKEN)
        })?,
        Some(path) => {
            let noun = format!("kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).map_err(|error| unusable(&noun, &error, CHECK_FILE))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| unusable(&noun, &error, CHECK_FILE))?
        }
    };
    tune(&mut config);
    let namespace = config.default_namespace.clone();
    let account = account::of(&config.auth_info)
        .map_err(|(file, error)| unusable(&format!("API token file {file}"), &error, MOUNT_TOKEN))?;
    // An inline token has precedence, as in kubectl.
    let token_file = config.auth_info.token_file.take().filter(|_| config.auth_info.token.is_none());
    let token = token_file.map(|file| TokenFile::new(file.into()));
    let client = Client::try_from(config)
        .map_err(|error| unusable("API credentials", &error, "check the CA certificate and the token"))?;
    Ok((Api { client, token, account, turn: tokio::sync::Mutex::new(()) }, namespace))
}

fn tune(config: &mut Config) {
    // The agent schedules retries; an adapter makes one attempt.
    config.default_retry = false;
    config.connect_timeout = Some(TIMEOUT);
    config.write_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    // Start the read timeout at the request, not when the connection became idle. An idle connection is closed after
    // the same time, which is intended: two requests can be hours apart.
    config.reset_reader_on_write = true;
}

const MOUNT_TOKEN: &str = "mount a ServiceAccount token, the CA certificate, and the namespace there";
const CHECK_FILE: &str = "check that the file exists and is a valid kubeconfig";

fn unusable(noun: &str, error: &dyn std::error::Error, remedy: &str) -> Failure {
    let message = format!("failed to load {noun}: {}; {remedy}", Failure::chain(error));
    Failure::new(FailureClass::Local, Reason::CredentialUnreadable, message)
}

impl Api {
    /// Whether [`Self::read_token`] must be called before the next request.
    pub(super) fn needs_token(&self, now: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_due(now))
    }

    /// Reads the token file. May block as long as the file system.
    ///
    /// # Errors
    /// `Local`/`CredentialUnreadable` if the file cannot be read and there is no previous token.
    pub(super) fn read_token(&self, now: Timestamp) -> Result<(), Failure> {
        let Some(token) = &self.token else { return Ok(()) };
        token.read(now).map_err(|(file, error)| unusable(&format!("API token file {file}"), &error, MOUNT_TOKEN))
    }

    /// `ServiceAccount` of the API token. `None` if the credentials are not a `ServiceAccount` token.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Sends one request. `what` is "<verb> <noun> {which}" for error messages. Returns error responses too.
    ///
    /// # Errors
    /// `Unreachable` if there was no complete response.
    pub(super) async fn exchange(&self, what: &str, mut request: Request<Bytes>) -> Result<Response, Failure> {
        if let Some(header) = self.token.as_ref().and_then(TokenFile::header) {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let unreachable = |error: &dyn std::error::Error| {
            let message = format!(
                "failed to {what}: failed to reach the API server: {}; check that network policies allow it",
                Failure::chain(error)
            );
            Failure::new(FailureClass::Unreachable, Reason::ApiUnavailable, message)
        };
        let _turn = self.turn.lock().await;
        let response = self.client.send(request.map(Body::from)).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE).collect().await.map_err(|error| unreachable(&*error))?.to_bytes();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Response { code: head.status, retry_after: retry_after.map(Duration::from_secs), body })
    }
}

/// Builds a request with a metadata-only response. `path` must consist of validated names and constants.
pub(super) fn request(method: Method, path: String, content_type: &'static str, body: Bytes) -> Request<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, METADATA_ONLY)
        .header(CONTENT_TYPE, content_type)
        .body(body);
    request.expect("a path of RFC 1123 names and constants is a URI, and the headers are constants")
}

/// Serializes `value` into a buffer that is zeroed after the request.
///
/// A first pass counts the bytes, because a growing buffer leaves copies of secret values in freed memory. keyferry
/// cannot zero the copies that the HTTP and TLS libraries make.
pub(super) fn to_body(value: &impl Serialize) -> Bytes {
    const INVARIANT: &str = "bodies have string keys only, and the buffer has the exact size";
    let body = SecretBytes::written(|buffer| serde_json::to_writer(buffer, value)).expect(INVARIANT);
    Bytes::from_owner(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_accepts_metadata_only() {
        let request =
            request(Method::PATCH, "/api/v1/namespaces/a/secrets/b?fieldManager=c".into(), APPLY, Bytes::new());
        assert_eq!(request.headers()[ACCEPT], METADATA_ONLY);
        assert_eq!(request.headers()[CONTENT_TYPE], "application/apply-patch+yaml");
    }

    #[test]
    fn client_does_not_retry_and_has_timeouts() {
        let mut config = Config::new("https://localhost".parse().expect("a URI"));
        tune(&mut config);
        assert!(!config.default_retry);
        assert_eq!((config.connect_timeout, config.read_timeout), (Some(TIMEOUT), Some(TIMEOUT)));
    }

    #[test]
    fn body_is_serialized_as_json() {
        let body = to_body(&serde_json::json!({"data": {"k": "dg=="}}));
        assert_eq!(&body[..], br#"{"data":{"k":"dg=="}}"#);
    }
}
