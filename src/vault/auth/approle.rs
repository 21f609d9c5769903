//! `approle` (<https://developer.hashicorp.com/vault/api-docs/auth/approle#login-with-approle>)

use serde::Serialize;

use super::super::api::login::{Advice, CHECK_MOUNT, Login};
use super::super::credential::Credential;
use super::super::json;
use crate::model::SecretBytes;

/// The login request. `secret_id` is `None` if the role requires no secret ID.
pub(in crate::vault) fn request(mount: &str, role_id: Credential, secret_id: Option<SecretBytes>) -> Login {
    #[derive(Serialize)]
    struct Body<'a> {
        role_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_id: Option<&'a str>,
    }
    let body = Body { role_id: role_id.expose(), secret_id: secret_id.as_ref().and_then(SecretBytes::expose_str) };
    Login {
        path: format!("auth/{}/login", mount.trim_matches('/')),
        body: json::body(&body),
        identity: String::new(),
        valid_from: None,
        credentials: std::iter::once(role_id.into_secret()).chain(secret_id).collect(),
        advice: Advice {
            denied: CHECK_MOUNT,
            refused: "check the role ID; if the secret ID was used up or has expired, deliver a new one",
        },
    }
}
