//! Messages for rejected writes.

use super::super::super::account::Account;
use super::*;

fn rejection_of(code: StatusCode, body: &Value, content: &MirrorContent) -> Failure {
    let response = Response { code, retry_after: None, body: Bytes::from(body.to_string()) };
    let account = Account { namespace: "drill".into(), name: "drill-sa".into(), uid: "u".into() };
    let target = Target { namespace: &name("drill"), name: &name("drill-copy") };
    rejection::failure(&target, Some(&account), ApiError::from_response(&response), content)
}

fn forbidden(text: &str) -> Failure {
    let mut content = content(1);
    content.data.insert("namespace".into(), Arc::new(SecretBytes::from("drill")));
    rejection_of(StatusCode::FORBIDDEN, &json!({"message": text}), &content)
}

/// Regression test: a value of the secret was equal to the namespace, and the message named an admission policy as the
/// cause.
#[test]
fn rbac_denial_is_reported_if_value_equals_namespace() {
    let text = r#"secrets "drill-copy" is forbidden: User "system:serviceaccount:drill:drill-sa" cannot patch resource "secrets" in API group "" in the namespace "drill""#;
    let expected = "failed to write Secret drill/drill-copy: the API server answered 403 (RBAC): ServiceAccount \
                    drill/drill-sa is not allowed to; the Role needs the rule {apiGroups: [\"\"], resources: \
                    [secrets], resourceNames: [drill-copy], verbs: [create, patch]}";
    let failure = forbidden(text);
    assert_eq!((failure.class, failure.reason), (FailureClass::Denied, Reason::Forbidden));
    assert_eq!(failure.message, expected);
    // The message must not reveal whether a value is equal to the namespace.
    assert_eq!(rejection_of(StatusCode::FORBIDDEN, &json!({"message": text}), &content(1)).message, expected);
}

#[test]
fn policy_message_is_shown_if_only_public_names_match_values() {
    let text = "denied request: ServiceAccount \"drill-sa\" may not write Secret \"drill-copy\"; the namespace \
                 annotation keyferry.dev/secret-writers names who may write which";
    let failure = forbidden(text);
    assert!(failure.message.contains(text) && failure.message.contains("check the admission policies"), "{failure}");
}

#[test]
fn parser_message_about_value_is_omitted() {
    let cause =
        json!({"field": "data[.dockerconfigjson]", "reason": "FieldValueInvalid", "message": "invalid character 'L'"});
    let body = json!({"message": "invalid character 'L'", "details": {"causes": [cause]}});
    let message = rejection_of(StatusCode::UNPROCESSABLE_ENTITY, &body, &content(1)).message;
    assert!(message.contains("data[.dockerconfigjson]: FieldValueInvalid"), "{message}");
    assert!(!message.contains("'L'"), "{message}");
}

#[test]
fn message_that_quotes_value_is_omitted() {
    assert!(forbidden("no").message.contains(": no"));
    for text in ["denied: password=Losungwort", "denied: {\"password\":\"TG9zdW5nd29ydA==\"}"] {
        let message = forbidden(text).message;
        assert!(!message.contains("Losungwort") && !message.contains("TG9zdW5nd29ydA"), "{message}");
        assert!(message.contains("message omitted"), "{message}");
    }
}

#[test]
fn rejected_token_is_explained() {
    let message = rejection_of(StatusCode::UNAUTHORIZED, &json!({"message": "Unauthorized"}), &content(1)).message;
    let expected = "failed to write Secret drill/drill-copy: the API server answered 401: Unauthorized; the \
                    ServiceAccount token is invalid: it has expired, or the ServiceAccount was deleted or re-created; \
                    keyferry reads the token file again within a minute; if the error persists, re-create the pod";
    assert_eq!(message, expected);
}
