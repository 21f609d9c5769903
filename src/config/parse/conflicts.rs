//! Conflicts between outputs. Conflicts that depend on the keys of a secret are found when it is rendered.

use std::borrow::Cow;

use super::super::diagnostics::Diagnostics;
use super::selection::file_below;
use crate::model::{FilePath, KeySelection, Output, OutputKind, SourceName};

/// Reports the conflicts between `outputs`, which are numbered as in the configuration.
pub(super) fn check(outputs: &[(usize, Output)], diagnostics: &mut Diagnostics) {
    for (place, (index, output)) in outputs.iter().enumerate() {
        let at = format!("outputs[{index}]");
        for (earlier, other) in &outputs[..place] {
            if writes_same_files(output, other) {
                diagnostics.duplicate(&at, (), format!("source and prefix; outputs[{earlier}] writes the same files"));
            } else if let Some((name, other)) = conflict(output, other) {
                let message = format!("{name} conflicts with {other} of outputs[{earlier}]; rename one of them");
                diagnostics.invalid_hidden(&at, message);
            }
        }
    }
}

/// Reports the conflict of the token file with one of the other outputs. `at` is the key with its path.
pub(super) fn check_token_file(at: &str, file: &Output, outputs: &[Output], diagnostics: &mut Diagnostics) {
    if let Some((output, (name, other))) = outputs.iter().find_map(|output| Some((output, conflict(file, output)?))) {
        let message = format!("{name} conflicts with {other} of source {}; choose another path", output.source);
        diagnostics.invalid_hidden(at, message);
    }
}

/// Whether both outputs write a file for each key, and some keys are selected by both. Lists of keys are compared key by key.
fn writes_same_files(output: &Output, other: &Output) -> bool {
    let (OutputKind::EachKey { prefix, keys, .. }, OutputKind::EachKey { prefix: other_prefix, keys: other_keys, .. }) =
        (&output.kind, &other.kind)
    else {
        return false;
    };
    let selects_all = |keys: &KeySelection| keys.include.is_empty() && keys.exclude.is_empty();
    let same_keys = (&keys.include, &keys.exclude) == (&other_keys.include, &other_keys.exclude);
    output.source == other.source
        && prefix == other_prefix
        && !keys.is_complete_list()
        && !other_keys.is_complete_list()
        && (same_keys || selects_all(keys) || selects_all(other_keys))
}

/// The two files, or file and directory, that cannot exist together: first that of `output`.
fn conflict(output: &Output, other: &Output) -> Option<(String, String)> {
    let swapped = |(one, two): (String, String)| (two, one);
    directory_conflict(output, other)
        .or_else(|| directory_conflict(other, output).map(swapped))
        .or_else(|| file_conflict(output, other))
        .or_else(|| file_conflict(other, output).map(swapped))
}

/// A file of `output` that is known, and the file of `other` that collides with it.
fn file_conflict(output: &Output, other: &Output) -> Option<(String, String)> {
    known_files(output).into_iter().find_map(|file| {
        let found = known_files(other).into_iter().find(|other| other.path.collides_with(&file.path));
        let found = found.or_else(|| file_of_key(other, &output.source, file.key?, &file.path))?;
        Some((file.shown(), found.shown()))
    })
}

/// The directory of `output`, and the file of `other` at its path or above it.
fn directory_conflict(output: &Output, other: &Output) -> Option<(String, String)> {
    let OutputKind::EachKey { prefix: Some(directory), .. } = &output.kind else { return None };
    let is_at_or_above =
        |file: &FilePath| directory.collides_with(file) && file.as_str().len() <= directory.as_str().len();
    let file = known_files(other).into_iter().find(|file| is_at_or_above(&file.path))?;
    Some((format!("directory \"{directory}\""), file.shown()))
}

/// A file that an output writes if the secret has its key.
struct KnownFile<'a> {
    /// The key of the secret; `None` for a file with several keys.
    key: Option<&'a str>,
    path: FilePath,
    /// Whether the output has other files too, so that a message names the key.
    is_one_of_many: bool,
}

impl KnownFile<'_> {
    fn shown(&self) -> String {
        let key = self.key.filter(|_| self.is_one_of_many).map(|key| format!(" (key \"{key}\")"));
        format!("file \"{}\"{}", self.path, key.unwrap_or_default())
    }
}

/// The files of an output that are known from the configuration.
fn known_files(output: &Output) -> Vec<KnownFile<'_>> {
    match &output.kind {
        OutputKind::Key { key, path, .. } => {
            vec![KnownFile { key: Some(key), path: path.clone(), is_one_of_many: false }]
        }
        OutputKind::Whole { path, .. }
        | OutputKind::Bundle { path, .. }
        | OutputKind::Merged { path, .. }
        | OutputKind::Pkcs12 { path, .. }
        | OutputKind::Template { path, .. } => {
            vec![KnownFile { key: None, path: path.clone(), is_one_of_many: false }]
        }
        OutputKind::EachKey { prefix, keys, .. } => {
            let of_key = |(key, name): (_, Cow<'_, str>)| {
                let path = file_below(prefix.as_ref(), &name).ok()?;
                Some(KnownFile { key: Some(key), path, is_one_of_many: true })
            };
            keys.named().filter_map(of_key).collect()
        }
    }
}

/// The file of `key` of `source`, if `output` writes a file for each key of this source, and the file collides with `path`.
fn file_of_key<'a>(output: &Output, source: &SourceName, key: &'a str, path: &FilePath) -> Option<KnownFile<'a>> {
    let OutputKind::EachKey { prefix, keys, .. } = &output.kind else { return None };
    let name = keys.name_of(key).filter(|_| output.source == *source)?;
    let file = file_below(prefix.as_ref(), &name).ok()?;
    file.collides_with(path).then_some(KnownFile { key: Some(key), path: file, is_one_of_many: true })
}
