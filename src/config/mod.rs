//! Parses the configuration file and the environment variables into [`Settings`].
//!
//! Owns the names of all settings, the schema, and every default with its reason. Reports all errors at once, each with
//! the key path, the value found (unless it may be secret), and what is expected. Must not use the network, the clock,
//! or files: the caller reads the configuration file and passes its text.
//!
//! Steps: `document` parses the YAML and checks it against the schema, `variables` sets keys that the file does not
//! set, `parse` checks the meaning. [`raw`] holds the values as written; no other module sees them.

pub mod defaults;
mod diagnostics;
mod document;
mod environment;
#[cfg(test)]
mod generate;
mod list;
mod owner;
mod parameter;
mod parse;
mod previous;
mod quantity;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw_notify;
mod raw_output;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw_pki;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw_refresh_now;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw_token_file;
mod sample;
mod schema;
mod text;
mod toggle;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};

pub use diagnostics::{ConfigError, Diagnostic};
pub use environment::{Environment, ProcessEnvironment};
pub use sample::{SampleData, sample_data};
pub use schema::{SCHEMA, schema};

use crate::model::Settings;
use diagnostics::Diagnostics;

/// The content of template files, or the message for one that cannot be read, by path.
pub type TemplateFiles = BTreeMap<PathBuf, Result<String, String>>;

/// The paths in `outputs[].templateFile` of a configuration file. Empty if the file is not valid.
#[must_use]
pub fn template_files(document: Option<&str>) -> BTreeSet<PathBuf> {
    let mut ignored = Diagnostics::default();
    let raw = document.map(|text| document::read(text, &mut ignored)).unwrap_or_default();
    let files = raw.outputs.into_iter().flatten().filter_map(|output| output.template_file);
    files.filter(|file| file.starts_with('/')).map(PathBuf::from).collect()
}

/// Where the configuration file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentLocation {
    /// At this path.
    File(PathBuf),
    /// In `KEYFERRY_CONFIG_INLINE`: the YAML text itself.
    Inline(String),
}

/// Finds the configuration file: `--config`, else `KEYFERRY_CONFIG` (a path), else `KEYFERRY_CONFIG_INLINE` (YAML
/// text). `None` if only environment variables configure keyferry.
#[must_use]
pub fn document_location(env: &dyn Environment, command_line: Option<PathBuf>) -> Option<DocumentLocation> {
    let variable = |name| env.get(name).filter(|text| !text.trim().is_empty());
    command_line
        .or_else(|| variable("KEYFERRY_CONFIG").map(PathBuf::from))
        .map(DocumentLocation::File)
        .or_else(|| variable("KEYFERRY_CONFIG_INLINE").map(DocumentLocation::Inline))
}

/// Finds the checkpoint file: `--checkpoint`, else `KEYFERRY_CHECKPOINT`.
///
/// # Errors
/// If there is none although a notification restarts all containers. If the path is relative, contains `..`, or is below
/// the output directory, which the application can read. Symbolic links are not resolved.
pub fn checkpoint_file(
    env: &dyn Environment,
    command_line: Option<PathBuf>,
    settings: &Settings,
) -> Result<Option<PathBuf>, String> {
    let variable = || env.get("KEYFERRY_CHECKPOINT").filter(|text| !text.trim().is_empty()).map(PathBuf::from);
    let Some(file) = command_line.or_else(variable) else {
        let restart = settings.notify.iter().find(|(_, notification)| notification.is_restart());
        return restart.map_or(Ok(None), |(name, _)| {
            Err(format!(
                "notify.{name}.restart: requires a checkpoint, so that a restart causes no login and no new credentials; set \
                 KEYFERRY_CHECKPOINT, for example to /run/keyferry/checkpoint"
            ))
        });
    };
    let (shown, directory) = (file.display(), &settings.directory.path);
    let plain =
        |path: &std::path::Path| path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if !plain(&file) || file.file_name().is_none() {
        return Err(format!("checkpoint file: must be an absolute path without `..` (found {shown})"));
    }
    if file.starts_with(directory) {
        let directory = directory.display();
        return Err(format!(
            "checkpoint file: must be outside the output directory {directory}, which the application can read; use a path next to that directory (found {shown})"
        ));
    }
    Ok(Some(file))
}

/// The warning for environment variables that configure a proxy, which keyferry does not use.
#[must_use]
pub fn proxy_warning(env: &dyn Environment) -> Option<String> {
    let set = |name: &&str| env.is_unreadable(name) || env.get(name).is_some_and(|text| !text.trim().is_empty());
    let names: Vec<&str> = variables::PROXIES.into_iter().filter(set).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| format!("{} {verb} ignored; keyferry connects to Vault directly", names.join(", ")))
}

/// The output directory of a configuration that has errors, as far as it can be read. An agent that keeps running with
/// an earlier configuration is probed there.
#[must_use]
pub fn directory(env: &dyn Environment, document: Option<&str>) -> PathBuf {
    let mut ignored = Diagnostics::default();
    let mut raw = document.map(|text| document::read(text, &mut ignored)).unwrap_or_default();
    variables::overlay(env, &mut raw, &mut ignored);
    raw.directory.and_then(|directory| directory.path).map_or_else(|| defaults::DIRECTORY.into(), PathBuf::from)
}

/// Parses a duration of the command line, in the format of the configuration file.
///
/// # Errors
/// The expected format, if `text` is not a duration.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, &'static str> {
    quantity::duration(&quantity::Scalar::Text(text.to_owned())).ok_or(quantity::DURATION_FORM)
}

/// Parses the settings from the YAML text of the configuration file and from the environment variables. The file takes
/// precedence, key by key.
///
/// # Errors
/// Every error of both. If the file is not valid YAML, only that: its missing keys are unknown then.
pub fn load(env: &dyn Environment, document: Option<&str>) -> Result<Settings, ConfigError> {
    load_with(env, document, &TemplateFiles::new())
}

/// [`load`] of a configuration with template files. `files` has the content of each of [`template_files`].
///
/// # Errors
/// As [`load`].
pub fn load_with(
    env: &dyn Environment,
    document: Option<&str>,
    files: &TemplateFiles,
) -> Result<Settings, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let mut raw = document.map(|text| document::read(text, &mut diagnostics)).unwrap_or_default();
    if diagnostics.is_unreadable() {
        return Err(diagnostics.into_error());
    }
    variables::overlay(env, &mut raw, &mut diagnostics);
    match parse::settings(raw, env, files, &mut diagnostics) {
        Some(settings) if diagnostics.is_empty() => Ok(settings),
        _ => Err(diagnostics.into_error()),
    }
}
