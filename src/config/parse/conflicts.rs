//! Conflicts between outputs. Conflicts that depend on the keys of a secret are found when it is rendered.

use super::super::diagnostics::Diagnostics;
use super::selection::file_below;
use crate::model::{FilePath, KeySelection, Output, OutputKind};

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

/// The two files, or file and directory, that cannot exist together.
fn conflict(output: &Output, other: &Output) -> Option<(String, String)> {
    directory_conflict(output, other)
        .or_else(|| directory_conflict(other, output).map(|(directory, file)| (file, directory)))
        .or_else(|| {
            known_files(output).find_map(|file| {
                let found = known_files(other).find(|other| other.path.collides_with(&file.path));
                let found = found.or_else(|| file_of_key(other, &output.source, file.key?, &file.path));
                Some((file.shown(), found?.shown()))
            })
        })
        .or_else(|| {
            known_files(other).find_map(|file| {
                let found = file_of_key(output, &other.source, file.key?, &file.path)?;
                Some((found.shown(), file.shown()))
            })
        })
}

/// The directory of `output`, and the file of `other` at its path or above it.
fn directory_conflict(output: &Output, other: &Output) -> Option<(String, String)> {
    let OutputKind::EachKey { prefix: Some(directory), .. } = &output.kind else { return None };
    let is_at_or_above =
        |file: &FilePath| directory.collides_with(file) && file.as_str().len() <= directory.as_str().len();
    let file = known_files(other).find(|file| is_at_or_above(&file.path))?;
    Some((format!("directory \"{directory}\""), file.shown()))
}

/// A file that an output writes if the secret has its key.
struct KnownFile<'a> {
    /// The key of the secret; `None` for a file with several keys.
    key: Option<&'a str>,
    path: FilePath,
    /// Whether the key is not in the configuration of the output, or only in `include` and `rename`.
    names_key: bool,
}

impl KnownFile<'_> {
    fn shown(&self) -> String {
        let key = self.key.filter(|_| self.names_key).map(|key| format!(" (key \"{key}\")"));
        format!("file \"{}\"{}", self.path, key.unwrap_or_default())
    }
}

/// The files of an output that are known from the configuration.
fn known_files(output: &Output) -> Box<dyn Iterator<Item = KnownFile<'_>> + '_> {
    let one = |key, path: &FilePath| Box::new(std::iter::once(KnownFile { key, path: path.clone(), names_key: false }));
    match &output.kind {
        OutputKind::Key { key, path, .. } => one(Some(key), path),
        OutputKind::Whole { path, .. } => one(None, path),
        OutputKind::EachKey { prefix, keys, .. } => Box::new(keys.named().filter_map(|(key, name)| {
            let path = file_below(prefix.as_ref(), name).ok()?;
            Some(KnownFile { key: Some(key), path, names_key: true })
        })),
    }
}

/// The file of `key` that `output` writes, if it is an output with a file for each key of the same source, and the file
/// collides with `path`.
fn file_of_key<'a>(
    output: &Output,
    source: &crate::model::SourceName,
    key: &'a str,
    path: &FilePath,
) -> Option<KnownFile<'a>> {
    let OutputKind::EachKey { prefix, keys, .. } = &output.kind else { return None };
    let name = keys.name_of(key).filter(|_| output.source == *source)?;
    let file = file_below(prefix.as_ref(), name).ok()?;
    file.collides_with(path).then_some(KnownFile { key: Some(key), path: file, names_key: true })
}
