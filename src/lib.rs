//! keyferry: brings secrets from Vault into Kubernetes pods as files and keeps them fresh.
//!
//! The map of the house; `ARCHITECTURE.md` has the picture and the reasons.
#![forbid(unsafe_code)]

pub mod brain;
pub mod cluster;
pub mod config;
pub mod disk;
pub mod model;
pub mod render;
pub mod runtime;
pub mod telemetry;
pub mod vault;
