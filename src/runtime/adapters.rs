//! What the runtime needs of the outside world, as traits: the agent's operations run against these, the real ones or a
//! test's.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{MirrorRequest, MirrorResult, PublishedSet};
use crate::model::{
    AdoptedSet, Auth, Checkpoint, Condition, Directory, Failure, Lease, LeaseId, ObjectName, PodEvent, Reading,
    Session, Settings, Source, TokenInfo, VaultToken,
};

/// A result of an operation that runs as a task.
pub(super) trait AdapterFuture<T>: Future<Output = Result<T, Failure>> + Send {}
impl<T, F: Future<Output = Result<T, Failure>> + Send> AdapterFuture<T> for F {}

/// A secrets server.
pub(super) trait Server: Send + Sync + 'static {
    /// What a login needs, read from its files.
    type Credential: Send + 'static;

    /// Reads the files of a login. May block for as long as the file system does.
    fn read_credential(&self, auth: &Auth) -> Result<Self::Credential, Failure>;
    fn log_in(&self, auth: &Auth, credential: Self::Credential) -> impl AdapterFuture<Session>;
    /// Whether the next request would read files.
    fn needs_files(&self) -> bool;
    /// Reads them. May block for as long as the file system does.
    fn read_files(&self) -> Result<(), Failure>;
    fn look_up(&self, token: &VaultToken) -> impl AdapterFuture<TokenInfo>;
    fn renew_token(&self, token: &VaultToken) -> impl AdapterFuture<TokenInfo>;
    fn revoke(&self, token: &VaultToken) -> impl AdapterFuture<()>;
    fn read(&self, token: &VaultToken, source: &Source) -> impl AdapterFuture<Reading>;
    fn renew_lease(&self, token: &VaultToken, lease: &LeaseId, increment: Duration) -> impl AdapterFuture<Lease>;
}

/// The API server, seen from our pod.
pub(super) trait ApiServer: Send + Sync + 'static {
    /// Makes the Secret hold its part of the set.
    fn mirror(&self, settings: &Settings, name: &ObjectName, content: &MirrorRequest) -> impl AdapterFuture<MirrorResult>;
    /// Patches the conditions; whether the pod is being deleted.
    fn patch_conditions(&self, settings: &Settings, conditions: &[Condition]) -> impl AdapterFuture<bool>;
    /// Records an Event.
    fn record_event(&self, settings: &Settings, event: &PodEvent) -> impl AdapterFuture<()>;
}

/// The output directories. Every call may block for as long as the file system does.
pub(super) trait Volume: Send + Sync + 'static {
    /// Opens the directory and says which set is visible.
    fn open(&self, directory: &Directory) -> Result<Option<AdoptedSet>, Failure>;
    /// Makes a set visible; whether other files are visible than before.
    fn publish(&self, directory: &Directory, set: &PublishedSet) -> Result<bool, Failure>;
    /// Removes the set from a directory that is no longer used.
    fn retire(&self, directory: &Directory) -> Result<(), Failure>;
}

/// What one process leaves for the next. Every call may block for as long as the file system does.
pub(super) trait Checkpoints: Send + Sync + 'static {
    /// Takes the checkpoint of an earlier process, if there is one; it can be taken once.
    fn take(&self, settings: &Settings) -> Result<Option<Box<Checkpoint>>, Failure>;
    /// Leaves one for the next process.
    fn save(&self, settings: &Settings, checkpoint: &Checkpoint) -> Result<(), Failure>;
}

/// All of them.
pub(super) trait Adapters: Send + Sync + 'static {
    type Server: Server;
    type Api: ApiServer;
    type Volume: Volume;
    type Checkpoints: Checkpoints;

    /// The server that these settings name, with its connections if there are any.
    fn server(&self, settings: &Settings) -> Result<Arc<Self::Server>, Failure>;
    fn api(&self) -> Arc<Self::Api>;
    fn volume(&self) -> Arc<Self::Volume>;
    fn checkpoints(&self) -> Arc<Self::Checkpoints>;
    /// Requests sent to servers so far.
    fn requests(&self) -> u64;
}
