//! Owner references of the Secret.

use super::super::super::account::Account;
use super::*;

fn account(namespace: &str) -> Account {
    Account { namespace: namespace.into(), name: "webapp-sa".into(), uid: "u-5".into() }
}

#[test]
fn service_account_of_token_becomes_owner() {
    let by_account = Mirror { owner: Some(MirrorOwner::ServiceAccount), ..mirror() };
    let target = Target { namespace: &name("ns"), name: &name("x") };
    let memory = Mutex::default();
    let desired = |account: Option<&Account>| owner::desired(&by_account, &target, account, &memory);
    let owner = desired(Some(&account("ns"))).expect("an owner");
    let expected = json!({"apiVersion": "v1", "kind": "ServiceAccount", "name": "webapp-sa", "uid": "u-5"});
    assert_eq!(serde_json::to_value(&owner).expect("JSON"), expected, "no blockOwnerDeletion, no controller");
    assert_eq!(desired(None), None, "not a `ServiceAccount` token");
    // The garbage collector would delete the Secret immediately.
    assert_eq!(desired(Some(&account("other"))), None, "a ServiceAccount of another namespace");
}

/// Omitting an owner is also a change of owners, which the cluster denies.
#[test]
fn denied_owner_change_keeps_current_owners() {
    let target = Target { namespace: &name("ns"), name: &name("x") };
    let current: ObjectMeta = serde_json::from_value(current()).expect("metadata");
    let memory = Mutex::default();
    let other = Mirror { owner: Some(object_owner("u-8")), ..mirror() };
    let desired = owner::desired(&other, &target, None, &memory);
    let uids = |memory: &_| -> Vec<String> {
        owner::for_current(&current, desired.as_ref(), &target, memory).into_iter().map(|owner| owner.uid).collect()
    };
    assert_eq!(uids(&memory), ["u-8"]);
    owner::remember_denied(desired.as_ref(), &target, &memory);
    assert_eq!(uids(&memory), ["u-9"]);
    assert!(owner::matches(&current, &owner::retained(&current)), "no write is necessary");
}

#[test]
fn owner_added_by_another_manager_is_ignored() {
    let mut current = current();
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u-0", "controller": true});
    current["ownerReferences"].as_array_mut().expect("a list").push(other);
    let current: ObjectMeta = serde_json::from_value(current).expect("metadata");
    assert_eq!(owner::retained(&current).len(), 1);
    assert!(owner::matches(&current, &owner::retained(&current)));
}
