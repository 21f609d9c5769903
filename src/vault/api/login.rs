//! `POST auth/<mount>/login` (<https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>; `jwt` and `approle`
//! likewise).

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::{Seconds, text};
use super::super::server_text::{clip, redact};
use super::response::{is_from_vault, joined_errors, parse, status_error};
use super::{Api, Call};
use crate::model::{SecretBytes, TokenInfo, VaultToken};

/// A login request.
pub(in crate::vault) struct Login {
    /// `auth/<mount>/login`
    pub(in crate::vault) path: String,
    pub(in crate::vault) body: SecretBytes,
    /// Credentials to remove from the server's errors.
    pub(in crate::vault) credentials: Vec<SecretBytes>,
    /// Who logs in, for messages, such as `role "x", ServiceAccount ns/name, audience "vault"`; empty if unknown.
    pub(in crate::vault) identity: String,
    pub(in crate::vault) advice: Advice,
    /// Time from which the credential is valid, if it states one.
    pub(in crate::vault) valid_from: Option<Timestamp>,
}

/// What to do about a rejected login, as an imperative.
#[derive(Clone, Copy)]
pub(in crate::vault) struct Advice {
    /// If Vault says only "permission denied": the mount can be the cause.
    pub(in crate::vault) denied: &'static str,
    /// If Vault names another cause.
    pub(in crate::vault) refused: &'static str,
}

pub(in crate::vault) const CHECK_MOUNT: &str = "check the mount and the namespace of the auth method";

/// The `auth` object in the response to a login or renewal.
pub(in crate::vault) struct AuthResponse {
    pub(in crate::vault) token: VaultToken,
    pub(in crate::vault) info: TokenInfo,
    pub(in crate::vault) warnings: Vec<String>,
    /// Whether it is a batch token, which cannot be renewed or revoked.
    pub(in crate::vault) is_batch: bool,
}

/// Sends `login` in `namespace`.
pub(in crate::vault) async fn login(
    api: &Api,
    namespace: Option<&str>,
    login: &Login,
) -> Result<AuthResponse, VaultError> {
    let call = Call::new(Method::POST, &login.path).namespace(namespace).body(login.body.clone());
    let response = api.send(call).await?;
    if response.status != StatusCode::OK {
        return Err(login_error(login, &response));
    }
    let mut auth = auth(&login.path, &response)?;
    if auth.token.expose().is_empty() {
        return Err(VaultError::NoToken { path: login.path.clone() });
    }
    // A new token is valid for some time. Without a stated time, use the token until Vault denies a request.
    auth.info.ttl = auth.info.ttl.filter(|ttl| !ttl.is_zero());
    Ok(auth)
}

pub(super) fn auth(path: &str, response: &Response) -> Result<AuthResponse, VaultError> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        auth: Auth<'a>,
        #[serde(default)]
        warnings: Option<Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        client_token: &'a RawValue,
        /// 0 is an expiry within the next second: Vault truncates to seconds, so a renewal shortly before the maximum TTL
        /// returns 0.
        #[serde(default)]
        lease_duration: Seconds,
        #[serde(default)]
        renewable: Option<bool>,
        #[serde(default)]
        token_type: Option<&'a str>,
    }
    let body: Body<'_> = parse(path, response)?;
    let token = text(body.auth.client_token).unwrap_or_default();
    Ok(AuthResponse {
        token: VaultToken::new(token.expose_str().unwrap_or_default()),
        info: TokenInfo { ttl: body.auth.lease_duration.0, renewable: body.auth.renewable.unwrap_or_default() },
        warnings: body.warnings.unwrap_or_default().iter().map(|warning| clip(warning)).collect(),
        is_batch: body.auth.token_type == Some("batch"),
    })
}

/// Vault rejects a wrong credential with 400 or 403, and a missing auth mount with 403, 404 or 405.
fn login_error(login: &Login, response: &Response) -> VaultError {
    let (path, identity, status) = (login.path.clone(), login.identity.clone(), response.status.as_u16());
    let action = format!("failed to log in at {path}");
    let credentials: Vec<&str> = login.credentials.iter().filter_map(SecretBytes::expose_str).collect();
    let errors = clip(&redact(joined_errors(response), &credentials));
    let lower = errors.to_lowercase();
    let not_yet = ["not yet valid", "not valid yet", "issued in the future", "used before issued"];
    match status {
        _ if response.status.is_client_error() && !is_from_vault(response) => VaultError::NotVault { action, status },
        400 if lower.contains("readonly storage") => {
            VaultError::Status { action, status, errors, retry_after: response.retry_after }
        }
        400 | 401 | 403 if not_yet.iter().any(|early| lower.contains(early)) => {
            // Use the clock of the server that rejects the credential. Add one second, because both times are truncated.
            let wait = login.valid_from.zip(response.date).map(|(from, now)| from.duration_since(now));
            let wait = wait.and_then(|wait| Duration::try_from(wait).ok()).map(|wait| wait + Duration::from_secs(1));
            VaultError::LoginTooEarly { path, identity, status, errors, wait }
        }
        // Without details: possibly no auth method exists at this mount.
        403 if errors.trim_start_matches("1 error occurred: * ") == "permission denied" || errors.is_empty() => {
            VaultError::LoginRefused { path, identity, status, errors, advice: login.advice.denied }
        }
        404 | 405 => VaultError::LoginRefused { path, identity, status, errors, advice: CHECK_MOUNT },
        400 | 401 | 403 => VaultError::LoginRefused { path, identity, status, errors, advice: login.advice.refused },
        _ => status_error(&action, response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Failure, FailureClass, Reason};

    fn failure_of(status: u16, errors: &str) -> Failure {
        let login = Login {
            path: "auth/jwt/login".into(),
            body: SecretBytes::default(),
            credentials: vec!["planted-credential".into()],
            identity: "role \"a\", subject \"b\", audience none".into(),
            advice: Advice { denied: "check the mount", refused: "check the role" },
            valid_from: "2026-01-01T00:00:10Z".parse().ok(),
        };
        let body = format!(r#"{{"errors":["{errors}"]}}"#);
        let mut response = Response::for_test(status, &body);
        response.date = "2026-01-01T00:00:02Z".parse().ok();
        login_error(&login, &response).into()
    }

    #[test]
    fn login_error_names_identity_and_quotes_no_credential() {
        let refused = failure_of(400, "wrong planted-credential");
        assert_eq!((refused.class, refused.reason), (FailureClass::Denied, Reason::LoginRefused));
        assert_eq!(
            refused.message,
            "failed to log in at auth/jwt/login (role \"a\", subject \"b\", audience none): Vault answered 400: wrong \
             (credential); check the role"
        );
        let long = failure_of(400, &format!("{} planted-credential", "x".repeat(290)));
        assert!(!long.message.contains("planted"), "a credential at the cut: {long}");
    }

    #[test]
    fn bare_permission_denied_suggests_the_mount() {
        let refused = failure_of(403, "permission denied");
        assert_eq!(
            refused.message,
            "failed to log in at auth/jwt/login (role \"a\", subject \"b\", audience none): Vault answered 403: permission \
             denied; check the mount"
        );
    }

    #[test]
    fn early_credential_waits_until_valid() {
        let early = failure_of(400, "invalid not before (nbf) claim: token not yet valid");
        assert_eq!((early.class, early.reason), (FailureClass::Transient, Reason::LoginRefused));
        assert_eq!(early.retry_after, Some(Duration::from_secs(9)), "until it is good");
    }

    #[test]
    fn zero_ttl_differs_from_missing_ttl() {
        let ttl = |json: &str| auth("", &Response::for_test(200, json)).expect(json).info.ttl;
        assert_eq!(ttl(r#"{"auth":{"client_token":"hvb.x","lease_duration":60}}"#), Some(Duration::from_mins(1)));
        assert_eq!(ttl(r#"{"auth":{"client_token":"hvs.x","lease_duration":0}}"#), Some(Duration::ZERO));
        assert_eq!(ttl(r#"{"auth":{"client_token":"hvs.x","lease_duration":-3}}"#), Some(Duration::ZERO));
        assert_eq!(ttl(r#"{"auth":{"client_token":"hvs.x"}}"#), None);
    }
}
