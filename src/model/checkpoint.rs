//! State that one agent process saves for the next one in the same pod.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{FilePath, Reading, SecretBytes, SecretCall, SourceName, VaultToken};

/// A token, and the readings whose credentials another read would issue again. Durations count from `made` when a checkpoint
/// is saved, and from the time at which it is loaded afterwards.
#[derive(Clone, Default)]
pub struct Checkpoint {
    /// Wall clock when the checkpoint was made, the only clock that two processes share.
    pub made: Timestamp,
    /// `None` if the token was supplied, or is revoked: only readings without a lease survive.
    pub token: Option<SavedToken>,
    /// The last good reading of each source with a lease of that token or with its own TTL.
    pub sources: BTreeMap<SourceName, SavedSource>,
    /// The calls of templates that depend on other secrets and whose source is in `sources`, by file of the template.
    pub calls: BTreeMap<FilePath, BTreeSet<SecretCall>>,
}

impl Checkpoint {
    /// Shortens the remaining TTLs of the readings by `time`, which has passed since they were computed.
    pub fn pass(&mut self, time: Duration) {
        for saved in self.sources.values_mut() {
            saved.left = saved.left.saturating_sub(time);
        }
    }

    /// Whether there is nothing to save.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.token.is_none() && self.sources.is_empty()
    }
}

/// A token that a login issued, so the process that restores it revokes it on exit.
#[derive(Clone)]
pub struct SavedToken {
    /// The token.
    pub token: VaultToken,
    /// TTL when the token was issued, for comparison with the TTL that a renewal returns; `None` if it never expires.
    pub first_ttl: Option<Duration>,
    /// Remaining TTL; `None` if the token never expires.
    pub left: Option<Duration>,
    /// Whether the token can still be renewed.
    pub renewable: bool,
}

/// The last good reading of a source.
#[derive(Clone)]
pub struct SavedSource {
    /// The reading. The duration in its validity is the TTL when the credential was issued.
    pub reading: Arc<Reading>,
    /// Remaining TTL of the credential.
    pub left: Duration,
}

/// A secret that cannot be read from its file a second time: a secret ID, or the content of a wrapped response.
#[derive(Clone)]
pub struct SavedSecret {
    /// The files that identify the secret. The last one contains it, or the wrapping token for it.
    pub files: Vec<PathBuf>,
    /// SHA-256 of the content of that file. Different content means another secret.
    pub digest: Vec<u8>,
    /// The secret ID, or the content as JSON text.
    pub secret: SecretBytes,
}
