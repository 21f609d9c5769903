//! Scenarios. Each one checks one behavior of the agent by its inputs and actions.

mod acceptance;
mod adoption;
mod certificates;
mod checkpoint;
mod directories;
mod driver;
mod fixtures;
mod leases;
mod lists;
mod mirrors;
mod once;
mod reload;
mod replaced;
mod report;
mod request_counts;
mod schedule;
mod seed;
mod shutdown;
mod steps;
mod supplied_token;
mod templates;
mod token_file;
mod tokens;
mod trial;
mod two_sources;
mod versions;
