//! Secrets that can be read from their files only once: they were wrapped, or their file is removed after use.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};

use super::api::{Api, wrapping};
use super::credential::Credential;
use super::error::VaultError;
use super::server_text::clip;
use crate::model::{SavedSecret, SecretBytes, lock};

/// The secrets, by their files. Clones share one cache, which therefore outlives a client whose settings change.
#[derive(Clone, Default)]
pub struct OneTimeSecrets(Arc<Mutex<BTreeMap<Vec<PathBuf>, CachedSecret>>>);

impl OneTimeSecrets {
    /// The cached secrets, for the next process.
    #[must_use]
    pub fn saved(&self) -> Vec<SavedSecret> {
        let saved = |(files, cached): (&Vec<PathBuf>, &CachedSecret)| SavedSecret {
            files: files.clone(),
            digest: cached.digest.clone(),
            secret: cached.secret.clone(),
        };
        lock(&self.0).iter().map(saved).collect()
    }

    /// Adds the secrets of an earlier process.
    pub fn restore(&self, saved: Vec<SavedSecret>) {
        let mut cache = lock(&self.0);
        for SavedSecret { files, digest, secret } in saved {
            cache.entry(files).or_insert(CachedSecret { digest, secret });
        }
    }

    /// Reads `file`, unless its secret is cached. `files` are all files that identify the secret. `what` names the content in
    /// errors.
    pub(super) fn find(&self, files: &[PathBuf], file: &Path, what: &'static str) -> Result<FoundSecret, VaultError> {
        let cached = lock(&self.0).get(files).cloned();
        let absent = std::fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if let Some(cached) = cached.as_ref().filter(|_| absent) {
            return Ok(FoundSecret::Cached(cached.secret.clone(), None));
        }
        let found = Credential::read(file, what)?;
        let digest = digest_of(&found);
        Ok(match cached.filter(|cached| cached.digest == digest) {
            Some(cached) => FoundSecret::Cached(cached.secret, Some(digest)),
            None => FoundSecret::InFile(found, digest),
        })
    }

    /// Caches the secret that belongs to the content of its file with this digest.
    pub(super) fn insert(&self, files: Vec<PathBuf>, digest: Digest, secret: SecretBytes) {
        lock(&self.0).insert(files, CachedSecret { digest, secret });
    }
}

#[derive(Clone)]
struct CachedSecret {
    /// Digest of the file's content. Different content means another secret.
    digest: Digest,
    secret: SecretBytes,
}

/// SHA-256.
pub(super) type Digest = Vec<u8>;

pub(super) fn digest_of(credential: &Credential) -> Digest {
    digest(&SHA256, credential.expose().as_bytes()).as_ref().to_vec()
}

/// A secret as found without a request.
pub(super) enum FoundSecret {
    /// The secret from the cache, and the digest of its file; `None` if the file does not exist anymore.
    Cached(SecretBytes, Option<Digest>),
    /// The content of the file: the secret, or a wrapping token for it.
    InFile(Credential, Digest),
}

/// Checks the creation path of a wrapping token **before** it is unwrapped: an attacker who stole the token could have replaced
/// it with another one (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation>).
/// `what` names the wrapped secret, as in "the secret ID".
pub(super) async fn check_creation_path(
    api: &Api,
    namespace: Option<&str>,
    token: &Credential,
    expected: &str,
    what: &'static str,
) -> Result<(), VaultError> {
    let found = wrapping::creation_path(api, namespace, token.expose(), what).await?;
    if found.trim_matches('/') == expected.trim_matches('/') {
        return Ok(());
    }
    Err(VaultError::WrongCreationPath { what, found: clip(&found), expected: expected.to_owned() })
}
