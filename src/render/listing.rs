//! The files of a configuration, for a person who writes it: with masked values, or as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::files::{Rendered, join, render_output};
use crate::model::{
    Failure, FileEntry, FilePath, Mode, Output, OutputKind, Reading, SecretBytes, SecretCall, SecretValue, SourceName,
};
use crate::template;

/// What a listing shows instead of a value.
const MASK: &str = "***";

/// A file of a listing.
pub struct ListedFile {
    /// Path in the output directory.
    pub path: FilePath,
    /// Permission bits; `None` is the default of the directory.
    pub mode: Option<Mode>,
    /// The sources of its content.
    pub sources: BTreeSet<SourceName>,
    /// The content; with masked values if the listing is masked.
    pub content: SecretBytes,
}

/// Lists the files that `outputs` render from `readings`. `is_masked`: each value is masked. A template keeps its own text.
///
/// # Errors
/// As [`render_output`] and [`join`].
pub fn listing(
    outputs: &[Output],
    readings: &BTreeMap<SourceName, Arc<Reading>>,
    is_masked: bool,
) -> Result<Vec<ListedFile>, Failure> {
    let mut rendered: Vec<Rendered> = Vec::new();
    for output in outputs {
        let mut files = render_output(output, readings)?;
        if is_masked {
            mask(output, readings, &mut files.files)?;
        }
        rendered.push(files);
    }
    let set = join(rendered.iter().map(|rendered| &rendered.files))?;
    let file = |(path, entry): (FilePath, FileEntry)| ListedFile {
        path,
        mode: entry.mode,
        sources: entry.sources,
        content: Arc::unwrap_or_clone(entry.bytes),
    };
    Ok(set.files.into_iter().map(file).collect())
}

/// The calls of templates for secrets that are not read yet.
///
/// # Errors
/// As [`render_output`].
pub fn needed_calls(
    outputs: &[Output],
    readings: &BTreeMap<SourceName, Arc<Reading>>,
) -> Result<Vec<(usize, SecretCall)>, Failure> {
    let mut needed = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        let calls = render_output(output, readings)?.needed;
        needed.extend(calls.into_iter().map(|call| (index, call)));
    }
    Ok(needed)
}

/// Replaces the values in the files of `output`.
fn mask(
    output: &Output,
    readings: &BTreeMap<SourceName, Arc<Reading>>,
    files: &mut BTreeMap<FilePath, FileEntry>,
) -> Result<(), Failure> {
    let masked = match &output.kind {
        OutputKind::Template { template, .. } => {
            template::execute_masked(template, readings, MASK).ok().map(|executed| executed.content)
        }
        OutputKind::Whole { path, .. } => {
            let readings = readings.iter().map(|(name, reading)| (name.clone(), Arc::new(masked_reading(reading))));
            let mut rendered = render_output(output, &readings.collect())?;
            rendered.files.remove(path).map(|entry| Arc::unwrap_or_clone(entry.bytes))
        }
        _ => None,
    };
    let masked = Arc::new(masked.unwrap_or_else(|| MASK.into()));
    for entry in files.values_mut() {
        entry.bytes = Arc::clone(&masked);
    }
    Ok(())
}

fn masked_reading(reading: &Reading) -> Reading {
    let data = reading.data.keys().map(|key| (key.clone(), SecretValue::Text(MASK.into())));
    Reading { data: data.collect(), ..reading.clone() }
}
