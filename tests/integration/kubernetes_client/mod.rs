//! The Kubernetes client on a real API server, with only the permissions of `deploy/manifests/rbac.yaml`.
#![allow(clippy::unwrap_used)]

mod drift;
mod failures;
mod mirror;
mod owners;
mod ownership;
mod pod;
mod stage;
