//! Detects edits by other writers to a managed Secret.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::ownership::{
    ANNOTATIONS, DATA, FieldPath, LABELS, managed_annotation, managed_keys, unmanaged_data, unmanaged_keys,
};
use super::super::{CONFIGURATION, DIGEST, SOURCE_VERSIONS, WRITTEN_BY};
use super::body::DesiredSecret;
use super::target::listed;

/// Annotations that only keyferry writes: another owner is drift, even if the value is equal.
const BOOKKEEPING: [&str; 4] = [CONFIGURATION, DIGEST, SOURCE_VERSIONS, WRITTEN_BY];

/// Fields that differ from what keyferry wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    /// Field managers from `managedFields`. Empty if keys were only removed, because a removal is not recorded.
    editors: BTreeSet<String>,
    /// Data keys that were changed, added, or removed.
    keys: BTreeSet<String>,
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl Drift {
    /// Compares `managedFields` with the desired Secret. Additional labels and annotations are not drift.
    pub(super) fn find(current: &ObjectMeta, desired: &DesiredSecret<'_>) -> Option<Self> {
        let mut drift = Self::default();
        for (key, manager) in unmanaged_data(current) {
            drift.keys.insert(key.to_owned());
            drift.editors.insert(manager.to_owned());
        }
        // keyferry no longer owns a removed key. An equal digest shows that keyferry had written it.
        let digest = desired.annotations.get(DIGEST).map(String::as_str);
        if digest.is_some() && managed_annotation(current, DIGEST) == digest {
            let managed = managed_keys(current, DATA);
            drift.keys.extend(desired.data.keys().filter(|key| !managed.contains(key.as_str())).cloned());
        }
        let mut metadata =
            |path: FieldPath, changed: &dyn Fn(&str) -> bool, into: fn(&mut Self) -> &mut BTreeSet<String>| {
                for (key, manager) in unmanaged_keys(current, path).into_iter().filter(|(key, _)| changed(key)) {
                    into(&mut drift).insert(key.to_owned());
                    drift.editors.insert(manager.to_owned());
                }
            };
        let label = |key: &str| {
            desired.labels.get(key).is_some_and(|desired| value(current.labels.as_ref(), key) != Some(desired))
        };
        let annotation = |key: &str| {
            let changed =
                |desired| BOOKKEEPING.contains(&key) || value(current.annotations.as_ref(), key) != Some(desired);
            desired.annotations.get(key).is_some_and(changed)
        };
        metadata(LABELS, &label, |drift| &mut drift.labels);
        metadata(ANNOTATIONS, &annotation, |drift| &mut drift.annotations);
        (drift != Self::default()).then_some(drift)
    }
}

fn value<'a>(all: Option<&'a std::collections::BTreeMap<String, String>>, key: &str) -> Option<&'a String> {
    all?.get(key)
}

/// `edited by "kubectl-patch" (keys: extra, password)`.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("edited")?;
        if !self.editors.is_empty() {
            let editors: Vec<_> = self.editors.iter().map(|editor| format!("{editor:?}")).collect();
            write!(f, " by {}", listed(editors.iter().map(String::as_str)))?;
        }
        let parts = [("keys", &self.keys), ("labels", &self.labels), ("annotations", &self.annotations)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> =
            parts.map(|(what, names)| format!("{what}: {}", listed(names.iter().map(String::as_str)))).collect();
        write!(f, " ({})", parts.join("; "))
    }
}
