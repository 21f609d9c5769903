//! The chart: its reference and schema are current, its options have the documented effect, a real API server accepts the
//! rendered objects, and the agent accepts the rendered configuration.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests run programs and read the environment")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod docs;
mod helm;
mod rendered;
mod server;
mod values;
