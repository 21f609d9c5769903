//! Decisions about an existing Secret.

use super::*;

#[test]
fn equal_secret_is_not_written() {
    let unchanged = Ok(leave(MirrorOutcome::Unchanged));
    assert_eq!(decision(|_| {}, &mirror(), &content(3)), unchanged, "written by another pod");
    // Additional labels of other managers are not a difference.
    let labelled = |current: &mut Value| {
        current["labels"]["other"] = json!("x");
        edited(current, "argocd", &json!({"f:metadata": {"f:labels": {"f:other": {}}}}));
    };
    assert_eq!(decision(labelled, &mirror(), &content(3)), unchanged);
    let nameless = |current: &mut Value| {
        current["annotations"].as_object_mut().expect("an object").remove("keyferry.dev/written-by");
        let fields = &mut current["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"];
        fields.as_object_mut().expect("an object").remove("f:keyferry.dev/written-by");
    };
    assert_eq!(decision(nameless, &mirror(), &content(3)), unchanged, "written by an agent without Pod name");
}

#[test]
fn older_version_is_superseded_unless_accepted() {
    assert_eq!(decision(|_| {}, &mirror(), &content(2)), Ok(leave(MirrorOutcome::Superseded)));
    let accepted = MirrorContent { accept_older: true, ..content(2) };
    assert_eq!(decision(|_| {}, &mirror(), &accepted), Ok(write(MirrorOutcome::Updated)));
}

/// Otherwise a replica with a version in between could replace the newer one.
#[test]
fn newer_version_with_equal_values_is_written() {
    assert_eq!(decision(|_| {}, &mirror(), &content(4)), Ok(write(MirrorOutcome::Updated)));
}

/// Regression test: after a source moved to an older secret, the Secret kept the previous value.
#[test]
fn source_with_other_request_is_written_only_with_claim() {
    let mut moved = content(1);
    moved.versions.values_mut().next().expect("a source").request = "detect:s/other".into();
    let failure = decision(|_| {}, &mirror(), &moved).expect_err("another configuration");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::MirrorConflict));
    let expected = "failed to mirror to Secret ns/x: another configuration writes it (pod webapp-abc, keys password, \
                    username); this configuration has the same keys from other sources or with another type; choose \
                    another Secret name for one of them, or delete the Secret";
    assert_eq!(failure.message, expected);
    moved.claim = true;
    assert_eq!(decision(|_| {}, &mirror(), &moved), Ok(write(MirrorOutcome::Updated)));
}

/// Regression test: two configurations with different keys overwrote one Secret alternately.
#[test]
fn other_keys_conflict_unless_claimed() {
    let mut other = mirror();
    other.keys.pop();
    let mut one = content(4);
    one.data.remove("username");
    let failure = decision(|_| {}, &other, &one).expect_err("another configuration");
    assert_eq!(failure.reason, Reason::MirrorConflict);
    assert!(failure.message.contains("this configuration has keys password; choose"), "{failure}");
    one.claim = true;
    assert_eq!(decision(|_| {}, &other, &one), Ok(write(MirrorOutcome::Updated)));
}

/// Otherwise the removed keys of the previous version would count as those of another configuration.
#[test]
fn secret_without_the_previous_version_is_written_without_claim() {
    let all = Mirror { keys: Vec::new(), ..mirror() };
    let mut both = content(3);
    both.versions.values_mut().next().expect("a source").version.previous = Some(2);
    both.data.insert("password.previous".to_owned(), Arc::new(SecretBytes::from("alt")));
    both.digest = "other".into();
    let latest = content(3);
    for (before, after) in [(&both, &latest), (&latest, &both)] {
        let current = current_after(&all, before);
        assert_eq!(decision(|found| *found = current, &all, after), Ok(write(MirrorOutcome::Updated)));
    }
    // The same versions with other keys are from other outputs.
    let mut fewer = both.clone();
    fewer.data.remove("username");
    let current = current_after(&all, &both);
    let failure = decision(|found| *found = current, &all, &fewer).expect_err("another configuration");
    assert_eq!(failure.reason, Reason::MirrorConflict);
}

#[test]
fn secret_of_keyferry_0_1_is_updated() {
    let old = |current: &mut Value| {
        current["annotations"]["keyferry.dev/source-versions"] = json!(r#"{"config":{"v":3}}"#);
        for name in ["keyferry.dev/configuration", "keyferry.dev/written-by"] {
            current["annotations"].as_object_mut().expect("an object").remove(name);
            let fields = &mut current["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"];
            fields.as_object_mut().expect("an object").remove(&format!("f:{name}"));
        }
    };
    assert_eq!(decision(old, &mirror(), &content(3)), Ok(write(MirrorOutcome::Updated)));
    assert_eq!(
        decision(old, &mirror(), &content(2)),
        Ok(leave(MirrorOutcome::Superseded)),
        "its versions are still compared"
    );
}

/// Without configured keys, the keys depend on the secret.
#[test]
fn additional_key_from_vault_is_not_another_configuration() {
    let all = Mirror { keys: Vec::new(), ..mirror() };
    let decided = |stored: &MirrorContent, desired: &MirrorContent| {
        decision(|current| *current = current_after(&all, stored), &all, desired).map_err(|failure| failure.reason)
    };
    let gained = |mut content: MirrorContent| {
        content.data.insert("more".into(), Arc::new(SecretBytes::from("m")));
        content.digest = "e".into();
        content
    };
    assert_eq!(decided(&content(3), &gained(content(4))), Ok(write(MirrorOutcome::Updated)));
    assert_eq!(decided(&gained(content(4)), &content(3)), Ok(leave(MirrorOutcome::Superseded)));
    assert_eq!(
        decided(&content(3), &gained(content(3))),
        Err(Reason::MirrorConflict),
        "different outputs, same secret"
    );
    let unversioned = |mut content: MirrorContent| {
        content.versions.values_mut().for_each(|mirrored| mirrored.version = Version::default());
        content
    };
    let (stored, desired) = (unversioned(content(3)), unversioned(gained(content(3))));
    assert_eq!(decided(&stored, &desired), Ok(write(MirrorOutcome::Updated)), "KV version 1 has no version numbers");
}

#[test]
fn difference_in_digest_owner_or_metadata_is_written() {
    let updated = Ok(write(MirrorOutcome::Updated));
    assert_eq!(decision(|_| {}, &mirror(), &MirrorContent { digest: "other".into(), ..content(3) }), updated);
    let changes: [fn(&mut Mirror); 6] = [
        |mirror| mirror.owner = None,
        |mirror| mirror.owner = Some(object_owner("u-8")),
        |mirror| mirror.labels.clear(),
        |mirror| _ = mirror.labels.insert("team".into(), "db".into()),
        |mirror| mirror.annotations.clear(),
        |mirror| _ = mirror.annotations.insert("more".into(), "m".into()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut mirror = mirror();
        change(&mut mirror);
        assert_eq!(decision(|_| {}, &mirror, &content(3)), updated, "change {number}");
    }
}

#[test]
fn changed_or_removed_label_is_restored() {
    for label in [json!({}), json!({"app.kubernetes.io/managed-by": "Helm"})] {
        let edited = |current: &mut Value| current["labels"] = label;
        let decided = decision(edited, &mirror(), &content(3));
        assert!(matches!(decided, Ok(Decision::Write(_))), "{decided:?}");
    }
}

#[test]
fn unmanaged_secret_is_rejected_with_remedy() {
    let unmanaged = |current: &mut Value| (current["labels"], current["annotations"]) = (json!({}), json!({}));
    let failure = decision(unmanaged, &mirror(), &content(3)).expect_err("unmanaged");
    assert_eq!((failure.class, failure.reason), (FailureClass::Invalid, Reason::Foreign));
    let expected = "failed to mirror to Secret ns/x: it exists and is not managed by keyferry (it has no label \
                    app.kubernetes.io/managed-by: keyferry); keyferry leaves it unchanged; delete it if it is unused, \
                    choose another name, or set mirrors.x.adopt: true to take it over";
    assert_eq!(failure.message, expected);
}

/// A Secret restored from a backup has the labels and versions of keyferry, but another field manager.
#[test]
fn restored_secret_is_taken_over_only_with_adopt() {
    let restored = |current: &mut Value| {
        current["managedFields"][0]["manager"] = json!("velero");
        current["managedFields"][0]["operation"] = json!("Update");
    };
    assert_eq!(decision(restored, &mirror(), &content(3)).expect_err("unmanaged").reason, Reason::Foreign);
    let adopting = Mirror { adopt: true, ..mirror() };
    let taken = Decision::Write(Plan { outcome: MirrorOutcome::Updated, force: true, remove_unmanaged: true });
    // Versions that another manager wrote are ignored.
    assert_eq!(decision(restored, &adopting, &content(2)), Ok(taken));
}

#[test]
fn secret_without_guards_or_in_deletion_is_not_written() {
    let deleted = |current: &mut Value| current["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(decision(deleted, &mirror(), &content(4)).expect_err("deleted").class, FailureClass::Conflict);
    for change in [
        |current: &mut Value| current["uid"] = json!(""),
        |current: &mut Value| current["resourceVersion"] = json!("0"),
        |current: &mut Value| current["resourceVersion"] = Value::Null,
    ] {
        assert_eq!(decision(change, &mirror(), &content(4)).expect_err("no guard").class, FailureClass::Transient);
    }
}

/// A different fingerprint in a later release would cause a conflict between the pods of a rolling update. Expected
/// values from another implementation (Python's hashlib, each part after its length in eight bytes).
#[test]
fn fingerprint_stays_stable_and_ignores_values() {
    let all = Mirror { keys: Vec::new(), ..mirror() };
    let prints = |content: &MirrorContent| {
        (configuration::fingerprint(&mirror(), content), configuration::fingerprint(&all, content))
    };
    assert_eq!(prints(&content(3)), ("adede39f22bf4540".into(), "558dde13dd836def.0b45fe85bb32b132".into()));
    let mut other = content(4);
    other.data.values_mut().for_each(|value| *value = Arc::new(SecretBytes::from("x")));
    assert_eq!(prints(&other), prints(&content(3)));
}
