//! Login: exchanges a credential for a token, or checks a given token.

use super::api::Api;
use super::api::login::{AuthResponse, Login, login as send};
use super::api::token::lookup_self;
use super::auth;
use super::credential::Credential;
use super::error::VaultError;
use super::one_time::{FoundSecret, OneTimeSecrets};
use super::secret_id::SecretIdFile;
use crate::model::{Auth, AuthMethod, Session, TokenInfo, VaultToken};

/// Credentials for one login, as read from their files.
pub struct LoginCredential(CredentialKind);

enum CredentialKind {
    Given(VaultToken),
    Request(Login),
    AppRole { role_id: Credential, secret_id: Option<FoundSecret> },
}

/// Reads the credentials for one login. Blocks as long as the file system blocks.
pub(super) fn read(secret_ids: &OneTimeSecrets, auth: &Auth) -> Result<LoginCredential, VaultError> {
    let namespace = auth.namespace.as_deref();
    Ok(LoginCredential(match &auth.method {
        AuthMethod::AppRole { role_id_file, .. } => {
            let role_id = Credential::read(role_id_file, "the role ID")?;
            let secret_id = secret_id_file(auth).map(|file| file.find(secret_ids)).transpose()?;
            CredentialKind::AppRole { role_id, secret_id }
        }
        AuthMethod::Jwt { role, jwt_file } => {
            let jwt = Credential::read(jwt_file, "the JWT")?;
            CredentialKind::Request(auth::jwt::request(&auth.mount, role.as_deref(), jwt))
        }
        AuthMethod::Kubernetes { role, jwt_file, audience } => {
            let token = Credential::read(jwt_file, "the ServiceAccount token")?;
            CredentialKind::Request(auth::kubernetes::request(&auth.mount, role, audience.as_deref(), jwt_file, token)?)
        }
        AuthMethod::Token { token } => {
            CredentialKind::Given(auth::token::token(&Credential::given(token, auth::token::WHAT)?, namespace))
        }
        AuthMethod::TokenFile { file } => {
            CredentialKind::Given(auth::token::token(&Credential::read(file, auth::token::WHAT)?, namespace))
        }
    }))
}

/// Unwraps the secret ID of `credential`, if it is wrapped and was not unwrapped before. Returns whether it was: the wrapping token
/// works only once.
pub(super) async fn unwrap(
    api: &Api,
    secret_ids: &OneTimeSecrets,
    auth: &Auth,
    credential: LoginCredential,
) -> Result<(LoginCredential, bool), VaultError> {
    let wrapped = secret_id_file(auth).filter(|file| file.creation_path.is_some());
    match (credential.0, wrapped) {
        (CredentialKind::AppRole { role_id, secret_id: Some(found @ FoundSecret::InFile(..)) }, Some(file)) => {
            let unwrapped = file.resolve(found, api, secret_ids, auth.namespace.as_deref()).await?.into_found();
            Ok((LoginCredential(CredentialKind::AppRole { role_id, secret_id: Some(unwrapped) }), true))
        }
        (credential, _) => Ok((LoginCredential(credential), false)),
    }
}

/// Logs in with `credential`.
pub(super) async fn login(
    api: &Api,
    secret_ids: &OneTimeSecrets,
    auth: &Auth,
    credential: LoginCredential,
) -> Result<Session, VaultError> {
    let namespace = auth.namespace.as_deref();
    let (role_id, found) = match credential.0 {
        CredentialKind::Given(token) => return check(api, token).await,
        CredentialKind::Request(request) => return log_in(api, namespace, request).await,
        CredentialKind::AppRole { role_id, secret_id } => (role_id, secret_id),
    };
    let Some((file, found)) = secret_id_file(auth).zip(found) else {
        return log_in(api, namespace, auth::approle::request(&auth.mount, role_id, None)).await;
    };
    let secret_id = file.resolve(found, api, secret_ids, namespace).await?;
    let request = auth::approle::request(&auth.mount, role_id, Some(secret_id.value.clone()));
    let session = log_in(api, namespace, request).await?;
    if file.removed_after_use {
        secret_id.remove(file.file);
    }
    Ok(session)
}

fn secret_id_file(auth: &Auth) -> Option<SecretIdFile<'_>> {
    let AuthMethod::AppRole { role_id_file, secret_id_file, wrapped_creation_path, remove_secret_id } = &auth.method
    else {
        return None;
    };
    Some(SecretIdFile {
        role_id_file,
        file: secret_id_file.as_deref()?,
        creation_path: wrapped_creation_path.as_deref(),
        removed_after_use: *remove_secret_id,
    })
}

async fn log_in(api: &Api, namespace: Option<&str>, login: Login) -> Result<Session, VaultError> {
    let AuthResponse { token, info, warnings, .. } = send(api, namespace, &login).await?;
    for warning in warnings {
        tracing::warn!(path = login.path, warning, "Vault returned a warning for the login");
    }
    let token = token.in_namespace(namespace.map(str::to_owned));
    Ok(Session { token, info, self_issued: true, lookup_denied: false })
}

/// Looks up a given token. A valid token is not allowed to look itself up if it lacks the policy `default`.
async fn check(api: &Api, token: VaultToken) -> Result<Session, VaultError> {
    match lookup_self(api, &token).await {
        Ok(info) => Ok(Session { token, info, self_issued: false, lookup_denied: false }),
        Err(VaultError::Forbidden { .. }) => {
            let info = TokenInfo { ttl: None, renewable: false };
            Ok(Session { token, info, self_issued: false, lookup_denied: true })
        }
        Err(VaultError::TokenInvalid { .. }) => Err(VaultError::GivenTokenInvalid),
        Err(error) => Err(error),
    }
}
