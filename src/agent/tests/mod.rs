//! Scenarios. Each one checks one behavior of the agent by its inputs and actions.

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
