//! One connection to the API server, one try per request, metadata-only answers.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::account::Account;
use crate::model::{Failure, FailureClass, Reason};

/// For the connection, for each write and for the answer. Our requests are small and touch one object, which the API
/// server does in milliseconds; its own slowest part is an admission webhook, called with 10 s by default
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>).
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for metadata only: `patch` on a Secret is in effect a read right, and a plain answer to an apply holds every
/// value, those of a foreign Secret too. For a Pod it halves the answer.
pub(super) const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Sets and removes single fields, and owns what it sets.
pub(super) const MERGE: &str = "application/merge-patch+json";
/// `application/apply-patch+yaml`: JSON is YAML.
pub(super) const APPLY: &str = "application/apply-patch+yaml";
/// Merges lists by key, so that the conditions of others stay.
pub(super) const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
/// For a POST.
pub(super) const JSON: &str = "application/json";

/// Most bytes of an answer. etcd holds at most 1.5 MiB per object and an answer has its metadata only.
const MAX_ANSWER: usize = 2 << 20;

/// Most bytes of a token file. Tokens have one to two thousand; the API server's limit for all headers is 1 MiB.
const MAX_TOKEN: u64 = 64 << 10;

/// The API server.
pub(super) struct Api {
    client: Client,
    /// Who we are there, if our token says so.
    account: Option<Account>,
    /// One request at a time, so that there is one connection with one set of TLS buffers. Nothing here is urgent: files
    /// never wait for the API server.
    turn: tokio::sync::Mutex<()>,
}

/// What the API server answered.
pub(super) struct Answer {
    pub(super) code: StatusCode,
    /// `Retry-After` in seconds, the only form that the API server sends.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body of a success.
    pub(super) fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        // The error says a line and a column, and a type; the body has metadata only.
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("failed to {what}: failed to parse the API server's answer: {error}");
            Failure::new(FailureClass::Transient, Reason::ApiUnavailable, message)
        })
    }
}

/// A client and the namespace that its configuration names.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<(Api, String), Failure> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| {
            unusable("the ServiceAccount's files in /var/run/secrets/kubernetes.io/serviceaccount", &error)
        })?,
        Some(path) => {
            let noun = format!("kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).map_err(|error| unusable(&noun, &error))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| unusable(&noun, &error))?
        }
    };
    tune(&mut config);
    let namespace = config.default_namespace.clone();
    let account = account(&config.auth_info)?;
    let client = Client::try_from(config).map_err(|error| unusable("the API server's credentials", &error))?;
    Ok((Api { client, account, turn: tokio::sync::Mutex::new(()) }, namespace))
}

fn tune(config: &mut Config) {
    // A hand tries once; when to try again is the brain's to say.
    config.default_retry = false;
    config.connect_timeout = Some(TIMEOUT);
    config.write_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    // Count from the request, not from when the connection went idle. An idle connection is given back after the same
    // time, which is welcome: hours may pass between two requests.
    config.reset_reader_on_write = true;
}

/// The `ServiceAccount` of our token. It stays the same for the life of the pod, though the token does not.
fn account(auth: &AuthInfo) -> Result<Option<Account>, Failure> {
    #[derive(Deserialize)]
    struct Inline<'a> {
        #[serde(borrow)]
        token: Option<Cow<'a, str>>,
    }
    if auth.token.is_some() {
        // The library shows the token to serde only; the buffer is wiped.
        let json = to_body(auth);
        let token = serde_json::from_slice::<Inline<'_>>(&json).ok().and_then(|inline| inline.token);
        return Ok(token.and_then(|token| Account::from_token(&token)));
    }
    let Some(file) = &auth.token_file else { return Ok(None) };
    let token = read_token(Path::new(file)).map_err(|error| unusable(&format!("API token file {file}"), &error))?;
    Ok(std::str::from_utf8(&token).ok().and_then(Account::from_token))
}

/// Reads a regular file and never waits: a FIFO in its place would hold the agent's only thread.
fn read_token(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut token = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(MAX_TOKEN)).unwrap_or(0) + 1));
    file.take(MAX_TOKEN).read_to_end(&mut token)?;
    Ok(token)
}

fn unusable(noun: &str, error: &dyn std::error::Error) -> Failure {
    let message = format!("failed to use {noun}: {}", Failure::chain(error));
    Failure::new(FailureClass::Local, Reason::CredentialUnreadable, message)
}

impl Api {
    /// The `ServiceAccount` of our API token; `None` for credentials that are no such token.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Sends one request. `what` is "<verb> <noun> {which}" for the message.
    ///
    /// # Errors
    /// `Unreachable` if there was no whole answer. An answer that is an error is still an answer.
    pub(super) async fn exchange(&self, what: &str, request: Request<Bytes>) -> Result<Answer, Failure> {
        let unreachable = |error: &dyn std::error::Error| {
            let message = format!("failed to {what}: failed to reach the API server: {}", Failure::chain(error));
            Failure::new(FailureClass::Unreachable, Reason::ApiUnavailable, message)
        };
        let _turn = self.turn.lock().await;
        let answer = self.client.send(request.map(Body::from)).await.map_err(|error| unreachable(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| unreachable(&*error))?.to_bytes();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { code: head.status, retry_after: retry_after.map(Duration::from_secs), body })
    }
}

/// A request for metadata only. `path` is made of checked names and constants.
pub(super) fn request(method: Method, path: String, content_type: &'static str, body: Bytes) -> Request<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, METADATA_ONLY)
        .header(CONTENT_TYPE, content_type)
        .body(body);
    request.expect("a path of RFC 1123 names and constants is a URI, and the headers are constants")
}

/// Serialises into one buffer that is zeroed when the request is done.
///
/// Two passes: a buffer that grows would leave copies of the values in freed memory. The copies that HTTP and TLS make on
/// the way out are not in our hands.
pub(super) fn to_body(value: &impl Serialize) -> Bytes {
    const INVARIANT: &str = "bodies have text keys only, and neither sink fails";
    let mut size = Size(0);
    serde_json::to_writer(&mut size, value).expect(INVARIANT);
    let mut buffer = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *buffer, value).expect(INVARIANT);
    Bytes::from_owner(buffer)
}

/// Counts what is written.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_asks_for_metadata_only() {
        let request =
            request(Method::PATCH, "/api/v1/namespaces/a/secrets/b?fieldManager=c".into(), APPLY, Bytes::new());
        assert_eq!(request.headers()[ACCEPT], METADATA_ONLY);
        assert_eq!(request.headers()[CONTENT_TYPE], "application/apply-patch+yaml");
    }

    fn token_of(name: &str) -> String {
        use base64::Engine as _;
        let claims = format!(r#"{{"kubernetes.io":{{"namespace":"ns","serviceaccount":{{"name":"{name}","uid":"u"}}}}}}"#);
        format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_token_says_who_we_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, token_of("file")).expect("written");
        let of = |info: serde_json::Value| {
            let info: AuthInfo = serde_json::from_value(info).expect("an AuthInfo");
            account(&info).map(|account| account.map(|account| account.name))
        };
        assert_eq!(of(serde_json::json!({"token": token_of("inline")})), Ok(Some("inline".into())));
        assert_eq!(of(serde_json::json!({"tokenFile": file})), Ok(Some("file".into())));
        assert_eq!(of(serde_json::json!({})), Ok(None));
        assert_eq!(of(serde_json::json!({"token": "opaque"})), Ok(None));
        let missing = of(serde_json::json!({"tokenFile": directory.path().join("none")})).expect_err("missing");
        assert_eq!((missing.class, missing.reason), (FailureClass::Local, Reason::CredentialUnreadable));
    }

    /// A FIFO stands for a mount that hangs.
    #[test]
    fn a_token_file_that_would_block_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("token");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        let error = read_token(&fifo).expect_err("a FIFO");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn the_client_does_not_retry_and_does_not_wait_for_ever() {
        let mut config = Config::new("https://localhost".parse().expect("a URI"));
        tune(&mut config);
        assert!(!config.default_retry);
        assert_eq!((config.connect_timeout, config.read_timeout), (Some(TIMEOUT), Some(TIMEOUT)));
    }

    #[test]
    fn a_body_is_written_without_growing() {
        let body = to_body(&serde_json::json!({"data": {"k": "dg=="}}));
        assert_eq!(&body[..], br#"{"data":{"k":"dg=="}}"#);
    }
}
