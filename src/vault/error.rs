//! What can go wrong with Vault, as a type. Class, reason and sentence of a [`Failure`] are all derived from it, here and
//! nowhere else, so that they cannot contradict each other.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::credential::CredentialError;
use super::http::HttpError;
use super::server_text::quoted_list;
use crate::model::{Failure, FailureClass, Reason};

/// A failed call. `action` is "failed to <verb> <noun> {which}"; `errors` are the server's own, already cut and without
/// credentials.
#[derive(Debug, Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(
        "failed to use the ServiceAccount token in {}: expected audience {wanted:?}, found {}; \
         set `audience: {wanted}` in the serviceAccountToken of the projected volume",
        file.display(),
        quoted_list(found)
    )]
    WrongAudience { file: PathBuf, found: Vec<String>, wanted: String },

    /// A response with an error status that no other variant is about.
    #[error("{action}: {}", answered(*status, errors))]
    Status { action: String, status: u16, errors: String, retry_after: Option<Duration> },
    /// An error status with a body that Vault does not send.
    #[error(
        "{action}: the response with status {status} is not from Vault: expected JSON, found an HTML page or plain text; \
         check the address, and any proxy or ingress in front of Vault"
    )]
    NotVault { action: String, status: u16 },
    /// A good status with a body that Vault does not send. The column is all that is known without quoting a value.
    #[error(
        "failed to parse the response to {path} (status {status}, column {column}): expected JSON as Vault sends it; check \
         that the address is a Vault server"
    )]
    Unreadable { path: String, status: u16, column: usize },

    /// 403 with errors that only an unknown token gets.
    #[error(
        "{action}: Vault does not recognize the token; it has expired, was revoked, or belongs to another Vault server or \
         namespace"
    )]
    TokenInvalid { action: String },
    /// Any other 403 for a request with a token.
    #[error("{action}: permission denied (403){}", further(errors))]
    Forbidden { action: String, errors: String, rule: String, retry_after: Option<Duration> },

    /// A login that Vault rejects. `identity` is as in [`Login`](super::api::login::Login).
    #[error("failed to log in at {path}{}: {}; {advice}", in_brackets(identity), answered(*status, errors))]
    LoginRefused { path: String, identity: String, status: u16, errors: String, advice: &'static str },
    /// A login with a credential that becomes valid in a moment.
    #[error(
        "failed to log in at {path}{}: {}; the credential is not valid yet: synchronize the clocks of its issuer and Vault",
        in_brackets(identity),
        answered(*status, errors)
    )]
    LoginTooEarly { path: String, identity: String, status: u16, errors: String, wait: Option<Duration> },
    #[error("failed to log in at {path}: Vault returned no token; exempt this login from MFA, which keyferry does not support")]
    NoToken { path: String },
    #[error(
        "failed to use the given Vault token: Vault does not recognize it; it has expired, was revoked, or belongs to another \
         Vault server or namespace; provide a valid token"
    )]
    GivenTokenInvalid,
    #[error(
        "failed to unwrap the secret ID: expected a wrapping token created by {expected}, found one created by {found}; the \
         secret ID MAY HAVE BEEN INTERCEPTED and replaced: check Vault's audit log and revoke the secret ID"
    )]
    WrongCreationPath { found: String, expected: String },
    #[error(
        "{action}: {}; the wrapping token has expired or was already used; deliver a new one. An earlier process of this pod \
         may have used it before a restart. If none did, the secret ID MAY HAVE BEEN INTERCEPTED: check Vault's audit log and \
         revoke the secret ID",
        answered(*status, errors)
    )]
    NotUnwrapped { action: String, status: u16, errors: String },

    #[error("{action}: {}; the secret has to be read again", answered(*status, errors))]
    LeaseLost { action: String, status: u16, errors: String },
    #[error(
        "failed to read {path}: {what} at this path (requested {request_path}; {engine}); check the path and the namespace"
    )]
    SecretNotFound { path: String, what: String, request_path: String, engine: String },
    #[error("failed to read {path}: version {version} {how}")]
    SecretDeleted { path: String, version: u64, how: String },
    #[error("failed to read {path}: {why}")]
    NotReadable { path: String, why: String },
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let (class, reason) = error.kind();
        let message = error.to_string();
        let (retry_after, missing_rule) = match error {
            VaultError::Status { retry_after, .. } => (retry_after, None),
            VaultError::LoginTooEarly { wait, .. } => (wait, None),
            VaultError::Forbidden { retry_after, rule, .. } => (retry_after, Some(rule)),
            _ => (None, None),
        };
        Self { class, reason, message, retry_after, missing_rule }
    }
}

impl VaultError {
    fn kind(&self) -> (FailureClass, Reason) {
        use FailureClass::{Denied, Forbidden, Invalid, Local, Missing, TokenInvalid, Transient};
        match self {
            Self::Http(error) => http(error),
            Self::Credential(_) => (Local, Reason::CredentialUnreadable),
            // Not a passing thing: the pod's specification has to change.
            Self::WrongAudience { .. } => (Invalid, Reason::CredentialUnreadable),
            Self::Status { status, errors, .. } => self::status(*status, errors),
            Self::NotVault { .. } | Self::Unreadable { .. } => (Transient, Reason::ServerError),
            Self::TokenInvalid { .. } => (TokenInvalid, Reason::TokenExpired),
            Self::Forbidden { .. } => (Forbidden, Reason::Denied),
            Self::LoginTooEarly { .. } => (Transient, Reason::LoginRefused),
            Self::LoginRefused { .. }
            | Self::NoToken { .. }
            | Self::GivenTokenInvalid
            | Self::WrongCreationPath { .. }
            | Self::NotUnwrapped { .. } => (Denied, Reason::LoginRefused),
            Self::LeaseLost { .. } => (Missing, Reason::LeaseLost),
            Self::SecretNotFound { .. } => (Missing, Reason::SecretNotFound),
            Self::SecretDeleted { .. } => (Missing, Reason::SecretDeleted),
            Self::NotReadable { .. } => (Invalid, Reason::InvalidRequest),
        }
    }
}

fn http(error: &HttpError) -> (FailureClass, Reason) {
    use FailureClass::{Invalid, Local, Transient, Unreachable};
    match error {
        HttpError::Address(_) | HttpError::Path(_) | HttpError::ServerName(_) | HttpError::TlsPort(_) => {
            (Invalid, Reason::InvalidRequest)
        }
        HttpError::RedirectRefused { .. } | HttpError::TooLarge { .. } => (Invalid, Reason::InvalidRequest),
        HttpError::Header(_) => (Local, Reason::CredentialUnreadable),
        // A file that is not there may come; one that is there and holds something else needs a person.
        HttpError::PemFile { .. } => (Local, Reason::TlsUnusable),
        HttpError::PemContent { .. } | HttpError::NoCaCertificate(_) | HttpError::Client { .. } => (Invalid, Reason::TlsUnusable),
        // The certificate of a server is replaced without us, so all of these may pass.
        HttpError::Unreachable { .. } => (Unreachable, Reason::VaultUnreachable),
        HttpError::RedirectLoop(_) => (Transient, Reason::ServerError),
    }
}

/// Status codes: <https://developer.hashicorp.com/vault/api-docs#http-status-codes>,
/// <https://openbao.org/api-docs/#http-status-codes>; beyond these, `sdk/logical/response_util.go`.
fn status(status: u16, errors: &str) -> (FailureClass, Reason) {
    use FailureClass::{Denied, Invalid, Missing, Transient};
    let errors = errors.to_lowercase();
    match status {
        // A KV mount that is being made version 2 answers so for some seconds:
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v2/upgrade
        400 if errors.contains("upgrading from non-versioned") => (Transient, Reason::ServerError),
        // A node that may not write and did not forward: `logical.ErrReadOnly`.
        400 if errors.contains("readonly storage") => (Transient, Reason::ServerError),
        // Malformed, or a credential that is wrong: the same request cannot work.
        400 => (Invalid, Reason::InvalidRequest),
        403 => (Denied, Reason::Denied),
        404 => (Missing, Reason::SecretNotFound),
        // A proxy's timeout for the request.
        408 => (Transient, Reason::ServerError),
        // https://developer.hashicorp.com/vault/docs/enterprise/consistency: this node does not have our state yet.
        412 => (Transient, Reason::ServerError),
        // https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas
        429 => (Transient, Reason::RateLimited),
        // https://developer.hashicorp.com/vault/api-docs/system/health: DR secondary, performance standby.
        472 | 473 => (Transient, Reason::ServerError),
        // A load balancer's 503 without these errors is not about a seal.
        503 if errors.contains("seal") || errors.contains("maintenance") => (Transient, Reason::Sealed),
        // 500 internal, 501 not initialised, 502 Vault's own upstream failed, 503, 504 of a proxy in between.
        500..=599 => (Transient, Reason::ServerError),
        // 405 and all else: the address or the path cannot be right.
        _ => (Invalid, Reason::InvalidRequest),
    }
}

/// The status and the server's own errors, or the status's standard phrase.
fn answered(status: u16, errors: &str) -> String {
    if !errors.is_empty() {
        return format!("Vault answered {status}: {errors}");
    }
    let phrase = ::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("Vault answered {status} ({})", phrase.unwrap_or("unknown status").to_lowercase())
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Words of a 403 beyond the usual ones, such as those of a Sentinel policy.
fn further(errors: &str) -> String {
    let rest = errors.strip_prefix("1 error occurred:").unwrap_or(errors).trim_start_matches([' ', '*']);
    if rest.is_empty() || rest == "permission denied" { String::new() } else { format!(": {rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        use FailureClass::{Denied, Invalid, Missing, Transient};
        for (status, errors, class, reason) in [
            (400, "", Invalid, Reason::InvalidRequest),
            (400, "Upgrading from non-versioned to versioned data.", Transient, Reason::ServerError),
            (400, "cannot write to readonly storage", Transient, Reason::ServerError),
            (403, "", Denied, Reason::Denied),
            (404, "", Missing, Reason::SecretNotFound),
            (405, "", Invalid, Reason::InvalidRequest),
            (412, "", Transient, Reason::ServerError),
            (429, "", Transient, Reason::RateLimited),
            (472, "", Transient, Reason::ServerError),
            (473, "", Transient, Reason::ServerError),
            (500, "", Transient, Reason::ServerError),
            (501, "", Transient, Reason::ServerError),
            (502, "", Transient, Reason::ServerError),
            (503, "Vault is sealed", Transient, Reason::Sealed),
            (503, "no healthy upstream", Transient, Reason::ServerError),
            (504, "", Transient, Reason::ServerError),
        ] {
            assert_eq!(self::status(status, errors), (class, reason), "{status}");
        }
    }

    #[test]
    fn a_403_has_its_rule_and_further_words_only_where_there_are_some() {
        let failure = |errors: &str| {
            Failure::from(VaultError::Forbidden {
                action: "failed to read a/b".into(),
                errors: errors.into(),
                rule: "the rule".into(),
                retry_after: None,
            })
        };
        let usual = failure("1 error occurred: * permission denied");
        assert_eq!(usual.message, "failed to read a/b: permission denied (403)");
        assert_eq!((usual.class, usual.missing_rule.as_deref()), (FailureClass::Forbidden, Some("the rule")));
        let policy = failure("egp policy \"office-hours\" denied it");
        assert_eq!(
            policy.message,
            "failed to read a/b: permission denied (403): egp policy \"office-hours\" denied it"
        );
    }
}
