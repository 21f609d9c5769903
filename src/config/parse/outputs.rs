//! `outputs`

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::previous::RawPrevious;
use super::super::raw::RawSource;
use super::super::raw_output::{RawEncoding, RawFormat, RawOutput};
use super::conflicts;
use super::mode;
use super::selection::{self, Names, RawSelection};
use crate::model::{
    FileFormat, FilePath, JsonPointer, KeySelection, NameError, Output, OutputKind, SourceName, WhenMissing,
    is_variable_name,
};

/// Without any output, every key of every source becomes a file.
pub(super) fn parse(
    raw: Option<Vec<RawOutput>>,
    sources: &BTreeMap<String, RawSource>,
    diagnostics: &mut Diagnostics,
) -> Vec<Output> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
        let kind = || OutputKind::EachKey { prefix: None, base64: false, keys: KeySelection::default() };
        let each_key = |source| Output { source, kind: kind(), mode: None };
        return sources.keys().filter_map(|name| SourceName::new(name).ok()).map(each_key).collect();
    };
    let numbered: Vec<(usize, Output)> = raw
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| Some((index, output(index, raw, sources, diagnostics)?)))
        .collect();
    conflicts::check(&numbered, diagnostics);
    numbered.into_iter().map(|(_, output)| output).collect()
}

fn output(
    index: usize,
    mut raw: RawOutput,
    sources: &BTreeMap<String, RawSource>,
    diagnostics: &mut Diagnostics,
) -> Option<Output> {
    let at = format!("outputs[{index}]");
    let mode = raw.mode.take().and_then(|text| mode(&format!("{at}.mode"), &text, diagnostics));
    if let Some(name) = raw.source.as_deref().filter(|name| !sources.contains_key(*name)) {
        let known: Vec<_> = sources.keys().map(String::as_str).collect();
        let message = format!("must be a name in `sources`; {}", suggestion(name, known.iter().copied()));
        diagnostics.invalid(&format!("{at}.source"), name, message);
    }
    let source = raw.source.take();
    let previous = source.as_ref().and_then(|name| sources.get(name)?.previous.as_ref()).and_then(RawPrevious::suffix);
    // `key` and `format` determine the kind of the output.
    if diagnostics.contains(&format!("{at}.key")) || diagnostics.contains(&format!("{at}.format")) {
        return None;
    }
    let mut section = Section { at: &at, diagnostics };
    let kind = match (raw.key.take(), raw.format.take()) {
        (Some(_), Some(_)) => {
            section.forbid("format", true, "cannot be combined with `key`; `format` writes all keys to one file");
            None
        }
        (Some(key), None) => section.one_key(key, raw),
        (None, Some(format)) => section.whole(file_format(format), raw, previous),
        (None, None) => section.each_key(raw),
    };
    Some(Output { source: SourceName::new(&source?).ok()?, kind: kind?, mode })
}

/// One output and its path in the configuration. Each parser reports all errors of its kind before it returns.
struct Section<'a> {
    at: &'a str,
    diagnostics: &'a mut Diagnostics,
}

impl Section<'_> {
    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    fn forbid(&mut self, key: &str, is_set: bool, message: &str) {
        let at = self.at(key);
        if is_set && !self.diagnostics.contains(&at) {
            self.diagnostics.forbidden(&at, message);
        }
    }

    /// `Ok(None)` if the path is not set; `Err` if it is invalid, which is reported.
    fn path(&mut self, key: &str, text: Option<String>) -> Result<Option<FilePath>, ()> {
        let at = self.at(key);
        let parsed = text.map(|text| FilePath::new(&text).map_err(|error| (text, error))).transpose();
        let parsed = parsed.map_err(|(text, error)| self.diagnostics.invalid(&at, text, error.to_string()));
        if self.diagnostics.contains(&at) { Err(()) } else { parsed }
    }

    fn one_key(&mut self, key: String, raw: RawOutput) -> Option<OutputKind> {
        self.forbid("prefix", raw.prefix.is_some(), "cannot be combined with `key`; write the directory into `file`");
        self.forbid("include", raw.include.is_some(), "cannot be combined with `key`, which writes one key; remove it");
        self.forbid("exclude", raw.exclude.is_some(), "cannot be combined with `key`, which writes one key; remove it");
        self.forbid("rename", raw.rename.is_some(), "cannot be combined with `key`; set `file`");
        let base64 = raw.encoding == Some(RawEncoding::Base64);
        let file = self.path("file", raw.file);
        let field = raw.field.and_then(|text| {
            let invalid = |error: NameError| {
                self.diagnostics.invalid(&self.at("field"), text.as_str(), error.to_string());
            };
            JsonPointer::new(&text).map_err(invalid).ok()
        });
        let missing = self.missing(raw.default.map(String::from), raw.optional.unwrap_or(false), base64);
        let path = match file.ok()? {
            Some(path) => path,
            // Several fields of one key would have the same file.
            None if field.is_some() => {
                let message = "is missing; with `field`, set it to the path of the file, like \"db/host\"";
                self.diagnostics.required(&self.at("file"), message);
                return None;
            }
            None => {
                let invalid = |error| {
                    let message = format!("cannot be a file name ({error}); set `file`");
                    self.diagnostics.invalid(&self.at("key"), key.as_str(), message);
                };
                FilePath::new(&key).map_err(invalid).ok()?
            }
        };
        Some(OutputKind::Key { key, path, base64, field, missing })
    }

    fn missing(&mut self, default: Option<String>, optional: bool, base64: bool) -> WhenMissing {
        let Some(default) = default else { return if optional { WhenMissing::Omit } else { WhenMissing::Fail } };
        self.forbid(
            "optional",
            optional,
            "cannot be combined with `default`, with which the file always exists; remove one of them",
        );
        if !base64 {
            return WhenMissing::Default(default.into_bytes());
        }
        let packed: String = default.split_ascii_whitespace().collect();
        let decoded = STANDARD_PAD_INDIFFERENT.decode(packed).unwrap_or_else(|_| {
            let message = "must be base64 (standard alphabet) like the value, because `encoding` is `base64`";
            self.diagnostics.invalid_hidden(&self.at("default"), message);
            Vec::new()
        });
        WhenMissing::Default(decoded)
    }

    /// Reports the settings that require `key`.
    fn forbid_settings_of_key(&mut self, raw: &RawOutput) {
        const MESSAGE: &str = "requires `key`; set `key`, or remove this";
        self.forbid("field", raw.field.is_some(), MESSAGE);
        self.forbid("default", raw.default.is_some(), MESSAGE);
        self.forbid("optional", raw.optional == Some(true), MESSAGE);
    }

    fn selection(&mut self, raw: RawOutput, names: Names<'_>) -> KeySelection {
        let (include, exclude) = (raw.include.unwrap_or_default(), raw.exclude.unwrap_or_default());
        let raw = RawSelection { include, exclude, rename: raw.rename.unwrap_or_default() };
        selection::parse(self.at, raw, names, self.diagnostics)
    }

    /// `previous`: the suffix of the keys of the previous version, if the source reads it.
    fn whole(&mut self, format: FileFormat, mut raw: RawOutput, previous: Option<&str>) -> Option<OutputKind> {
        self.forbid_settings_of_key(&raw);
        self.forbid(
            "prefix",
            raw.prefix.is_some(),
            "cannot be combined with `format`; write the directory into `file`",
        );
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with `format`, which writes values as they are");
        let file = self.path("file", raw.file.take());
        let keys = self.selection(raw, Names::Format(format));
        if let Some(suffix) = previous.filter(|_| format == FileFormat::Dotenv) {
            self.previous_variables(&keys, suffix);
        }
        let Some(path) = file.ok()? else {
            let message = "is missing; set it to the path of the file, like \"config.json\"";
            self.diagnostics.required(&self.at("file"), message);
            return None;
        };
        Some(OutputKind::Whole { path, format, keys })
    }

    /// Reports keys of the previous version that cannot be shell variables. The output would fail at the first rotation.
    fn previous_variables(&mut self, keys: &KeySelection, suffix: &str) {
        let example = format!("KEY{suffix}");
        if keys.include.is_empty() && keys.name_of(&example).is_some() && !is_variable_name(&example) {
            let message = format!(
                "cannot be `dotenv`, because \"{example}\" of the previous version is not the name of a shell variable; \
                 set the source's `previous.suffix` to \"_PREVIOUS\", or add \"*{suffix}\" to `exclude`"
            );
            self.diagnostics.forbidden(&self.at("format"), message);
        }
    }

    fn each_key(&mut self, mut raw: RawOutput) -> Option<OutputKind> {
        self.forbid_settings_of_key(&raw);
        self.forbid(
            "file",
            raw.file.is_some(),
            "requires `key` (one key) or `format` (all keys in one file); for a directory with one file per key, use `prefix`",
        );
        let base64 = raw.encoding == Some(RawEncoding::Base64);
        let prefix = self.path("prefix", raw.prefix.take());
        let keys = self.selection(raw, Names::Files(prefix.as_ref().ok().and_then(Option::as_ref)));
        Some(OutputKind::EachKey { prefix: prefix.ok()?, base64, keys })
    }
}

const fn file_format(format: RawFormat) -> FileFormat {
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
