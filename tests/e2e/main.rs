//! The agent in real pods: a real kubelet, a real container runtime, the image, the manifests and the chart as they are
//! shipped. One binary, so that the cluster starts once.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests wait, spawn and read the environment")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod article;
mod ending;
mod faults;
mod ground;
mod identity;
mod manifest;
mod playground;
mod start;
