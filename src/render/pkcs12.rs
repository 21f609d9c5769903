//! Rendering of a PKCS#12 file, whose password can be from another source.

use std::sync::Arc;

use super::files::{bundled, failure, invalid};
use super::format::{content, pkcs12_file};
use super::text::quoted;
use crate::model::{Failure, FailureClass, FilePath, Output, Pkcs12, Reading, SecretBytes};

/// The file from the readings of its content and of its password; `None` without one of them. Each reading is checked without the
/// other one, so that the source whose content is wrong is the one that fails.
///
/// # Errors
/// As [`render_output`](super::render_output).
pub(super) fn pkcs12(
    output: &Output,
    path: &FilePath,
    file: &Pkcs12,
    [content_of, password_of]: [Option<&Arc<Reading>>; 2],
) -> Result<Option<SecretBytes>, Failure> {
    let password = password_of.map(|reading| password(path, file, reading)).transpose()?;
    let Some(reading) = content_of else { return Ok(None) };
    let fail = |cause: &dyn std::fmt::Display| invalid(path.as_str(), &format!("source {}: {cause}", output.source));
    let values = bundled(output, path, &file.keys, reading)?;
    let content = content(&values).map_err(|error| fail(&error))?;
    let made = password.map(|password| pkcs12_file(&content, password, file.alias.as_deref()));
    made.transpose().map_err(|error| fail(&error))
}

fn password<'a>(path: &FilePath, file: &Pkcs12, reading: &'a Reading) -> Result<&'a str, Failure> {
    let (source, key) = (&file.password.source, quoted(&file.password.key));
    let Some(value) = reading.value(&file.password.key) else {
        let cause = format!("source {source} has no key {key}");
        let advice = "add the key to the secret, or change the output's `password.key`";
        return Err(failure(FailureClass::Missing, path.as_str(), &format!("{cause}; {advice}")));
    };
    let usable = |text: &&str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match value.bytes().expose_str().filter(usable) {
        Some("") => {
            let cause = format!("the value of key {key} of source {source} is empty; set a password");
            Err(invalid(path.as_str(), &cause))
        }
        Some(text) => Ok(text),
        // Java rejects other characters ("Password is not ASCII"), and programs encode them in different ways.
        None => {
            let cause = format!("the value of key {key} of source {source} is not a usable password");
            let advice = "use only printable ASCII characters, without a newline at the end";
            Err(invalid(path.as_str(), &format!("{cause}; {advice}")))
        }
    }
}
