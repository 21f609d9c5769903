use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::model::{MirrorOwner, SecretType, SourceName, Version};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).expect(text)
}

fn wanted() -> Mirror {
    Mirror {
        secret_type: SecretType::BasicAuth,
        keys: Vec::new(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        annotations: [("note".to_owned(), "n".to_owned())].into(),
        owner: Some(MirrorOwner {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: name("webapp"),
            uid: "u-9".into(),
        }),
        allow_leased: false,
    }
}

fn content(version: u64) -> MirrorContent {
    let value = |text: &str| Arc::new(SecretBytes::from(text));
    MirrorContent {
        data: [("password".to_owned(), value("Losungwort")), ("username".to_owned(), value("Nutzername"))].into(),
        versions: [(SourceName::new("config").expect("a name"), Version { number: Some(version), created: None })]
            .into(),
        digest: "d".into(),
    }
}

fn body(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).expect("JSON")
}

/// The Secret as the API server would show it after our apply of version 3.
fn seen() -> Value {
    json!({
        "name": "x", "uid": "u-1", "resourceVersion": "7",
        "labels": {"team": "web", "app.kubernetes.io/managed-by": "keyferry"},
        "annotations": {"note": "n", "keyferry.dev/digest": "d", "keyferry.dev/source-versions": r#"{"config":{"v":3}}"#},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "webapp", "uid": "u-9"}],
        "managedFields": [{"manager": "keyferry", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:data": {"f:password": {}, "f:username": {}},
            "f:metadata": {
                "f:annotations": {"f:note": {}, "f:keyferry.dev/digest": {}, "f:keyferry.dev/source-versions": {}},
                "f:labels": {"f:team": {}, "f:app.kubernetes.io/managed-by": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u-9\"}": {}},
            },
            "f:type": {},
        }}],
    })
}

fn verdict(change: impl FnOnce(&mut Value), mirror: &Mirror, content: &MirrorContent) -> Result<Verdict, Failure> {
    let mut seen = seen();
    change(&mut seen);
    let meta = serde_json::from_value(seen).expect("metadata");
    judge(&Target { namespace: &name("ns"), name: &name("x") }, &meta, mirror, content)
}

#[test]
fn the_look_stores_nothing_and_owns_nothing() {
    let request = Target { namespace: &name("ns"), name: &name("x") }.look();
    assert_eq!(request.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry-look&dryRun=All");
    assert_eq!(request.headers()["accept"], client::METADATA_ONLY);
    assert_eq!(body(&request), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}));
}

#[test]
fn the_write_has_everything_and_its_guards() {
    let (namespace, secret) = (name("ns"), name("x"));
    let target = Target { namespace: &namespace, name: &secret };
    let meta = serde_json::from_value(seen()).expect("metadata");
    let request = target.apply(&Guard::seen(&meta), &wanted(), &content(3));
    assert_eq!(request.uri(), "/api/v1/namespaces/ns/secrets/x?fieldManager=keyferry&force=false");
    assert_eq!(request.headers()["accept"], client::METADATA_ONLY);
    let mut expected = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {
            "name": "x", "uid": "u-1", "resourceVersion": "7",
            "labels": {"team": "web", "app.kubernetes.io/managed-by": "keyferry"},
            "annotations": {"note": "n", "keyferry.dev/digest": "d", "keyferry.dev/source-versions": r#"{"config":{"v":3}}"#},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "webapp", "uid": "u-9"}],
        },
        "data": {"password": "TG9zdW5nd29ydA==", "username": "TnV0emVybmFtZQ=="},
    });
    assert_eq!(body(&request), expected);

    let created = body(&target.apply(&Guard::create_only(), &wanted(), &content(3)));
    expected["metadata"]["resourceVersion"] = json!("1");
    expected["metadata"].as_object_mut().expect("an object").remove("uid");
    assert_eq!(created, expected);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let unchanged = Ok(Verdict::Leave(MirrorOutcome::Unchanged));
    assert_eq!(verdict(|_| {}, &wanted(), &content(3)), unchanged);
    // What others add to the metadata is theirs.
    assert_eq!(verdict(|seen| seen["labels"]["theirs"] = json!("x"), &wanted(), &content(3)), unchanged);
}

#[test]
fn an_older_reading_leaves_the_newer_one_in_place() {
    assert_eq!(verdict(|_| {}, &wanted(), &content(2)), Ok(Verdict::Leave(MirrorOutcome::Superseded)));
}

#[test]
fn every_difference_is_written() {
    assert_eq!(verdict(|_| {}, &wanted(), &content(4)), Ok(Verdict::Write), "newer with equal values");
    let digest = |seen: &mut Value| seen["annotations"]["keyferry.dev/digest"] = json!("other");
    assert_eq!(verdict(digest, &wanted(), &content(3)), Ok(Verdict::Write));
    let removed = |seen: &mut Value| {
        seen["managedFields"][0]["fieldsV1"]["f:data"].as_object_mut().expect("an object").remove("f:username");
    };
    assert_eq!(verdict(removed, &wanted(), &content(3)), Ok(Verdict::Write), "a key was removed");
    let changes: [fn(&mut Mirror); 6] = [
        |mirror| mirror.owner = None,
        |mirror| mirror.owner.as_mut().expect("an owner").uid = "u-8".into(),
        |mirror| mirror.labels.clear(),
        |mirror| _ = mirror.labels.insert("team".into(), "db".into()),
        |mirror| mirror.annotations.clear(),
        |mirror| _ = mirror.annotations.insert("more".into(), "m".into()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut mirror = wanted();
        change(&mut mirror);
        assert_eq!(verdict(|_| {}, &mirror, &content(3)), Ok(Verdict::Write), "change {number}");
    }
}

#[test]
fn a_foreign_secret_is_refused_with_what_to_do() {
    let failure = verdict(|seen| seen["labels"] = json!({}), &wanted(), &content(3)).expect_err("foreign");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::Foreign));
    assert!(failure.message.contains("Secret ns/x") && failure.message.contains("left alone"), "{}", failure.message);
}

#[test]
fn a_secret_that_is_being_deleted_or_has_no_guards_is_not_written() {
    let deleted = |seen: &mut Value| seen["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(verdict(deleted, &wanted(), &content(4)).expect_err("deleted").class, FailureClass::Conflict);
    for change in [
        |seen: &mut Value| seen["uid"] = json!(""),
        |seen: &mut Value| seen["resourceVersion"] = json!("0"),
        |seen: &mut Value| seen["resourceVersion"] = Value::Null,
    ] {
        assert_eq!(verdict(change, &wanted(), &content(4)).expect_err("no guard").class, FailureClass::Transient);
    }
}

fn refusal_of(body: &Value) -> String {
    let answer = Answer { code: StatusCode::FORBIDDEN, retry_after: None, body: Bytes::from(body.to_string()) };
    let asked = Target { namespace: &name("ns"), name: &name("x") }.asked("apply");
    refused(&asked, &answer, &content(1)).message
}

#[test]
fn what_a_parser_says_of_a_value_is_left_out() {
    let cause =
        json!({"field": "data[.dockerconfigjson]", "reason": "FieldValueInvalid", "message": "invalid character 'L'"});
    let message = refusal_of(&json!({"message": "invalid character 'L'", "details": {"causes": [cause]}}));
    assert!(message.contains("data[.dockerconfigjson]: FieldValueInvalid"), "{message}");
    assert!(!message.contains("'L'"), "{message}");
}

#[test]
fn an_answer_that_quotes_a_value_loses_its_words() {
    let refusal = |words: &str| refusal_of(&json!({"message": words}));
    assert!(refusal("no").contains(": no"));
    for words in ["denied: password=Losungwort", "denied: {\"password\":\"TG9zdW5nd29ydA==\"}"] {
        let message = refusal(words);
        assert!(!message.contains("Losungwort") && !message.contains("TG9zdW5nd29ydA"), "{message}");
        assert!(message.contains("left out"), "{message}");
    }
}
