//! Scenarios: one behaviour each, told through what the agent is asked and what it does.

mod acceptance;
mod adoption;
mod checkpoint;
mod driver;
mod fixtures;
mod supplied_token;
mod leases;
mod mirrors;
mod directories;
mod once;
mod schedule;
mod reload;
mod report;
mod shutdown;
mod tokens;
mod trial;
mod versions;
mod steps;
