//! The agent in real pods: a real kubelet, a real container runtime, and the shipped image, manifests and chart. One test
//! binary, so that the cluster starts once.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests wait, spawn and read the environment")]

#[path = "../testbed/mod.rs"]
mod testbed;

#[allow(dead_code, reason = "the chart's own tests use the rest")]
#[path = "../chart/helm.rs"]
mod helm;

mod chart;
mod cluster;
mod deployment_modes;
mod dynamic;
mod environment;
mod faults;
mod identity;
mod leases;
mod lifecycle;
mod manifest;
mod mirror;
mod notify;
mod outage;
mod reference_scenario;
mod refresh;
mod seed;
mod setup;
mod teardown;
mod upgrade;
