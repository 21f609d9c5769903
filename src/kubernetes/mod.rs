//! Client of the Kubernetes API: mirrors a set of files to a Secret, patches the conditions of the agent's own Pod, and
//! records Events on that Pod.
//!
//! This module never uses Vault, Vault tokens, or the output directory. It makes one attempt per call and classifies
//! the failure ([`classify`]). It requests metadata only, so that no secret value appears in a response.
//!
//! Errors: every function returns a [`Failure`](crate::model::Failure) with a cause and a remedy.

mod account;
mod annotations;
mod classify;
mod client;
mod digest;
mod downward_api;
mod events;
mod mirror;
mod ownership;
mod report;
mod token_file;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use self::client::Api;
use self::mirror::OwnerMemory;
use self::report::ReportMemory;
use crate::model::{
    Condition, Failure, FailureClass, Mirror, ObjectName, PodEvent, Reason, SecretBytes, SourceName, StatusReport,
    Version,
};

pub use self::digest::digest;
pub use self::downward_api::{AnnotationsError, parse_annotations};

/// Name of keyferry as field manager, as reporter of Events, and as value of [`MANAGED_BY`].
///
/// The name must not change: agents with another name do not recognize existing Secrets as managed by keyferry.
pub const FIELD_MANAGER: &str = "keyferry";

/// Label with the name of the tool that manages an object
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation with the [`digest`] of the Secret's type and data.
pub const DIGEST: &str = "keyferry.dev/digest";

/// Annotation with the version of each source that contributes to the Secret.
pub const SOURCE_VERSIONS: &str = "keyferry.dev/source-versions";

/// Annotation with a fingerprint of the writer's mirror configuration. Contains no secret data.
pub const CONFIGURATION: &str = "keyferry.dev/configuration";

/// Annotation with the name of the Pod that last wrote the Secret.
pub const WRITTEN_BY: &str = "keyferry.dev/written-by";

/// Desired content of a mirrored Secret.
#[derive(Clone)]
pub struct MirrorContent {
    /// All keys and their values. Keys that are missing here are removed from the Secret.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// Version of each source that contributes to this Secret. Replicas compare versions, so that an older reading does
    /// not replace a newer one.
    ///
    /// Names and requests are part of the configuration's fingerprint and must depend on the configuration only.
    /// Include an optional source that has no secret at the moment, with [`Version::default`].
    pub versions: BTreeMap<SourceName, MirroredVersion>,
    /// [`digest`] of `data`. The caller computes it on a blocking thread, because the computation is deliberately slow.
    pub digest: String,
    /// Overwrite newer versions in the Secret. Set this after Vault was restored from a backup and has returned the
    /// older version for long enough.
    pub accept_older: bool,
    /// Whether this write is allowed to take the Secret over from another configuration, that is, one with other keys
    /// or other source requests. Each process sets this for each of its configurations until the first outcome other
    /// than [`MirrorOutcome::Superseded`].
    pub claim: bool,
}

/// Version of one source in a mirrored set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirroredVersion {
    /// [`Source::request_id`](crate::model::Source::request_id). Versions of different requests cannot be compared.
    pub request: String,
    /// Version that was read; [`Version::default`] if the source has none.
    pub version: Version,
}

/// State of the agent's Pod, as the API server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodState {
    /// Whether the Pod is being deleted (`metadata.deletionTimestamp` is set). If not, only the container is stopping.
    pub deleting: bool,
}

/// Result of a successful call to [`Cluster::mirror`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// The Secret did not exist and was created.
    Created,
    /// The Secret had other content, or was not managed by keyferry ([`Mirror::adopt`]), and was written.
    Updated,
    /// The Secret already has this content. Nothing was written.
    Unchanged,
    /// The Secret has a newer version of at least one source. Nothing was written, even if other sources are newer
    /// here. This is not an error: the next read returns the newer version. [`MirrorContent::accept_older`] overrides
    /// it.
    Superseded,
    /// Another client edited the Secret. keyferry restored the set. The text describes it:
    /// `edited by "kubectl-patch" (keys: password)`.
    Repaired(String),
}

/// Client of the API server for one Pod.
pub struct Cluster {
    api: Api,
    namespace: ObjectName,
    pod: Option<Pod>,
    /// For [`WRITTEN_BY`], which does not need the UID.
    pod_name: Option<ObjectName>,
    reports: Mutex<ReportMemory>,
    owners: Mutex<OwnerMemory>,
}

/// One Pod. The UID protects a later Pod of the same name from being changed.
struct Pod {
    name: ObjectName,
    uid: String,
}

impl Cluster {
    /// Creates a client from `status.kubeconfig` or, if unset, from the mounted `ServiceAccount` files. Makes no
    /// request.
    ///
    /// Reads files, and may block as long as their file system. `now`: for [`Self::needs_token`].
    ///
    /// # Errors
    /// `Local` if the credentials cannot be read, `Invalid` if the namespace or the Pod's name is not a valid name.
    pub async fn connect(status: &StatusReport, now: Timestamp) -> Result<Self, Failure> {
        let (api, default_namespace) = client::connect(status.kubeconfig.as_deref()).await?;
        api.read_token(now)?;
        let namespace =
            name("namespace", "POD_NAMESPACE", status.pod_namespace.as_deref().unwrap_or(&default_namespace))?;
        let pod_name = status.pod_name.as_deref().map(|pod| name("pod name", "POD_NAME", pod)).transpose()?;
        let pod = pod_name.clone().zip(status.pod_uid.clone()).map(|(name, uid)| Pod { name, uid });
        Ok(Self { api, namespace, pod, pod_name, reports: Mutex::default(), owners: Mutex::default() })
    }

    /// Whether [`Self::read_token`] must be called before the next request: once a minute.
    #[must_use]
    pub fn needs_token(&self, now: Timestamp) -> bool {
        self.api.needs_token(now)
    }

    /// Reads the file of the API token. May block as long as the file system. If it fails, the previous token stays in
    /// use.
    ///
    /// # Errors
    /// `Local`/`CredentialUnreadable` if there is no previous token.
    pub fn read_token(&self, now: Timestamp) -> Result<(), Failure> {
        self.api.read_token(now)
    }

    /// Namespace of the Pod and of its mirrored Secrets.
    #[must_use]
    pub fn namespace(&self) -> &ObjectName {
        &self.namespace
    }

    /// Makes the Secret `name` contain exactly `content`. Sends a dry run and, if something differs, a write. Sends one
    /// more request to remove unmanaged keys, and one more if the cluster denies a change of owners.
    ///
    /// # Errors
    /// `Invalid`, with the Secret unchanged, for these reasons: `Foreign` if the Secret is not managed by keyferry and
    /// `adopt` is false, `MirrorConflict` if another configuration writes it and `claim` is false, `Drifted` if it was
    /// edited and `onDrift` is `report`. `Conflict` if the Secret changed between dry run and write. Otherwise, the
    /// classified error of the API server.
    pub async fn mirror(
        &self,
        name: &ObjectName,
        mirror: &Mirror,
        content: &MirrorContent,
    ) -> Result<MirrorOutcome, Failure> {
        let writer = mirror::Writer {
            api: &self.api,
            namespace: &self.namespace,
            pod: self.pod_name.as_ref(),
            owners: &self.owners,
        };
        writer.mirror(name, mirror, content).await
    }

    /// Patches `conditions` into the Pod's status and returns the Pod's state. Other conditions stay unchanged.
    ///
    /// # Errors
    /// `Invalid` if the Pod's name or UID is unknown, `Missing` if the Pod was deleted or re-created under the same
    /// name. Otherwise, the classified error of the API server.
    pub async fn report(&self, conditions: &[Condition], now: Timestamp) -> Result<PodState, Failure> {
        report::report(&self.api, &self.namespace, self.pod()?, &self.reports, conditions, now).await
    }

    /// Records an Event on the Pod, with time `now`.
    ///
    /// # Errors
    /// `Invalid` if the Pod's name or UID is unknown. Otherwise, the classified error of the API server.
    pub async fn record(&self, event: &PodEvent, now: Timestamp) -> Result<(), Failure> {
        events::record(&self.api, &self.namespace, self.pod()?, event, now).await
    }

    fn pod(&self) -> Result<&Pod, Failure> {
        self.pod.as_ref().ok_or_else(|| {
            let message = "failed to report on this pod: its name and UID are unknown; \
                           set POD_NAME and POD_UID from the downward API";
            Failure::new(FailureClass::Invalid, Reason::ObjectNotFound, message)
        })
    }
}

/// Validates a name, which becomes part of a URL path.
fn name(noun: &str, variable: &str, text: &str) -> Result<ObjectName, Failure> {
    ObjectName::new(text.trim()).map_err(|error| {
        let message = format!("failed to use {noun} {text:?}: {error}; set {variable} from the downward API");
        Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message)
    })
}
