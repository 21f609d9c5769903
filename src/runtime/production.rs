//! The adapters in production: Vault, the API server, the output directories, and the checkpoint file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::adapters::{AdapterFuture, Adapters, ApiServer, Server, Volume};
use super::blocking::blocking;
use super::checkpoint_file::CheckpointFile;
use super::clock::{SystemClock, wall};
use super::notifier::PodNotifier;
use crate::agent::{MirrorRequest, MirrorResult, PublishedSet};
use crate::kubernetes::{Cluster, MirrorContent, MirrorOutcome, MirroredVersion, digest};
use crate::model::{
    AdoptedSet, Auth, Condition, Directory, Failure, Generation, Lease, LeaseId, ObjectName, PodEvent, Reading,
    SeedData, ServerEvent, Session, Settings, Source, StatusReport, TokenInfo, VaultServer, VaultToken, lock,
};
use crate::vault::{LoginCredential, OneTimeSecrets, Vault};
use crate::volume::{self, Published, Publisher};

/// Maximum number of Vault clients: for the active configuration, one on trial, and one whose tokens are being revoked.
const MAX_SERVERS: usize = 3;

/// The adapters of one agent process.
pub(super) struct ProductionAdapters {
    servers: Mutex<Servers>,
    one_time: OneTimeSecrets,
    api: Arc<Kubernetes>,
    volume: Arc<Directories>,
    checkpoints: Arc<CheckpointFile>,
    notifier: Arc<PodNotifier>,
    clock: Arc<SystemClock>,
}

#[derive(Default)]
struct Servers {
    /// Most recently used first.
    known: Vec<(VaultServer, Arc<Vault>)>,
    /// Number of requests of removed clients.
    dropped_requests: u64,
}

impl ProductionAdapters {
    pub(super) fn new(checkpoint: Option<PathBuf>) -> Self {
        let one_time = OneTimeSecrets::default();
        Self {
            servers: Mutex::default(),
            one_time: one_time.clone(),
            api: Arc::default(),
            volume: Arc::default(),
            checkpoints: Arc::new(CheckpointFile::new(checkpoint, one_time)),
            notifier: Arc::new(PodNotifier),
            clock: Arc::new(SystemClock::start()),
        }
    }
}

impl Adapters for ProductionAdapters {
    type Server = Vault;
    type Api = Kubernetes;
    type Volume = Directories;
    type Checkpoints = CheckpointFile;
    type Notifier = PodNotifier;
    type Clock = SystemClock;

    fn server(&self, settings: &Settings) -> Result<Arc<Vault>, Failure> {
        let mut servers = lock(&self.servers);
        if let Some(index) = servers.known.iter().position(|(server, _)| *server == settings.server) {
            let found = servers.known.remove(index);
            let vault = Arc::clone(&found.1);
            servers.known.insert(0, found);
            return Ok(vault);
        }
        let vault = Arc::new(Vault::new(&settings.server, self.one_time.clone())?);
        servers.known.insert(0, (settings.server.clone(), Arc::clone(&vault)));
        if let Some((_, old)) = servers.known.get(MAX_SERVERS) {
            servers.dropped_requests += old.requests();
            servers.known.truncate(MAX_SERVERS);
        }
        Ok(vault)
    }

    fn api(&self) -> Arc<Kubernetes> {
        Arc::clone(&self.api)
    }

    fn volume(&self) -> Arc<Directories> {
        Arc::clone(&self.volume)
    }

    fn checkpoints(&self) -> Arc<CheckpointFile> {
        Arc::clone(&self.checkpoints)
    }

    fn notifier(&self) -> Arc<PodNotifier> {
        Arc::clone(&self.notifier)
    }

    fn clock(&self) -> Arc<SystemClock> {
        Arc::clone(&self.clock)
    }

    fn requests(&self) -> u64 {
        let servers = lock(&self.servers);
        servers.dropped_requests + servers.known.iter().map(|(_, vault)| vault.requests()).sum::<u64>()
    }
}

/// Moves the future of a request to the heap. These futures are large. On the stack, each of their callers would reserve
/// the same size again, and touched pages of the stack stay in memory.
pub(super) fn in_box<'a, T>(request: impl AdapterFuture<T> + 'a) -> Pin<Box<dyn AdapterFuture<T> + 'a>> {
    Box::pin(request)
}

impl Server for Vault {
    type Credential = LoginCredential;

    fn read_credential(&self, auth: &Auth) -> Result<LoginCredential, Failure> {
        Self::read_credential(self, auth)
    }

    async fn unwrap_credential(
        &self,
        auth: &Auth,
        credential: LoginCredential,
    ) -> Result<(LoginCredential, bool), Failure> {
        in_box(Self::unwrap_credential(self, auth, credential)).await
    }

    async fn log_in(&self, auth: &Auth, credential: LoginCredential) -> Result<Session, Failure> {
        in_box(Self::log_in(self, auth, credential)).await
    }

    fn needs_files(&self) -> bool {
        Self::needs_files(self)
    }

    fn read_files(&self) -> Result<(), Failure> {
        Self::read_files(self)
    }

    async fn look_up(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        in_box(self.lookup_self(token)).await
    }

    async fn renew_token(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        in_box(Self::renew_token(self, token)).await
    }

    async fn revoke(&self, token: &VaultToken) -> Result<(), Failure> {
        in_box(self.revoke_self(token)).await
    }

    async fn read(&self, token: &VaultToken, source: &Source) -> Result<Reading, Failure> {
        if source.wrapping_token_file.is_some() {
            let (secrets, wanted) = (self.one_time_secrets(), source.clone());
            let found = blocking("read the wrapping token", move || secrets.read_wrapped(&wanted)).await?;
            return in_box(self.unwrap(source, found)).await;
        }
        match &source.certificate {
            Some(wanted) => in_box(self.issue(token, source, wanted, wall())).await,
            None => in_box(Self::read(self, token, source)).await,
        }
    }

    async fn look_up_lease(&self, token: &VaultToken, lease: &LeaseId) -> Result<(), Failure> {
        in_box(Self::look_up_lease(self, token, lease)).await
    }

    async fn revoke_lease(&self, token: &VaultToken, lease: &LeaseId) -> Result<(), Failure> {
        in_box(Self::revoke_lease(self, token, lease)).await
    }

    async fn renew_lease(&self, token: &VaultToken, lease: &LeaseId, increment: Duration) -> Result<Lease, Failure> {
        in_box(Self::renew_lease(self, token, lease, Some(increment))).await
    }

    async fn subscribe(&self, token: &VaultToken, events: &Sender<ServerEvent>) -> Result<(), Failure> {
        in_box(Self::subscribe(self, token, events)).await
    }
}

/// The client of the API server. Created at its first use, so that it does not delay the first set.
#[derive(Default)]
pub(super) struct Kubernetes {
    client: Arc<tokio::sync::Mutex<Option<Client>>>,
    /// Cached digest of each mirror, which is slow to compute, with its inputs.
    digests: Mutex<BTreeMap<ObjectName, (DigestOf, String)>>,
}

/// A client and the settings that it was created from.
type Client = (StatusReport, Arc<Cluster>);

type DigestOf = (Generation, Vec<(String, usize)>, &'static str);

impl Kubernetes {
    /// The client, with its files read. They are read on the blocking pool, by one thread at a time: a mount that hangs
    /// must not block the runtime, nor take all threads of the pool.
    async fn client(&self, settings: &Settings) -> Result<Arc<Cluster>, Failure> {
        let mut client = Arc::clone(&self.client).lock_owned().await;
        let known =
            client.as_ref().filter(|(status, _)| *status == settings.status).map(|(_, known)| Arc::clone(known));
        if let Some(known) = known.as_ref().filter(|known| !known.needs_token(wall())) {
            return Ok(Arc::clone(known));
        }
        let (status, runtime) = (settings.status.clone(), tokio::runtime::Handle::current());
        let read = move || {
            let cluster = match known {
                Some(known) => {
                    known.read_token(wall())?;
                    known
                }
                None => Arc::new(runtime.block_on(Cluster::connect(&status, wall()))?),
            };
            *client = Some((status, Arc::clone(&cluster)));
            Ok(cluster)
        };
        blocking("load the API credentials", read).await
    }

    async fn digest(&self, cluster: &Cluster, name: &ObjectName, request: &MirrorRequest) -> Result<String, Failure> {
        // The bytes of a published set are shared and immutable, so their addresses identify them while the set is
        // visible.
        let bytes = request.data.iter().map(|(key, bytes)| (key.clone(), Arc::as_ptr(bytes) as usize)).collect();
        let of: DigestOf = (request.generation, bytes, request.mirror.secret_type.as_str());
        if let Some((_, known)) = lock(&self.digests).get(name).filter(|(known, _)| *known == of) {
            return Ok(known.clone());
        }
        let (namespace, secret) = (cluster.namespace().as_str().to_owned(), name.clone());
        let (secret_type, data) = (request.mirror.secret_type.clone(), request.data.clone());
        let what = format!("compute the digest of Secret {name}");
        let made = blocking(&what, move || Ok(digest(&namespace, &secret, &secret_type, &data))).await?;
        lock(&self.digests).insert(name.clone(), (of, made.clone()));
        Ok(made)
    }
}

impl ApiServer for Kubernetes {
    async fn mirror(
        &self,
        settings: &Settings,
        name: &ObjectName,
        request: &MirrorRequest,
    ) -> Result<MirrorResult, Failure> {
        let cluster = self.client(settings).await?;
        let digest = self.digest(&cluster, name, request).await?;
        let version = |(source, (request, version)): (_, &(String, _))| {
            (source, MirroredVersion { request: request.clone(), version: Clone::clone(version) })
        };
        let content = MirrorContent {
            data: request.data.clone(),
            versions: request.versions.iter().map(|(source, of)| version((source.clone(), of))).collect(),
            digest,
            accept_older: request.accept_older,
            claim: request.claim,
        };
        Ok(match in_box(cluster.mirror(name, &request.mirror, &content)).await? {
            MirrorOutcome::Created => MirrorResult::Created,
            MirrorOutcome::Updated => MirrorResult::Updated,
            MirrorOutcome::Unchanged => MirrorResult::Unchanged,
            MirrorOutcome::Superseded => MirrorResult::Superseded,
            MirrorOutcome::Repaired(edit) => MirrorResult::Repaired(edit),
        })
    }

    async fn patch_conditions(&self, settings: &Settings, conditions: &[Condition]) -> Result<bool, Failure> {
        Ok(in_box(self.client(settings).await?.report(conditions, wall())).await?.deleting)
    }

    async fn record_event(&self, settings: &Settings, event: &PodEvent) -> Result<(), Failure> {
        in_box(self.client(settings).await?.record(event, wall())).await
    }
}

/// The output directories in use. There are two only while a reload changes the directory.
#[derive(Default)]
pub(super) struct Directories(Mutex<BTreeMap<PathBuf, Publisher>>);

impl Volume for Directories {
    fn open(&self, directory: &Directory) -> Result<Option<AdoptedSet>, Failure> {
        let publisher = Publisher::open(directory)?;
        let adopted = publisher.adopt()?;
        lock(&self.0).insert(directory.path.clone(), publisher);
        Ok(adopted)
    }

    fn publish(&self, directory: &Directory, set: &PublishedSet) -> Result<bool, Failure> {
        let mut publishers = lock(&self.0);
        if !publishers.contains_key(&directory.path) {
            publishers.insert(directory.path.clone(), Publisher::open(directory)?);
        }
        let Some(publisher) = publishers.get_mut(&directory.path) else { return Ok(false) };
        Ok(publisher.publish(&set.files, &set.manifest, directory, wall())? == Published::Swapped)
    }

    fn read_seed(&self, directory: &Path) -> Result<SeedData, Failure> {
        volume::read_seed(directory)
    }

    fn retire(&self, directory: &Directory) -> Result<(), Failure> {
        let publisher = lock(&self.0).remove(&directory.path);
        publisher.map_or(Ok(()), Publisher::retire)
    }
}
