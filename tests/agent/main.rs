//! The real agent against a real Vault and a real API server. One binary, so that the servers start once.

#[path = "../testbed/mod.rs"]
#[allow(dead_code, reason = "shared with the demo and other tests; each uses a part")]
mod testbed;

mod article;
mod stage;
