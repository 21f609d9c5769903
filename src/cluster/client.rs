//! Requests to the API server, answers as metadata only, failures classified.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;

use super::report::Memory;
use crate::model::{Failure, FailureClass, Reason, StatusReport};

/// No answer may hold up a report or a mirror for longer; the runtime has its own bound above this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for metadata instead of the whole object, so that no value of a Secret travels back to us
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>, `PartialObjectMetadata`).
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Patch types.
pub(super) const APPLY: &str = "application/apply-patch+yaml";
pub(super) const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";

/// The hand that speaks to the API server.
pub struct Cluster {
    client: Client,
    pub(super) namespace: String,
    pub(super) pod: Option<PodIdentity>,
    pub(super) memory: Mutex<Memory>,
}

/// Which Pod we are, from the downward API.
pub(super) struct PodIdentity {
    pub(super) name: String,
    pub(super) uid: String,
}

/// An answer that is not an error.
pub(super) struct Accepted {
    pub(super) created: bool,
    pub(super) metadata: ObjectMeta,
}

/// An answer that is an error.
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) status: Status,
    pub(super) retry_after: Option<u64>,
}

impl Cluster {
    /// Prepares the client; nothing is sent. In the cluster, kube reads the ServiceAccount's token and CA anew when they
    /// change.
    ///
    /// # Errors
    /// If there is neither a kubeconfig nor a cluster around us.
    pub async fn connect(status: &StatusReport) -> Result<Self, Failure> {
        let failure = |error: &dyn std::error::Error| {
            let hint = "mount a ServiceAccount token for the API server in keyferry's container, or set KUBECONFIG";
            let message = format!("failed to find the API server: {}; {hint}", Failure::chain(error));
            Failure::new(FailureClass::Local, Reason::ApiUnavailable, message)
        };
        let mut config = match &status.kubeconfig {
            None => Config::incluster().map_err(|error| failure(&error))?,
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(|error| failure(&error))?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| failure(&error))?
            }
        };
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        config.write_timeout = Some(TIMEOUT);
        // Each hand tries once; only the brain knows what a retry is.
        config.default_retry = false;
        let namespace = status.pod_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let pod = match (&status.pod_name, &status.pod_uid) {
            (Some(name), Some(uid)) => Some(PodIdentity { name: name.clone(), uid: uid.clone() }),
            _ => None,
        };
        let client = Client::try_from(config).map_err(|error| failure(&error))?;
        Ok(Self { client, namespace, pod, memory: Mutex::default() })
    }

    /// Our Pod, for the calls that are about it.
    pub(super) fn pod(&self) -> Result<&PodIdentity, Failure> {
        self.pod.as_ref().ok_or_else(|| {
            let message = "failed to report on our Pod: POD_NAME and POD_UID are not set (downward API)";
            Failure::new(FailureClass::Invalid, Reason::NotConfigured, message)
        })
    }

    /// Sends one request below `/api/v1/namespaces/<ours>/`.
    pub(super) async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Result<Accepted, Refusal>, Failure> {
        #[derive(Deserialize)]
        struct Partial {
            metadata: ObjectMeta,
        }
        let uri = format!("/api/v1/namespaces/{}/{path}", self.namespace);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, HeaderValue::from_static(METADATA_ONLY))
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .body(Body::from(body))
            .map_err(|error| Failure::new(FailureClass::Invalid, Reason::InvalidRequest, format!("{what}: {error}")))?;
        let unreachable = |error: &dyn std::error::Error| {
            let message = format!("{what}: {}", Failure::chain(error));
            Failure::new(FailureClass::Unreachable, Reason::ApiUnavailable, message)
        };
        let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
        let code = response.status();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
        let body: Bytes = response.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        if code.is_success() {
            let parsed: Partial = serde_json::from_slice(&body).map_err(|_| {
                let message = format!("{what}: the answer is not what the API promises");
                Failure::new(FailureClass::Transient, Reason::ApiUnavailable, message)
            })?;
            return Ok(Ok(Accepted { created: code == StatusCode::CREATED, metadata: parsed.metadata }));
        }
        let status = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Err(Refusal { code: code.as_u16(), status, retry_after }))
    }
}

impl Refusal {
    /// The API server's own words. They name fields and managers, never values of a Secret.
    pub(super) fn words(&self) -> String {
        self.status.message.clone().unwrap_or_default()
    }

    /// Whether a cause is about this field.
    pub(super) fn is_about(&self, field: &str) -> bool {
        let causes = self.status.details.iter().flat_map(|details| details.causes.iter().flatten());
        causes.into_iter().any(|cause| cause.field.as_deref().is_some_and(|found| found.starts_with(field)))
    }

    /// The failure for the codes that mean the same for every call. `rule` is the line that a Role lacks on 403.
    pub(super) fn failure(&self, what: &str, rule: &str) -> Failure {
        let (class, reason) = match self.code {
            // The token ran out between two reads of its file; kube reads it anew.
            401 => (FailureClass::Transient, Reason::ApiUnavailable),
            403 => (FailureClass::Denied, Reason::Forbidden),
            404 => (FailureClass::Missing, Reason::ApiUnavailable),
            409 => (FailureClass::Conflict, Reason::ApiUnavailable),
            400 | 405 | 413 | 415 | 422 => (FailureClass::Invalid, Reason::InvalidRequest),
            _ => (FailureClass::Transient, Reason::ApiUnavailable),
        };
        let hint = if self.code == 403 { format!("; keyferry needs: {rule}") } else { String::new() };
        let message = format!("{what}: the API server answers {}: {}{hint}", self.code, self.words());
        Failure { retry_after: self.retry_after.map(Duration::from_secs), ..Failure::new(class, reason, message) }
    }
}
