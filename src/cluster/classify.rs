//! What the API server's errors mean
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#api-verbs>; the odd ones were tried on 1.37).

use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusCause;

use super::client::Answer;
use crate::model::{Failure, FailureClass, Reason};

/// Most characters of the server's words in a message. A condition is read in a table.
const MAX_WORDS: usize = 400;

/// What we asked for.
pub(super) struct Asked {
    /// "<verb> <noun> {which}".
    pub(super) what: String,
    /// The RBAC rule that allows it.
    pub(super) rule: String,
}

/// An error answer, parsed.
pub(super) struct Said {
    pub(super) code: u16,
    /// `status.message`; empty where the body is not a Status (a proxy answered).
    pub(super) words: String,
    pub(super) causes: Vec<StatusCause>,
    pub(super) retry_after: Option<Duration>,
}

impl Said {
    pub(super) fn of(answer: &Answer) -> Self {
        let status: Status = serde_json::from_slice(&answer.body).unwrap_or_default();
        let details = status.details;
        let hint = details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        Self {
            code: answer.code.as_u16(),
            words: clip(&status.message),
            causes: details.map(|details| details.causes).unwrap_or_default(),
            retry_after: answer.retry_after.or_else(|| Some(Duration::from_secs(hint?.into()))),
        }
    }

    /// Whether the server names `field` as what is wrong.
    pub(super) fn blames(&self, field: &str) -> bool {
        self.causes.iter().any(|cause| cause.field == field)
    }

    /// The field managers that an apply ran into.
    fn rivals(&self) -> Option<String> {
        let rivals: Vec<_> = self.causes.iter().filter(|cause| cause.reason == "FieldManagerConflict").collect();
        let tell = |cause: &&StatusCause| format!("{} on {}", cause.message, cause.field);
        (!rivals.is_empty()).then(|| clip(&rivals.iter().map(tell).collect::<Vec<_>>().join(", ")))
    }
}

/// The failure that an error answer is.
pub(super) fn failure(asked: &Asked, said: &Said) -> Failure {
    use FailureClass::{Conflict, Denied, Invalid, Missing, Transient};
    let (class, reason, advice) = match said.code {
        401 => (
            Transient,
            Reason::CredentialUnreadable,
            "the API server does not accept our token; its file is read again within a minute".to_owned(),
        ),
        403 if is_rbac(said) => (Denied, Reason::Forbidden, format!("the Role needs the rule {}", asked.rule)),
        403 => (Denied, Reason::Forbidden, "an admission policy or the state of the namespace forbids it".to_owned()),
        404 => (Missing, Reason::ObjectNotFound, String::new()),
        409 => match said.rivals() {
            Some(rivals) => (
                Invalid,
                Reason::Foreign,
                format!("others write to it ({rivals}); stop them, or delete it and it is made anew"),
            ),
            None => (Conflict, Reason::Conflict, "it changed meanwhile".to_owned()),
        },
        // The object was deleted and made again: the server says "immutable", not "conflict".
        422 if said.blames("metadata.uid") => (Conflict, Reason::Conflict, "it was replaced meanwhile".to_owned()),
        422 if said.blames("type") => (
            Invalid,
            Reason::InvalidRequest,
            "the type of a Secret cannot change; delete it and it is made anew".to_owned(),
        ),
        422 if said.words.contains("immutable when") => {
            (Invalid, Reason::InvalidRequest, "it was made immutable; delete it and it is made anew".to_owned())
        }
        // 400, 405, 413, 415, 422 ...: the same request would be refused again.
        400..=499 if !matches!(said.code, 408 | 429) => (Invalid, Reason::InvalidRequest, String::new()),
        // 408, 429 and 5xx; a redirect or another surprise is some proxy's and may pass too.
        _ => (Transient, Reason::ApiUnavailable, String::new()),
    };
    let mut message = format!("failed to {}: the API server answered {}", asked.what, said.code);
    for part in [said.words.as_str(), advice.as_str()].into_iter().filter(|part| !part.is_empty()) {
        message.push_str(": ");
        message.push_str(part);
    }
    Failure { class, reason, message, retry_after: said.retry_after, missing_rule: None }
}

/// RBAC's own words: `User "..." cannot patch resource "secrets" in API group ""`. An admission plugin says other ones.
fn is_rbac(said: &Said) -> bool {
    said.words.contains(" cannot ") && said.words.contains(" resource ")
}

/// One line, not endless.
fn clip(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    if text.chars().nth(MAX_WORDS).is_some() { format!("{line}…") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::{Value, json};

    fn classified(code: u16, body: &Value, retry_after: Option<u64>) -> Failure {
        let answer = Answer {
            code: StatusCode::from_u16(code).expect("a code"),
            retry_after: retry_after.map(Duration::from_secs),
            body: Bytes::from(body.to_string()),
        };
        let asked = Asked { what: "apply Secret ns/x".into(), rule: "{verbs: [create, patch]}".into() };
        failure(&asked, &Said::of(&answer))
    }

    fn status(message: &str, cause: (&str, &str, &str)) -> Value {
        let (reason, text, field) = cause;
        json!({"kind": "Status", "status": "Failure", "message": message, "reason": "R", "code": 400,
               "details": {"causes": [{"reason": reason, "message": text, "field": field}]}})
    }

    /// The words are the server's own, of 1.37.
    #[test]
    fn each_answer_has_its_class_reason_and_advice() {
        use FailureClass::{Conflict, Denied, Invalid, Missing, Transient};
        let none = ("", "", "");
        let forbidden = r#"secrets "x" is forbidden: User "u" cannot patch resource "secrets" in API group "" in the namespace "ns""#;
        let table = [
            (401, "Unauthorized", none, Transient, Reason::CredentialUnreadable, "read again"),
            (403, forbidden, none, Denied, Reason::Forbidden, "the Role needs the rule {verbs: [create, patch]}"),
            (403, "denied request: no", none, Denied, Reason::Forbidden, "an admission policy"),
            (404, "namespaces \"ns\" not found", none, Missing, Reason::ObjectNotFound, "\"ns\" not found"),
            (409, "the object has been modified", none, Conflict, Reason::Conflict, "changed meanwhile"),
            (409, "uid mismatch: the provided object", none, Conflict, Reason::Conflict, "changed meanwhile"),
            (
                409,
                "Apply failed with 1 conflict",
                ("FieldManagerConflict", "conflict with \"kubectl-patch\" using v1", ".data.k"),
                Invalid,
                Reason::Foreign,
                "conflict with \"kubectl-patch\" using v1 on .data.k",
            ),
            (
                422,
                "is invalid",
                ("FieldValueInvalid", "immutable", "metadata.uid"),
                Conflict,
                Reason::Conflict,
                "replaced",
            ),
            (
                422,
                "is invalid",
                ("FieldValueInvalid", "immutable", "type"),
                Invalid,
                Reason::InvalidRequest,
                "type of a",
            ),
            (
                422,
                "data: Forbidden: field is immutable when `immutable` is set",
                ("FieldValueForbidden", "x", "data"),
                Invalid,
                Reason::InvalidRequest,
                "made immutable",
            ),
            (422, "data[tls.crt]: Required", none, Invalid, Reason::InvalidRequest, "data[tls.crt]: Required"),
            (400, "bad", none, Invalid, Reason::InvalidRequest, "answered 400: bad"),
            (415, "", none, Invalid, Reason::InvalidRequest, "answered 415"),
            (307, "", none, Transient, Reason::ApiUnavailable, "answered 307"),
            (429, "slow down", none, Transient, Reason::ApiUnavailable, "slow down"),
            (500, "", none, Transient, Reason::ApiUnavailable, "answered 500"),
            (503, "", none, Transient, Reason::ApiUnavailable, "answered 503"),
        ];
        for (code, message, cause, class, reason, part) in table {
            let failure = classified(code, &status(message, cause), None);
            assert_eq!((failure.class, failure.reason), (class, reason), "{code} {message}");
            assert!(failure.message.starts_with("failed to apply Secret ns/x: "), "{}", failure.message);
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        assert_eq!(classified(429, &json!({}), Some(7)).retry_after, Some(Duration::from_secs(7)));
        let hint = json!({"details": {"retryAfterSeconds": 3}});
        assert_eq!(classified(503, &hint, None).retry_after, Some(Duration::from_secs(3)));
        assert_eq!(classified(503, &json!({}), None).retry_after, None);
    }

    #[test]
    fn a_long_answer_of_many_lines_becomes_one_short_line() {
        let failure = classified(400, &status(&"a\n".repeat(1000), ("", "", "")), None);
        assert!(failure.message.chars().count() < 500 && !failure.message.contains('\n'), "{}", failure.message);
    }

    #[test]
    fn an_answer_that_is_no_status_is_still_classified() {
        assert_eq!(classified(502, &json!("<html>"), None).class, FailureClass::Transient);
    }
}
