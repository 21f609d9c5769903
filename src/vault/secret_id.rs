//! The secret ID of an `AppRole`, plain or wrapped.

use std::path::{Path, PathBuf};

use super::api::{Api, wrapping};
use super::credential::Credential;
use super::error::VaultError;
use super::one_time::{Digest, FoundSecret, OneTimeSecrets, check_creation_path, digest_of};
use crate::model::SecretBytes;

/// What messages call the secret ID.
const WHAT: &str = "the secret ID";

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

impl SecretIdFile<'_> {
    /// Reads the file, unless its secret ID is cached.
    pub(super) fn find(&self, secrets: &OneTimeSecrets) -> Result<FoundSecret, VaultError> {
        secrets.find(&self.files(), self.file, self.description())
    }

    /// Returns the secret ID, unwrapped if necessary.
    pub(super) async fn resolve(
        &self,
        found: FoundSecret,
        api: &Api,
        secrets: &OneTimeSecrets,
        namespace: Option<&str>,
    ) -> Result<SecretId, VaultError> {
        let (found, digest) = match found {
            FoundSecret::Cached(value, digest) => return Ok(SecretId { value, digest }),
            FoundSecret::InFile(found, digest) => (found, digest),
        };
        let value = match self.creation_path {
            Some(expected) => {
                check_creation_path(api, namespace, &found, expected, WHAT).await?;
                wrapping::secret_id(api, namespace, found.expose(), WHAT).await?
            }
            None => found.into_secret(),
        };
        if self.creation_path.is_some() || self.removed_after_use {
            // Cache before the login succeeds: a wrapping token works once, but a login that fails temporarily is repeated.
            secrets.insert(self.files(), digest.clone(), value.clone());
        }
        Ok(SecretId { value, digest: Some(digest) })
    }

    /// Role ID file and secret ID file.
    fn files(&self) -> Vec<PathBuf> {
        vec![self.role_id_file.to_owned(), self.file.to_owned()]
    }

    fn description(&self) -> &'static str {
        if self.creation_path.is_some() { "the wrapping token of the secret ID" } else { WHAT }
    }
}

impl SecretId {
    /// The secret ID for a later login.
    pub(super) fn into_found(self) -> FoundSecret {
        FoundSecret::Cached(self.value, self.digest)
    }

    /// Removes the file of the used secret ID, unless the file contains a new one.
    pub(super) fn remove(&self, file: &Path) {
        let Some(used) = &self.digest else { return };
        // Keep an unreadable file: its content is unknown.
        if Credential::read(file, WHAT).is_ok_and(|found| digest_of(&found) == *used)
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(file = %file.display(), %error, "failed to remove the file of the used secret ID; delete it manually");
        }
    }
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
