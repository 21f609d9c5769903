//! `include`, `exclude`, and `rename` of an output.

use std::collections::BTreeMap;

use super::super::diagnostics::Diagnostics;
use crate::model::{
    FileFormat, FilePath, Glob, KeySelection, NameError, is_env_file_key, is_variable_name, variable_of,
};

/// A selection as the user writes it.
pub(super) struct RawSelection {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) rename: BTreeMap<String, String>,
}

/// What the names in an output are.
#[derive(Clone, Copy)]
pub(super) enum Names<'a> {
    /// Paths of files below the prefix.
    Files(Option<&'a FilePath>),
    /// Names in a file of this format.
    Format(FileFormat),
    /// Names at this place in a merged file of this format.
    Merged(FileFormat, &'a [String]),
}

impl Names<'_> {
    /// Why a key cannot have this name.
    fn error(self, name: &str) -> Option<String> {
        match self {
            Self::Files(prefix) => file_below(prefix, name).err(),
            Self::Format(_) | Self::Merged(..) if name.is_empty() => Some("must not be empty".to_owned()),
            Self::Format(format) => format_error(format, name),
            Self::Merged(format, under) => format_error(format, &below(under, name)),
        }
    }

    /// Why the keys of a directory cannot have names that start with `name`.
    fn directory_error(self, name: &str) -> Option<String> {
        if !name.is_empty() && !name.ends_with('/') {
            return Some("must end with a slash like its key, or be empty".to_owned());
        }
        self.error(&format!("{name}x"))
    }

    /// Whether two keys cannot have these names.
    fn collide(self, name: &str, other: &str) -> bool {
        match self {
            Self::Files(prefix) => {
                let paths = file_below(prefix, name).ok().zip(file_below(prefix, other).ok());
                paths.is_some_and(|(path, other)| path.collides_with(&other))
            }
            Self::Format(_) => name == other,
            Self::Merged(FileFormat::Dotenv | FileFormat::EnvFile, under) => below(under, name) == below(under, other),
            Self::Merged(..) => name == other,
        }
    }
}

/// Why a file of this format cannot contain this name.
fn format_error(format: FileFormat, name: &str) -> Option<String> {
    let message = match format {
        FileFormat::Dotenv if !is_variable_name(name) => {
            "must be the name of a shell variable: letters, digits, and '_', no digit at the start"
        }
        FileFormat::EnvFile if !is_env_file_key(name) => {
            "must be a key of an env file: printable ASCII characters without '=', no '#' at the start, and no space at \
             either end"
        }
        _ => return None,
    };
    Some(message.to_owned())
}

/// The name of the variable for a key at this place.
fn below(under: &[String], name: &str) -> String {
    variable_of(under.iter().map(String::as_str).chain([name]))
}

/// The path of a file below the prefix of an output.
pub(super) fn file_below(prefix: Option<&FilePath>, name: &str) -> Result<FilePath, String> {
    let path = prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}/{name}"));
    FilePath::new(&path).map_err(|error| format!("must be the path of a file: {error}"))
}

/// `at` is the path of the output.
pub(super) fn parse(at: &str, raw: RawSelection, names: Names<'_>, diagnostics: &mut Diagnostics) -> KeySelection {
    let mut globs = |key: &str, patterns: Vec<String>| {
        let glob = |(index, text): (usize, String)| {
            let invalid = |error: NameError| {
                diagnostics.invalid(&format!("{at}.{key}[{index}]"), text.as_str(), error.to_string());
            };
            Glob::new(&text).map_err(invalid).ok()
        };
        patterns.into_iter().enumerate().filter_map(glob).collect::<Vec<_>>()
    };
    let (include, exclude) = (globs("include", raw.include), globs("exclude", raw.exclude));
    let selection = KeySelection { include, exclude, rename: raw.rename };
    // A pattern that is not valid can match any key.
    let is_known =
        !diagnostics.contains_below(&format!("{at}.include")) && !diagnostics.contains_below(&format!("{at}.exclude"));
    for (key, name) in &selection.rename {
        let at = format!("{at}.rename.{key}");
        if key.ends_with('/') {
            if let Some(message) = names.directory_error(name) {
                diagnostics.invalid(&at, name.as_str(), message);
            }
        } else if let Some(start) = key.strip_suffix('*').filter(|start| start.ends_with('/')) {
            let message = format!("cannot be a pattern; to rename all keys below it, use the key \"{start}\"");
            diagnostics.forbidden(&at, message);
        } else if let Some(message) = names.error(name) {
            diagnostics.invalid(&at, name.as_str(), message);
        } else if is_known && selection.name_of(key).is_none() {
            diagnostics.forbidden(&at, "has no effect, because `include` and `exclude` leave this key out; remove it");
        }
    }
    for (index, glob) in selection.include.iter().enumerate().filter(|(_, glob)| glob.is_literal()) {
        let (key, at) = (glob.as_str(), format!("{at}.include[{index}]"));
        match selection.name_of(key) {
            None => {
                diagnostics.invalid(&at, key, "has no effect, because `exclude` matches it too; remove one of them");
            }
            Some(name) if !selection.rename.contains_key(key) => {
                if let Some(message) = names.error(&name) {
                    diagnostics.invalid(&at, key, format!("{message}; add the key to `rename`"));
                }
            }
            Some(_) => {}
        }
    }
    collisions(at, &selection, names, diagnostics);
    selection
}

/// Reports keys of the previous version in a `dotenv` file that cannot be shell variables. The output at `at` would fail at the
/// first rotation.
pub(super) fn check_previous(at: &str, keys: &KeySelection, suffix: &str, diagnostics: &mut Diagnostics) {
    let patterns = keys.include.iter().filter_map(|pattern| pattern.as_str().strip_suffix('*'));
    let starts: Vec<_> = if keys.include.is_empty() { vec![""] } else { patterns.collect() };
    let mut examples = starts.into_iter().map(|start| format!("{start}KEY{suffix}"));
    let written = |example: &String| keys.name_of(example).is_some() && !is_variable_name(example);
    if let Some(example) = examples.find(written) {
        let message = format!(
            "cannot be `dotenv`, because \"{example}\" of the previous version is not the name of a shell variable; \
             set the source's `previous.suffix` to \"_PREVIOUS\", or add \"*{suffix}\" to `exclude`"
        );
        diagnostics.forbidden(&format!("{at}.format"), message);
    }
}

/// Reports keys that the configuration names and that cannot be in the output together.
fn collisions(at: &str, selection: &KeySelection, names: Names<'_>, diagnostics: &mut Diagnostics) {
    let known: Vec<_> = selection.named().collect();
    for (place, (key, name)) in known.iter().enumerate() {
        let Some((other, other_name)) = known[..place].iter().find(|(_, other)| names.collide(name, other)) else {
            continue;
        };
        // One of them can be a literal of `include`.
        let renamed = [*key, *other].into_iter().find(|key| selection.rename.contains_key(*key));
        let at = renamed.map_or_else(|| format!("{at}.include"), |key| format!("{at}.rename.{key}"));
        let message = format!(
            "must give each key another name: \"{key}\" becomes \"{name}\", and \"{other}\" becomes \"{other_name}\""
        );
        diagnostics.invalid_hidden(&at, message);
    }
}
