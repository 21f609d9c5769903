//! `seed`

use std::collections::BTreeMap;
use std::path::Path;

use super::super::defaults;
use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::quantity::duration_as_text;
use super::super::raw::RawSeed;
use super::{check_directory, duration};
use crate::model::{Directory, FilePath, Mirror, ObjectName, Output, OutputKind, Seed, Source, SourceName};

/// The parts of the configuration that a seed is a copy of.
pub(super) struct Copied<'a> {
    pub(super) directory: &'a Directory,
    pub(super) sources: &'a BTreeMap<SourceName, Source>,
    pub(super) outputs: &'a [Output],
    pub(super) mirrors: &'a BTreeMap<ObjectName, Mirror>,
}

pub(super) fn parse(raw: RawSeed, of: &Copied<'_>, diagnostics: &mut Diagnostics) -> Option<Seed> {
    let after = duration("seed.after", raw.after.as_ref(), defaults::SEED_AFTER, diagnostics);
    if after < defaults::MIN_SEED_AFTER {
        diagnostics.invalid("seed.after", duration_as_text(after), "must be at least 1s");
    }
    let broken = ["sources", "outputs", "mirrors"].iter().any(|section| diagnostics.contains_below(section));
    let mirror = mirror(raw.mirror, of.mirrors, diagnostics);
    if let Ok(mirror) = &mirror
        && !broken
    {
        check(mirror.as_ref().map(|name| (name, &of.mirrors[name])), of, diagnostics);
    }
    let Some(path) = raw.directory else {
        diagnostics.required("seed.directory", "is missing; set it here or in KEYFERRY_SEED");
        return None;
    };
    check_directory("seed.directory", &path, "/run/keyferry/seed", diagnostics);
    let directory = Path::new(&path);
    if directory.starts_with(&of.directory.path) || of.directory.path.starts_with(directory) {
        let message = "must be outside `directory.path`; mount the Secret at another path";
        diagnostics.invalid("seed.directory", path.as_str(), message);
    }
    Some(Seed { directory: directory.to_owned(), mirror: mirror.ok()?, after })
}

/// The mirror that the seed is a volume of. `Err` if it is reported.
fn mirror(
    name: Option<String>,
    mirrors: &BTreeMap<ObjectName, Mirror>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<ObjectName>, ()> {
    if diagnostics.contains_below("mirrors") {
        return Err(());
    }
    let names = || mirrors.keys().map(ObjectName::as_str).collect::<Vec<_>>();
    let Some(name) = name else {
        if mirrors.len() > 1 {
            let message = format!("is missing; set it to the Secret at `seed.directory`: {}", names().join(" or "));
            diagnostics.required("seed.mirror", message);
            return Err(());
        }
        return Ok(mirrors.keys().next().cloned());
    };
    let known = mirrors.keys().find(|known| known.as_str() == name);
    if known.is_none() {
        let message = format!("must be a Secret in `mirrors`; {}", suggestion(&name, names().iter().copied()));
        diagnostics.invalid("seed.mirror", name, message);
        return Err(());
    }
    Ok(known.cloned())
}

/// Reports a seed that can never be used, or whose files cannot be assigned to the sources.
fn check(mirror: Option<(&ObjectName, &Mirror)>, of: &Copied<'_>, diagnostics: &mut Diagnostics) {
    if let Some((name, _)) = mirror.filter(|(_, mirror)| mirror.allow_leased) {
        let message = format!(
            "cannot be set for the Secret of the `seed`: leased credentials stop working with the pod that mirrored \
             them; mirror them to another Secret than {name}"
        );
        diagnostics.forbidden(&format!("mirrors.{name}.allowLeased"), message);
    }
    for (name, _) in of.sources.iter().filter(|(_, source)| source.required && !source.is_plain_read()) {
        if name.is_token_file() {
            let message = "cannot replace the file of `tokenFile`, which is never copied; set `tokenFile.required: false`, \
                           or remove `seed`";
            diagnostics.forbidden("seed", message);
            continue;
        }
        let message = format!(
            "cannot replace source {name}, because each request with `method: write` or `parameters` returns \
             different content; set `sources.{name}.required: false`, or remove `seed`"
        );
        diagnostics.forbidden("seed", message);
    }
    let mut each_key: BTreeMap<Option<&str>, &SourceName> = BTreeMap::new();
    for output in of.outputs.iter().filter(|output| !output.source.is_token_file()) {
        if let OutputKind::EachKey { prefix, .. } = &output.kind
            && output.known_files().is_none()
            && let Some(other) = each_key.insert(prefix.as_ref().map(FilePath::as_str), &output.source)
        {
            let message = format!(
                "cannot tell the files of sources {other} and {} apart, because both write one file per key to the \
                 same directory; list the keys of one of them with `include`",
                output.source
            );
            diagnostics.forbidden("seed", message);
        }
        let is_required = |name: &SourceName| of.sources.get(name).is_some_and(|source| source.required);
        if output.sources().iter().all(is_required)
            && let Some((name, why)) = mirror.and_then(|(name, mirror)| Some((name, not_copied(output, mirror)?)))
        {
            let message = format!("cannot replace source {}: Secret {name} does not contain {why}", output.source);
            diagnostics.forbidden("seed", message);
        }
    }
}

/// The files of an output that its mirror never contains, and what to do.
fn not_copied(output: &Output, mirror: &Mirror) -> Option<String> {
    let Some(files) = output.known_files() else {
        let open = matches!(&output.kind, OutputKind::EachKey { prefix: None, .. }) && mirror.keys.is_empty();
        let why = "all its files, which depend on the keys of the secret; list the keys with `include`, and add the \
                   files to the `keys` of the mirror";
        return (!open).then(|| why.to_owned());
    };
    // Without `keys`, the Secret contains all files.
    let is_copied = |file: &&FilePath| mirror.keys.is_empty() || mirror.keys.iter().any(|key| key.file == **file);
    files.iter().find(|file| !is_copied(file)).map(|file| format!("file {file}; add it to the `keys` of the mirror"))
}
