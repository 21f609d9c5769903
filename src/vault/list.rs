//! Everything below a path of a KV engine: one `LIST` for each folder, then one read for each secret.
//!
//! Vault has no request for several secrets. All requests belong to one attempt: if one of them fails, the attempt fails, so a
//! reading is never incomplete. Secrets that are removed between `LIST` and read are omitted.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::api::secret::get;
use super::api::{Api, rule};
use super::error::VaultError;
use super::mounts::{Engine, FolderPaths, Mount, MountTable};
use super::read::{AttemptResult, Read, described_mount, rule_with_assumption};
use super::server_text::clip;
use crate::model::{KvEngine, Reading, SecretList, Source, Validity, VaultToken, Version, lock};

/// Reads the secrets below the path of `source` once.
pub(super) async fn read_list(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
    list: &SecretList,
) -> Result<Reading, VaultError> {
    let path = source.path.trim_matches('/');
    let read = ListRead { api, mounts, token, source, list, path };
    let assumed = |engine, confirmed| Mount::assume(path, source.mount.as_deref(), engine, confirmed);
    match source.engine {
        KvEngine::V1 => return read.secrets_in(&assumed(Engine::KvV1, true)).await,
        KvEngine::V2 => return read.secrets_in(&assumed(Engine::KvV2, true)).await,
        KvEngine::Detect | KvEngine::Other => {}
    }
    let known = lock(mounts).find(path).filter(|mount| matches!(mount.engine, Engine::KvV1 | Engine::KvV2));
    let mut failed = None;
    if let Some(mount) = known {
        match read.secrets_in(&mount).await {
            Err(error) if can_mean_other_engine(&error) => failed = Some((mount, error)),
            result => return result,
        }
    }
    // No response shows the engine of a folder, so the mount is queried before the first request.
    let described = described_mount(api, token, path).await?;
    match (described, failed) {
        (Some(mount), failed) => {
            if let Some((known, error)) = failed {
                if known.path == mount.path && known.engine == mount.engine {
                    return Err(error);
                }
                lock(mounts).forget(&known.path);
            }
            lock(mounts).learn(mount.clone());
            read.secrets_in(&mount).await
        }
        (None, Some((_, error))) => Err(error),
        (None, None) => {
            let mount = assumed(Engine::KvV2, false);
            let reading = read.secrets_in(&mount).await.map_err(|error| with_assumption(error, &mount.path))?;
            lock(mounts).learn(mount);
            Ok(reading)
        }
    }
}

/// Whether a mount that was re-created with another version can cause `error`.
fn can_mean_other_engine(error: &VaultError) -> bool {
    matches!(
        error,
        VaultError::NoSecrets { .. } | VaultError::Forbidden { .. } | VaultError::Status { status: 400 | 405, .. }
    )
}

/// States in `error` that the engine of the mount is only assumed.
fn with_assumption(error: VaultError, mount: &str) -> VaultError {
    match error {
        VaultError::Forbidden { action, errors, rule, retry_after } => {
            VaultError::Forbidden { action, errors, rule: rule_with_assumption(&rule, mount), retry_after }
        }
        VaultError::NoSecrets { path, cause, request_path, .. } => {
            let engine = format!("Vault does not report the engine of mount {mount}");
            VaultError::NoSecrets { path, cause, request_path, engine }
        }
        error => error,
    }
}

/// One read of a list in progress.
struct ListRead<'a> {
    api: &'a Api,
    mounts: &'a Mutex<MountTable>,
    token: &'a VaultToken,
    source: &'a Source,
    list: &'a SecretList,
    path: &'a str,
}

impl ListRead<'_> {
    async fn secrets_in(&self, mount: &Mount) -> Result<Reading, VaultError> {
        let paths = mount.folder_paths(self.path).ok_or_else(|| {
            let mount = &mount.path;
            self.error(format!("`list` requires a KV engine, but mount {mount} has another one; check the path"))
        })?;
        let no_secrets = |cause: &'static str| VaultError::NoSecrets {
            path: self.path.to_owned(),
            cause,
            request_path: format!("{}/", paths.list),
            engine: mount.describe(),
        };
        let names = self.names(&paths).await?;
        if let Some(cause) = names.why_empty() {
            return Err(no_secrets(cause));
        }
        let reads = names.selected.into_iter().map(|name| self.secret(mount, &paths, name));
        let found: Vec<_> = stream::iter(reads).buffered(SecretList::CONCURRENCY).try_collect().await?;
        let secrets: Vec<_> = found.into_iter().flatten().collect();
        if secrets.is_empty() {
            return Err(no_secrets("all secrets below this path are deleted"));
        }
        self.join(secrets)
    }

    /// Reads one secret. `None` if it is deleted.
    async fn secret(
        &self,
        mount: &Mount,
        paths: &FolderPaths,
        name: String,
    ) -> Result<Option<(String, Reading)>, VaultError> {
        let (path, request_path) = (format!("{}/{name}", self.path), format!("{}/{name}", paths.read));
        let response = get(self.api, self.token, &request_path, None).await?;
        let Self { api, mounts, token, source, .. } = *self;
        let read = Read { api, mounts, token, source, path: &path };
        match read.classify(mount.clone(), request_path, response).result {
            AttemptResult::Found(reading) => Ok(Some((name, reading))),
            AttemptResult::NotFound | AttemptResult::Failed(VaultError::SecretDeleted { .. }) => Ok(None),
            AttemptResult::Forbidden(VaultError::Forbidden { action, errors, retry_after, .. }) => {
                Err(VaultError::Forbidden {
                    action,
                    errors,
                    rule: rule(&format!("{}/*", paths.read), "read"),
                    retry_after,
                })
            }
            AttemptResult::Failed(error) | AttemptResult::Forbidden(error) | AttemptResult::Unexpected(error) => {
                Err(error)
            }
        }
    }

    /// One reading of all secrets.
    fn join(&self, secrets: Vec<(String, Reading)>) -> Result<Reading, VaultError> {
        let (mut data, mut version, mut warnings) = (BTreeMap::new(), Version::default(), BTreeSet::new());
        for (name, secret) in secrets {
            if secret.validity != Validity::Unlimited {
                // Each read issues another lease.
                return Err(self.error(format!(
                    "secret {name} has a lease, which `list` does not support; exclude it with `list.exclude`, and configure \
                     it as a separate source"
                )));
            }
            for (key, value) in secret.data {
                // Secret `a` with key `b/c`, and secret `a/b` with key `c`.
                let key = format!("{name}/{key}");
                if data.insert(key.clone(), value).is_some() {
                    let key = clip(&key);
                    return Err(self
                        .error(format!("two secrets produce the key {key}; exclude one of them with `list.exclude`")));
                }
            }
            warnings.extend(secret.warnings);
            if secret.version != Version::default() {
                version.secrets.insert(name, secret.version);
            }
        }
        Ok(Reading {
            data,
            version,
            validity: Validity::Unlimited,
            warnings: warnings.into_iter().collect(),
            ..Reading::default()
        })
    }

    fn error(&self, cause: String) -> VaultError {
        VaultError::NotReadable { path: self.path.to_owned(), cause }
    }
}
