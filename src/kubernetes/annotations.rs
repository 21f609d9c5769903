//! What a mirrored Secret says of the readings that it was made of, so that an older one never replaces a newer one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MirroredVersion;
use crate::model::{Order, SourceName, Version};

/// What is known of each source that gives to a Secret.
pub(super) type Versions = BTreeMap<SourceName, MirroredVersion>;

/// One source in the annotation. Short names: an object has 256 KiB for all of its annotations.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// KV v2 version number.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// When that version was written, RFC 3339.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    /// What was asked for. Absent in annotations of keyferry 0.1.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    request: String,
}

/// The annotation's text: `{"<source>":{"v":3,"t":"2026-11-24T10:00:00Z","r":"detect:secret/webapp/config"}}`.
pub(super) fn encode(versions: &Versions) -> String {
    let store = |MirroredVersion { request, version }: &MirroredVersion| Stored {
        number: version.number,
        created: version.created,
        request: request.clone(),
    };
    let stored: BTreeMap<&str, Stored> =
        versions.iter().map(|(name, version)| (name.as_str(), store(version))).collect();
    serde_json::to_string(&stored).expect("a map with text keys is JSON")
}

/// The reverse of [`encode`]. A text of another format (of a later release) orders nothing.
pub(super) fn decode(text: &str) -> Versions {
    let stored: BTreeMap<String, Stored> = serde_json::from_str(text).unwrap_or_default();
    let version = |stored: Stored| MirroredVersion {
        request: stored.request,
        version: Version { number: stored.number, created: stored.created },
    };
    stored.into_iter().filter_map(|(name, stored)| Some((SourceName::new(&name).ok()?, version(stored)))).collect()
}

/// How our readings stand to those in the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recency {
    /// At least one of ours is older, whatever the others are: a write would take a newer value away.
    Older,
    /// None of ours is older and at least one is newer, or the Secret does not know it.
    Newer,
    /// Neither.
    Same,
}

/// Sources that are only in the Secret do not count: they do not give to it any more.
pub(super) fn recency(desired: &Versions, stored: &Versions) -> Recency {
    let mut recency = Recency::Same;
    for (name, new) in desired {
        match stored.get(name) {
            // A source that moved or was pinned: two readings of different things have no order.
            Some(old) if !comparable(new, old) => recency = Recency::Newer,
            Some(old) if new.version.order(&old.version) == Order::Older => return Recency::Older,
            Some(old) if new.version.order(&old.version) == Order::Newer => recency = Recency::Newer,
            None if new.version != Version::default() => recency = Recency::Newer,
            _ => {}
        }
    }
    recency
}

/// Whether every source has a version on both sides, so that equal versions mean equal contents.
pub(super) fn all_versioned(desired: &Versions, stored: &Versions) -> bool {
    let versioned = |version: &MirroredVersion| version.version != Version::default();
    desired.iter().all(|(name, new)| versioned(new) && stored.get(name).is_some_and(versioned))
}

/// An annotation of keyferry 0.1 does not say what was asked for and is believed.
fn comparable(new: &MirroredVersion, old: &MirroredVersion) -> bool {
    old.request.is_empty() || new.request == old.request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[(&str, &str, u64)]) -> Versions {
        let created = |number: u64| Timestamp::from_second(i64::try_from(number).expect("small")).ok();
        let version = |number| match number {
            0 => Version::default(),
            _ => Version { number: Some(number), created: created(number) },
        };
        list.iter()
            .map(|(name, request, number)| {
                let mirrored = MirroredVersion { request: (*request).to_owned(), version: version(*number) };
                (SourceName::new(name).expect(name), mirrored)
            })
            .collect()
    }

    #[test]
    fn an_older_reading_never_replaces_a_newer_one() {
        let table: [(&[_], &[_], _); 8] = [
            (&[("a", "p", 1)], &[("a", "p", 1)], Recency::Same),
            (&[("a", "p", 2)], &[("a", "p", 1)], Recency::Newer),
            (&[("a", "p", 1)], &[("a", "p", 2)], Recency::Older),
            (&[("a", "p", 9), ("b", "q", 1)], &[("a", "p", 1), ("b", "q", 2)], Recency::Older),
            (&[("a", "p", 1), ("b", "q", 1)], &[("a", "p", 1)], Recency::Newer),
            (&[("a", "p", 1)], &[("a", "p", 1), ("b", "q", 1)], Recency::Same),
            (&[("a", "p", 0)], &[("a", "p", 3)], Recency::Same),
            (&[("a", "p", 0)], &[], Recency::Same),
        ];
        for (desired, stored, expected) in table {
            assert_eq!(recency(&versions(desired), &versions(stored)), expected, "{desired:?} against {stored:?}");
        }
    }

    #[test]
    fn a_source_that_moved_is_never_older() {
        let moved = (versions(&[("a", "detect:secret/b", 1)]), versions(&[("a", "detect:secret/a", 7)]));
        assert_eq!(recency(&moved.0, &moved.1), Recency::Newer);
        let pinned = (versions(&[("a", "detect:s#version=1", 1)]), versions(&[("a", "detect:s", 2)]));
        assert_eq!(recency(&pinned.0, &pinned.1), Recency::Newer);
    }

    #[test]
    fn an_annotation_without_requests_is_still_compared() {
        let old = decode(r#"{"a":{"v":3,"t":"1970-01-01T00:00:03Z"}}"#);
        assert_eq!(recency(&versions(&[("a", "p", 2)]), &old), Recency::Older);
        assert_eq!(recency(&versions(&[("a", "p", 3)]), &old), Recency::Same);
    }

    #[test]
    fn versions_survive_the_annotation() {
        let all = versions(&[("secret/webapp/config", "detect:secret/webapp/config", 3), ("lease", "detect:db", 0)]);
        let expected = r#"{"lease":{"r":"detect:db"},"secret/webapp/config":{"v":3,"t":"1970-01-01T00:00:03Z","r":"detect:secret/webapp/config"}}"#;
        assert_eq!(encode(&all), expected);
        assert_eq!(decode(&encode(&all)), all);
    }

    #[test]
    fn a_text_of_another_format_orders_nothing() {
        for text in ["", "[]", "{\"a\":1}", "x"] {
            assert!(decode(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn equal_versions_mean_equal_contents_only_where_all_have_one() {
        let (one, none) = (versions(&[("a", "p", 1)]), versions(&[("a", "p", 0)]));
        assert!(all_versioned(&one, &one));
        assert!(!all_versioned(&one, &none) && !all_versioned(&none, &one) && !all_versioned(&one, &Versions::new()));
    }
}
