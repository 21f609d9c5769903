//! A managed Secret that another writer edited.

use super::*;

fn reported(change: impl FnOnce(&mut Value)) -> String {
    let report = Mirror { on_drift: OnDrift::Report, ..mirror() };
    let failure = decision(change, &report, &content(3)).expect_err("drift");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::Drifted), "{failure}");
    failure.message
}

const EDIT: &str = "edited by \"kubectl-patch\" (keys: extra, password)";

fn patched(current: &mut Value) {
    edited(current, "kubectl-patch", &json!({"f:data": {"f:password": {}, "f:extra": {}}}));
}

/// Regression test: an edited Secret was reported as `Foreign`, and the edited value stayed forever.
#[test]
fn edited_secret_is_repaired_or_reported() {
    assert_eq!(decision(patched, &mirror(), &content(3)), Ok(write(MirrorOutcome::Repaired(EDIT.into()))));
    let expected = "failed to mirror to Secret ns/x: it was edited by \"kubectl-patch\" (keys: extra, password); \
                    keyferry leaves it unchanged because onDrift is report; delete it and keyferry re-creates it, or \
                    set mirrors.x.onDrift: repair";
    assert_eq!(reported(patched), expected);
}

#[test]
fn drift_detects_each_kind_of_edit() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 5] = [
        (|current| edited(current, "eve", &json!({"f:data": {"f:extra": {}}})), "by \"eve\" (keys: extra)"),
        (|current| edited(current, "eve", &json!({"f:stringData": {"f:extra": {}}})), "by \"eve\" (keys: extra)"),
        (
            |current| {
                let data = &mut current["managedFields"][0]["fieldsV1"]["f:data"];
                data.as_object_mut().expect("an object").remove("f:username");
            },
            "edited (keys: username)",
        ),
        (
            |current| {
                current["labels"]["team"] = json!("db");
                edited(current, "kubectl-label", &json!({"f:metadata": {"f:labels": {"f:team": {}}}}));
            },
            "by \"kubectl-label\" (labels: team)",
        ),
        (
            |current| {
                current["annotations"]["keyferry.dev/source-versions"] = json!(r#"{"config":{"v":99}}"#);
                let fields = json!({"f:metadata": {"f:annotations": {"f:keyferry.dev/source-versions": {}}}});
                edited(current, "eve", &fields);
            },
            // The edited versions are ignored: 99 would stay newer forever.
            "by \"eve\" (annotations: keyferry.dev/source-versions)",
        ),
    ];
    for (number, (change, part)) in cases.into_iter().enumerate() {
        let message = reported(change);
        assert!(message.contains(part), "{message}");
        let Ok(Decision::Write(Plan { outcome: MirrorOutcome::Repaired(edit), .. })) =
            decision(change, &mirror(), &content(3))
        else {
            panic!("case {number}")
        };
        assert!(edit.contains(part), "{edit}");
    }
}

/// Applying equal values only adds an owner. A later change removes keyferry's ownership, which is drift.
#[test]
fn shared_ownership_of_key_is_not_drift() {
    let owned_by_both = |current: &mut Value| {
        let entry = json!({"manager": "eve", "operation": "Apply", "fieldsV1": {"f:data": {"f:password": {}}}});
        current["managedFields"].as_array_mut().expect("a list").push(entry);
    };
    assert_eq!(decision(owned_by_both, &mirror(), &content(3)), Ok(leave(MirrorOutcome::Unchanged)));
}

#[test]
fn replica_with_older_version_does_not_repair() {
    assert_eq!(decision(patched, &mirror(), &content(2)), Ok(leave(MirrorOutcome::Superseded)));
}

#[test]
fn apply_is_not_forced_if_drift_is_reported() {
    let report = Mirror { on_drift: OnDrift::Report, ..mirror() };
    let plan = Plan { outcome: MirrorOutcome::Updated, force: false, remove_unmanaged: false };
    assert_eq!(decision(|_| {}, &report, &content(4)), Ok(Decision::Write(plan)));
}

#[test]
fn long_list_of_keys_is_truncated() {
    let keys: Vec<_> = (10..25).map(|number| format!("k{number}")).collect();
    let text = target::listed(keys.iter().map(String::as_str));
    assert_eq!(text, "k10, k11, k12, k13, k14, k15, k16, k17, k18, k19 and 5 more");
}
