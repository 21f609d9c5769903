//! The secret id of an `AppRole`, plain or wrapped.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};

use super::api::{Api, wrapping};
use super::credential::Credential;
use super::error::VaultError;
use super::lock::lock;
use super::server_text::clip;
use crate::model::SecretBytes;

/// What logins remember: secret ids that their files give only once, because they were wrapped or the file is removed after
/// use. Clones share one memory, so that it outlives a connection whose settings change.
#[derive(Clone, Default)]
pub struct SecretIdCache(Arc<Mutex<BTreeMap<SecretIdFiles, CachedSecretId>>>);

/// Role id file and secret id file.
type SecretIdFiles = (PathBuf, PathBuf);

#[derive(Clone)]
struct CachedSecretId {
    /// Of what the file held; another content means another secret id.
    digest: Digest,
    secret_id: SecretBytes,
}

type Digest = Vec<u8>;

/// Where a secret id comes from.
pub(super) struct SecretIdFile<'a> {
    pub(super) role_id_file: &'a Path,
    pub(super) file: &'a Path,
    /// The file holds a wrapping token that was made by this path.
    pub(super) creation_path: Option<&'a str>,
    pub(super) removed_after_use: bool,
}

/// A secret id to log in with.
pub(super) struct SecretId {
    pub(super) value: SecretBytes,
    /// Of the file's content that it came from; `None` if the file is gone already.
    digest: Option<Digest>,
}

/// What is known of a secret id before a request is made.
pub(super) enum FoundSecretId {
    /// The secret id itself.
    Cached(SecretId),
    /// The content of its file: the secret id or a wrapping token of it.
    InFile(Credential, Digest),
}

impl SecretIdFile<'_> {
    /// Reads the file, unless what it gave is cached.
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

    /// The secret id of what was found; it is unwrapped if it has to be.
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
            // CachedSecretId from here on, not from the login's success: a wrapping token works once, and the login may have to
            // be repeated because the server was busy.
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
    /// Removes the used secret id's file, unless a new one was delivered into it meanwhile.
    pub(super) fn remove(&self, file: &Path) {
        let Some(used) = &self.digest else { return };
        // A file that cannot be read any more is not known to hold the used one.
        if Credential::read(file, "the secret ID").is_ok_and(|found| digest_of(&found) == *used)
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(file = %file.display(), %error, "failed to remove the file of the used secret ID; delete it by hand");
        }
    }
}

/// Where a wrapped secret id was made is checked **before** it is unwrapped: an attacker who took the real one could have put
/// another token in its place, of his own making
/// (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation>).
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
    fn a_secret_id_that_was_delivered_meanwhile_is_not_removed() {
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
