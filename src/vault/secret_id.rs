//! The secret ID of an `AppRole`, plain or wrapped.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};

use super::api::{Api, wrapping};
use super::credential::Credential;
use super::error::VaultError;
use super::server_text::clip;
use crate::model::{SavedSecretId, SecretBytes, lock};

/// Secret IDs that can be read from their files only once, because they were wrapped or their file is removed after use.
/// Clones share one cache, which therefore outlives a client whose settings change.
#[derive(Clone, Default)]
pub struct SecretIdCache(Arc<Mutex<BTreeMap<SecretIdFiles, CachedSecretId>>>);

impl SecretIdCache {
    /// The cached secret IDs, for the next process.
    #[must_use]
    pub fn saved(&self) -> Vec<SavedSecretId> {
        let saved = |((role_id_file, secret_id_file), cached): (&SecretIdFiles, &CachedSecretId)| SavedSecretId {
            role_id_file: role_id_file.clone(),
            secret_id_file: secret_id_file.clone(),
            digest: cached.digest.clone(),
            secret_id: cached.secret_id.clone(),
        };
        lock(&self.0).iter().map(saved).collect()
    }

    /// Adds the secret IDs of an earlier process.
    pub fn restore(&self, saved: Vec<SavedSecretId>) {
        let mut cache = lock(&self.0);
        for SavedSecretId { role_id_file, secret_id_file, digest, secret_id } in saved {
            cache.entry((role_id_file, secret_id_file)).or_insert(CachedSecretId { digest, secret_id });
        }
    }
}

/// Role ID file and secret ID file.
type SecretIdFiles = (PathBuf, PathBuf);

#[derive(Clone)]
struct CachedSecretId {
    /// Digest of the file's content. Different content means another secret ID.
    digest: Digest,
    secret_id: SecretBytes,
}

type Digest = Vec<u8>;

/// The configured source of a secret ID.
pub(super) struct SecretIdFile<'a> {
    pub(super) role_id_file: &'a Path,
    pub(super) file: &'a Path,
    /// If set, the file contains a wrapping token, which must have been created by this path.
    pub(super) creation_path: Option<&'a str>,
    pub(super) removed_after_use: bool,
}

/// A secret ID for a login.
pub(super) struct SecretId {
    pub(super) value: SecretBytes,
    /// Digest of the file's content; `None` if the file does not exist anymore.
    digest: Option<Digest>,
}

/// A secret ID as found without a request.
pub(super) enum FoundSecretId {
    /// The secret ID from the cache.
    Cached(SecretId),
    /// The content of the file: the secret ID, or a wrapping token for it.
    InFile(Credential, Digest),
}

impl SecretIdFile<'_> {
    /// Reads the file, unless its secret ID is cached.
    pub(super) fn find(&self, secret_ids: &SecretIdCache) -> Result<FoundSecretId, VaultError> {
        let cached = lock(&secret_ids.0).get(&self.files()).cloned();
        let absent = std::fs::metadata(self.file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if let Some(cached) = cached.as_ref().filter(|_| absent) {
            return Ok(FoundSecretId::Cached(SecretId { value: cached.secret_id.clone(), digest: None }));
        }
        let found = Credential::read(self.file, self.description())?;
        let digest = digest_of(&found);
        Ok(match cached.filter(|cached| cached.digest == digest) {
            Some(cached) => FoundSecretId::Cached(SecretId { value: cached.secret_id, digest: Some(digest) }),
            None => FoundSecretId::InFile(found, digest),
        })
    }

    /// Returns the secret ID, unwrapped if necessary.
    pub(super) async fn resolve(
        &self,
        found: FoundSecretId,
        api: &Api,
        secret_ids: &SecretIdCache,
        namespace: Option<&str>,
    ) -> Result<SecretId, VaultError> {
        let (found, digest) = match found {
            FoundSecretId::Cached(secret_id) => return Ok(secret_id),
            FoundSecretId::InFile(found, digest) => (found, digest),
        };
        let value = match self.creation_path {
            Some(expected) => unwrap(api, namespace, &found, expected).await?,
            None => found.into_secret(),
        };
        if self.creation_path.is_some() || self.removed_after_use {
            // Cache before the login succeeds: a wrapping token works once, but a login that fails temporarily is repeated.
            let cached = CachedSecretId { digest: digest.clone(), secret_id: value.clone() };
            lock(&secret_ids.0).insert(self.files(), cached);
        }
        Ok(SecretId { value, digest: Some(digest) })
    }

    fn files(&self) -> SecretIdFiles {
        (self.role_id_file.to_owned(), self.file.to_owned())
    }

    fn description(&self) -> &'static str {
        if self.creation_path.is_some() { "the wrapping token of the secret ID" } else { "the secret ID" }
    }
}

impl SecretId {
    /// Removes the file of the used secret ID, unless the file contains a new one.
    pub(super) fn remove(&self, file: &Path) {
        let Some(used) = &self.digest else { return };
        // Keep an unreadable file: its content is unknown.
        if Credential::read(file, "the secret ID").is_ok_and(|found| digest_of(&found) == *used)
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(file = %file.display(), %error, "failed to remove the file of the used secret ID; delete it manually");
        }
    }
}

/// Checks the creation path **before** unwrapping: an attacker who stole the wrapping token could have replaced it with another
/// one (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation>).
async fn unwrap(
    api: &Api,
    namespace: Option<&str>,
    token: &Credential,
    expected: &str,
) -> Result<SecretBytes, VaultError> {
    let found = wrapping::creation_path(api, namespace, token.expose()).await?;
    if found.trim_matches('/') != expected.trim_matches('/') {
        return Err(VaultError::WrongCreationPath { found: clip(&found), expected: expected.to_owned() });
    }
    wrapping::secret_id(api, namespace, token.expose()).await
}

fn digest_of(credential: &Credential) -> Digest {
    digest(&SHA256, credential.expose().as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remove_keeps_newly_delivered_secret_id() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secret-id");
        std::fs::write(&file, "used\n").expect("written");
        let digest = Some(digest_of(&Credential::read(&file, "the secret ID").expect("readable")));
        let used = SecretId { value: "used".into(), digest };
        std::fs::write(&file, "new\n").expect("written");
        used.remove(&file);
        assert!(file.exists(), "the new one stays");
        std::fs::write(&file, "used\n").expect("written");
        used.remove(&file);
        assert!(!file.exists());
    }
}
