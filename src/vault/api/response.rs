//! What every response of Vault has: an error list, or a body to parse.

use http::StatusCode;
use serde::Deserialize;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::server_text::clip;

/// Parses a good response to `path`.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &str, response: &'a Response) -> Result<T, VaultError> {
    // The error's own text may quote a value; its place does not.
    serde_json::from_slice(&response.body).map_err(|error| VaultError::Unreadable {
        path: path.to_owned(),
        status: response.status.as_u16(),
        column: error.column(),
    })
}

/// The `errors` of a failed response, joined; empty if there are none. Never holds a secret's value, but that of a login may
/// quote a credential.
pub(super) fn joined_errors(response: &Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let parsed: Option<Errors> = serde_json::from_slice(&response.body).ok();
    parsed.map(|found| found.errors.join("; ")).unwrap_or_default()
}

/// The same, cut to what fits a message.
pub(super) fn errors(response: &Response) -> String {
    clip(&joined_errors(response))
}

/// Whether a failed response can be Vault's own: it sends JSON. Something in between (an ingress without a route, a firewall)
/// sends a page.
pub(in crate::vault) fn is_from_vault(response: &Response) -> bool {
    let body = response.body.trim_ascii_start();
    if response.status == StatusCode::NOT_FOUND { body.starts_with(b"{") } else { !body.starts_with(b"<") }
}

/// The error of a response with a bad status, for `action`.
pub(super) fn status_error(action: &str, response: &Response) -> VaultError {
    let (action, status) = (action.to_owned(), response.status.as_u16());
    if response.status.is_client_error() && !is_from_vault(response) {
        return VaultError::NotVault { action, status };
    }
    VaultError::Status { action, status, errors: errors(response), retry_after: response.retry_after }
}

/// The same where a token was sent: a 403 is about the token or about the policy that `rule` names.
///
/// Vault adds "invalid token" (`OpenBao` and older versions "bad token") to "permission denied" if it does not know the token;
/// where it says only the latter, either may be true.
pub(super) fn token_error(action: &str, response: &Response, rule: impl FnOnce() -> String) -> VaultError {
    if response.status != StatusCode::FORBIDDEN || !is_from_vault(response) {
        return status_error(action, response);
    }
    let (action, errors) = (action.to_owned(), errors(response));
    let lower = errors.to_lowercase();
    if lower.contains("invalid token") || lower.contains("bad token") {
        return VaultError::TokenInvalid { action };
    }
    VaultError::Forbidden { action, errors, rule: rule(), retry_after: response.retry_after }
}

/// A policy rule that allows one request.
pub(super) fn rule(path: &str, capability: &str) -> String {
    format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}")
}
