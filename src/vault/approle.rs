//! The secret id of an `AppRole`, plain or wrapped.

use std::io::ErrorKind;
use std::path::Path;

use http::{Method, StatusCode};
use ring::digest::{SHA256, digest};

use super::credential::Credential;
use super::login::refused;
use super::transport::{Answer, Call};
use super::wire::{self, WrappingToken};
use super::{Vault, classify, lock};
use crate::model::{Auth, Failure, FailureClass, Reason, SecretBytes, VaultToken};

/// A secret id that its file gives only once: it was wrapped, or the file is removed after use. A later login needs it again.
pub(super) struct RememberedSecretId {
    /// Digest of what the file held; another content means another secret id.
    file: Vec<u8>,
    secret_id: SecretBytes,
}

impl Vault {
    /// The secret id for a login; `None` where the role needs none.
    pub(super) async fn secret_id(
        &self,
        auth: &Auth,
        file: Option<&Path>,
        creation_path: Option<&str>,
        removed_after_use: bool,
    ) -> Result<Option<SecretBytes>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let absent = std::fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if absent && let Some(remembered) = lock(&self.secret_id).as_ref() {
            return Ok(Some(remembered.secret_id.clone()));
        }
        let what = if creation_path.is_some() { "the wrapping token of the secret id" } else { "the secret id" };
        let found = Credential::read(file, what)?;
        let fingerprint = digest(&SHA256, found.expose().as_bytes()).as_ref().to_vec();
        if let Some(remembered) = lock(&self.secret_id).as_ref().filter(|remembered| remembered.file == fingerprint) {
            return Ok(Some(remembered.secret_id.clone()));
        }
        let secret_id = match creation_path {
            Some(path) => self.unwrap(auth, &found, path).await?,
            None => found.expose().into(),
        };
        if creation_path.is_some() || removed_after_use {
            // Kept from here on, not from the login's success: a wrapping token works once, and the login may have to be
            // repeated because the server was busy.
            let remembered = RememberedSecretId { file: fingerprint, secret_id: secret_id.clone() };
            *lock(&self.secret_id) = Some(remembered);
        }
        Ok(Some(secret_id))
    }

    /// Opens a wrapped secret id. Where it was made is checked **before** it is opened: an attacker who took the real one
    /// could have put another token in its place, of his own making
    /// (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation>).
    async fn unwrap(&self, auth: &Auth, token: &Credential, expected: &str) -> Result<SecretBytes, Failure> {
        let namespace = auth.namespace.as_deref();
        let body = wire::json(&WrappingToken { token: token.expose() });
        let call = Call::new(Method::POST, "sys/wrapping/lookup").namespace(namespace).body(body);
        let answer = self.transport.send(call).await?;
        if answer.status != StatusCode::OK {
            return Err(not_opened("failed to look up the wrapping token of the secret id", &answer, token));
        }
        let created = wire::creation_path(&answer)?;
        if created.trim_matches('/') != expected.trim_matches('/') {
            return Err(Failure::new(
                FailureClass::Denied,
                Reason::LoginRefused,
                format!(
                    "refused to unwrap the secret id: the wrapping token was made by {} and not by {expected}; \
                     the secret id MAY HAVE BEEN INTERCEPTED and replaced",
                    classify::shortened(&created)
                ),
            ));
        }
        let wrapping = VaultToken::new(token.expose());
        let call = Call::new(Method::POST, "sys/wrapping/unwrap").namespace(namespace).token(&wrapping);
        let answer = self.transport.send(call).await?;
        if answer.status != StatusCode::OK {
            return Err(not_opened("failed to unwrap the secret id", &answer, token));
        }
        wire::secret_id(&answer)
    }
}

/// A wrapping token that the server refuses was used already, or has run out.
fn not_opened(action: &str, answer: &Answer, token: &Credential) -> Failure {
    let mut failure = refused(action, answer, &[token.expose()]);
    if failure.reason == Reason::LoginRefused {
        failure.message.push_str(
            "; the secret id MAY HAVE BEEN INTERCEPTED: somebody else may have unwrapped it, unless the wrapping token ran out. \
             Check the audit log, revoke the secret id, deliver a new one",
        );
    }
    failure
}
