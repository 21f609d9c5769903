//! `outputs`

use std::collections::BTreeMap;

use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::raw::{RawEncoding, RawFormat, RawOutput, RawSource};
use super::mode;
use crate::model::{FileFormat, FilePath, Output, OutputKind, SourceName};

/// Without any output, every key of every source becomes a file.
pub(super) fn parse(
    raw: Option<Vec<RawOutput>>,
    sources: &BTreeMap<String, RawSource>,
    diagnostics: &mut Diagnostics,
) -> Vec<Output> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
        let each_key =
            |source| Output { source, kind: OutputKind::EachKey { prefix: None, base64: false }, mode: None };
        return sources.keys().filter_map(|name| SourceName::new(name).ok()).map(each_key).collect();
    };
    let numbered: Vec<(usize, Output)> = raw
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| Some((index, output(index, raw, sources, diagnostics)?)))
        .collect();
    conflicts(&numbered, diagnostics);
    numbered.into_iter().map(|(_, output)| output).collect()
}

fn output(
    index: usize,
    raw: RawOutput,
    sources: &BTreeMap<String, RawSource>,
    diagnostics: &mut Diagnostics,
) -> Option<Output> {
    let at = |key: &str| format!("outputs[{index}].{key}");
    let mode = raw.mode.as_deref().and_then(|text| mode(&at("mode"), text, diagnostics));
    if let Some(name) = raw.source.as_deref().filter(|name| !sources.contains_key(*name)) {
        let known: Vec<_> = sources.keys().map(String::as_str).collect();
        let message = format!("must be a name in `sources`; {}", suggestion(name, known.iter().copied()));
        diagnostics.invalid(&at("source"), name, message);
    }
    // `key` and `format` determine the kind of the output.
    if diagnostics.contains(&at("key")) || diagnostics.contains(&at("format")) {
        return None;
    }
    let base64 = raw.encoding == Some(RawEncoding::Base64);
    let mut path = |key: &str, text: Option<String>| {
        let parsed = text.map(|text| FilePath::new(&text).map_err(|error| (text, error))).transpose();
        parsed.map_err(|(text, error)| diagnostics.invalid(&at(key), text, error.to_string()))
    };
    let (prefix, file) = (path("prefix", raw.prefix), path("file", raw.file));
    let conflict = match (&raw.key, raw.format) {
        (Some(_), Some(_)) => Some(("format", "cannot be combined with `key`; `format` writes all keys to one file")),
        (None, None) if !matches!(file, Ok(None)) => Some((
            "file",
            "requires `key` (one key) or `format` (all keys in one file); for a directory with one file per key, use `prefix`",
        )),
        (None, None) => None,
        _ if !matches!(prefix, Ok(None)) => {
            Some(("prefix", "cannot be combined with `key` or `format`; write the directory into `file`"))
        }
        (None, Some(_)) if base64 => {
            Some(("encoding", "cannot be combined with `format`, which writes values as they are"))
        }
        (None, Some(_)) if matches!(file, Ok(None)) => {
            diagnostics.required(&at("file"), "is missing; set it to the path of the file, like \"config.json\"");
            return None;
        }
        _ => None,
    };
    if let Some((key, message)) = conflict {
        if !diagnostics.contains(&at(key)) {
            diagnostics.forbidden(&at(key), message);
        }
        return None;
    }
    let (prefix, file) = (prefix.ok()?, file.ok()?);
    let kind = match (raw.key, raw.format) {
        (Some(key), _) => {
            OutputKind::Key { path: file.or_else(|| named_after(&at("key"), &key, diagnostics))?, key, base64 }
        }
        (None, Some(format)) => OutputKind::Whole { path: file?, format: whole(format) },
        (None, None) => OutputKind::EachKey { prefix, base64 },
    };
    Some(Output { source: SourceName::new(&raw.source?).ok()?, kind, mode })
}

/// The file of an output with `key` and without `file`.
fn named_after(at: &str, key: &str, diagnostics: &mut Diagnostics) -> Option<FilePath> {
    FilePath::new(key)
        .map_err(|error| diagnostics.invalid(at, key, format!("cannot be a file name ({error}); set `file`")))
        .ok()
}

const fn whole(format: RawFormat) -> FileFormat {
    match format {
        RawFormat::Dotenv => FileFormat::Dotenv,
        RawFormat::Json => FileFormat::Json,
        RawFormat::Properties => FileFormat::Properties,
        RawFormat::Yaml => FileFormat::Yaml,
    }
}

/// The file of an output. `None` if it depends on the keys of the secret.
pub(super) fn file(output: &Output) -> Option<&FilePath> {
    match &output.kind {
        OutputKind::Key { path, .. } | OutputKind::Whole { path, .. } => Some(path),
        OutputKind::EachKey { .. } => None,
    }
}

/// Reports conflicts between outputs. Conflicts that depend on the keys of a secret are found when it is rendered.
fn conflicts(outputs: &[(usize, Output)], diagnostics: &mut Diagnostics) {
    for (place, (index, output)) in outputs.iter().enumerate() {
        let at = format!("outputs[{index}]");
        for (earlier, other) in &outputs[..place] {
            let names = match (&output.kind, &other.kind) {
                (OutputKind::EachKey { prefix, .. }, OutputKind::EachKey { prefix: other_prefix, .. }) => {
                    if output.source == other.source && prefix == other_prefix {
                        let message = format!("source and prefix; outputs[{earlier}] writes the same files");
                        diagnostics.duplicate(&at, (), message);
                    }
                    None
                }
                (OutputKind::EachKey { prefix: Some(prefix), .. }, _) => file(other)
                    .filter(|file| is_below_or_same(prefix, file))
                    .map(|file| (format!("directory \"{prefix}\""), format!("file \"{file}\""))),
                (_, OutputKind::EachKey { prefix: Some(prefix), .. }) => file(output)
                    .filter(|file| is_below_or_same(prefix, file))
                    .map(|file| (format!("file \"{file}\""), format!("directory \"{prefix}\""))),
                _ => file(output)
                    .zip(file(other))
                    .filter(|(file, other)| file.collides_with(other))
                    .map(|(file, other)| (format!("file \"{file}\""), format!("file \"{other}\""))),
            };
            if let Some((name, other_name)) = names {
                let message = format!("{name} conflicts with {other_name} of outputs[{earlier}]; rename one of them");
                diagnostics.invalid_hidden(&at, message);
            }
        }
    }
}

/// Whether the file is at the path of the directory or above it, so that the directory cannot exist.
fn is_below_or_same(directory: &FilePath, file: &FilePath) -> bool {
    directory.collides_with(file) && file.as_str().len() <= directory.as_str().len()
}
