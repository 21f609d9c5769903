//! What one agent process leaves for the next one of the same pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Reading, SourceName, VaultToken};

/// A token, its leases and what was read. Times are what is left when the checkpoint is made, because another process counts
/// from another start.
#[derive(Clone)]
pub struct Checkpoint {
    /// The token. A login issued it to us, so that the process that takes it revokes it at its end.
    pub token: VaultToken,
    /// The token's first time to live, the measure of whether a renewal still gives it; `None` for one that never ends.
    pub first_ttl: Option<Duration>,
    /// What is left of the token; `None` for one that never ends.
    pub left: Option<Duration>,
    /// Whether the token can still be renewed.
    pub renewable: bool,
    /// What each source held.
    pub sources: BTreeMap<SourceName, SavedSource>,
}

/// The last good reading of a source.
#[derive(Clone)]
pub struct SavedSource {
    /// The reading, with the first time to live of its lease.
    pub reading: Arc<Reading>,
    /// What is left of its lease, if it has one.
    pub lease_left: Option<Duration>,
}
