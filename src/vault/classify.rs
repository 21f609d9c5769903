//! What a status code means for what to do next. The one place.
//!
//! Sources: <https://developer.hashicorp.com/vault/api-docs#http-status-codes>,
//! <https://openbao.org/api-docs/#http-status-codes>.

use std::time::Duration;

use super::client::Answer;
use super::wire::Errors;
use crate::model::{Failure, FailureClass, Reason};

/// Longest part of Vault's own words that is passed on.
const WORDS: usize = 300;

/// The failure of a request that was answered with an error. `what` is "failed to <verb> <noun> {which}".
///
/// 403 is not decided here: it may be the policy or a dead token, see [`super::token`].
pub(super) fn failure(what: &str, answer: &Answer) -> Failure {
    let (class, reason) = match answer.status {
        400 | 405 => (FailureClass::Invalid, Reason::InvalidRequest),
        401 | 403 => (FailureClass::Denied, Reason::Denied),
        404 => (FailureClass::Missing, Reason::SecretNotFound),
        // 412: Vault Enterprise, this node has not seen the write yet. 472, 473: a standby's health.
        412 | 472 | 473 => (FailureClass::Transient, Reason::ServerError),
        // Rate-limit and lease-count quotas: https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas
        429 => (FailureClass::Transient, Reason::RateLimited),
        // 501: not initialised. 503: sealed or in maintenance.
        501 | 503 => (FailureClass::Transient, Reason::Sealed),
        300..400 => (FailureClass::Invalid, Reason::InvalidRequest),
        _ => (FailureClass::Transient, Reason::ServerError),
    };
    Failure {
        retry_after: answer.retry_after.map(Duration::from_secs),
        ..Failure::new(class, reason, format!("{what}: vault answers {}{}", answer.status, words(answer)))
    }
}

/// Vault's own words, on one line and cut.
pub(super) fn words(answer: &Answer) -> String {
    let errors = serde_json::from_slice::<Errors>(&answer.body).map(|body| body.errors).unwrap_or_default();
    let mut text: String =
        errors.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect();
    // Vault lists many errors as "1 error occurred: * ..." over several lines.
    while text.contains("  ") {
        text = text.replace("  ", " ");
    }
    if text.is_empty() { text } else { format!(": {}", text.trim()) }
}

/// The failure of an answer that cannot be understood.
pub(super) fn not_understood(what: &str, error: &serde_json::Error) -> Failure {
    // serde_json's text may quote a value; line and column do not.
    let place = format!("line {}, column {}", error.line(), error.column());
    let message = format!("{what}: the answer is not what vault's API promises ({place})");
    Failure::new(FailureClass::Invalid, Reason::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        use FailureClass::*;
        let table = [
            (400, Invalid, Reason::InvalidRequest),
            (403, Denied, Reason::Denied),
            (404, Missing, Reason::SecretNotFound),
            (405, Invalid, Reason::InvalidRequest),
            (412, Transient, Reason::ServerError),
            (429, Transient, Reason::RateLimited),
            (473, Transient, Reason::ServerError),
            (500, Transient, Reason::ServerError),
            (502, Transient, Reason::ServerError),
            (503, Transient, Reason::Sealed),
            (307, Invalid, Reason::InvalidRequest),
        ];
        for (status, class, reason) in table {
            let answer = Answer { status, body: Default::default(), retry_after: Some(7) };
            let failure = failure("failed to read source a", &answer);
            assert_eq!((failure.class, failure.reason), (class, reason), "{status}");
            assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn words_are_one_short_line() {
        let body = serde_json::to_vec(&serde_json::json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]}));
        let answer = Answer { status: 403, body: body.expect("json").into(), retry_after: None };
        assert_eq!(words(&answer), ": 1 error occurred: * permission denied");
    }
}
