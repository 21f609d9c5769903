//! Scenarios: one behaviour each, told through what the agent is asked and what it does.

mod acceptance;
mod adoption;
mod checkpoint;
mod driver;
mod fixtures;
mod given;
mod leases;
mod mirrors;
mod moves;
mod once;
mod pace;
mod reload;
mod report;
mod shutdown;
mod tokens;
mod trial;
mod versions;
mod words;
