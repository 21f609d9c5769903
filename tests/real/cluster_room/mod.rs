//! The cluster room against a real API server, with the rights of `deploy/manifests/rbac.yaml` and no more.
//!
//! Besides the test servers it needs `kubectl`, to look at the cluster with other eyes than ours; without it the tests say
//! that they are skipped. No node is needed.
#![allow(clippy::unwrap_used)]

mod mirror;
mod pod;
mod refusals;
mod stage;
