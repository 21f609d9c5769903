//! The chart: its reference and schema are current, every toggle does what it says, what it renders is accepted by a real API
//! server, and the agent takes the document that it makes.
#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::disallowed_methods, reason = "tests run programs and read the environment")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod docs;
mod helm;
mod rendered;
mod server;
mod values;
