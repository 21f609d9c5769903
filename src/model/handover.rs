//! What one agent process leaves for the next one of the same pod, as far as decisions need it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Lease, SourceName, Version};

/// A token and its sources, without secret bytes. Times are what is left at the moment of telling, because another process
/// counts from another start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The token's first time to live, the measure of whether a renewal still gives it; `None` for one that never ends.
    pub first_ttl: Option<Duration>,
    /// What is left of the token; `None` for one that never ends.
    pub left: Option<Duration>,
    /// Whether the token can still be renewed.
    pub renewable: bool,
    /// Whether it came from a login, and so is ours to revoke at the end.
    pub own: bool,
    /// What each source held.
    pub sources: BTreeMap<SourceName, HandedSource>,
}

/// The last good reading of a source, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedSource {
    /// What orders it.
    pub version: Version,
    /// Its lease with the first duration, and what is left of it. `None`: without a lease.
    pub lease: Option<(Lease, Duration)>,
}
