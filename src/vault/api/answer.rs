//! What every answer of Vault has: an error list, or a body to parse.

use http::StatusCode;
use serde::Deserialize;

use super::super::error::VaultError;
use super::super::http::Answer;
use super::super::words::clip;

/// Parses a good answer to `path`.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &str, answer: &'a Answer) -> Result<T, VaultError> {
    // The error's own text may quote a value; its place does not.
    serde_json::from_slice(&answer.body).map_err(|error| VaultError::Unreadable {
        path: path.to_owned(),
        status: answer.status.as_u16(),
        column: error.column(),
    })
}

/// The `errors` of a failed answer, joined; empty if there are none. Never holds a secret's value, but that of a login may
/// quote a credential.
pub(super) fn all_words(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let parsed: Option<Errors> = serde_json::from_slice(&answer.body).ok();
    parsed.map(|found| found.errors.join("; ")).unwrap_or_default()
}

/// The same, cut to what fits a message.
pub(super) fn words(answer: &Answer) -> String {
    clip(&all_words(answer))
}

/// Whether a failed answer can be Vault's own: it sends JSON. Something in between (an ingress without a route, a firewall)
/// sends a page.
pub(in crate::vault) fn is_vaults(answer: &Answer) -> bool {
    let body = answer.body.trim_ascii_start();
    if answer.status == StatusCode::NOT_FOUND { body.starts_with(b"{") } else { !body.starts_with(b"<") }
}

/// The error of an answer with a bad status, for `action`.
pub(super) fn refused(action: &str, answer: &Answer) -> VaultError {
    let (action, status) = (action.to_owned(), answer.status.as_u16());
    if answer.status.is_client_error() && !is_vaults(answer) {
        return VaultError::NotVault { action, status };
    }
    VaultError::Status { action, status, words: words(answer), retry_after: answer.retry_after }
}

/// The same where a token was sent: a 403 is about the token or about the policy that `rule` names.
///
/// Vault adds "invalid token" (`OpenBao` and older versions "bad token") to "permission denied" if it does not know the token;
/// where it says only the latter, either may be true.
pub(super) fn refused_token(action: &str, answer: &Answer, rule: impl FnOnce() -> String) -> VaultError {
    if answer.status != StatusCode::FORBIDDEN || !is_vaults(answer) {
        return refused(action, answer);
    }
    let (action, words) = (action.to_owned(), words(answer));
    let lower = words.to_lowercase();
    if lower.contains("invalid token") || lower.contains("bad token") {
        return VaultError::TokenUnknown { action };
    }
    VaultError::Forbidden { action, words, rule: rule(), retry_after: answer.retry_after }
}

/// A policy rule that allows one request.
pub(super) fn rule(path: &str, capability: &str) -> String {
    format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}")
}
