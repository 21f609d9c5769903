//! The Kubernetes API: mirror a set into a Secret, patch our Pod's conditions, record Events on it.
//!
//! Never touches: Vault, tokens of Vault, the output directory. Each call is tried once and classified
//! ([`classify`]); all answers are asked for as metadata only, so that no value ever travels back.
//!
//! Errors: every function returns a [`Failure`](crate::model::Failure) that a person can act on.

mod account;
mod annotations;
mod classify;
mod client;
mod digest;
mod events;
mod mirror;
mod ownership;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use self::client::Api;
use self::mirror::OwnerMemory;
use self::report::ReportMemory;
use crate::model::{
    Condition, Failure, FailureClass, Mirror, ObjectName, PodEvent, Reason, SecretBytes, SourceName, StatusReport,
    Version,
};

pub use self::digest::digest;

/// Our name as field manager, as the reporter of Events and as the value of [`MANAGED_BY`].
///
/// A fixed name: another one would make every Secret of an earlier agent foreign.
pub const FIELD_MANAGER: &str = "keyferry";

/// The label that says who made an object
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation with the [`digest`] of type and data.
pub const DIGEST: &str = "keyferry.dev/digest";

/// Annotation with the versions of the sources that the set was made of.
pub const SOURCE_VERSIONS: &str = "keyferry.dev/source-versions";

/// Annotation with a fingerprint of what the writer was configured to mirror. Holds no secret.
pub const CONFIGURATION: &str = "keyferry.dev/configuration";

/// Annotation with the name of the Pod that wrote the Secret last.
pub const WRITTEN_BY: &str = "keyferry.dev/written-by";

/// What a mirror is to hold.
#[derive(Clone)]
pub struct MirrorContent {
    /// Key to value. All of them: a key that is left out here is removed from the Secret.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// What each source that gives to this Secret held, and what was asked for
    /// ([`Source::request_id`](crate::model::Source::request_id)); orders the readings of several replicas.
    ///
    /// Names and requests are part of the configuration's fingerprint, so they should depend on the configuration only: an
    /// optional source that gives to the Secret and holds nothing now belongs here with [`Version::default`].
    pub versions: BTreeMap<SourceName, MirroredVersion>,
    /// [`digest`] of the same data. Made by the caller, off the event loop, because it is slow on purpose.
    pub digest: String,
    /// Write although a version in the Secret is newer: the server was restored and the older one has been the truth for
    /// long enough.
    pub accept_older: bool,
    /// Whether this write may take the Secret from another configuration (one that writes other keys, or reads them from
    /// other requests). True until a configuration's first call with an outcome other than [`MirrorOutcome::Superseded`],
    /// once per configuration and process.
    pub claim: bool,
}

/// What a source held when the set was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirroredVersion {
    /// [`Source::request_id`](crate::model::Source::request_id): readings of different requests have no order.
    pub request: String,
    /// What was read.
    pub version: Version,
}

/// What the API server says of our Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodState {
    /// Whether the Pod is being deleted (`metadata.deletionTimestamp`), and not only our container stopped.
    pub deleting: bool,
}

/// What became of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// There was no Secret; now there is.
    Created,
    /// The Secret held another set of ours, or was somebody else's and is taken over ([`Mirror::adopt`]), and now holds this one.
    Updated,
    /// The Secret holds this set; nothing was written.
    Unchanged,
    /// The Secret holds a reading of some source that is newer than ours; nothing was written. Not an error: our next
    /// reading catches up. Also the answer where some sources are older and some newer with us, because an older
    /// reading must never replace a newer one. [`MirrorContent::accept_older`] ends it.
    Superseded,
    /// Somebody else had edited the Secret, and it holds our set again.
    Repaired,
}

/// The API server, seen from our Pod.
pub struct Cluster {
    api: Api,
    namespace: ObjectName,
    pod: Option<Pod>,
    /// For [`WRITTEN_BY`]; known without the UID, too.
    pod_name: Option<ObjectName>,
    reports: Mutex<ReportMemory>,
    owners: Mutex<OwnerMemory>,
}

/// Exactly one Pod: the name to address it, the UID so that a successor of the same name is not hit.
struct Pod {
    name: ObjectName,
    uid: String,
}

impl Cluster {
    /// Prepares a client from `status.kubeconfig` or, without one, from the mounted service account. Makes no request.
    ///
    /// The token file is read again by the client at least once a minute.
    ///
    /// # Errors
    /// `Local` if the credentials cannot be read, `Invalid` if the namespace is not known or not a name.
    pub async fn connect(status: &StatusReport) -> Result<Self, Failure> {
        let (api, default_namespace) = client::connect(status.kubeconfig.as_deref()).await?;
        let namespace = name("namespace", "POD_NAMESPACE", status.pod_namespace.as_deref().unwrap_or(&default_namespace))?;
        let pod_name = status.pod_name.as_deref().map(|pod| name("pod name", "POD_NAME", pod)).transpose()?;
        let pod = pod_name.clone().zip(status.pod_uid.clone()).map(|(name, uid)| Pod { name, uid });
        Ok(Self { api, namespace, pod, pod_name, reports: Mutex::default(), owners: Mutex::default() })
    }

    /// The namespace of the Pod and of its mirrors.
    #[must_use]
    pub fn namespace(&self) -> &ObjectName {
        &self.namespace
    }

    /// Makes the Secret `name` hold exactly `content`: a look and, where something differs, a write. Takes one request more
    /// to remove keys that others added, and one more where the cluster refuses the owner.
    ///
    /// # Errors
    /// `Invalid` with an untouched Secret and reason `Foreign` if it is not ours (and `adopt` is off), `MirrorConflict` if
    /// another configuration writes it (and this is no claim), `Drifted` if somebody edited it (and `onDrift` is report);
    /// `Conflict` if it changed between look and write; else as the API server answered.
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

    /// Patches `conditions` into our Pod's status and leaves those of others alone. The answer says what state the Pod is in.
    ///
    /// # Errors
    /// `Missing` if the Pod is gone or replaced by another of its name; else as the API server answered.
    pub async fn report(&self, conditions: &[Condition], now: Timestamp) -> Result<PodState, Failure> {
        report::report(&self.api, &self.namespace, self.pod()?, &self.reports, conditions, now).await
    }

    /// Records an Event on our Pod.
    ///
    /// # Errors
    /// As the API server answered.
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

/// Locks `mutex`, also after a panic: no update leaves its value inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names become parts of a URL path, so they must be names.
fn name(noun: &str, variable: &str, text: &str) -> Result<ObjectName, Failure> {
    ObjectName::new(text.trim()).map_err(|error| {
        let message = format!("failed to use {noun} {text:?}: {error}; set {variable} from the downward API");
        Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message)
    })
}
