//! What the mirrored Secret says of itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::model::{SourceName, Version};

/// Digest of type and content.
pub(super) const DIGEST: &str = "keyferry.dev/digest";
/// Versions of the sources, so that an older reading never replaces a newer one.
pub(super) const VERSIONS: &str = "keyferry.dev/source-versions";
/// The label by which people and the ownership check find our Secrets.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "keyferry");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<Timestamp>,
}

pub(super) fn encode(versions: &BTreeMap<SourceName, Version>) -> String {
    let known = versions.iter().filter(|(_, version)| **version != Version::default());
    let written: BTreeMap<_, _> =
        known.map(|(name, version)| (name.as_str(), Written { v: version.number, t: version.created })).collect();
    // A map of strings and numbers always has a JSON form.
    serde_json::to_string(&written).unwrap_or_default()
}

/// Whether what is in the Secret is newer than ours for some source, and older for none: another replica was quicker, and
/// will not be overwritten. Where each is newer in something, ours is written: it is what this pod sees now.
pub(super) fn supersedes(there: &ObjectMeta, ours: &BTreeMap<SourceName, Version>) -> bool {
    let text = there.annotations.as_ref().and_then(|annotations| annotations.get(VERSIONS));
    let Some(there) = text.and_then(|text| serde_json::from_str::<BTreeMap<String, Written>>(text).ok()) else {
        return false;
    };
    let pairs = || {
        ours.iter().filter_map(|(name, version)| {
            let written = there.get(name.as_str())?;
            Some((version, Version { number: written.v, created: written.t }))
        })
    };
    pairs().any(|(ours, theirs)| ours.is_older_than(&theirs))
        && !pairs().any(|(ours, theirs)| theirs.is_older_than(ours))
}

pub(super) fn digest(there: &ObjectMeta) -> Option<&str> {
    there.annotations.as_ref()?.get(DIGEST).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(all: &[(&str, u64)]) -> BTreeMap<SourceName, Version> {
        let version = |n| Version { number: Some(n), created: None };
        all.iter().map(|(name, n)| (SourceName::new(name).expect("a name"), version(*n))).collect()
    }

    #[test]
    fn an_older_reading_never_replaces_a_newer_one() {
        let with = |text: String| ObjectMeta {
            annotations: Some([(VERSIONS.to_owned(), text)].into()),
            ..ObjectMeta::default()
        };
        let there = with(encode(&versions(&[("a", 3), ("b", 3)])));
        let table = [
            (versions(&[("a", 3), ("b", 3)]), false),
            (versions(&[("a", 4), ("b", 3)]), false),
            (versions(&[("a", 2), ("b", 3)]), true),
            (versions(&[("a", 2), ("b", 4)]), false),
            (versions(&[("c", 1)]), false),
        ];
        for (ours, expected) in table {
            assert_eq!(supersedes(&there, &ours), expected, "{ours:?}");
        }
        assert!(!supersedes(&with("not json".into()), &versions(&[("a", 1)])));
        assert!(!supersedes(&ObjectMeta::default(), &versions(&[("a", 1)])));
    }
}
