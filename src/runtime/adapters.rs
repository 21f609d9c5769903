//! Traits for all I/O of the agent's operations. Production code and tests implement them.
//!
//! An adapter makes one attempt and classifies the failure. Only the agent schedules retries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::Sender;

use crate::agent::{Elapsed, MirrorRequest, MirrorResult, Now, PublishedSet};
use crate::model::{
    AdoptedSet, Auth, Checkpoint, Condition, Directory, Failure, Lease, LeaseId, Notification, ObjectName, PodEvent,
    Reading, SeedData, ServerEvent, Session, Settings, Source, TokenInfo, VaultToken,
};

/// The future of an adapter call, which runs in a task.
pub(super) trait AdapterFuture<T>: Future<Output = Result<T, Failure>> + Send {}
impl<T, F: Future<Output = Result<T, Failure>> + Send> AdapterFuture<T> for F {}

/// A Vault or OpenBao server.
pub(super) trait Server: Send + Sync + 'static {
    /// The content of the credential files that a login needs.
    type Credential: Send + 'static;

    /// Reads the credential files of a login. May block as long as the file system.
    fn read_credential(&self, auth: &Auth) -> Result<Self::Credential, Failure>;
    /// Unwraps a credential that works only once. Returns whether it was unwrapped now.
    fn unwrap_credential(
        &self,
        auth: &Auth,
        credential: Self::Credential,
    ) -> impl AdapterFuture<(Self::Credential, bool)>;
    fn log_in(&self, auth: &Auth, credential: Self::Credential) -> impl AdapterFuture<Session>;
    /// Whether the PEM files must be read before the next request.
    fn needs_files(&self) -> bool;
    /// Reads the PEM files. May block as long as the file system.
    fn read_files(&self) -> Result<(), Failure>;
    fn look_up(&self, token: &VaultToken) -> impl AdapterFuture<TokenInfo>;
    fn renew_token(&self, token: &VaultToken) -> impl AdapterFuture<TokenInfo>;
    fn revoke(&self, token: &VaultToken) -> impl AdapterFuture<()>;
    fn read(&self, token: &VaultToken, source: &Source) -> impl AdapterFuture<Reading>;
    fn look_up_lease(&self, token: &VaultToken, lease: &LeaseId) -> impl AdapterFuture<()>;
    fn revoke_lease(&self, token: &VaultToken, lease: &LeaseId) -> impl AdapterFuture<()>;
    fn renew_lease(&self, token: &VaultToken, lease: &LeaseId, increment: Duration) -> impl AdapterFuture<Lease>;
    /// Sends the events of the server to `events`, until the connection ends.
    fn subscribe(&self, token: &VaultToken, events: &Sender<ServerEvent>) -> impl AdapterFuture<()>;
}

/// The Kubernetes API server, as the agent's pod uses it.
pub(super) trait ApiServer: Send + Sync + 'static {
    /// Writes the content to the Secret.
    fn mirror(
        &self,
        settings: &Settings,
        name: &ObjectName,
        content: &MirrorRequest,
    ) -> impl AdapterFuture<MirrorResult>;
    /// Patches the conditions of the pod. Returns whether the pod is being deleted.
    fn patch_conditions(&self, settings: &Settings, conditions: &[Condition]) -> impl AdapterFuture<bool>;
    /// Records an Event for the pod.
    fn record_event(&self, settings: &Settings, event: &PodEvent) -> impl AdapterFuture<()>;
}

/// The output directories. Every call may block as long as the file system.
pub(super) trait Volume: Send + Sync + 'static {
    /// Opens the directory. Returns the visible set of an earlier process.
    fn open(&self, directory: &Directory) -> Result<Option<AdoptedSet>, Failure>;
    /// Publishes a set. Returns whether the visible files changed.
    fn publish(&self, directory: &Directory, set: &PublishedSet) -> Result<bool, Failure>;
    /// Reads the files of a seed.
    fn read_seed(&self, directory: &Path) -> Result<SeedData, Failure>;
    /// Removes the set from a directory that is no longer in use.
    fn retire(&self, directory: &Directory) -> Result<(), Failure>;
}

/// Notifies the application.
pub(super) trait Notifier: Send + Sync + 'static {
    /// Sends one notification. `generation` is that of the visible set.
    fn notify(&self, notification: &Notification, generation: u64) -> impl AdapterFuture<()>;
}

/// The checkpoint file. Every call may block as long as the file system.
pub(super) trait Checkpoints: Send + Sync + 'static {
    /// Reads the checkpoint of an earlier process; `None` if there is none. One that is refused is removed.
    fn load(&self, settings: &Settings) -> Result<Option<Box<Checkpoint>>, Failure>;
    /// Writes a checkpoint for the next process in place of the previous one. Removes that if there is nothing to save.
    fn save(&self, settings: &Settings, checkpoint: &Checkpoint) -> Result<(), Failure>;
    /// Adds the credentials that were unwrapped. The other content of the checkpoint stays.
    fn save_credentials(&self, settings: &Settings) -> Result<(), Failure>;
}

/// The clocks.
pub(super) trait Clock: Send + Sync + 'static {
    /// Time since the start of the process. Includes suspension of the machine.
    fn elapsed(&self) -> Elapsed;
    fn wall(&self) -> Timestamp;
    /// Sleeps until `at`; forever if `None`.
    fn sleep_until(&self, at: Option<Elapsed>) -> impl Future<Output = ()> + Send;

    /// The input of one step of the agent.
    fn now(&self) -> Now {
        Now { at: self.elapsed(), wall: self.wall(), seed: fastrand::u64(..) }
    }
}

/// The adapters of one process.
pub(super) trait Adapters: Send + Sync + 'static {
    type Server: Server;
    type Api: ApiServer;
    type Volume: Volume;
    type Checkpoints: Checkpoints;
    type Notifier: Notifier;
    type Clock: Clock;

    /// The server of these settings. Open connections are reused.
    fn server(&self, settings: &Settings) -> Result<Arc<Self::Server>, Failure>;
    fn api(&self) -> Arc<Self::Api>;
    fn volume(&self) -> Arc<Self::Volume>;
    fn checkpoints(&self) -> Arc<Self::Checkpoints>;
    fn notifier(&self) -> Arc<Self::Notifier>;
    fn clock(&self) -> Arc<Self::Clock>;
    /// Number of HTTP requests sent to Vault so far.
    fn requests(&self) -> u64;
}
