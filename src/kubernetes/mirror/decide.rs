//! Decides from its metadata how to treat an existing Secret.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::annotations::{Recency, decode, identify_content, recency};
use super::super::ownership::{self, ANNOTATIONS, DATA, LABELS, managed_annotation, managed_keys};
use super::super::{CONFIGURATION, MirrorContent, MirrorOutcome, SOURCE_VERSIONS, WRITTEN_BY};
use super::body::DesiredSecret;
use super::drift::Drift;
use super::target::{Target, listed};
use super::{configuration, owner};
use crate::model::{Failure, FailureClass, Mirror, OnDrift, Reason};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Leave(MirrorOutcome),
    Write(Plan),
}

/// How to write the Secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) outcome: MirrorOutcome,
    /// Take back fields that other managers changed. The guard ensures that the Secret has not changed since the
    /// decision.
    pub(super) force: bool,
    /// Remove unmanaged keys afterwards.
    pub(super) remove_unmanaged: bool,
}

/// Checks in this order: whether the Secret is managed, which configuration writes it, whether it was edited, which
/// versions are newer.
pub(super) fn decide(
    target: &Target<'_>,
    current: &ObjectMeta,
    mirror: &Mirror,
    content: &MirrorContent,
    desired: &DesiredSecret<'_>,
) -> Result<Decision, Failure> {
    if current.uid.as_deref().unwrap_or_default().is_empty()
        || matches!(current.resource_version.as_deref(), None | Some("" | "0"))
    {
        // The API server ignores empty values in the guard.
        let cause = "the API server's response has no uid or no resourceVersion; check that no proxy changes responses";
        return Err(target.failure(FailureClass::Transient, Reason::ApiUnavailable, cause));
    }
    let unmanaged = ownership::check_managed(current).err();
    if let Some(why) = unmanaged.as_ref().filter(|_| !mirror.adopt) {
        let cause = format!(
            "it exists and is not managed by keyferry ({why}); keyferry leaves it unchanged; delete it if it is \
             unused, choose another name, or set mirrors.{}.adopt: true to take it over",
            target.name
        );
        return Err(target.failure(FailureClass::Invalid, Reason::Foreign, &cause));
    }
    if current.deletion_timestamp.is_some() {
        let cause = "it is being deleted and waits for its finalizers; keyferry creates a new one afterwards";
        return Err(target.failure(FailureClass::Conflict, Reason::Conflict, cause));
    }
    if unmanaged.is_some() {
        // Another writer can have set the annotations, so their versions do not count.
        return Ok(Decision::Write(Plan { outcome: MirrorOutcome::Updated, force: true, remove_unmanaged: true }));
    }
    let stored = managed_annotation(current, SOURCE_VERSIONS).map(decode).unwrap_or_default();
    let recency = recency(&content.versions, &stored);
    let same_content = recency == Recency::Same && identify_content(&content.versions, &stored);
    if !content.claim && is_other_configuration(current, desired, same_content) {
        return Err(target.failure(FailureClass::Invalid, Reason::MirrorConflict, &conflict(current, desired)));
    }
    let drift = Drift::find(current, desired);
    if let Some(drift) = drift.as_ref().filter(|_| mirror.on_drift == OnDrift::Report) {
        let cause = format!(
            "it was {drift}; keyferry leaves it unchanged because onDrift is report; delete it and keyferry re-creates \
             it, or set mirrors.{}.onDrift: repair",
            target.name
        );
        return Err(target.failure(FailureClass::Invalid, Reason::Drifted, &cause));
    }
    if recency == Recency::Older && !content.accept_older {
        return Ok(Decision::Leave(MirrorOutcome::Superseded));
    }
    let force = mirror.on_drift == OnDrift::Repair;
    if let Some(drift) = drift {
        let outcome = MirrorOutcome::Repaired(drift.to_string());
        return Ok(Decision::Write(Plan { outcome, force, remove_unmanaged: true }));
    }
    if recency == Recency::Same && has_desired_content(current, desired) {
        return Ok(Decision::Leave(MirrorOutcome::Unchanged));
    }
    // Write a newer version even if its values are equal. The annotation then prevents a write of a version between them.
    Ok(Decision::Write(Plan { outcome: MirrorOutcome::Updated, force, remove_unmanaged: false }))
}

/// Whether another configuration writes the Secret. A Secret without a fingerprint was written by keyferry 0.1 and does
/// not count as one of another configuration.
fn is_other_configuration(current: &ObjectMeta, desired: &DesiredSecret<'_>, same_content: bool) -> bool {
    let desired = desired.annotations.get(CONFIGURATION);
    let stored = managed_annotation(current, CONFIGURATION);
    desired.zip(stored).is_some_and(|(desired, stored)| configuration::differs(desired, stored, same_content))
}

fn conflict(current: &ObjectMeta, desired: &DesiredSecret<'_>) -> String {
    let stored_keys = managed_keys(current, DATA);
    let desired_keys: BTreeSet<_> = desired.data.keys().map(String::as_str).collect();
    let pod = managed_annotation(current, WRITTEN_BY).map(|pod| format!("pod {pod}, ")).unwrap_or_default();
    let difference = if desired_keys == stored_keys {
        "the same keys from other sources or with another type".to_owned()
    } else {
        format!("keys {}", listed(desired_keys))
    };
    format!(
        "another configuration writes it ({pod}keys {}); this configuration has {difference}; choose another Secret \
         name for one of them, or delete the Secret",
        listed(stored_keys)
    )
}

/// Whether the Secret has the desired content, apart from versions and writer. The digest covers the data that keyferry
/// wrote; [`Drift`] covers later changes to the data.
fn has_desired_content(current: &ObjectMeta, desired: &DesiredSecret<'_>) -> bool {
    let same_keys = managed_keys(current, LABELS) == names(&desired.labels)
        && without_writer(managed_keys(current, ANNOTATIONS)) == without_writer(names(&desired.annotations))
        && managed_keys(current, DATA) == desired.data.keys().map(String::as_str).collect();
    let varies = |key: &str| key == SOURCE_VERSIONS || key == WRITTEN_BY;
    let contains = |desired: &BTreeMap<String, String>, current: &Option<BTreeMap<String, String>>| {
        let mut compared = desired.iter().filter(|(key, _)| !varies(key));
        compared.all(|(key, value)| current.as_ref().and_then(|all| all.get(key)) == Some(value))
    };
    same_keys
        && contains(&desired.labels, &current.labels)
        && contains(&desired.annotations, &current.annotations)
        && owner::matches(current, &desired.owners)
}

fn names(map: &BTreeMap<String, String>) -> BTreeSet<&str> {
    map.keys().map(String::as_str).collect()
}

/// Ignores the writer's annotation: replicas that know their Pod's name and replicas that do not must not alternate.
fn without_writer(mut keys: BTreeSet<&str>) -> BTreeSet<&str> {
    keys.remove(WRITTEN_BY);
    keys
}
