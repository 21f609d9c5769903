//! keyferry: brings secrets from Vault into Kubernetes pods as files and keeps them fresh.
//!
//! The map of the house; `ARCHITECTURE.md` has the picture and the reasons.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files, wait and read the clock"))]

pub mod agent;
pub mod checkpoint;
pub mod config;
pub mod kubernetes;
pub mod model;
pub mod render;
pub mod runtime;
pub mod telemetry;
pub mod vault;
pub mod volume;
