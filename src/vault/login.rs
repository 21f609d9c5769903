//! The auth methods.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::client::{Answer, Ask, Vault};
use super::wire::{AuthAnswer, AuthBlock, UnwrappedAnswer, WrapAnswer};
use super::{classify, credential};
use crate::model::{Auth, AuthMethod, Failure, FailureClass, Reason, TokenInfo, VaultToken};

/// A token in use.
pub struct Session {
    /// The token.
    pub token: VaultToken,
    /// What Vault says of it.
    pub info: TokenInfo,
    /// Whether we got it by a login of our own, so that it is ours to revoke.
    pub own: bool,
}

impl Vault {
    /// Logs in once; credentials are read from their files now.
    ///
    /// # Errors
    /// `CredentialUnreadable` for files, `LoginRefused` where Vault says no, else as the answer's status.
    pub async fn login(&self, auth: &Auth) -> Result<Session, Failure> {
        let path = format!("auth/{}/login", auth.mount);
        let credentials = match &auth.method {
            AuthMethod::Token { token } => {
                return self.take_token(VaultToken::new(token.expose_str().unwrap_or_default())).await;
            }
            AuthMethod::TokenFile { file } => {
                return self.take_token(VaultToken::new(&credential::read("token", file)?)).await;
            }
            AuthMethod::Kubernetes { role, jwt_file, audience } => {
                let jwt = credential::read("ServiceAccount token", jwt_file)?;
                if let Some(audience) = audience {
                    credential::check_audience(&jwt, audience, jwt_file)?;
                }
                to_body(&json!({"role": role, "jwt": *jwt}))
            }
            AuthMethod::Jwt { role, jwt_file } => {
                let jwt = credential::read("JWT", jwt_file)?;
                match role {
                    Some(role) => to_body(&json!({"role": role, "jwt": *jwt})),
                    None => to_body(&json!({"jwt": *jwt})),
                }
            }
            AuthMethod::AppRole { role_id_file, secret_id_file, wrapped_creation_path, .. } => {
                let role_id = credential::read("role id", role_id_file)?;
                match secret_id_file {
                    None => to_body(&json!({"role_id": *role_id})),
                    Some(file) => {
                        let secret_id = self.secret_id(file, wrapped_creation_path.as_deref(), auth).await?;
                        to_body(&json!({"role_id": *role_id, "secret_id": *secret_id}))
                    }
                }
            }
        };
        let what = format!("failed to log in at auth/{}", auth.mount);
        let answer = self.send(&what, post(&path, credentials, auth.namespace.as_deref())).await?;
        let block = auth_block(&what, &answer)?;
        if let AuthMethod::AppRole { secret_id_file: Some(file), remove_secret_id: true, .. } = &auth.method {
            // Used up or not, it is not needed a second time by this pod.
            let _ = std::fs::remove_file(file);
        }
        let token = VaultToken::new(&Zeroizing::new(block.client_token));
        let ttl = (block.lease_duration > 0).then(|| Duration::from_secs(block.lease_duration));
        let info = TokenInfo { ttl, renewable: block.renewable, accessor: block.accessor.filter(|a| !a.is_empty()) };
        Ok(Session { token, info, own: true })
    }

    /// A token that somebody gave us: Vault tells how long it lives.
    async fn take_token(&self, token: VaultToken) -> Result<Session, Failure> {
        let info = self.lookup(&token).await.map_err(|failure| match failure.class {
            FailureClass::TokenDead => {
                let message = "failed to use the given token: vault does not know it (any more)";
                Failure::new(FailureClass::Denied, Reason::LoginRefused, message)
            }
            _ => failure,
        })?;
        Ok(Session { token, info, own: false })
    }

    /// The secret id, unwrapped where it is wrapped. The creation path is looked at first: a wrapping token that was made
    /// elsewhere could bring somebody else's secret id
    /// (<https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation>).
    async fn secret_id(
        &self,
        file: &Path,
        creation_path: Option<&str>,
        auth: &Auth,
    ) -> Result<Zeroizing<String>, Failure> {
        let text = credential::read("secret id", file)?;
        let Some(expected) = creation_path else { return Ok(text) };
        let namespace = auth.namespace.as_deref();
        let alarm = |why: String| {
            let message = format!(
                "failed to unwrap the secret id in {}: {why}; it may have been intercepted: have the role's secret ids looked at",
                file.display()
            );
            Failure::new(FailureClass::Denied, Reason::LoginRefused, message)
        };
        let body = to_body(&json!({"token": *text}));
        let what = "failed to look up the wrapping token";
        let answer = self.send(what, post("sys/wrapping/lookup", body, namespace)).await?;
        if !answer.is_ok() {
            return Err(refused(what, &answer, || {
                alarm(format!("vault does not know the wrapping token ({})", answer.status))
            }));
        }
        let made: WrapAnswer =
            serde_json::from_slice(&answer.body).map_err(|error| classify::not_understood(what, &error))?;
        if made.data.creation_path != expected {
            return Err(alarm(format!("it was made by {}, not by {expected}", made.data.creation_path)));
        }
        let what = "failed to unwrap the secret id";
        let token = VaultToken::new(&text);
        let ask = Ask { method: Method::POST, path: "sys/wrapping/unwrap", token: Some(&token), namespace, body: None };
        let answer = self.send(what, ask).await?;
        if !answer.is_ok() {
            return Err(refused(what, &answer, || alarm(format!("vault refuses to unwrap it ({})", answer.status))));
        }
        let unwrapped: UnwrappedAnswer =
            serde_json::from_slice(&answer.body).map_err(|error| classify::not_understood(what, &error))?;
        Ok(Zeroizing::new(unwrapped.data.secret_id))
    }
}

/// Vault says no to bad credentials with 400 or 403, depending on the method.
fn auth_block(what: &str, answer: &Answer) -> Result<AuthBlock, Failure> {
    if !answer.is_ok() {
        return Err(refused(what, answer, || {
            let hint = "check the role, its bound names and audience, and the credential";
            let message = format!("{what}: vault answers {}{}; {hint}", answer.status, classify::words(answer));
            Failure::new(FailureClass::Denied, Reason::LoginRefused, message)
        }));
    }
    let parsed: Result<AuthAnswer, _> = serde_json::from_slice(&answer.body);
    parsed.map(|answer| answer.auth).map_err(|error| classify::not_understood(what, &error))
}

fn refused(what: &str, answer: &Answer, no: impl FnOnce() -> Failure) -> Failure {
    match answer.status {
        400 | 401 | 403 => no(),
        404 => {
            let mut failure = classify::failure(what, answer);
            (failure.class, failure.reason) = (FailureClass::Denied, Reason::LoginRefused);
            failure.message.push_str("; is the auth method mounted there?");
            failure
        }
        _ => classify::failure(what, answer),
    }
}

fn post<'a>(path: &'a str, body: Zeroizing<Vec<u8>>, namespace: Option<&'a str>) -> Ask<'a> {
    Ask { method: Method::POST, path, token: None, namespace, body: Some(body) }
}

fn to_body(value: &serde_json::Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(value.to_string().into_bytes())
}
