//! Which KV version a mount has, found out once and remembered.
//!
//! A pod's start must cost two requests, so the first read is made as if the mount were the path's first part and KV
//! version 2, the common case. Only where the answer does not have that shape is Vault asked
//! (`sys/internal/ui/mounts/<path>`, as the Vault CLI does).

use std::sync::PoisonError;

use reqwest::Method;

use super::client::{Answer, Ask, Vault};
use super::wire::MountAnswer;
use crate::model::{Failure, KvEngine, Source, VaultToken};

/// How to read below a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mount {
    /// KV version 2: `/data/` is inserted, the answer has a version.
    KvTwo,
    /// Anything else: the path as it is.
    Plain,
}

/// What to ask for, and how sure it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Below `/v1/`.
    pub(super) path: String,
    /// Expect the shape of KV version 2. `None` = take it for that if it looks like it.
    pub(super) mount: Option<Mount>,
    /// The mount, with a slash at the end.
    pub(super) prefix: String,
    /// Whether Vault or the user said so.
    pub(super) certain: bool,
}

/// The mount of a path that nobody has asked Vault about: what the user said, or the first part.
fn guessed_prefix(source: &Source) -> String {
    let mount = source.mount.as_deref().unwrap_or_else(|| source.path.split('/').next().unwrap_or(&source.path));
    format!("{}/", mount.trim_matches('/'))
}

/// The path to read below a mount of this kind.
fn place(source: &Source, prefix: &str, mount: Mount, certain: bool) -> Place {
    let rest = source.path.strip_prefix(prefix).unwrap_or(&source.path);
    let path = match mount {
        Mount::KvTwo => {
            let query = source.version.map(|version| format!("?version={version}")).unwrap_or_default();
            format!("{}data/{}{query}", escaped(prefix), escaped(rest))
        }
        Mount::Plain => escaped(&source.path),
    };
    Place { path, mount: Some(mount), prefix: prefix.to_owned(), certain }
}

/// A path in a URL. The parser does the rest; a percent sign would be taken for an escape of ours.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}

/// The first place to ask.
pub(super) fn first_place(source: &Source, known: Option<(String, Mount)>) -> Place {
    let prefix = guessed_prefix(source);
    match (source.engine, known) {
        (KvEngine::V1 | KvEngine::Other, _) => place(source, &prefix, Mount::Plain, true),
        (KvEngine::V2, known) => place(source, &known.map_or(prefix, |(prefix, _)| prefix), Mount::KvTwo, true),
        // The user wrote `/data/` himself: the path as it is, and what it looks like.
        (KvEngine::Detect, _) if source.path.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with("data/")) => {
            let query = source.version.map(|version| format!("?version={version}")).unwrap_or_default();
            Place { path: escaped(&source.path) + &query, mount: None, prefix, certain: true }
        }
        (KvEngine::Detect, Some((prefix, mount))) => place(source, &prefix, mount, false),
        (KvEngine::Detect, None) => place(source, &prefix, Mount::KvTwo, false),
    }
}

impl Vault {
    /// What is known of the mount of a path.
    pub(super) fn known_mount(&self, path: &str) -> Option<(String, Mount)> {
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let longest =
            mounts.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str())).max_by_key(|(p, _)| p.len());
        longest.map(|(prefix, mount)| (prefix.clone(), *mount))
    }

    pub(super) fn remember_mount(&self, prefix: &str, mount: Mount) {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.to_owned(), mount);
    }

    /// Asks Vault where the mount ends and what it is. `Err` holds its refusal.
    pub(super) async fn ask_mount(
        &self,
        token: &VaultToken,
        source: &Source,
    ) -> Result<Result<Place, Answer>, Failure> {
        let path = format!("sys/internal/ui/mounts/{}", escaped(&source.path));
        let what = format!("failed to ask for the mount of {}", source.path);
        let ask = Ask { method: Method::GET, path: &path, token: Some(token), namespace: None, body: None };
        let answer = self.send(&what, ask).await?;
        let parsed = serde_json::from_slice::<MountAnswer>(&answer.body);
        let Ok(MountAnswer { data }) = parsed else { return Ok(Err(answer)) };
        let version = data.options.and_then(|options| options.version);
        let two = matches!(data.kind.as_str(), "kv" | "generic") && version.as_deref() == Some("2");
        let mount = if two { Mount::KvTwo } else { Mount::Plain };
        self.remember_mount(&data.path, mount);
        Ok(Ok(place(source, &data.path, mount, true)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(path: &str, engine: KvEngine, version: Option<u64>) -> Source {
        let mount = None;
        let time = Duration::from_secs(60);
        Source { path: path.into(), mount, engine, version, refresh: time, max_stale: time, required: true }
    }

    #[test]
    fn the_first_place_to_ask() {
        let nested = || Some(("team/kv/".to_owned(), Mount::KvTwo));
        let table = [
            ("secret/webapp/config", KvEngine::Detect, None, None, "secret/data/webapp/config", false),
            ("secret/webapp/config", KvEngine::Detect, Some(3), None, "secret/data/webapp/config?version=3", false),
            ("secret/data/webapp/config", KvEngine::Detect, None, None, "secret/data/webapp/config", true),
            ("secret/webapp", KvEngine::V1, None, None, "secret/webapp", true),
            ("pki/issue/web", KvEngine::Other, None, None, "pki/issue/web", true),
            ("team/kv/webapp", KvEngine::Detect, None, nested(), "team/kv/data/webapp", false),
            ("secret/50%", KvEngine::V2, None, None, "secret/data/50%25", true),
        ];
        for (path, engine, version, known, wanted, certain) in table {
            let place = first_place(&source(path, engine, version), known);
            assert_eq!((place.path.as_str(), place.certain), (wanted, certain), "{path}");
        }
    }
}
