//! State that one agent process hands over to the next one in the same pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Reading, SourceName, VaultToken};

/// A token, its leases and the readings. Durations count from the moment at which the checkpoint is made, because each
/// process has its own clock origin.
#[derive(Clone)]
pub struct Checkpoint {
    /// A token that a login issued, so the process that takes it over revokes it on exit.
    pub token: VaultToken,
    /// TTL of the token when it was issued, for comparison with the TTL that a renewal returns; `None` if it never expires.
    pub first_ttl: Option<Duration>,
    /// Remaining TTL of the token; `None` if it never expires.
    pub left: Option<Duration>,
    /// Whether the token can still be renewed.
    pub renewable: bool,
    /// The last good reading of each source.
    pub sources: BTreeMap<SourceName, SavedSource>,
}

/// The last good reading of a source.
#[derive(Clone)]
pub struct SavedSource {
    /// The reading. The duration of its lease is the TTL when the lease was issued.
    pub reading: Arc<Reading>,
    /// Remaining TTL of the lease, if there is one.
    pub lease_left: Option<Duration>,
}
