//! Rendering of a file that is merged from several sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Mapping, document, merge};
use super::files::{invalid, require_selected};
use super::format;
use super::selection::selected;
use crate::model::{Failure, FileFormat, FilePath, MergeItem, Reading, SecretBytes, SourceName};

/// The file from the readings of its sources; `None` without one of them. Each reading is checked without the other ones, so that
/// the source whose content is wrong is the one that fails, in whatever order the sources are read.
///
/// # Errors
/// As [`render_output`](super::render_output).
pub(super) fn merged(
    path: &FilePath,
    format: FileFormat,
    items: &[MergeItem],
    readings: &BTreeMap<SourceName, Arc<Reading>>,
) -> Result<Option<SecretBytes>, Failure> {
    let mut whole = Mapping::new();
    let mut is_complete = true;
    for MergeItem { source, under, keys } in items {
        let Some(reading) = readings.get(source) else {
            is_complete = false;
            continue;
        };
        let fail = |cause: &dyn std::fmt::Display| invalid(path.as_str(), &format!("source {source}: {cause}"));
        let chosen = selected(&reading.data, keys).map_err(|collision| fail(&collision))?;
        require_selected(source, keys, &chosen)?;
        let own = document(source, chosen, under).map_err(|error| fail(&error))?;
        format::check_document(format, &own).map_err(|(_, error)| fail(&error))?;
        merge(&mut whole, own);
    }
    if !is_complete {
        return Ok(None);
    }
    let made = format::write_document(format, &whole);
    let made = made.map_err(|(origin, error)| invalid(path.as_str(), &format!("source {}: {error}", origin.source)))?;
    Ok(Some(made))
}
