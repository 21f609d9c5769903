//! `auth`

use std::path::PathBuf;

use super::super::defaults;
use super::super::diagnostics::Diagnostics;
use super::super::raw::{RawAuth, RawAuthMethod as Method};
use super::is_plain;
use super::server::namespace;
use crate::model::{Auth, AuthMethod, SecretBytes};

/// `given` is a token from the environment, with the name of its variable.
pub(super) fn parse(raw: RawAuth, given: Option<(String, SecretBytes)>, diagnostics: &mut Diagnostics) -> Option<Auth> {
    // The required keys of an unknown method are unknown.
    if diagnostics.contains("auth.method") {
        return None;
    }
    let method = raw.method.unwrap_or_else(|| default_method(&raw, given.is_some()));
    keys_of_other_methods(&raw, method, diagnostics);

    let mount = match raw.mount {
        None => method.as_str().to_owned(),
        Some(text) => {
            let mount = text.trim_matches('/').trim_start_matches("auth/");
            if mount.is_empty() || !is_path(mount) {
                diagnostics.invalid(
                    "auth.mount",
                    text.as_str(),
                    "must be the path of the mount below `auth/`, like \"kubernetes\"",
                );
            }
            mount.to_owned()
        }
    };
    if let Some(role) = raw.role.as_deref().filter(|role| !is_plain(role)) {
        diagnostics.invalid("auth.role", role, "must not contain control characters, or start or end with a space");
    }
    let namespace = raw.namespace.and_then(|text| namespace("auth.namespace", &text, diagnostics));
    let mut required = |key: &str, value: Option<String>, message: &str| {
        if value.is_none() {
            diagnostics.required(&format!("auth.{key}"), message);
        }
        value
    };
    let method = match method {
        Method::Kubernetes => AuthMethod::Kubernetes {
            role: required(
                "role",
                raw.role,
                "is missing; set the role for the auth method `kubernetes` here or in KEYFERRY_ROLE",
            )?,
            jwt_file: raw.jwt_file.unwrap_or_else(|| defaults::KUBERNETES_JWT_FILE.to_owned()).into(),
            audience: raw.audience,
        },
        Method::Jwt => AuthMethod::Jwt {
            jwt_file: required(
                "jwtFile",
                raw.jwt_file,
                "is missing; set it to the file with the JWT for auth.method `jwt`",
            )?
            .into(),
            role: raw.role,
        },
        Method::Approle => {
            let role_id = required(
                "roleIdFile",
                raw.role_id_file,
                "is missing; set it to the file with the role ID for auth.method `approle`",
            );
            if raw.secret_id_file.is_none() {
                let message = "is missing; `wrappedCreationPath` and `removeSecretId` require it";
                if raw.wrapped_creation_path.is_some() || raw.remove_secret_id == Some(true) {
                    diagnostics.required("auth.secretIdFile", message);
                }
            }
            AuthMethod::AppRole {
                role_id_file: role_id?.into(),
                secret_id_file: raw.secret_id_file.map(PathBuf::from),
                wrapped_creation_path: raw.wrapped_creation_path.map(|path| path.trim_matches('/').to_owned()),
                // Removal is opt-in, because each login reads the file again.
                remove_secret_id: raw.remove_secret_id.unwrap_or(false),
            }
        }
        Method::Token => match (raw.token_file, given) {
            (Some(file), _) => AuthMethod::TokenFile { file: file.into() },
            (None, Some((name, token))) => {
                if token.expose().iter().any(|byte| !byte.is_ascii_graphic()) {
                    diagnostics.invalid_hidden(&name, "must be one token, without spaces or line breaks");
                }
                AuthMethod::Token { token }
            }
            (None, None) => {
                diagnostics.required(
                    "auth.tokenFile",
                    "is missing; set it to the file with the token for auth.method `token`, or set VAULT_TOKEN",
                );
                return None;
            }
        },
    };
    Some(Auth { mount, namespace, method })
}

/// `kubernetes` is the default in a pod. A supplied token without any setting of a login selects `token`.
fn default_method(raw: &RawAuth, token_given: bool) -> Method {
    let configures_login =
        raw.role.is_some() || raw.mount.is_some() || raw.audience.is_some() || raw.jwt_file.is_some();
    if !configures_login && (token_given || raw.token_file.is_some()) { Method::Token } else { Method::Kubernetes }
}

/// Reports keys of another method, which would have no effect. Role and mount are ignored instead: they can come from a
/// variable that is the same for many pods.
fn keys_of_other_methods(raw: &RawAuth, method: Method, diagnostics: &mut Diagnostics) {
    let keys: [(&str, bool, &[Method]); 7] = [
        ("audience", raw.audience.is_some(), &[Method::Kubernetes]),
        ("jwtFile", raw.jwt_file.is_some(), &[Method::Kubernetes, Method::Jwt]),
        ("roleIdFile", raw.role_id_file.is_some(), &[Method::Approle]),
        ("secretIdFile", raw.secret_id_file.is_some(), &[Method::Approle]),
        ("wrappedCreationPath", raw.wrapped_creation_path.is_some(), &[Method::Approle]),
        ("removeSecretId", raw.remove_secret_id.is_some(), &[Method::Approle]),
        ("tokenFile", raw.token_file.is_some(), &[Method::Token]),
    ];
    for (key, present, methods) in keys {
        if present && !methods.contains(&method) {
            let names: Vec<_> = methods.iter().map(|method| format!("`{}`", method.as_str())).collect();
            let message =
                format!("requires auth.method {}, but auth.method is `{}`", names.join(" or "), method.as_str());
            diagnostics.forbidden(&format!("auth.{key}"), message);
        }
    }
}

/// Whether the text is a path of the Vault API: no empty, `.`, or `..` segment, and no character that ends the path of
/// a URL.
pub(super) fn is_path(text: &str) -> bool {
    is_plain(text) && !text.contains(['?', '#']) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
