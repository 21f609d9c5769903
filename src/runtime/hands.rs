//! The hands that the current settings ask for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::brain::Mode;
use crate::cluster::Cluster;
use crate::disk::Publisher;
use crate::model::{Failure, Settings, StatusReport};
use crate::vault::Vault;

/// One of each, shared with the tasks in flight.
pub(super) struct Hands {
    pub(super) vault: Arc<Vault>,
    pub(super) disk: Arc<Mutex<Publisher>>,
    pub(super) cluster: Arc<LazyCluster>,
    /// From which file the first login may take an earlier process's token.
    pub(super) take_over_from: Option<PathBuf>,
    /// In which file to leave ours at the end.
    pub(super) hand_over_to: Option<PathBuf>,
}

/// The API client, made at its first use: the first files must not wait for it.
pub(super) struct LazyCluster {
    status: StatusReport,
    client: OnceCell<Cluster>,
}

impl LazyCluster {
    pub(super) async fn get(&self) -> Result<&Cluster, Failure> {
        self.client.get_or_try_init(|| Cluster::connect(&self.status)).await
    }
}

impl Hands {
    pub(super) fn new(settings: &Settings, mode: Mode, handover: Option<PathBuf>) -> Result<Self, Failure> {
        let (take_over_from, hand_over_to) = match mode {
            Mode::Run => (handover, None),
            Mode::Once { .. } => (None, handover),
        };
        Ok(Self {
            vault: Arc::new(Vault::new(&settings.server)?),
            disk: Arc::new(Mutex::new(Publisher::open(&settings.directory)?)),
            cluster: lazy(settings),
            take_over_from,
            hand_over_to,
        })
    }

    /// Takes over new settings; what is unchanged stays, with its connections. Whether the login has to be made anew.
    pub(super) fn reconcile(&mut self, old: &Settings, new: &Settings) -> Result<bool, Failure> {
        let disk = (old.directory != new.directory).then(|| Publisher::open(&new.directory)).transpose()?;
        let vault = (old.server != new.server).then(|| Vault::new(&new.server)).transpose()?;
        let login_changed = vault.is_some() || old.auth != new.auth;
        if let Some(disk) = disk {
            self.disk = Arc::new(Mutex::new(disk));
        }
        if let Some(vault) = vault {
            self.vault = Arc::new(vault);
        }
        if old.status != new.status {
            self.cluster = lazy(new);
        }
        Ok(login_changed)
    }
}

fn lazy(settings: &Settings) -> Arc<LazyCluster> {
    Arc::new(LazyCluster { status: settings.status.clone(), client: OnceCell::new() })
}
