//! The cluster room against a real API server, with the rights of `deploy/manifests/rbac.yaml` and no more.
#![allow(clippy::unwrap_used)]

mod drift;
mod mirror;
mod owners;
mod pod;
mod refusals;
mod stage;
mod whose;
