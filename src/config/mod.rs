//! Raw text to parsed [`Settings`]: every name that a user can write, every default with its reason.
//!
//! Owns: the document, its schema, the environment variables. All diagnostics are told at once, each with the key path,
//! the value (unless it may be secret) and what would be right. Never touches: network, clock, files (the caller reads
//! the document and hands over its text).
//!
//! Two types, so that nothing downstream sees raw text: [`raw`] is what was written, closed to unknown keys;
//! [`Settings`] holds parsed values only. On the way: `document` (syntax and shape), `variables` (fill what is open),
//! `parse` (meaning).

pub mod defaults;
mod diagnostics;
mod document;
mod environment;
mod owner;
mod parse;
mod quantity;
#[allow(clippy::doc_markdown, reason = "the comments are the text of the schema, for readers who do not know Rust")]
mod raw;
mod schema;
mod variables;

#[cfg(test)]
mod tests;

use std::path::{Component, PathBuf};

pub use diagnostics::{ConfigError, Diagnostic};
pub use environment::{Environment, ProcessEnvironment};
pub use schema::{reference, schema};

use crate::model::Settings;
use diagnostics::Diagnostics;

/// Where the document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentLocation {
    /// In a file.
    File(PathBuf),
    /// Here is its text.
    Inline(String),
}

/// Finds the document: the command line wins, then `KEYFERRY_CONFIG` (a path), then `KEYFERRY_CONFIG_INLINE` (YAML).
/// `None`: there is none, and variables must suffice.
#[must_use]
pub fn document_location(env: &dyn Environment, command_line: Option<PathBuf>) -> Option<DocumentLocation> {
    let variable = |name| env.get(name).filter(|text| !text.trim().is_empty());
    command_line
        .or_else(|| variable("KEYFERRY_CONFIG").map(PathBuf::from))
        .map(DocumentLocation::File)
        .or_else(|| variable("KEYFERRY_CONFIG_INLINE").map(DocumentLocation::Inline))
}

/// Finds the file of the hand-over: the command line wins, then `KEYFERRY_HANDOVER`.
///
/// # Errors
/// If its path is relative or, by its words, lies in the output directory, where the application would see it.
pub fn handover_file(
    env: &dyn Environment,
    command_line: Option<PathBuf>,
    settings: &Settings,
) -> Result<Option<PathBuf>, String> {
    let variable = || env.get("KEYFERRY_HANDOVER").filter(|text| !text.trim().is_empty()).map(PathBuf::from);
    let Some(file) = command_line.or_else(variable) else { return Ok(None) };
    let (shown, directory) = (file.display(), &settings.directory.path);
    let plain =
        |path: &std::path::Path| path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if !plain(&file) || file.file_name().is_none() {
        return Err(format!("handover file: must be an absolute path without `..` (found {shown})"));
    }
    if file.starts_with(directory) {
        let directory = directory.display();
        return Err(format!(
            "handover file: must be outside the output directory {directory}, which the application can read; use a path next to that directory (found {shown})"
        ));
    }
    Ok(Some(file))
}

/// A warning where the environment asks for a proxy, which is not used.
#[must_use]
pub fn proxy_warning(env: &dyn Environment) -> Option<String> {
    let set = |name: &&str| env.is_unreadable(name) || env.get(name).is_some_and(|text| !text.trim().is_empty());
    let names: Vec<&str> = variables::PROXIES.into_iter().filter(set).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| format!("{} {verb} ignored; keyferry connects to Vault directly", names.join(", ")))
}

/// The output directory, as well as it can be told of a configuration with diagnostics: an agent that runs on with an earlier
/// one is asked there.
#[must_use]
pub fn directory(env: &dyn Environment, document: Option<&str>) -> PathBuf {
    let mut ignored = Diagnostics::default();
    let mut raw = document.map(|text| document::read(text, &mut ignored)).unwrap_or_default();
    variables::overlay(env, &mut raw, &mut ignored);
    raw.directory.and_then(|directory| directory.path).map_or_else(|| defaults::DIRECTORY.into(), PathBuf::from)
}

/// Parses a duration as the document does, for the command line.
///
/// # Errors
/// What a duration looks like.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, &'static str> {
    quantity::duration(&quantity::Scalar::Text(text.to_owned())).ok_or(quantity::DURATION_FORM)
}

/// Makes the settings from the document's YAML text and the environment. The document wins, key by key; variables fill
/// what it leaves open.
pub fn load(env: &dyn Environment, document: Option<&str>) -> Result<Settings, ConfigError> {
    let mut diagnostics = Diagnostics::default();
    let mut raw = document.map(|text| document::read(text, &mut diagnostics)).unwrap_or_default();
    // A document that cannot be read at all says nothing about what is missing in it.
    if diagnostics.is_unreadable() {
        return Err(diagnostics.into_error());
    }
    variables::overlay(env, &mut raw, &mut diagnostics);
    match parse::settings(raw, env, &mut diagnostics) {
        Some(settings) if diagnostics.is_empty() => Ok(settings),
        _ => Err(diagnostics.into_error()),
    }
}
