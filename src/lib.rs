//! keyferry delivers secrets from Vault or OpenBao to Kubernetes pods as files and keeps them up to date.
//!
//! Module map. `ARCHITECTURE.md` has the picture and the reasons; `tests/architecture.rs` checks the rules.
//!
//! | Module | Owns | Uses |
//! |---|---|---|
//! | [`model`] | the domain types: secret bytes, versions, settings, file sets, conditions, reason codes, failures | no module |
//! | [`config`] | text and environment variables → [`model::Settings`], every default, all errors at once | `model`, `template` |
//! | [`template`] | templates: their parse tree, their functions, their execution; pure | `model` |
//! | [`render`] | readings → files, files → data of a Secret; pure | `model`, `template` |
//! | [`agent`] | all decisions: what to do next and when, and what to report; pure | `model`, `render` |
//! | [`vault`] | adapter: HTTP to Vault | `model` |
//! | [`volume`] | adapter: sets of files in a directory, notifications of file changes | `model` |
//! | [`kubernetes`] | adapter: the mirrored Secret, pod conditions, Events | `model` |
//! | [`checkpoint`] | encoding of the state that one process saves for the next; pure | `model` |
//! | [`telemetry`] | the log subscriber and the names of its fields | `model` |
//! | [`runtime`] | tasks, time, signals, probes, metrics; executes the actions of the agent through the adapters | every module |
//! | `cli` (in the binary) | arguments, subcommands, error output | `config`, `model`, `runtime`, `telemetry` |
//!
//! An adapter makes one attempt and classifies the failure. Only the agent schedules retries.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files, wait and read the clock"))]

pub mod agent;
pub mod checkpoint;
pub mod config;
pub mod kubernetes;
pub mod model;
pub mod notify;
pub mod render;
pub mod runtime;
pub mod telemetry;
pub mod template;
pub mod vault;
pub mod volume;
