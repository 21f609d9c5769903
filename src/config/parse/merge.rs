//! `outputs[].merge`

use std::collections::BTreeMap;

use super::super::raw::RawSource;
use super::super::raw_output::{RawEncoding, RawFormat, RawMergeItem, RawOutput};
use super::outputs::{Section, check_source, file_format};
use super::selection::{self, Names, RawSelection};
use crate::model::{
    FileFormat, JsonPointer, MergeItem, NameError, OutputKind, SourceName, is_env_file_key, is_variable_name,
    variable_of,
};

/// Most parts of `under`. Code that walks through mappings is recursive.
const MAX_UNDER: usize = 32;

/// An example of a key, to find out whether any key can be at a place.
const ANY_KEY: &str = "KEY";

impl Section<'_> {
    /// The output, and the source of its first item.
    pub(super) fn merged(
        &mut self,
        items: Vec<RawMergeItem>,
        format: Option<RawFormat>,
        mut raw: RawOutput,
        sources: &BTreeMap<String, RawSource>,
    ) -> Option<(SourceName, OutputKind)> {
        self.forbid("source", raw.source.is_some(), "cannot be combined with `merge`; add the source to the list");
        self.forbid("key", raw.key.is_some(), "cannot be combined with `merge`; select keys with the item's `include`");
        self.forbid("bundle", raw.bundle.is_some(), "cannot be combined with `merge`");
        self.forbid("prefix", raw.prefix.is_some(), "cannot be combined with `merge`; write the directory into `file`");
        let is_base64 = raw.encoding == Some(RawEncoding::Base64);
        self.forbid("encoding", is_base64, "cannot be combined with `merge`, which writes values as they are");
        self.forbid_selection(&raw, "cannot be combined with `merge`; set it in the items of the list");
        self.forbid_settings_of_key(&raw);
        self.forbid_settings_of_pkcs12(&raw);
        if items.is_empty() {
            self.diagnostics.invalid_hidden(&self.at("merge"), "must list at least one source");
        }
        let format = match format.map(file_format) {
            Some(Some(format)) => Some(format),
            Some(None) => {
                self.forbid("format", true, "cannot be `pkcs12` with `merge`; use `bundle` of one source");
                None
            }
            None => {
                let message = "is missing; set it to json, yaml, toml, properties, dotenv, or env-file";
                self.diagnostics.required(&self.at("format"), message);
                None
            }
        };
        let items: Vec<_> = items
            .into_iter()
            .enumerate()
            .filter_map(|(index, item)| self.merge_item(&format!("merge[{index}]"), item, format, sources))
            .collect();
        let file = self.path("file", raw.file.take());
        let Some(path) = file.ok()? else {
            let message = "is missing; set it to the path of the file, like \"application.yaml\"";
            self.diagnostics.required(&self.at("file"), message);
            return None;
        };
        let source = items.first()?.source.clone();
        Some((source, OutputKind::Merged { path, format: format?, items }))
    }

    /// `key` is the path of the item in the output. Without a format, its names are checked as those of JSON.
    fn merge_item(
        &mut self,
        key: &str,
        raw: RawMergeItem,
        format: Option<FileFormat>,
        sources: &BTreeMap<String, RawSource>,
    ) -> Option<MergeItem> {
        let at = self.at(key);
        // The schema check has reported a missing one.
        let source = raw.source?;
        check_source(&format!("{at}.source"), &source, sources, self.diagnostics);
        let under = raw.under.map_or_else(Vec::new, |text| self.under(&format!("{at}.under"), &text));
        let format = format.unwrap_or(FileFormat::Json);
        if let Some(message) = place_error(format, &under)
            && !self.diagnostics.contains(&format!("{at}.under"))
        {
            self.diagnostics.invalid_hidden(&format!("{at}.under"), message);
        }
        if raw.include.as_ref().is_some_and(Vec::is_empty) {
            let message = "must contain a pattern; to use all keys, remove it";
            self.diagnostics.invalid_hidden(&format!("{at}.include"), message);
        }
        let (include, exclude) = (raw.include.unwrap_or_default(), raw.exclude.unwrap_or_default());
        let raw = RawSelection { include, exclude, rename: raw.rename.unwrap_or_default() };
        let keys = selection::parse(&at, raw, Names::Merged(format, &under), self.diagnostics);
        let previous = sources.get(&source).and_then(RawSource::previous_suffix);
        if let Some(suffix) = previous.filter(|_| format == FileFormat::Dotenv && under.is_empty()) {
            selection::check_previous(self.at, &keys, &suffix, self.diagnostics);
        }
        Some(MergeItem { source: SourceName::new(&source).ok()?, under, keys })
    }

    fn under(&mut self, at: &str, text: &str) -> Vec<String> {
        let invalid = |error: NameError| self.diagnostics.invalid(at, text, error.to_string());
        let parts = JsonPointer::new(text).map_err(invalid).map(|pointer| pointer.tokens().to_vec());
        let parts = parts.unwrap_or_default();
        if parts.iter().any(String::is_empty) {
            self.diagnostics.invalid(
                at,
                text,
                "must not contain an empty name; for the top level of the file, remove `under`",
            );
        } else if parts.len() > MAX_UNDER {
            self.diagnostics.invalid_hidden(at, format!("must not have more than {MAX_UNDER} parts"));
        }
        parts
    }
}

/// Why no key at this place can be in a file of this format.
fn place_error(format: FileFormat, under: &[String]) -> Option<String> {
    let place = under.iter().map(String::as_str).chain([ANY_KEY]);
    let name = variable_of(place);
    match format {
        FileFormat::Dotenv if !is_variable_name(&name) => {
            Some(format!("cannot be in a `dotenv` file, because {name:?} is not the name of a shell variable"))
        }
        FileFormat::EnvFile if !is_env_file_key(&name) => {
            Some(format!("cannot be in an `env-file`, because {name:?} cannot be one of its keys"))
        }
        _ => None,
    }
}
