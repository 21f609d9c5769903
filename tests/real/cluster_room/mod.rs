//! The cluster room against a real API server, with the rights of `deploy/manifests/rbac.yaml` and no more.
#![allow(clippy::unwrap_used)]

mod mirror;
mod pod;
mod refusals;
mod stage;
