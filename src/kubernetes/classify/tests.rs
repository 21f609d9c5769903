//! Class, reason, and remedy of each error response.

use super::*;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

fn classified(code: u16, body: &Value, retry_after: Option<u64>) -> Failure {
    let response = Response {
        code: StatusCode::from_u16(code).expect("a code"),
        retry_after: retry_after.map(Duration::from_secs),
        body: Bytes::from(body.to_string()),
    };
    let context = RequestContext { what: "apply Secret ns/x".into(), rule: "{verbs: [create, patch]}".into() };
    failure(&context, &ApiError::from_response(&response))
}

fn status(message: &str, cause: (&str, &str, &str)) -> Value {
    let (reason, text, field) = cause;
    json!({"kind": "Status", "status": "Failure", "message": message, "reason": "R", "code": 400,
           "details": {"causes": [{"reason": reason, "message": text, "field": field}]}})
}

/// The messages are from an API server of version 1.37.
#[test]
fn error_response_determines_class_reason_and_remedy() {
    use FailureClass::{Conflict, Denied, Invalid, Missing, Transient};
    let none = ("", "", "");
    let forbidden =
        r#"secrets "x" is forbidden: User "u" cannot patch resource "secrets" in API group "" in the namespace "ns""#;
    let table = [
        (401, "Unauthorized", none, Transient, Reason::CredentialUnreadable, "re-create the pod"),
        (403, forbidden, none, Denied, Reason::Forbidden, "the Role needs the rule {verbs: [create, patch]}"),
        (403, "denied request: no", none, Denied, Reason::Forbidden, "check the admission policies"),
        (404, "namespaces \"ns\" not found", none, Missing, Reason::ObjectNotFound, "\"ns\" not found"),
        (409, "the object has been modified", none, Conflict, Reason::Conflict, "keyferry retries"),
        (409, "uid mismatch: the provided object", none, Conflict, Reason::Conflict, "keyferry retries"),
        (
            409,
            "Apply failed with 1 conflict",
            ("FieldManagerConflict", "conflict with \"kubectl-patch\" using v1", ".data.k"),
            Invalid,
            Reason::Drifted,
            "conflict with \"kubectl-patch\" using v1 on .data.k",
        ),
        (
            422,
            "is invalid",
            ("FieldValueInvalid", "immutable", "metadata.uid"),
            Conflict,
            Reason::Conflict,
            "re-created",
        ),
        (422, "is invalid", ("FieldValueInvalid", "immutable", "type"), Invalid, Reason::InvalidRequest, "type of a"),
        (
            422,
            "data: Forbidden: field is immutable when `immutable` is set",
            ("FieldValueForbidden", "x", "data"),
            Invalid,
            Reason::InvalidRequest,
            "it is immutable",
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

/// Regression test: a value of the secret was equal to the namespace, so the message was removed before classification.
#[test]
fn replaced_message_does_not_change_classification() {
    let rbac = r#"secrets "x" is forbidden: User "u" cannot patch resource "secrets" in API group """#;
    let body = status(rbac, ("", "", "")).to_string();
    let response = Response { code: StatusCode::FORBIDDEN, retry_after: None, body: Bytes::from(body) };
    let context = RequestContext { what: "write Secret ns/x".into(), rule: "{verbs: [create, patch]}".into() };
    let mut error = ApiError::from_response(&response);
    error.replace_shown_message(String::new());
    let expected = "failed to write Secret ns/x: the API server answered 403 (RBAC); \
                    the Role needs the rule {verbs: [create, patch]}";
    assert_eq!(failure(&context, &error).message, expected);
}

#[test]
fn denied_owner_change_is_recognized_by_message() {
    let error = |message: &str| {
        let body = status(message, ("", "", "")).to_string();
        ApiError::from_response(&Response { code: StatusCode::FORBIDDEN, retry_after: None, body: Bytes::from(body) })
    };
    let denied = r#"secrets "x" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>"#;
    assert!(error(denied).is_owner_denial() && !error(denied).is_rbac());
    let blocked = r#"secrets "x" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"#;
    assert!(error(blocked).is_owner_denial());
    assert!(!error("denied request: no").is_owner_denial());
}

#[test]
fn retry_after_is_read_from_header_or_details() {
    assert_eq!(classified(429, &json!({}), Some(7)).retry_after, Some(Duration::from_secs(7)));
    let hint = json!({"details": {"retryAfterSeconds": 3}});
    assert_eq!(classified(503, &hint, None).retry_after, Some(Duration::from_secs(3)));
    assert_eq!(classified(503, &json!({}), None).retry_after, None);
}

#[test]
fn long_multiline_message_becomes_one_short_line() {
    let failure = classified(400, &status(&"a\n".repeat(1000), ("", "", "")), None);
    assert!(failure.message.chars().count() < 500 && !failure.message.contains('\n'), "{}", failure.message);
}

#[test]
fn response_without_status_body_is_classified() {
    assert_eq!(classified(502, &json!("<html>"), None).class, FailureClass::Transient);
}
