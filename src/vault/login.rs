//! Login: a credential from its file for a token of our own, or a check of a given token.

use super::api::Api;
use super::api::login::{AuthAnswer, Login, login as send};
use super::api::token::lookup_self;
use super::auth;
use super::credential::Credential;
use super::error::VaultError;
use super::secret_id::{Credentials, SecretIdFile};
use crate::model::{Auth, AuthMethod, Session, TokenInfo, VaultToken};

/// Logs in. The credential and changed PEM files are read at each call.
pub(super) async fn login(api: &Api, credentials: &Credentials, auth: &Auth) -> Result<Session, VaultError> {
    api.compare_files();
    let namespace = auth.namespace.as_deref();
    match &auth.method {
        AuthMethod::AppRole { role_id_file, secret_id_file, wrapped_creation_path, remove_secret_id } => {
            let role_id = Credential::read(role_id_file, "the role id")?;
            let Some(file) = secret_id_file else {
                return log_in(api, namespace, auth::approle::request(&auth.mount, role_id, None)).await;
            };
            let file = SecretIdFile {
                role_id_file,
                file,
                creation_path: wrapped_creation_path.as_deref(),
                removed_after_use: *remove_secret_id,
            };
            let secret_id = file.secret_id(api, credentials, namespace).await?;
            let request = auth::approle::request(&auth.mount, role_id, Some(secret_id.value.clone()));
            let session = log_in(api, namespace, request).await?;
            if *remove_secret_id {
                secret_id.remove(file.file);
            }
            Ok(session)
        }
        AuthMethod::Jwt { role, jwt_file } => {
            let jwt = Credential::read(jwt_file, "the JWT")?;
            log_in(api, namespace, auth::jwt::request(&auth.mount, role.as_deref(), jwt)).await
        }
        AuthMethod::Kubernetes { role, jwt_file, audience } => {
            let token = Credential::read(jwt_file, "the ServiceAccount token")?;
            let request = auth::kubernetes::request(&auth.mount, role, audience.as_deref(), jwt_file, token)?;
            log_in(api, namespace, request).await
        }
        AuthMethod::Token { token } => {
            let given = Credential::given(token, auth::token::WHAT)?;
            check(api, auth::token::token(&given, namespace)).await
        }
        AuthMethod::TokenFile { file } => {
            let given = Credential::read(file, auth::token::WHAT)?;
            check(api, auth::token::token(&given, namespace)).await
        }
    }
}

async fn log_in(api: &Api, namespace: Option<&str>, login: Login) -> Result<Session, VaultError> {
    let AuthAnswer { token, info, warnings } = send(api, namespace, &login).await?;
    for warning in warnings {
        tracing::warn!(path = login.path, warning, "Vault warns about the login");
    }
    let token = token.in_namespace(namespace.map(str::to_owned));
    Ok(Session { token, info, self_issued: true, lookup_denied: false })
}

/// Looks a given token up. A token without the policy `default` may not look itself up and is a good token all the same.
async fn check(api: &Api, token: VaultToken) -> Result<Session, VaultError> {
    match lookup_self(api, &token).await {
        Ok(info) => Ok(Session { token, info, self_issued: false, lookup_denied: false }),
        Err(VaultError::Forbidden { .. }) => {
            let info = TokenInfo { ttl: None, renewable: false };
            Ok(Session { token, info, self_issued: false, lookup_denied: true })
        }
        Err(VaultError::TokenUnknown { .. }) => Err(VaultError::GivenTokenUnknown),
        Err(error) => Err(error),
    }
}
