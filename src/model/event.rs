//! Notifications of a server about its secrets.

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// The server accepted the subscription.
    Subscribed,
    /// A secret was written, deleted, or restored.
    Changed {
        /// Path of the secret as in [`Source::path`](super::Source::path): without the `data/` of KV version 2.
        path: String,
        /// Version that a write of KV version 2 created.
        version: Option<u64>,
    },
}
