//! Errors of calls to Vault. Class, reason code and message of a [`Failure`] are derived from one type, so they cannot
//! contradict each other.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::credential::CredentialError;
use super::http::HttpError;
use super::server_text::quoted_list;
use crate::model::{Failure, FailureClass, Reason};

/// Delay before the next request after a certificate that cannot be used. Each request leaves a certificate in Vault's storage.
const UNUSABLE_CERTIFICATE_RETRY: Duration = Duration::from_secs(300);

/// A failed call. `action` is "failed to <verb> <noun> {which}". `errors` is the text of Vault's `errors`, shortened and without
/// credentials.
#[derive(Debug, Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(
        "failed to use the ServiceAccount token in {}: expected audience {expected:?}, found {}; \
         set `audience: {expected}` in the serviceAccountToken of the projected volume",
        file.display(),
        quoted_list(found)
    )]
    WrongAudience { file: PathBuf, found: Vec<String>, expected: String },

    /// An error status without a more specific variant.
    #[error("{action}: {}", status_and_errors(*status, errors))]
    Status { action: String, status: u16, errors: String, retry_after: Option<Duration> },
    /// An error status with a body that Vault never sends.
    #[error(
        "{action}: the response with status {status} is not from Vault: expected JSON, found an HTML page or plain text; \
         check the address, and any proxy or ingress in front of Vault"
    )]
    NotVault { action: String, status: u16 },
    /// A success status with a body that Vault never sends. The column is the only detail of the error that quotes no value.
    #[error(
        "failed to parse the response to {path} (status {status}, column {column}): expected JSON as Vault sends it; check \
         that the address is a Vault server"
    )]
    Unreadable { path: String, status: u16, column: usize },

    /// A 403 with the error for an invalid token.
    #[error(
        "{action}: Vault does not recognize the token (expired, revoked, or from another Vault server or namespace)"
    )]
    TokenInvalid { action: String },
    /// Any other 403 for a request with a token.
    #[error("{action}: permission denied (403){}", unusual_errors(errors))]
    Forbidden { action: String, errors: String, rule: String, retry_after: Option<Duration> },

    /// A login that Vault rejects. `identity` is as in [`Login`](super::api::login::Login).
    #[error("failed to log in at {path}{}: {}; {advice}", in_brackets(identity), status_and_errors(*status, errors))]
    LoginRefused { path: String, identity: String, status: u16, errors: String, advice: &'static str },
    /// A login with a credential that becomes valid in a moment.
    #[error(
        "failed to log in at {path}{}: {}; synchronize the clocks of Vault and of the issuer of the credential",
        in_brackets(identity),
        status_and_errors(*status, errors)
    )]
    LoginTooEarly { path: String, identity: String, status: u16, errors: String, wait: Option<Duration> },
    #[error(
        "failed to log in at {path}: Vault returned no token; exempt this login from MFA, which keyferry does not support"
    )]
    NoToken { path: String },
    #[error(
        "failed to use the given Vault token: Vault does not recognize the token (expired, revoked, or from another Vault \
         server or namespace); provide a valid token"
    )]
    GivenTokenInvalid,
    #[error(
        "failed to unwrap {what}: expected a wrapping token created by {expected}, found one created by {found}; {what} MAY \
         HAVE BEEN INTERCEPTED and replaced: check Vault's audit log and revoke {what}"
    )]
    WrongCreationPath { what: &'static str, found: String, expected: String },
    #[error(
        "{action}: {}; the wrapping token has expired or was already used; deliver a new one. An earlier process of this pod \
         may have used it before a restart. If none did, {what} MAY HAVE BEEN INTERCEPTED: check Vault's audit log and \
         revoke {what}",
        status_and_errors(*status, errors)
    )]
    NotUnwrapped { action: String, what: &'static str, status: u16, errors: String },

    #[error("{action}: {}; keyferry reads the secret again", status_and_errors(*status, errors))]
    LeaseLost { action: String, status: u16, errors: String },
    #[error(
        "failed to read {path}: {missing} at this path (requested {request_path}; {engine}); check the path and the namespace"
    )]
    SecretNotFound { path: String, missing: String, request_path: String, engine: String },
    /// A list without secrets. `request_path` is the first request.
    #[error("failed to read {path}: {cause} (listed {request_path}; {engine})")]
    NoSecrets { path: String, cause: &'static str, request_path: String, engine: String },
    #[error("failed to read {path}: version {version} {state}")]
    SecretDeleted { path: String, version: u64, state: String },
    #[error("failed to read {path}: {cause}")]
    NotReadable { path: String, cause: String },
    #[error(
        "{action}: the response contains {found}, but keyferry requires an object with keys in `data`; check the path and the method"
    )]
    NotUsable { action: String, found: &'static str },
    #[error(
        "failed to write {path}: mount {mount} is a KV engine, and the write would replace the secret; remove `method: write`"
    )]
    WriteToKv { path: String, mount: String },
    #[error("{action}: {problem}")]
    ChildTokenUnusable { action: String, problem: &'static str },
    #[error("{action}: Vault does not recognize it (expired or revoked); keyferry creates another one")]
    ChildTokenLost { action: String },
    #[error("{action}: {problem}")]
    CertificateInvalid { action: String, problem: String },
    /// A name of the certificate that cannot be encoded is rejected in the configuration.
    #[error("{action}: the system provides no random numbers for a private key; check the node")]
    NoKey { action: String },
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let (class, reason) = error.kind();
        let message = error.to_string();
        let (retry_after, missing_rule) = match error {
            VaultError::Status { retry_after, .. } => (retry_after, None),
            VaultError::LoginTooEarly { wait, .. } => (wait, None),
            VaultError::Forbidden { retry_after, rule, .. } => (retry_after, Some(rule)),
            VaultError::CertificateInvalid { .. } => (Some(UNUSABLE_CERTIFICATE_RETRY), None),
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
            // Retries do not help: the volume in the pod's specification is wrong.
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
            Self::LeaseLost { .. } | Self::ChildTokenLost { .. } => (Missing, Reason::LeaseLost),
            Self::SecretNotFound { .. } | Self::NoSecrets { .. } => (Missing, Reason::SecretNotFound),
            Self::SecretDeleted { .. } => (Missing, Reason::SecretDeleted),
            Self::NotReadable { .. }
            | Self::NotUsable { .. }
            | Self::WriteToKv { .. }
            | Self::ChildTokenUnusable { .. } => (Invalid, Reason::InvalidRequest),
            Self::CertificateInvalid { .. } => (Invalid, Reason::CertificateInvalid),
            Self::NoKey { .. } => (Local, Reason::Internal),
        }
    }
}

fn http(error: &HttpError) -> (FailureClass, Reason) {
    use FailureClass::{Invalid, Local, Transient, Unreachable};
    match error {
        HttpError::Address(_)
        | HttpError::Path(_)
        | HttpError::Namespace
        | HttpError::ServerName(_)
        | HttpError::TlsPort(_) => (Invalid, Reason::InvalidRequest),
        HttpError::RedirectRefused { .. } | HttpError::TooLarge { .. } => (Invalid, Reason::InvalidRequest),
        HttpError::Token => (Local, Reason::CredentialUnreadable),
        // A missing file can appear later. Wrong content requires a change by a person.
        HttpError::PemFile { .. } => (Local, Reason::TlsUnusable),
        HttpError::PemContent { .. } | HttpError::NoCaCertificate(_) | HttpError::Client { .. } => {
            (Invalid, Reason::TlsUnusable)
        }
        // Certificate errors count as unreachable too: the server's certificate can be replaced at any time.
        HttpError::Unreachable { .. } => (Unreachable, Reason::VaultUnreachable),
        HttpError::RedirectLoop(_) | HttpError::NotWebSocket(_) => (Transient, Reason::ServerError),
    }
}

/// Status codes: <https://developer.hashicorp.com/vault/api-docs#http-status-codes>,
/// <https://openbao.org/api-docs/#http-status-codes>; beyond these, `sdk/logical/response_util.go`.
fn status(status: u16, errors: &str) -> (FailureClass, Reason) {
    use FailureClass::{Denied, Invalid, Missing, Transient};
    let errors = errors.to_lowercase();
    match status {
        // A KV mount returns this error for some seconds while it is upgraded to version 2:
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v2/upgrade
        400 if errors.contains("upgrading from non-versioned") => (Transient, Reason::ServerError),
        // A read-only node that did not forward the request: `logical.ErrReadOnly`.
        400 if errors.contains("readonly storage") => (Transient, Reason::ServerError),
        // A malformed request or a wrong credential: the same request fails again.
        400 => (Invalid, Reason::InvalidRequest),
        403 => (Denied, Reason::Denied),
        404 => (Missing, Reason::SecretNotFound),
        // Timeout of a proxy.
        408 => (Transient, Reason::ServerError),
        // https://developer.hashicorp.com/vault/docs/enterprise/consistency: this node does not have the state of the request yet.
        412 => (Transient, Reason::ServerError),
        // https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas
        429 => (Transient, Reason::RateLimited),
        // https://developer.hashicorp.com/vault/api-docs/system/health: DR secondary, performance standby.
        472 | 473 => (Transient, Reason::ServerError),
        // Load balancers respond with 503 too, without these errors.
        503 if errors.contains("seal") || errors.contains("maintenance") => (Transient, Reason::Sealed),
        // 500 internal error, 501 not initialized, 502 upstream of Vault failed, 503, and 504 from a proxy.
        500..=599 => (Transient, Reason::ServerError),
        // 405 and others: the address or the path is wrong.
        _ => (Invalid, Reason::InvalidRequest),
    }
}

/// The status with the server's errors, or with the standard phrase if there are none.
fn status_and_errors(status: u16, errors: &str) -> String {
    if !errors.is_empty() {
        return format!("Vault answered {status}: {errors}");
    }
    let phrase = ::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("Vault answered {status} ({})", phrase.unwrap_or("unknown status").to_lowercase())
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// The errors of a 403 besides "permission denied", such as those of a Sentinel policy.
fn unusual_errors(errors: &str) -> String {
    let rest = errors.strip_prefix("1 error occurred:").unwrap_or(errors).trim_start_matches([' ', '*']);
    if rest.is_empty() || rest == "permission denied" { String::new() } else { format!(": {rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_maps_to_class_and_reason() {
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
    fn forbidden_has_rule_and_appends_only_unusual_errors() {
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
