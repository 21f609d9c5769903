//! The agent as a process, on real servers.

mod auth;
mod checkpoint;
mod crash;
mod faults;
mod isolation;
mod leaks;
mod leases;
mod lifecycle;
mod logins;
mod messages;
mod mirror;
mod mirror_drift;
mod network;
mod outages;
mod outputs;
mod postgres;
mod previous;
mod reference_scenario;
mod reload;
mod requests;
mod restart;
mod seed;
mod static_roles;
mod tokens;
mod versions;
