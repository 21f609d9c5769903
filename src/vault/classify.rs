//! What an answer or a missing answer of Vault means. The one place where an HTTP status becomes a failure class.

use std::error::Error;
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use rustls::CertificateError;

use super::transport::Answer;
use super::wire;
use crate::model::{Failure, FailureClass, Reason};

/// Most characters that are taken over from Vault's own error text.
const MOST_ERROR_TEXT: usize = 300;

/// Classifies an answer that is not the one hoped for. A 403 must be judged first (`Vault::denied`): here it is a policy.
///
/// Status codes: <https://developer.hashicorp.com/vault/api-docs#http-status-codes>,
/// <https://openbao.org/api-docs/#http-status-codes>; beyond these, `sdk/logical/response_util.go`.
pub(super) fn answer(action: &str, answer: &Answer) -> Failure {
    use FailureClass::{Denied, Invalid, Missing, Transient};
    let text = wire::errors(answer).to_lowercase();
    let (class, reason) = match answer.status.as_u16() {
        // A KV mount that is being made version 2 answers so for some seconds:
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v2/upgrade
        400 if text.contains("upgrading from non-versioned") => (Transient, Reason::ServerError),
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
        // A load balancer's 503 without these words is not about a seal.
        503 if text.contains("seal") || text.contains("maintenance") => (Transient, Reason::Sealed),
        // 500 internal, 501 not initialised, 502 Vault's own upstream failed, 503, 504 of a proxy in between.
        500..=599 => (Transient, Reason::ServerError),
        // 405 and all else: the address or the path cannot be right.
        _ => (Invalid, Reason::InvalidRequest),
    };
    Failure { class, reason, message: told(action, answer), retry_after: answer.retry_after, missing_rule: None }
}

/// A 403 with a living token: the message names the rule that is missing.
pub(super) fn denied(action: &str, path: &str, capability: &str) -> Failure {
    Failure::new(
        FailureClass::Denied,
        Reason::Denied,
        format!(
            "{action}: permission denied (403) and the token is valid, so a policy is missing: \
             path \"{path}\" {{ capabilities = [\"{capability}\"] }}"
        ),
    )
}

/// An answer with a good status whose body is not what Vault sends.
pub(super) fn unreadable(answer: &Answer, why: &serde_json::Error) -> Failure {
    // The error's own text may quote a value; its place does not.
    let place = format!("column {}", why.column());
    Failure::new(
        FailureClass::Transient,
        Reason::ServerError,
        format!(
            "failed to understand the answer to {} (status {}, {place}): it is not what Vault sends; is the address a Vault server?",
            answer.path,
            answer.status.as_u16()
        ),
    )
}

/// The sentence about an answer: what was tried, the status, and Vault's own words.
pub(super) fn told(action: &str, answer: &Answer) -> String {
    let status = answer.status;
    let errors = wire::errors(answer);
    if errors.is_empty() {
        let phrase = status.canonical_reason().unwrap_or("unknown status").to_lowercase();
        return format!("{action}: Vault answered {} ({phrase})", status.as_u16());
    }
    format!("{action}: Vault answered {}: {}", status.as_u16(), shortened(&errors))
}

/// No answer: name resolution, connect, TLS, timeout, a broken connection.
pub(super) fn unreachable(address: &str, error: reqwest::Error, ca: &str) -> Failure {
    // The query never holds anything but a version, but the address is told already.
    let error = error.without_url();
    let hint = match tls_error(&error) {
        // A bad signature is most often an authority that was made anew under the same name.
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            format!(" (the server's certificate is not signed by an authority in {ca})")
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {
            " (vault.tls.serverName sets the name to check)".to_owned()
        }
        _ if error.is_timeout() => " (no answer within the timeout)".to_owned(),
        _ => String::new(),
    };
    Failure::new(
        FailureClass::Unreachable,
        Reason::VaultUnreachable,
        format!("failed to reach Vault at {address}: {}{hint}", Failure::chain(&error)),
    )
}

/// The TLS error in a chain, if that is what it was. `io::Error` hides the error that it wraps from `source()`.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3). A date is compared with the answer's own `Date`, so that
/// our clock does not matter.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| -> Option<Timestamp> { DateTimeParser::new().parse_timestamp(text).ok() };
    let now = date(headers.get(DATE)?.to_str().ok()?)?;
    // A moment in the past is "now".
    Some(Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default())
}

/// Cuts a text of the server to a length that fits a condition, and to one line.
pub(super) fn shortened(text: &str) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().map(line).take(MOST_ERROR_TEXT).collect();
    if text.trim().chars().count() > MOST_ERROR_TEXT {
        short.push('…');
    }
    short
}

/// Statuses of a login that say no to the credential: Vault answers a wrong credential with 400 as well as with 403, and an
/// auth mount that does not exist with 403, 404 or 405.
pub(super) fn refuses_login(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 404 | 405)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value"))).collect()
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let date =
            headers(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(retry_after(&date), Some(Duration::from_mins(1)));
        let past =
            headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(retry_after(&past), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(retry_after(&headers(&[])), None);
    }

    #[test]
    fn each_status_has_its_class() {
        use FailureClass::{Denied, Invalid, Missing, Transient};
        for (status, body, class, reason) in [
            (400, "{}", Invalid, Reason::InvalidRequest),
            (400, r#"{"errors":["Upgrading from non-versioned to versioned data."]}"#, Transient, Reason::ServerError),
            (403, "{}", Denied, Reason::Denied),
            (404, r#"{"errors":[]}"#, Missing, Reason::SecretNotFound),
            (405, "{}", Invalid, Reason::InvalidRequest),
            (412, "{}", Transient, Reason::ServerError),
            (429, "{}", Transient, Reason::RateLimited),
            (472, "{}", Transient, Reason::ServerError),
            (473, "{}", Transient, Reason::ServerError),
            (500, "{}", Transient, Reason::ServerError),
            (501, "{}", Transient, Reason::ServerError),
            (502, "<html>", Transient, Reason::ServerError),
            (503, r#"{"errors":["Vault is sealed"]}"#, Transient, Reason::Sealed),
            (503, "no healthy upstream", Transient, Reason::ServerError),
            (504, "", Transient, Reason::ServerError),
        ] {
            let failure = answer("failed to try", &Answer::for_test(status, body));
            assert_eq!((failure.class, failure.reason), (class, reason), "{status}");
        }
    }

    #[test]
    fn words_of_the_server_are_short_and_on_one_line() {
        let body = format!(r#"{{"errors":["first\nline{}"]}}"#, "x".repeat(1000));
        let text = answer("failed to try", &Answer::for_test(500, &body)).message;
        assert!(text.starts_with("failed to try: Vault answered 500: first linexxx"), "{text}");
        assert!(text.chars().count() < 350 && !text.contains('\n'), "{text}");
    }
}
