//! Common parts of Vault's responses: parsing of the body, and the list of errors.

use http::StatusCode;
use serde::Deserialize;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::server_text::clip;

/// Parses a response to `path` with a success status.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &str, response: &'a Response) -> Result<T, VaultError> {
    // The text of the error can quote a value, so only the column is kept.
    serde_json::from_slice(&response.body).map_err(|error| VaultError::Unreadable {
        path: path.to_owned(),
        status: response.status.as_u16(),
        column: error.column(),
    })
}

/// The `errors` of a response with an error status, joined; empty if there are none. Contains no value of a secret, but the
/// errors of a login can quote a credential.
pub(in crate::vault) fn joined_errors(response: &Response) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let parsed: Option<Errors> = serde_json::from_slice(&response.body).ok();
    parsed.map(|found| found.errors.join("; ")).unwrap_or_default()
}

/// [`joined_errors`], shortened for a message.
pub(super) fn errors(response: &Response) -> String {
    clip(&joined_errors(response))
}

/// Whether a response with an error status can be from Vault, which sends JSON. A proxy in front of Vault (an ingress without
/// a route, a firewall) sends an HTML page or plain text.
pub(in crate::vault) fn is_from_vault(response: &Response) -> bool {
    let body = response.body.trim_ascii_start();
    if response.status == StatusCode::NOT_FOUND { body.starts_with(b"{") } else { !body.starts_with(b"<") }
}

/// The error for a response with an error status.
pub(super) fn status_error(action: &str, response: &Response) -> VaultError {
    let (action, status) = (action.to_owned(), response.status.as_u16());
    if response.status.is_client_error() && !is_from_vault(response) {
        return VaultError::NotVault { action, status };
    }
    VaultError::Status { action, status, errors: errors(response), retry_after: response.retry_after }
}

/// The error for a response with an error status to a request with a token. A 403 means that the token is invalid or that the
/// policy `rule` is missing.
///
/// Vault adds "invalid token" (`OpenBao` and older versions: "bad token") to "permission denied" if it does not recognize the
/// token. A bare "permission denied" can mean both.
pub(in crate::vault) fn token_error(action: &str, response: &Response, rule: impl FnOnce() -> String) -> VaultError {
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

/// The policy rule that allows one request.
pub(in crate::vault) fn rule(path: &str, capability: &str) -> String {
    format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}")
}
