//! Rendering of outputs to files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use zeroize::Zeroizing;

use super::field::{NotJson, field_of};
use super::format;
use super::merge::merged;
use super::pkcs12::pkcs12;
use super::selection::{Selected, selected};
use super::text::{quoted, shortened};
use crate::model::{
    Failure, FailureClass, FileEntry, FilePath, FileSet, JsonPointer, KeySelection, Output, OutputKind, Reading,
    Reason, SecretBytes, SecretCall, SecretValue, SourceName, WhenMissing,
};

/// Limit of Linux for the bytes of a path, including the final NUL (`limits.h`).
const PATH_MAX: usize = 4096;

const SEPARATE: &str = "give one output its own `prefix` or `file`, or leave the key out with `exclude`";

/// Result of rendering one output.
#[derive(Clone, Default)]
pub struct Rendered {
    /// Rendered files.
    pub files: BTreeMap<FilePath, FileEntry>,
    /// The calls of a template with arguments that depend on secrets: those that it has made.
    pub calls: BTreeSet<SecretCall>,
    /// Calls of a template that need a source. It has no files before they are answered.
    pub needed: BTreeSet<SecretCall>,
    /// Keys that are not valid file names, for a message: at most 100 characters each, with control characters escaped.
    pub left_out: Vec<String>,
}

/// Renders the files of one output. An output has no files before all its sources are read. An output with one file per key
/// skips keys that are not valid file names. A null counts as a missing key, except in JSON and YAML.
///
/// # Errors
/// Reason `RenderFailed`. Class `Missing` if the secret has no such key or field, otherwise `Invalid`.
pub fn render_output(output: &Output, readings: &BTreeMap<SourceName, Arc<Reading>>) -> Result<Rendered, Failure> {
    let mut rendered = Rendered::default();
    match (&output.kind, readings.get(&output.source)) {
        (OutputKind::Pkcs12 { path, file }, reading) => {
            let password = readings.get(&file.password.source);
            let made = pkcs12(output, path, file, [reading, password]);
            rendered.files.extend(made?.map(|bytes| (path.clone(), entry(output, bytes))));
        }
        (OutputKind::Template { path, template }, _) => {
            return super::template::render(output, path, template, readings);
        }
        (OutputKind::Merged { path, format, items }, _) => {
            let made = merged(path, *format, items, readings)?;
            rendered.files.extend(made.map(|bytes| (path.clone(), entry(output, bytes))));
        }
        (_, None) => {}
        (OutputKind::EachKey { prefix, base64, keys }, Some(reading)) => {
            let below =
                |name: &str| prefix.as_ref().map_or_else(|| name.to_owned(), |prefix| format!("{prefix}/{name}"));
            let selected = selected(&reading.data, keys).map_err(|collision| {
                invalid(&below(&collision.name), &format!("source {}: {collision}", output.source))
            })?;
            require_selected(&output.source, keys, &selected)?;
            for (name, Selected { key, value }) in
                selected.into_iter().filter(|(_, selected)| !selected.value.is_null())
            {
                // Names are sorted, so a file is inserted before the files of a directory with the same name.
                let usable =
                    |path: &FilePath| path.as_str().len() < PATH_MAX && blocked_by(path, &rendered.files).is_none();
                match FilePath::new(&below(&name)).ok().filter(usable) {
                    Some(path) => {
                        let entry = value_entry(output, &path, key, value, *base64)?;
                        rendered.files.insert(path, entry);
                    }
                    None => rendered.left_out.push(shortened(key)),
                }
            }
        }
        (OutputKind::Key { key, path, base64, field, missing }, Some(reading)) => {
            let found = match (reading.data.get(key), field) {
                (Some(value), Some(field)) => {
                    let found = field_of(value, field).map_err(|NotJson| {
                        let cause = format!("the value of key {} of source {} is not JSON", quoted(key), output.source);
                        invalid(path.as_str(), &format!("{cause}; correct the value, or remove the output's `field`"))
                    });
                    found?.map(Cow::Owned)
                }
                (value, _) => value.map(Cow::Borrowed),
            };
            let entry = match (found.filter(|value| !value.is_null()), missing) {
                (Some(value), _) => value_entry(output, path, key, &value, *base64)?,
                (None, WhenMissing::Default(bytes)) => entry(output, SecretBytes::new(bytes.clone())),
                (None, WhenMissing::Omit) => return Ok(rendered),
                (None, WhenMissing::Fail) => return Err(missing_key(output, path, key, field.as_ref(), reading)),
            };
            rendered.files.insert(path.clone(), entry);
        }
        (OutputKind::Whole { path, format, keys }, Some(reading)) => {
            let fail = |cause: &dyn Display| invalid(path.as_str(), &format!("source {}: {cause}", output.source));
            let selected = selected(&reading.data, keys).map_err(|collision| fail(&collision))?;
            require_selected(&output.source, keys, &selected)?;
            let bytes = format::whole(*format, &output.source, &selected).map_err(|error| fail(&error))?;
            rendered.files.insert(path.clone(), entry(output, bytes));
        }
        (OutputKind::Bundle { path, keys }, Some(reading)) => {
            let values = bundled(output, path, keys, reading)?;
            let bytes = format::bundle(&values)
                .map_err(|error| invalid(path.as_str(), &format!("source {}: {error}", output.source)))?;
            rendered.files.insert(path.clone(), entry(output, bytes));
        }
    }
    Ok(rendered)
}

/// Fails if `include` matches no key: a pattern with a typing error must not look like a success.
pub(super) fn require_selected(
    source: &SourceName,
    keys: &KeySelection,
    selected: &BTreeMap<Cow<'_, str>, Selected<'_>>,
) -> Result<(), Failure> {
    if keys.include.is_empty() || !selected.is_empty() {
        return Ok(());
    }
    let message = format!(
        "failed to render the files of source {source}: no key of the secret matches `include`; add the keys to the secret, or \
         correct the output's `include`"
    );
    Err(Failure::new(FailureClass::Missing, Reason::RenderFailed, message))
}

/// The values of the keys of a bundle, in their order.
pub(super) fn bundled<'a>(
    output: &Output,
    path: &FilePath,
    keys: &'a [String],
    reading: &'a Reading,
) -> Result<Vec<(&'a str, &'a SecretBytes)>, Failure> {
    let value = |key: &'a String| {
        let value = reading.value(key).ok_or_else(|| {
            let cause = format!("source {} has no key {}", output.source, quoted(key));
            let advice = "add the key to the secret, or change the output's `bundle`";
            failure(FailureClass::Missing, path.as_str(), &format!("{cause}; {advice}"))
        })?;
        Ok((key.as_str(), value.bytes()))
    };
    keys.iter().map(value).collect()
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
            return Err(invalid(path.as_str(), &format!("{producers}; {SEPARATE}")));
        }
    }
    for (path, entry) in &files {
        if let Some((file, other)) = blocked_by(path, &files) {
            let (this_source, other_source) = (named(&entry.sources), named(&other.sources));
            let cause = format!(
                "{other_source} produces a file where {this_source} requires the directory {}",
                shortened(file.as_str())
            );
            return Err(invalid(path.as_str(), &format!("{cause}; {SEPARATE}")));
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

/// The failure of an output whose key or field is missing.
fn missing_key(output: &Output, path: &FilePath, key: &str, field: Option<&JsonPointer>, reading: &Reading) -> Failure {
    let (source, key_shown) = (&output.source, quoted(key));
    let cause = match field.filter(|_| reading.data.contains_key(key)) {
        Some(field) => format!(
            "the value of key {key_shown} of source {source} has no field {}; change the output's `field`",
            quoted(&field.to_string())
        ),
        None => format!("source {source} has no key {key_shown}; add the key to the secret, change the output's `key`"),
    };
    failure(FailureClass::Missing, path.as_str(), &format!("{cause}, or set its `default` or `optional`"))
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
        invalid(path.as_str(), &format!("{cause}; encode the value, or remove the output's `encoding`"))
    })
}

pub(super) fn entry(output: &Output, bytes: SecretBytes) -> FileEntry {
    FileEntry { bytes: Arc::new(bytes), mode: output.mode, sources: output.sources() }
}

/// `path` can contain the name of a key.
pub(super) fn failure(class: FailureClass, path: &str, cause: &str) -> Failure {
    Failure::new(class, Reason::RenderFailed, format!("failed to render file {}: {cause}", shortened(path)))
}

pub(super) fn invalid(path: &str, cause: &str) -> Failure {
    failure(FailureClass::Invalid, path, cause)
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
