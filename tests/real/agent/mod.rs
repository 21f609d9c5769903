//! The real agent as a process.

mod article;
mod auth;
mod crash;
mod faults;
mod handover;
mod leaks;
mod lifecycle;
mod mirror;
mod outages;
mod outputs;
