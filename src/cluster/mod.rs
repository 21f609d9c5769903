//! The Kubernetes API: mirror a set into a Secret, patch our Pod's conditions, record Events on it.
//!
//! Never touches: Vault, tokens of Vault, the output directory. Each call is tried once and classified
//! ([`classify`]); all answers are asked for as metadata only, so that no value ever travels back.
//!
//! Errors: every function returns a [`Failure`](crate::model::Failure) that a person can act on.

mod annotations;
mod classify;
mod client;
mod digest;
mod events;
mod mirror;
mod ownership;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use self::client::Api;
use self::report::Memory;
use crate::model::{
    Condition, Failure, FailureClass, Mirror, Notice, ObjectName, Reason, SecretBytes, SourceName, StatusReport,
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

/// What a mirror is to hold.
#[derive(Clone)]
pub struct MirrorContent {
    /// Key to value. All of them: a key that is left out here is removed from the Secret.
    pub data: BTreeMap<String, Arc<SecretBytes>>,
    /// What the set was made of; orders the readings of several replicas.
    pub versions: BTreeMap<SourceName, Version>,
    /// [`digest`] of the same data. Made by the caller, off the event loop, because it is slow on purpose.
    pub digest: String,
}

/// What became of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutcome {
    /// There was no Secret; now there is.
    Created,
    /// The Secret held another set of ours and now holds this one.
    Updated,
    /// The Secret holds this set; nothing was written.
    Unchanged,
    /// The Secret holds a reading of some source that is newer than ours; nothing was written. Not an error: our next
    /// reading catches up. Also the answer where some sources are older and some newer with us, because an older
    /// reading must never replace a newer one.
    ///
    /// A KV version pinned below the version in the Secret stays superseded until the Secret is deleted: from here it
    /// looks like a lagging reading.
    Superseded,
}

/// The API server, seen from our Pod.
pub struct Cluster {
    api: Api,
    namespace: ObjectName,
    pod: Option<Pod>,
    memory: Mutex<Memory>,
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
        let namespace = name("namespace", status.pod_namespace.as_deref().unwrap_or(&default_namespace))?;
        let pod = match (&status.pod_name, &status.pod_uid) {
            (Some(pod), Some(uid)) => Some(Pod { name: name("pod", pod)?, uid: uid.clone() }),
            _ => None,
        };
        Ok(Self { api, namespace, pod, memory: Mutex::default() })
    }

    /// The namespace of the Pod and of its mirrors.
    #[must_use]
    pub fn namespace(&self) -> &ObjectName {
        &self.namespace
    }

    /// Makes the Secret `name` hold `content`: one look, at most one write.
    ///
    /// # Errors
    /// `Invalid` with reason `Foreign` if the Secret is not ours, which is then untouched; `Conflict` if it changed
    /// between look and write; else as the API server answered.
    pub async fn mirror(
        &self,
        name: &ObjectName,
        mirror: &Mirror,
        content: &MirrorContent,
    ) -> Result<MirrorOutcome, Failure> {
        mirror::mirror(&self.api, &self.namespace, name, mirror, content).await
    }

    /// Patches `conditions` into our Pod's status and leaves those of others alone.
    ///
    /// # Errors
    /// `Missing` if the Pod is gone or replaced by another of its name; else as the API server answered.
    pub async fn report(&self, conditions: &[Condition], now: Timestamp) -> Result<(), Failure> {
        report::report(&self.api, &self.namespace, self.pod()?, &self.memory, conditions, now).await
    }

    /// Records an Event on our Pod.
    ///
    /// # Errors
    /// As the API server answered.
    pub async fn record(&self, notice: &Notice, now: Timestamp) -> Result<(), Failure> {
        events::record(&self.api, &self.namespace, self.pod()?, notice, now).await
    }

    fn pod(&self) -> Result<&Pod, Failure> {
        self.pod.as_ref().ok_or_else(|| {
            let message = "failed to report on our pod: its name and uid are not known; \
                           set POD_NAME and POD_UID from the downward API";
            Failure::new(FailureClass::Invalid, Reason::NotConfigured, message)
        })
    }
}

/// Names become parts of a URL path, so they must be names.
fn name(noun: &str, text: &str) -> Result<ObjectName, Failure> {
    ObjectName::new(text.trim()).map_err(|error| {
        let message = format!("failed to use {noun} {text:?}: {error}");
        Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message)
    })
}
