//! The real agent against a real Vault and a real API server. One binary, so that the servers start once.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests wait, spawn and read the environment")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod article;
mod auth;
mod crash;
mod faults;
mod lifecycle;
mod mirror;
mod outages;
mod outputs;
mod stage;
