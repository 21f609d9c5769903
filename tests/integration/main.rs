//! All tests that need a real Vault and a real Kubernetes API server, in one binary, so that the servers start once per run.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests wait, spawn, read the clock and the environment")]

#[path = "../support/blocks.rs"]
mod markdown;
#[path = "../support/template_cases.rs"]
mod template_cases;
#[path = "../testbed/mod.rs"]
mod testbed;

mod agent;
mod database;
mod kubernetes_client;
mod kustomize;
mod leased;
mod manifests;
mod policies;
mod proxy;
mod servers;
mod setup;
mod vault_setup;
