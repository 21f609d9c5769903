//! Rendering of outputs to files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use zeroize::Zeroizing;

use super::format;
use super::text::{quoted, shortened};
use crate::model::{
    Failure, FailureClass, FileEntry, FilePath, FileSet, Output, OutputKind, Reading, Reason, SecretBytes, SecretValue,
    SourceName,
};

/// Limit of Linux for the bytes of a path, including the final NUL (`limits.h`).
const PATH_MAX: usize = 4096;

const SEPARATE: &str = "give one output its own `prefix` or `file`";

/// Result of rendering one output.
#[derive(Clone, Default)]
pub struct Rendered {
    /// Rendered files.
    pub files: BTreeMap<FilePath, FileEntry>,
    /// Keys that are not valid file names, for a message: at most 100 characters each, with control characters escaped.
    pub left_out: Vec<String>,
}

/// The sources that an output is rendered from.
#[must_use]
pub fn sources_of(output: &Output) -> BTreeSet<SourceName> {
    BTreeSet::from([output.source.clone()])
}

/// Renders the files of one output. An output without a reading has no files. An output with one file per key skips keys that
/// are not valid file names.
///
/// # Errors
/// Reason `RenderFailed`. Class `Missing` if the secret has no such key, otherwise `Invalid`.
pub fn render_output(output: &Output, readings: &BTreeMap<SourceName, Arc<Reading>>) -> Result<Rendered, Failure> {
    let Some(reading) = readings.get(&output.source) else { return Ok(Rendered::default()) };
    let mut rendered = Rendered::default();
    match &output.kind {
        OutputKind::EachKey { prefix, base64 } => {
            for (key, value) in &reading.data {
                let path = prefix.as_ref().map_or_else(|| key.clone(), |prefix| format!("{prefix}/{key}"));
                // Keys are sorted, so a file is inserted before the files of a directory with the same name.
                let usable =
                    |path: &FilePath| path.as_str().len() < PATH_MAX && blocked_by(path, &rendered.files).is_none();
                match FilePath::new(&path).ok().filter(usable) {
                    Some(path) => {
                        let entry = value_entry(output, &path, key, value, *base64)?;
                        rendered.files.insert(path, entry);
                    }
                    None => rendered.left_out.push(shortened(key)),
                }
            }
        }
        OutputKind::Key { key, path, base64 } => {
            let value = reading.data.get(key).ok_or_else(|| {
                let cause = format!("source {} has no key {}", output.source, quoted(key));
                failure(
                    FailureClass::Missing,
                    path,
                    &format!("{cause}; add the key to the secret, or change the output's `key`"),
                )
            })?;
            rendered.files.insert(path.clone(), value_entry(output, path, key, value, *base64)?);
        }
        OutputKind::Whole { path, format } => {
            let bytes = format::whole(*format, &reading.data)
                .map_err(|error| failure(FailureClass::Invalid, path, &format!("source {}: {error}", output.source)))?;
            rendered.files.insert(path.clone(), entry(output, bytes));
        }
    }
    Ok(rendered)
}

/// Joins the files of several outputs into one set.
///
/// # Errors
/// Class `Invalid` and reason `RenderFailed` for the first two files that collide, with the sources of both.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a BTreeMap<FilePath, FileEntry>>) -> Result<FileSet, Failure> {
    let mut files: BTreeMap<FilePath, FileEntry> = BTreeMap::new();
    for (path, entry) in parts.into_iter().flatten() {
        if let Some(other) = files.insert(path.clone(), entry.clone()) {
            let producers = if other.sources == entry.sources {
                format!("two outputs of {} produce it", named(&other.sources))
            } else {
                format!("{} and {} both produce it", named(&other.sources), named(&entry.sources))
            };
            return Err(failure(FailureClass::Invalid, path, &format!("{producers}; {SEPARATE}")));
        }
    }
    for (path, entry) in &files {
        if let Some((file, other)) = blocked_by(path, &files) {
            let (this_source, other_source) = (named(&entry.sources), named(&other.sources));
            let cause =
                format!("{other_source} produces a file where {this_source} requires the directory {}", shown(file));
            return Err(failure(FailureClass::Invalid, path, &format!("{cause}; {SEPARATE}")));
        }
    }
    Ok(FileSet { files })
}

/// The file whose path is a parent directory of `path`.
fn blocked_by<'a>(path: &FilePath, files: &'a BTreeMap<FilePath, FileEntry>) -> Option<(&'a FilePath, &'a FileEntry)> {
    path.as_str().match_indices('/').find_map(|(end, _)| {
        let above = FilePath::new(&path.as_str()[..end]).ok()?;
        files.get_key_value(&above)
    })
}

fn value_entry(
    output: &Output,
    path: &FilePath,
    key: &str,
    value: &SecretValue,
    base64: bool,
) -> Result<FileEntry, Failure> {
    if !base64 {
        return Ok(entry(output, value.bytes().clone()));
    }
    // The error of the library quotes a byte of the value, so it is dropped.
    decode(value.bytes()).map(|bytes| entry(output, bytes)).ok_or_else(|| {
        let cause = format!("key {} of source {} is not base64 (standard alphabet)", quoted(key), output.source);
        failure(FailureClass::Invalid, path, &format!("{cause}; encode the value, or remove the output's `base64`"))
    })
}

fn entry(output: &Output, bytes: SecretBytes) -> FileEntry {
    FileEntry { bytes: Arc::new(bytes), mode: output.mode, sources: sources_of(output) }
}

fn failure(class: FailureClass, path: &FilePath, cause: &str) -> Failure {
    let message = format!("failed to render file {}: {cause}", shown(path));
    Failure::new(class, Reason::RenderFailed, message)
}

/// A path for a message. Shortened, because it can contain the name of a key.
fn shown(path: &FilePath) -> String {
    shortened(path.as_str())
}

fn named(sources: &BTreeSet<SourceName>) -> String {
    let names: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
    format!("source {}", names.join(", "))
}

/// Decodes standard base64 with or without padding. Ignores white space, because `base64` wraps lines.
fn decode(bytes: &SecretBytes) -> Option<SecretBytes> {
    let mut packed = Zeroizing::new(Vec::with_capacity(bytes.len()));
    packed.extend(bytes.expose().iter().filter(|byte| !byte.is_ascii_whitespace()));
    // Sufficient capacity, because a reallocation would leave an unzeroed copy.
    let mut decoded = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(packed.len())));
    STANDARD_PAD_INDIFFERENT.decode_vec(&packed, &mut decoded).ok()?;
    Some(SecretBytes::new(std::mem::take(&mut *decoded)))
}
