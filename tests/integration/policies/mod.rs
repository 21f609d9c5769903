//! The admission policies of `deploy/policies`, with requests of real tokens.

mod agent;
mod no_secret_mounts;
mod own_pod_status;
mod secret_writers;
pub mod setup;
