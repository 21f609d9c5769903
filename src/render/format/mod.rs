//! All keys of a secret in one file.

mod dotenv;
mod json;
mod properties;
mod yaml;

use std::collections::BTreeMap;
use std::io::{self, Write};

use thiserror::Error;

use super::text::quoted;
use crate::model::{FileFormat, SecretBytes, SecretValue};

/// The keys and values of a secret, in the order of the file.
type Data = BTreeMap<String, SecretValue>;

/// Why a format cannot hold a secret. Names the key, never the value.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum FormatError {
    #[error(
        "key {} is not a name of a shell variable (letters, digits and '_', not first a digit); write it with an output of its own", quoted(.0)
    )]
    NotAVariable(String),
    #[error("key {} holds a NUL, which no shell variable can; write it with an output of its own", quoted(.0))]
    Nul(String),
    #[error("key {} is not UTF-8; write it with an output of its own", quoted(.0))]
    NotUtf8(String),
}

/// Writes all of `data` in one format.
pub(super) fn whole(format: FileFormat, data: &Data) -> Result<SecretBytes, FormatError> {
    if format == FileFormat::Dotenv {
        dotenv::check(data)?;
    }
    let texts = data
        .iter()
        .map(|(key, value)| {
            let text = value.bytes().expose_str().ok_or_else(|| FormatError::NotUtf8(key.clone()))?;
            Ok(Entry { key, text, is_json: matches!(value, SecretValue::Json(_)) })
        })
        .collect::<Result<Vec<_>, FormatError>>()?;
    Ok(exactly(|out| match format {
        FileFormat::Dotenv => dotenv::write(&texts, out),
        FileFormat::Json => json::write(&texts, out),
        FileFormat::Properties => properties::write(&texts, out),
        FileFormat::Yaml => yaml::write(&texts, out),
    }))
}

/// One key with its value.
struct Entry<'a> {
    key: &'a str,
    text: &'a str,
    /// The text is JSON, not a string.
    is_json: bool,
}

/// What `write` writes, in a buffer of just that size.
fn exactly(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> SecretBytes {
    let written = SecretBytes::written(|buffer| write(buffer));
    // The buffer takes what was counted, and no format makes an error of its own.
    debug_assert!(written.is_ok(), "both passes write the same");
    written.unwrap_or_default()
}
