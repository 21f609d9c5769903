//! `jwt` (<https://developer.hashicorp.com/vault/api-docs/auth/jwt#jwt-login>)

use serde::Serialize;

use super::super::api::login::Login;
use super::super::credential::Credential;
use super::super::json;
use super::claims::Claims;

/// A login with `role`, or with the mount's default role.
pub(in crate::vault) fn request(mount: &str, role: Option<&str>, jwt: Credential) -> Login {
    let claims = Claims::of(jwt.expose()).unwrap_or_default();
    login(mount, role, jwt, &claims, "is there an auth method at this mount?")
}

/// The request is the same for `kubernetes`.
pub(super) fn login(
    mount: &str,
    role: Option<&str>,
    jwt: Credential,
    claims: &Claims,
    denied_advice: &'static str,
) -> Login {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<&'a str>,
        jwt: &'a str,
    }
    Login {
        path: format!("auth/{}/login", mount.trim_matches('/')),
        body: json::body(&Body { role, jwt: jwt.expose() }),
        who: claims.refused_by(role),
        credentials: vec![jwt.into_secret()],
        denied_advice,
        advice: "",
        valid_from: claims.valid_from,
    }
}
