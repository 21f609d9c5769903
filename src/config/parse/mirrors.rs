//! `mirrors`

use std::collections::{BTreeMap, BTreeSet};

use super::super::diagnostics::{Diagnostics, suggestion};
use super::super::owner::{RawOwner, SERVICE_ACCOUNT};
use super::super::raw::{RawMirror, RawOnDrift, RawSecretType};
use super::outputs::file;
use crate::model::{
    FilePath, Mirror, MirrorKey, MirrorOwner, ObjectName, OnDrift, Output, OutputKind, SecretType, Source, SourceName,
    WhenMissing,
};

/// Prefix of the labels and annotations that the agent sets itself.
const RESERVED_PREFIX: &str = "keyferry.dev/";

pub(super) fn parse(
    raw: BTreeMap<String, RawMirror>,
    outputs: &[Output],
    sources: &BTreeMap<SourceName, Source>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<ObjectName, Mirror> {
    let in_directories = outputs.iter().find(|output| writes_in_directories(output, sources));
    for name in raw.iter().filter(|(_, raw)| raw.keys.as_ref().is_none_or(BTreeMap::is_empty)).map(|(name, _)| name) {
        if let Some(output) = in_directories {
            let message = format!(
                "is missing; set it to a file for each key of the Secret, because the files of source {} are in directories \
                 and the name of a key cannot contain a slash",
                output.source
            );
            diagnostics.required(&format!("mirrors.{name}.keys"), message);
        }
    }
    raw.into_iter().filter_map(|(name, raw)| mirror(&name, raw, outputs, diagnostics)).collect()
}

/// Whether the configuration shows that paths of the output contain a slash.
fn writes_in_directories(output: &Output, sources: &BTreeMap<SourceName, Source>) -> bool {
    match &output.kind {
        OutputKind::EachKey { prefix: Some(_), .. } => true,
        OutputKind::EachKey { prefix: None, keys, .. } => {
            let is_list = sources.get(&output.source).is_some_and(|source| source.list.is_some());
            keys.named().any(|(_, name)| name.contains('/')) || is_list && !keys.is_complete_list()
        }
        OutputKind::Key { path, .. }
        | OutputKind::Whole { path, .. }
        | OutputKind::Bundle { path, .. }
        | OutputKind::Merged { path, .. }
        | OutputKind::Pkcs12 { path, .. }
        | OutputKind::Template { path, .. } => path.as_str().contains('/'),
    }
}

fn mirror(
    name: &str,
    raw: RawMirror,
    outputs: &[Output],
    diagnostics: &mut Diagnostics,
) -> Option<(ObjectName, Mirror)> {
    let at = |key: &str| format!("mirrors.{name}.{key}");
    let object = ObjectName::new(name)
        .map_err(|error| diagnostics.invalid(&format!("mirrors.{name}"), name, error.to_string()))
        .ok();
    let secret_type = match raw.secret_type {
        None | Some(RawSecretType::Opaque) => SecretType::Opaque,
        Some(RawSecretType::Tls) => SecretType::Tls,
        Some(RawSecretType::DockerConfigJson) => SecretType::DockerConfigJson,
        Some(RawSecretType::BasicAuth) => SecretType::BasicAuth,
        Some(RawSecretType::SshAuth) => SecretType::SshAuth,
    };
    let raw_keys = raw.keys.unwrap_or_default();
    let names: BTreeSet<String> = raw_keys.keys().cloned().collect();
    let keys: Vec<_> = raw_keys
        .into_iter()
        .filter_map(|(key, path)| mirror_key(&at("keys"), key, &path, outputs, diagnostics))
        .collect();
    let is_optional = |name: &str| keys.iter().any(|key| key.key == name && key.optional.is_some());
    let missing = secret_type.missing_key(|key| names.contains(key)).or_else(|| {
        let missing = secret_type.missing_key(|key| names.contains(key) && !is_optional(key))?;
        Some(format!("{missing} from outputs without `optional`"))
    });
    if let Some(missing) = missing.filter(|_| !names.is_empty()) {
        let message =
            format!("must contain {missing}; Kubernetes requires them in a Secret of type {}", secret_type.as_str());
        diagnostics.invalid_hidden(&at("keys"), message);
    }
    let labels = raw.labels.unwrap_or_default();
    for (key, value) in &labels {
        metadata_key(&at("labels"), key, diagnostics);
        if !is_label_value(value) {
            let message = "must be a label value: at most 63 letters, digits, '-', '_', and '.', with a letter or digit at both ends";
            diagnostics.invalid(&format!("{}.{key}", at("labels")), value.as_str(), message);
        }
    }
    let annotations = raw.annotations.unwrap_or_default();
    for key in annotations.keys() {
        metadata_key(&at("annotations"), key, diagnostics);
    }
    let owner = raw.owner.and_then(|raw| owner(&at("owner"), raw, diagnostics));
    let on_drift = match raw.on_drift {
        None | Some(RawOnDrift::Repair) => OnDrift::Repair,
        Some(RawOnDrift::Report) => OnDrift::Report,
    };
    let mirror = Mirror {
        secret_type,
        keys,
        labels,
        annotations,
        owner,
        allow_leased: raw.allow_leased.unwrap_or(false),
        on_drift,
        adopt: raw.adopt.unwrap_or(false),
    };
    Some((object?, mirror))
}

fn mirror_key(
    at: &str,
    key: String,
    path: &str,
    outputs: &[Output],
    diagnostics: &mut Diagnostics,
) -> Option<MirrorKey> {
    let at = format!("{at}.{key}");
    if let Err(error) = MirrorKey::check(&key) {
        diagnostics.invalid_hidden(&at, error.to_string());
    }
    let file_path = FilePath::new(path).map_err(|error| diagnostics.invalid(&at, path, error.to_string())).ok()?;
    let of_this_file = outputs.iter().find(|output| file(output) == Some(&file_path));
    let writer = of_this_file.or_else(|| outputs.iter().find(|output| can_write(output, &file_path)));
    if !diagnostics.contains_below("outputs") && writer.is_none() {
        let known: Vec<_> = outputs.iter().filter_map(file).map(FilePath::as_str).collect();
        diagnostics.invalid(
            &at,
            path,
            format!("must be a file of `outputs`; {}", suggestion(path, known.iter().copied())),
        );
    }
    if writer.is_some_and(|output| output.source.is_token_file()) {
        let message = "must not be the file of `tokenFile`, which is never mirrored; remove the key";
        diagnostics.invalid(&at, path, message);
    }
    let is_optional = |output: &&Output| matches!(output.kind, OutputKind::Key { missing: WhenMissing::Omit, .. });
    let optional = writer.filter(is_optional).map(|output| output.source.clone());
    Some(MirrorKey { key, file: file_path, optional })
}

/// Whether the output can write this file.
pub(super) fn can_write(output: &Output, wanted: &FilePath) -> bool {
    match &output.kind {
        OutputKind::Key { path, .. }
        | OutputKind::Whole { path, .. }
        | OutputKind::Bundle { path, .. }
        | OutputKind::Merged { path, .. }
        | OutputKind::Pkcs12 { path, .. }
        | OutputKind::Template { path, .. } => path == wanted,
        OutputKind::EachKey { prefix: None, keys, .. } => keys.can_contain(wanted.as_str()),
        OutputKind::EachKey { prefix: Some(prefix), keys, .. } => {
            let name = wanted.as_str().strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| keys.can_contain(name))
        }
    }
}

fn owner(at: &str, raw: RawOwner, diagnostics: &mut Diagnostics) -> Option<MirrorOwner> {
    let raw = match raw {
        RawOwner::Word(word) if word == SERVICE_ACCOUNT => return Some(MirrorOwner::ServiceAccount),
        RawOwner::Word(word) => {
            let message = format!("must be `{SERVICE_ACCOUNT}` or a mapping with apiVersion, kind, name, and uid");
            diagnostics.invalid(at, word, message);
            return None;
        }
        RawOwner::Object(raw) => raw,
    };
    let name = raw.name.and_then(|name| {
        ObjectName::new(&name)
            .map_err(|error| diagnostics.invalid(&format!("{at}.name"), name.as_str(), error.to_string()))
            .ok()
    });
    if let Some(uid) = raw.uid.as_deref().filter(|uid| !is_uid(uid)) {
        let message = "must be a UID, like \"a2a51b3c-8a2b-4e0c-9a57-6c1fbc3a4f0f\"";
        diagnostics.invalid(&format!("{at}.uid"), uid, message);
    }
    Some(MirrorOwner::Object { api_version: raw.api_version?, kind: raw.kind?, name: name?, uid: raw.uid? })
}

/// Whether the text is a UID in the form of the API server (RFC 4122). The garbage collector deletes a Secret whose
/// owner has another UID, so a malformed UID must be rejected.
fn is_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A qualified name
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
fn metadata_key(at: &str, key: &str, diagnostics: &mut Diagnostics) {
    let at = format!("{at}.{key}");
    if key.starts_with(RESERVED_PREFIX) {
        diagnostics.forbidden(&at, format!("the prefix `{RESERVED_PREFIX}` is reserved for keyferry; choose another"));
        return;
    }
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| ObjectName::new(prefix).is_err()) || name.is_empty() || !is_label_value(name) {
        diagnostics.invalid_hidden(&at, "must be a label or annotation key, like \"example.com/name\"");
    }
}

/// Empty, or at most 63 letters, digits and `-_.` with a letter or digit at both ends.
fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}
