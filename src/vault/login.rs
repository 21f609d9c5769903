//! Login: a credential from its file for a token of our own.

use http::{Method, StatusCode};

use super::credential::{Credential, check_audience, unreadable};
use super::transport::{Answer, Call};
use super::wire::{self, AuthAnswer, JwtLogin};
use super::{Session, Vault, classify, lock};
use crate::model::{Auth, AuthMethod, Failure, FailureClass, Reason, VaultToken};

impl Vault {
    /// Logs in, or checks a given token. The credential and changed PEM files are read at each call.
    ///
    /// # Errors
    /// `Local` with `CredentialUnreadable` if a credential file is not what it must be, `Denied` with `LoginRefused` if Vault
    /// says no, and what `classify` names.
    pub async fn login(&self, auth: &Auth) -> Result<Session, Failure> {
        self.transport.look_at_files_again();
        lock(&self.token_namespace).clone_from(&auth.namespace);
        match &auth.method {
            AuthMethod::AppRole { role_id_file, secret_id_file, wrapped_creation_path, remove_secret_id } => {
                let role_id = Credential::read(role_id_file, "the role id")?;
                let wrapped = wrapped_creation_path.as_deref();
                let secret_id = self.secret_id(auth, secret_id_file.as_deref(), wrapped, *remove_secret_id).await?;
                let secret_id = secret_id.as_ref().and_then(|secret| secret.expose_str());
                let body = wire::json(&wire::AppRoleLogin { role_id: role_id.expose(), secret_id });
                let session = self.login_with(auth, body, &[role_id.expose(), secret_id.unwrap_or_default()]).await?;
                if let Some(file) = secret_id_file.as_deref().filter(|_| *remove_secret_id) {
                    remove(file);
                }
                Ok(session)
            }
            AuthMethod::Jwt { role, jwt_file } => {
                let jwt = Credential::read(jwt_file, "the JWT")?;
                let body = wire::json(&JwtLogin { role: role.as_deref(), jwt: jwt.expose() });
                self.login_with(auth, body, &[jwt.expose()]).await
            }
            AuthMethod::Kubernetes { role, jwt_file, audience } => {
                let jwt = Credential::read(jwt_file, "the ServiceAccount token")?;
                if let Some(audience) = audience {
                    check_audience(jwt.expose(), audience, jwt_file)?;
                }
                let body = wire::json(&JwtLogin { role: Some(role), jwt: jwt.expose() });
                self.login_with(auth, body, &[jwt.expose()]).await
            }
            AuthMethod::Token { token } => self.given(token.expose_str().unwrap_or_default()).await,
            AuthMethod::TokenFile { file } => self.given(Credential::read(file, "the Vault token")?.expose()).await,
        }
    }

    /// Prepares for the token of a login that another process made with the same `auth`.
    pub fn take_over(&self, auth: &Auth) {
        lock(&self.token_namespace).clone_from(&auth.namespace);
    }

    /// `POST auth/<mount>/login`
    /// (<https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>, `jwt` and `approle` likewise).
    async fn login_with(
        &self,
        auth: &Auth,
        body: zeroize::Zeroizing<Vec<u8>>,
        credentials: &[&str],
    ) -> Result<Session, Failure> {
        let path = format!("auth/{}/login", auth.mount.trim_matches('/'));
        let call = Call::new(Method::POST, &path).namespace(auth.namespace.as_deref()).body(body);
        let answer = self.transport.send(call).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&format!("failed to log in at {path}"), &answer, credentials));
        }
        let AuthAnswer { token, info, warnings } = wire::auth(&answer)?;
        for warning in warnings {
            tracing::warn!(path, warning = classify::shortened(&warning), "Vault warns about the login");
        }
        if token.expose().is_empty() {
            return Err(Failure::new(
                FailureClass::Denied,
                Reason::LoginRefused,
                format!(
                    "failed to log in at {path}: Vault gave no token; a second factor (MFA) cannot be answered here"
                ),
            ));
        }
        Ok(Session { token, info, own: true })
    }

    /// Checks a token that somebody gave us.
    async fn given(&self, token: &str) -> Result<Session, Failure> {
        let token = VaultToken::new(token);
        if token.expose().is_empty() {
            return Err(unreadable("failed to use the given Vault token: it is empty or not text".into()));
        }
        let info = self.lookup_self(&token).await.map_err(|failure| match failure.class {
            FailureClass::TokenDead | FailureClass::Invalid => Failure::new(
                FailureClass::Denied,
                Reason::LoginRefused,
                "failed to use the given Vault token: Vault does not know it (revoked, run out, or of another server or namespace)",
            ),
            _ => failure,
        })?;
        Ok(Session { token, info, own: false })
    }
}

/// A login that did not give a token. Vault's words may quote what was sent, so the credentials are cut out of them.
pub(super) fn refused(action: &str, answer: &Answer, credentials: &[&str]) -> Failure {
    let mut failure = classify::answer(action, answer);
    if classify::refuses_login(answer.status) {
        (failure.class, failure.reason) = (FailureClass::Denied, Reason::LoginRefused);
        if matches!(answer.status.as_u16(), 404 | 405) {
            failure.message.push_str("; is there an auth method at this mount?");
        }
    }
    failure.message = without(failure.message, credentials);
    failure
}

fn without(mut message: String, credentials: &[&str]) -> String {
    // The parts of a JWT are told apart by dots; a message may quote one. Short pieces are words, not credentials.
    let parts = credentials.iter().flat_map(|credential| credential.split('.').chain([*credential]));
    let mut parts: Vec<&str> = parts.filter(|part| part.len() >= 8).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    for part in parts {
        message = message.replace(part, "(credential)");
    }
    message
}

fn remove(file: &std::path::Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "failed to remove the used secret id");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_credential_does_not_get_into_the_message() {
        let body = r#"{"errors":["bad token eyJhbGciOi.payloadpayload.signature1 of 2a4e1914-aaaa"]}"#;
        let credentials = ["eyJhbGciOi.payloadpayload.signature1", "2a4e1914-aaaa"];
        let failure = refused("failed to log in", &Answer::for_test(400, body), &credentials);
        assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::LoginRefused));
        assert_eq!(failure.message, "failed to log in: Vault answered 400: bad token (credential) of (credential)");
    }
}
