//! Applies the mirrored Secret, patches our Pod's conditions, records Events.
//!
//! Never touches: tokens, Vault's words, the output directory. Each call tries once and classifies its failure.

mod annotations;
mod client;
mod digest;
mod events;
mod mirror;
mod ownership;
mod report;

pub use client::Cluster;
pub use digest::digest;
pub use mirror::{MirrorContent, MirrorOutcome};

/// The one field manager; whoever applies under this name is taken for us.
pub const FIELD_MANAGER: &str = "keyferry";
