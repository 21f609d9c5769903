//! `outputs[].template` and `outputs[].templateFile`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::TemplateFiles;
use super::super::diagnostics::Diagnostics;
use super::super::environment::Environment;
use super::super::raw::RawSource;
use super::super::raw_output::{RawMissingKey, RawOutput};
use super::outputs::Section;
use crate::model::{Directory, MissingKey, Output, OutputKind, Source, SourceName, Template};
use crate::template::{Inspection, inspect};

/// Environment variables that templates must not read.
const CREDENTIALS: [&str; 2] = ["VAULT_TOKEN", "BAO_TOKEN"];

/// What templates are parsed with.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) env: &'a dyn Environment,
    pub(super) files: &'a TemplateFiles,
}

impl RawOutput {
    pub(super) fn is_template(&self) -> bool {
        self.template.is_some() || self.template_file.is_some()
    }
}

impl Section<'_> {
    /// Parses an output with a template. Its sources by name exist; the others are added by [`connect`].
    pub(super) fn template(
        &mut self,
        mut raw: RawOutput,
        sources: &BTreeMap<String, RawSource>,
        given: Given<'_>,
    ) -> Option<(SourceName, OutputKind)> {
        self.forbid_other_settings(&raw);
        if raw.template.is_some() {
            self.forbid("templateFile", raw.template_file.is_some(), "cannot be combined with `template`; remove one");
        }
        let delimiters = self.delimiters(raw.delimiters.as_deref());
        let missing_key = match raw.missing_key {
            None | Some(RawMissingKey::Error) => MissingKey::Error,
            Some(RawMissingKey::Default) => MissingKey::Default,
        };
        let path = self.path("file", raw.file.take());
        if path == Ok(None) {
            self.diagnostics.required(&self.at("file"), "is missing; set it to the path of the file, like \"app.ini\"");
        }
        let (key, text, file) = match (raw.template, raw.template_file) {
            (Some(text), _) => ("template", text, None),
            (None, Some(file)) => ("templateFile", self.read(&file, given.files)?, Some(PathBuf::from(file))),
            (None, None) => return None,
        };
        let found = self.inspect(key, &text, &delimiters, sources, given.env)?;
        let all = found.reads_all.then(|| sources.keys());
        let named = found.named.iter().chain(all.into_iter().flatten());
        let template = Template {
            text,
            file,
            missing_key,
            delimiters,
            variables: found.variables,
            named: named.filter_map(|name| SourceName::new(name).ok()).collect(),
            calls: found.calls.into_iter().map(|call| (call.clone(), call.source_name())).collect(),
            computed: BTreeMap::new(),
        };
        let Some(source) = template.sources().next().cloned() else {
            let message = if found.has_other_calls {
                "reads no secret whose path is known; add a `secret` call with the path in quotes"
            } else {
                "reads no secret; put a file without secrets into a ConfigMap"
            };
            self.diagnostics.invalid_hidden(&self.at(key), message);
            return None;
        };
        Some((source, OutputKind::Template { path: path.ok()??, template: Box::new(template) }))
    }

    fn forbid_other_settings(&mut self, raw: &RawOutput) {
        const MESSAGE: &str = "cannot be combined with a template; remove it";
        self.forbid(
            "source",
            raw.source.is_some(),
            "cannot be combined with a template, which names its sources; remove it",
        );
        self.forbid(
            "prefix",
            raw.prefix.is_some(),
            "cannot be combined with a template; include the directory in `file`",
        );
        self.forbid("encoding", raw.encoding.is_some(), "cannot be combined with a template; use `base64Decode` in it");
        self.forbid_selection(raw, MESSAGE);
        for (key, is_set) in [
            ("key", raw.key.is_some()),
            ("bundle", raw.bundle.is_some()),
            ("format", raw.format.is_some()),
            ("field", raw.field.is_some()),
            ("default", raw.default.is_some()),
            ("optional", raw.optional.is_some()),
            ("password", raw.password.is_some()),
            ("alias", raw.alias.is_some()),
        ] {
            self.forbid(key, is_set, MESSAGE);
        }
    }

    fn delimiters(&mut self, raw: Option<&[String]>) -> (String, String) {
        let (left, right) = Template::DELIMITERS;
        match raw {
            None => {}
            Some([left, right]) if !left.is_empty() && !right.is_empty() && left != right => {
                return (left.clone(), right.clone());
            }
            Some(_) => self
                .diagnostics
                .invalid_hidden(&self.at("delimiters"), "must be two different texts, like [\"[[\", \"]]\"]"),
        }
        (left.to_owned(), right.to_owned())
    }

    /// The text of a template file.
    fn read(&mut self, file: &str, files: &TemplateFiles) -> Option<String> {
        let at = self.at("templateFile");
        if !file.starts_with('/') {
            self.diagnostics.invalid(&at, file, "must be an absolute path, like \"/etc/keyferry/app.ini.tmpl\"");
            return None;
        }
        match files.get(Path::new(file)) {
            Some(Ok(text)) => return Some(text.clone()),
            Some(Err(message)) => self.diagnostics.invalid_hidden(&at, message.as_str()),
            None => self.diagnostics.invalid(&at, file, "has not been read"),
        }
        None
    }

    fn inspect(
        &mut self,
        key: &str,
        text: &str,
        delimiters: &(String, String),
        sources: &BTreeMap<String, RawSource>,
        env: &dyn Environment,
    ) -> Option<Inspection> {
        let names: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        let variable = |name: &str| {
            if CREDENTIALS.contains(&name) {
                return Err(format!("a template must not read the credential in {name}; remove it"));
            }
            Ok(env.get(name))
        };
        inspect(text, (&delimiters.0, &delimiters.1), &names, &variable)
            .map_err(|problems| {
                for problem in problems {
                    self.diagnostics.invalid_hidden(&self.at(key), problem.to_string());
                }
            })
            .ok()
    }
}

/// Reports template files in the output directory. A template that a template writes would be rendered again and again.
pub(super) fn check_files(outputs: &[Output], directory: &Directory, diagnostics: &mut Diagnostics) {
    for output in outputs {
        let OutputKind::Template { path, template } = &output.kind else { continue };
        if let Some(file) = template.file.as_ref().filter(|file| file.starts_with(&directory.path)) {
            let message = format!(
                "has a templateFile of file {path} that must be outside `directory.path`, which contains only the published \
                 files"
            );
            diagnostics.invalid("outputs", file.display().to_string(), message);
        }
    }
}

/// Connects the calls of all templates to sources: to a source with the same request, otherwise to a new one.
pub(super) fn connect(outputs: &mut [Output], sources: &mut BTreeMap<SourceName, Source>, defaults: &Source) {
    for output in outputs {
        let OutputKind::Template { template, .. } = &mut output.kind else { continue };
        for (call, name) in &mut template.calls {
            *name = call.find_or_add(sources, defaults).0;
        }
        if let Some(first) = template.sources().next() {
            output.source = first.clone();
        }
    }
}
