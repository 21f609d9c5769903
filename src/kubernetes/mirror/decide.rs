//! What to do with a Secret that is there, from its metadata alone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::annotations::{Recency, all_versioned, decode, recency};
use super::super::ownership::{self, ANNOTATIONS, DATA, LABELS, annotation_of_ours, keys_of_ours};
use super::super::{CONFIGURATION, MirrorContent, MirrorOutcome, SOURCE_VERSIONS, WRITTEN_BY};
use super::body::Wanted;
use super::drift::Drift;
use super::target::{Target, listed};
use super::{configuration, owner};
use crate::model::{Failure, FailureClass, Mirror, OnDrift, Reason};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Leave(MirrorOutcome),
    Write(Plan),
}

/// How to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) outcome: MirrorOutcome,
    /// Take fields of ours from whoever changed them. The guards make sure that it is what was judged here.
    pub(super) force: bool,
    /// Remove keys of others afterwards.
    pub(super) remove_others: bool,
}

/// Decides in this order: whose it is, which configuration writes it, whether it was edited, which readings are newer.
pub(super) fn decide(
    target: &Target<'_>,
    seen: &ObjectMeta,
    mirror: &Mirror,
    content: &MirrorContent,
    wanted: &Wanted<'_>,
) -> Result<Decision, Failure> {
    if seen.uid.as_deref().unwrap_or_default().is_empty()
        || matches!(seen.resource_version.as_deref(), None | Some("" | "0"))
    {
        // Empty values would be no guard at all.
        let cause = "the API server's response has no uid or no resourceVersion; check that no proxy changes responses";
        return Err(target.failure(FailureClass::Transient, Reason::ApiUnavailable, cause));
    }
    let foreign = ownership::check(seen).err();
    if let Some(why) = foreign.as_ref().filter(|_| !mirror.adopt) {
        let cause = format!(
            "it exists and is not managed by keyferry ({why}); keyferry leaves it unchanged; delete it if it is unused, \
             choose another name, or set mirrors.{}.adopt: true to take it over",
            target.name
        );
        return Err(target.failure(FailureClass::Invalid, Reason::Foreign, &cause));
    }
    if seen.deletion_timestamp.is_some() {
        let cause = "it is being deleted and waits for its finalizers; keyferry creates a new one afterwards";
        return Err(target.failure(FailureClass::Conflict, Reason::Conflict, cause));
    }
    if foreign.is_some() {
        // What its annotations say is not ours to believe.
        return Ok(Decision::Write(Plan { outcome: MirrorOutcome::Updated, force: true, remove_others: true }));
    }
    let theirs = annotation_of_ours(seen, SOURCE_VERSIONS).map(decode).unwrap_or_default();
    let recency = recency(&content.versions, &theirs);
    let same_content = recency == Recency::Same && all_versioned(&content.versions, &theirs);
    if !content.claim && is_of_another(seen, wanted, same_content) {
        return Err(target.failure(FailureClass::Invalid, Reason::MirrorConflict, &conflict(seen, wanted)));
    }
    let drift = Drift::find(seen, wanted);
    if let Some(drift) = drift.as_ref().filter(|_| mirror.on_drift == OnDrift::Report) {
        let cause = format!(
            "it was {drift}; keyferry leaves it unchanged because onDrift is report; delete it and keyferry re-creates it, or \
             set mirrors.{}.onDrift: repair",
            target.name
        );
        return Err(target.failure(FailureClass::Invalid, Reason::Drifted, &cause));
    }
    let force = mirror.on_drift == OnDrift::Repair;
    Ok(match recency {
        Recency::Older if !content.accept_older => Decision::Leave(MirrorOutcome::Superseded),
        _ if drift.is_some() => Decision::Write(Plan { outcome: MirrorOutcome::Repaired, force, remove_others: true }),
        Recency::Same if holds(seen, wanted) => Decision::Leave(MirrorOutcome::Unchanged),
        // Newer readings with the same values are written too: their versions keep a reading between the two away.
        _ => Decision::Write(Plan { outcome: MirrorOutcome::Updated, force, remove_others: false }),
    })
}

/// A Secret without a fingerprint was written by keyferry 0.1 and is taken.
fn is_of_another(seen: &ObjectMeta, wanted: &Wanted<'_>, same_content: bool) -> bool {
    let ours = wanted.annotations.get(CONFIGURATION);
    let theirs = annotation_of_ours(seen, CONFIGURATION);
    ours.zip(theirs).is_some_and(|(ours, theirs)| configuration::differs(ours, theirs, same_content))
}

fn conflict(seen: &ObjectMeta, wanted: &Wanted<'_>) -> String {
    let theirs = keys_of_ours(seen, DATA);
    let ours: BTreeSet<_> = wanted.data.keys().map(String::as_str).collect();
    let pod = annotation_of_ours(seen, WRITTEN_BY).map(|pod| format!("pod {pod}, ")).unwrap_or_default();
    let wants = if ours == theirs {
        "the same keys from other sources or with another type".to_owned()
    } else {
        format!("keys {}", listed(ours))
    };
    format!(
        "another configuration writes it ({pod}keys {}); this configuration has {wants}; choose another Secret name for one \
         of them, or delete the Secret",
        listed(theirs)
    )
}

/// Whether the Secret holds what we would write, but for the versions and the writer. The digest is of what we wrote, not of
/// what is there now; what others did to the data is [`Drift`].
fn holds(seen: &ObjectMeta, wanted: &Wanted<'_>) -> bool {
    let same_keys = keys_of_ours(seen, LABELS) == names(&wanted.labels)
        && without_writer(keys_of_ours(seen, ANNOTATIONS)) == without_writer(names(&wanted.annotations))
        && keys_of_ours(seen, DATA) == wanted.data.keys().map(String::as_str).collect();
    let varies = |key: &str| key == SOURCE_VERSIONS || key == WRITTEN_BY;
    let present = |wanted: &BTreeMap<String, String>, there: &Option<BTreeMap<String, String>>| {
        let mut compared = wanted.iter().filter(|(key, _)| !varies(key));
        compared.all(|(key, value)| there.as_ref().and_then(|all| all.get(key)) == Some(value))
    };
    same_keys
        && present(&wanted.labels, &seen.labels)
        && present(&wanted.annotations, &seen.annotations)
        && owner::are(seen, &wanted.owners)
}

fn names(map: &BTreeMap<String, String>) -> BTreeSet<&str> {
    map.keys().map(String::as_str).collect()
}

/// An agent that does not know its pod's name must not write each time that another one does.
fn without_writer(mut keys: BTreeSet<&str>) -> BTreeSet<&str> {
    keys.remove(WRITTEN_BY);
    keys
}
