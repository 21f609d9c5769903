//! `jwt` (<https://developer.hashicorp.com/vault/api-docs/auth/jwt#jwt-login>)

use serde::Serialize;

use super::super::api::login::{Advice, CHECK_MOUNT, Login};
use super::super::credential::Credential;
use super::super::json;
use super::claims::Claims;

/// The login request with `role`, or with the default role of the mount.
pub(in crate::vault) fn request(mount: &str, role: Option<&str>, jwt: Credential) -> Login {
    let claims = Claims::of(jwt.expose()).unwrap_or_default();
    let advice =
        "check that the role exists and that its bound_subject, bound_claims and bound_audiences accept this token";
    login(mount, role, jwt, &claims, Advice { denied: CHECK_MOUNT, refused: advice })
}

/// The request of the methods `jwt` and `kubernetes`.
pub(super) fn login(mount: &str, role: Option<&str>, jwt: Credential, claims: &Claims, advice: Advice) -> Login {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<&'a str>,
        jwt: &'a str,
    }
    Login {
        path: format!("auth/{}/login", mount.trim_matches('/')),
        body: json::body(&Body { role, jwt: jwt.expose() }),
        identity: claims.identity(role),
        credentials: vec![jwt.into_secret()],
        advice,
        valid_from: claims.valid_from,
    }
}
