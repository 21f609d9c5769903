//! `outputs`

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::raw::RawSource;
use super::super::raw_output::{RawEncoding, RawFormat, RawOutput};
use super::conflicts;
use super::selection::{self, Names, RawSelection};
use super::template::Given;
use super::{mode, pki};
use crate::model::{
    FileFormat, FilePath, JsonPointer, KeySelection, NameError, Output, OutputKind, SourceName, WhenMissing,
};

/// Files of a certificate, by the names in a Secret of type `kubernetes.io/tls`, with their keys
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets>).
const CERTIFICATE_FILES: [(&str, &[&str]); 3] =
    [("tls.crt", &["certificate", "intermediates"]), ("tls.key", &["private_key"]), ("ca.crt", &["ca"])];

const KEY_OF_LIST: &str =
    "must be the path of a secret below the source's path, and one of its keys, like \"db/password\"";

/// Without any output, every key of every source becomes a file. A certificate becomes [`CERTIFICATE_FILES`].
pub(super) fn parse(
    raw: Option<Vec<RawOutput>>,
    sources: &BTreeMap<String, RawSource>,
    given: Given<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Output> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
        let kind = || OutputKind::EachKey { prefix: None, base64: false, keys: KeySelection::default() };
        let all_of = |(name, source): (&String, &RawSource)| {
            let kinds = if source.pki.is_some() { certificate_files(None) } else { vec![kind()] };
            let source = SourceName::new(name).ok()?;
            Some(kinds.into_iter().map(move |kind| Output { source: source.clone(), kind, mode: None }))
        };
        if sources.values().filter(|source| source.pki.is_some()).count() > 1 {
            let message = "is missing; with several certificates, set it with a `prefix` or `file` for each of them";
            diagnostics.required("outputs", message);
        }
        return sources.iter().filter_map(all_of).flatten().collect();
    };
    let numbered: Vec<(usize, Output)> = raw
        .into_iter()
        .enumerate()
        .flat_map(|(index, raw)| {
            output(index, raw, sources, given, diagnostics).into_iter().map(move |output| (index, output))
        })
        .collect();
    conflicts::check(&numbered, diagnostics);
    numbered.into_iter().map(|(_, output)| output).collect()
}

fn output(
    index: usize,
    mut raw: RawOutput,
    sources: &BTreeMap<String, RawSource>,
    given: Given<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Output> {
    let at = format!("outputs[{index}]");
    let mode = raw.mode.take().and_then(|text| mode(&format!("{at}.mode"), &text, diagnostics));
    if raw.is_template() {
        let output = Section { at: &at, diagnostics }.template(raw, sources, given);
        return output.into_iter().map(|(source, kind)| Output { source, kind, mode }).collect();
    }
    let mut section = Section { at: &at, diagnostics };
    const OF_TEMPLATE: &str = "requires `template` or `templateFile`; set one of them, or remove this";
    section.forbid("missingKey", raw.missing_key.is_some(), OF_TEMPLATE);
    section.forbid("delimiters", raw.delimiters.is_some(), OF_TEMPLATE);
    if let Some(name) = raw.source.as_ref().filter(|_| raw.merge.is_none()) {
        check_source(&format!("{at}.source"), name, sources, diagnostics);
    }
    let source = raw.source.take();
    let previous = source.as_ref().and_then(|name| sources.get(name)?.previous_suffix());
    let is_certificate = source.as_ref().and_then(|name| sources.get(name)).is_some_and(|source| source.pki.is_some());
    let keys = raw.key.iter().map(|key| (format!("{at}.key"), key));
    let bundled = raw.bundle.iter().flatten().enumerate().map(|(index, key)| (format!("{at}.bundle[{index}]"), key));
    for (at, key) in keys.chain(bundled) {
        check_key(&at, source.as_deref(), key, sources, diagnostics);
    }
    // These keys determine the kind of the output.
    if ["key", "bundle", "format", "merge"].iter().any(|key| diagnostics.contains(&format!("{at}.{key}"))) {
        return Vec::new();
    }
    let mut section = Section { at: &at, diagnostics };
    if let Some(items) = raw.merge.take() {
        let format = raw.format.take();
        raw.source = source;
        let merged = section.merged(items, format, raw, sources);
        return merged.into_iter().map(|(source, kind)| Output { source, kind, mode }).collect();
    }
    if source.is_none() {
        let message = "is missing; set it, or `merge` or `template` for several sources";
        section.diagnostics.required(&section.at("source"), message);
    }
    if is_certificate {
        section.of_certificate(&raw);
    }
    if raw.bundle.as_ref().is_some_and(Vec::is_empty) {
        section.diagnostics.invalid_hidden(&section.at("bundle"), "must list at least one key");
    }
    let format = raw.format.take();
    if !matches!(format, Some(RawFormat::Pkcs12)) {
        section.forbid_settings_of_pkcs12(&raw);
    }
    let kinds = match (raw.key.take(), raw.bundle.take(), format) {
        (Some(_), Some(_), _) => {
            section.forbid("bundle", true, "cannot be combined with `key`; add the key to the list");
            Vec::new()
        }
        (None, keys, Some(format)) => match (file_format(format), keys) {
            (None, keys) => section.pkcs12(keys, raw, is_certificate, sources).into_iter().collect(),
            (Some(format), None) => section.whole(format, raw, previous.as_deref()).into_iter().collect(),
            (Some(_), Some(_)) => {
                section.forbid("format", true, "cannot be combined with `bundle`, unless it is `pkcs12`");
                Vec::new()
            }
        },
        (Some(_), None, Some(RawFormat::Pkcs12)) => {
            section.forbid("format", true, "cannot be combined with `key`; list the keys of the file in `bundle`");
            Vec::new()
        }
        (Some(_), None, Some(_)) => {
            section.forbid("format", true, "cannot be combined with `key`; `format` writes all keys to one file");
            Vec::new()
        }
        (Some(key), None, None) => section.one_key(key, raw).into_iter().collect(),
        (None, Some(keys), None) => section.bundle(keys, raw).into_iter().collect(),
        (None, None, None) => match section.each_key(raw) {
            Some(OutputKind::EachKey { prefix, .. }) if is_certificate => certificate_files(prefix.as_ref()),
            kind => kind.into_iter().collect(),
        },
    };
    let source = source.and_then(|name| SourceName::new(&name).ok());
    let output = |kind| Some(Output { source: source.clone()?, kind, mode });
    kinds.into_iter().filter_map(output).collect()
}

/// The outputs of a certificate without `key`, `bundle`, and `format`.
fn certificate_files(prefix: Option<&FilePath>) -> Vec<OutputKind> {
    let kind = |(name, keys): (&str, &[&str])| {
        let path = FilePath::new(&prefix.map_or(name.to_owned(), |prefix| format!("{prefix}/{name}"))).ok()?;
        Some(OutputKind::Bundle { path, keys: keys.iter().map(|key| (*key).to_owned()).collect() })
    };
    CERTIFICATE_FILES.into_iter().filter_map(kind).collect()
}

/// One output and its path in the configuration. Each parser reports all errors of its kind before it returns.
pub(super) struct Section<'a> {
    pub(super) at: &'a str,
    pub(super) diagnostics: &'a mut Diagnostics,
}

impl Section<'_> {
    pub(super) fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    pub(super) fn forbid(&mut self, key: &str, is_set: bool, message: &str) {
        let at = self.at(key);
        if is_set && !self.diagnostics.contains(&at) {
            self.diagnostics.forbidden(&at, message);
        }
    }

    /// `Ok(None)` if the path is not set; `Err` if it is invalid, which is reported.
    pub(super) fn path(&mut self, key: &str, text: Option<String>) -> Result<Option<FilePath>, ()> {
        let at = self.at(key);
        let parsed = text.map(|text| FilePath::new(&text).map_err(|error| (text, error))).transpose();
        let parsed = parsed.map_err(|(text, error)| self.diagnostics.invalid(&at, text, error.to_string()));
        if self.diagnostics.contains(&at) { Err(()) } else { parsed }
    }

    fn one_key(&mut self, key: String, raw: RawOutput) -> Option<OutputKind> {
        self.forbid("prefix", raw.prefix.is_some(), "cannot be combined with `key`; include the directory in `file`");
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
            "cannot be combined with `default`, which always writes the file; remove one of them",
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
    pub(super) fn forbid_settings_of_key(&mut self, raw: &RawOutput) {
        const MESSAGE: &str = "requires `key`; set `key`, or remove this";
        self.forbid("field", raw.field.is_some(), MESSAGE);
        self.forbid("default", raw.default.is_some(), MESSAGE);
        self.forbid("optional", raw.optional == Some(true), MESSAGE);
    }

    /// Reports the settings that require `format: pkcs12`.
    pub(super) fn forbid_settings_of_pkcs12(&mut self, raw: &RawOutput) {
        const MESSAGE: &str = "requires `format: pkcs12`; set it, or remove this";
        self.forbid("password", raw.password.is_some(), MESSAGE);
        self.forbid("alias", raw.alias.is_some(), MESSAGE);
    }

    /// Reports the settings that select and rename keys.
    pub(super) fn forbid_selection(&mut self, raw: &RawOutput, message: &str) {
        self.forbid("include", raw.include.is_some(), message);
        self.forbid("exclude", raw.exclude.is_some(), message);
        self.forbid("rename", raw.rename.is_some(), message);
    }

    /// Reports settings that have no meaning for a certificate, and keys that it does not have.
    fn of_certificate(&mut self, raw: &RawOutput) {
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with a certificate, which is PEM; remove it");
        self.forbid("field", raw.field.is_some(), "cannot be combined with a certificate, which is PEM; remove it");
        if raw.key.is_none() && raw.format.is_none() {
            const FIXED: &str =
                "cannot be combined with a certificate, whose files have fixed names; use `key` or `bundle`";
            self.forbid_selection(raw, FIXED);
        }
        let named = raw.key.iter().map(|key| (self.at("key"), key));
        let bundled = raw.bundle.iter().flatten().enumerate();
        let bundled: Vec<_> = bundled.map(|(index, key)| (format!("{}[{index}]", self.at("bundle")), key)).collect();
        let named: Vec<_> = named.chain(bundled.iter().cloned()).collect();
        for (at, key) in named.iter().filter(|(_, key)| !pki::KEYS.contains(&key.as_str())) {
            let message = format!("must be a key of a certificate; {}", suggestion(key, pki::KEYS));
            self.diagnostics.invalid(at, key.as_str(), message);
        }
        for (at, key) in bundled.iter().filter(|(_, key)| *key == "serial_number") {
            let message =
                "cannot be in `bundle`, because it is text and not PEM; write it with `key` in another output";
            self.diagnostics.invalid(at, key.as_str(), message);
        }
    }

    fn bundle(&mut self, keys: Vec<String>, mut raw: RawOutput) -> Option<OutputKind> {
        self.forbid_settings_of_key(&raw);
        self.forbid(
            "prefix",
            raw.prefix.is_some(),
            "cannot be combined with `bundle`; include the directory in `file`",
        );
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with `bundle`, which writes PEM");
        self.forbid_selection(&raw, "cannot be combined with `bundle`, which names its keys; remove it");
        let file = self.path("file", raw.file.take());
        let Some(path) = file.ok()? else {
            let message = "is missing; set it to the path of the file, like \"tls.pem\"";
            self.diagnostics.required(&self.at("file"), message);
            return None;
        };
        Some(OutputKind::Bundle { path, keys })
    }

    fn selection(&mut self, raw: RawOutput, names: Names<'_>) -> KeySelection {
        if raw.include.as_ref().is_some_and(Vec::is_empty) {
            let message = "must contain a pattern; to use all keys, remove it";
            self.diagnostics.invalid_hidden(&self.at("include"), message);
        }
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
            "cannot be combined with `format`; include the directory in `file`",
        );
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with `format`, which writes values as they are");
        let file = self.path("file", raw.file.take());
        let keys = self.selection(raw, Names::Format(format));
        if let Some(suffix) = previous.filter(|_| format == FileFormat::Dotenv) {
            selection::check_previous(self.at, &keys, suffix, self.diagnostics);
        }
        let Some(path) = file.ok()? else {
            let message = "is missing; set it to the path of the file, like \"config.json\"";
            self.diagnostics.required(&self.at("file"), message);
            return None;
        };
        Some(OutputKind::Whole { path, format, keys })
    }

    fn each_key(&mut self, mut raw: RawOutput) -> Option<OutputKind> {
        self.forbid_settings_of_key(&raw);
        self.forbid(
            "file",
            raw.file.is_some(),
            "requires `key` (one key), `bundle` (several keys in one PEM file), or `format` (all keys in one file); for a \
             directory with one file per key, use `prefix`",
        );
        let base64 = raw.encoding == Some(RawEncoding::Base64);
        let prefix = self.path("prefix", raw.prefix.take());
        let keys = self.selection(raw, Names::Files(prefix.as_ref().ok().and_then(Option::as_ref)));
        Some(OutputKind::EachKey { prefix: prefix.ok()?, base64, keys })
    }
}

/// The format of a file with all keys; `None` for PKCS#12, whose keys are listed.
pub(super) const fn file_format(format: RawFormat) -> Option<FileFormat> {
    match format {
        RawFormat::Dotenv => Some(FileFormat::Dotenv),
        RawFormat::EnvFile => Some(FileFormat::EnvFile),
        RawFormat::Json => Some(FileFormat::Json),
        RawFormat::Pkcs12 => None,
        RawFormat::Properties => Some(FileFormat::Properties),
        RawFormat::Toml => Some(FileFormat::Toml),
        RawFormat::Yaml => Some(FileFormat::Yaml),
    }
}

/// Reports a name of a source that does not exist.
pub(super) fn check_source(at: &str, name: &str, sources: &BTreeMap<String, RawSource>, diagnostics: &mut Diagnostics) {
    if !sources.contains_key(name) {
        let known: Vec<_> = sources.keys().map(String::as_str).collect();
        let message = format!("must be a name in `sources`; {}", suggestion(name, known.iter().copied()));
        diagnostics.invalid(at, name, message);
    }
}

/// Reports a key that the source never has.
pub(super) fn check_key(
    at: &str,
    source: Option<&str>,
    key: &str,
    sources: &BTreeMap<String, RawSource>,
    diagnostics: &mut Diagnostics,
) {
    let list = source.and_then(|name| sources.get(name)?.list());
    if list.is_some() && !key.contains('/') {
        diagnostics.invalid(at, key, KEY_OF_LIST);
    }
}

/// The file of an output. `None` if it depends on the keys of the secret.
pub(super) fn file(output: &Output) -> Option<&FilePath> {
    match &output.kind {
        OutputKind::Key { path, .. }
        | OutputKind::Whole { path, .. }
        | OutputKind::Bundle { path, .. }
        | OutputKind::Merged { path, .. }
        | OutputKind::Pkcs12 { path, .. }
        | OutputKind::Template { path, .. } => Some(path),
        OutputKind::EachKey { .. } => None,
    }
}
