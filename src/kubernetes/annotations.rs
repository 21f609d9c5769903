//! The annotation with the source versions of a mirrored Secret. It prevents an older reading from replacing a newer
//! one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MirroredVersion;
use crate::model::{Order, SourceName, Version};

/// Versions of the sources that contribute to a Secret.
pub(super) type Versions = BTreeMap<SourceName, MirroredVersion>;

/// One source in the annotation. The names are short because all annotations of an object share 256 KiB.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Version number in KV version 2.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// Time when Vault stored that version, in RFC 3339.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    /// Number of the previous version, if its values are part of the content.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    /// Number and time of each secret of a list.
    #[serde(rename = "s", default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, (Option<u64>, Option<Timestamp>)>,
    /// [`MirroredVersion::request`]. Missing in annotations written by keyferry 0.1.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    request: String,
}

/// Encodes `versions` as annotation value:
/// `{"<source>":{"v":3,"t":"2026-11-24T10:00:00Z","r":"detect:secret/webapp/config"}}`, and for a list
/// `{"<source>":{"s":{"<path>":[3,"2026-11-24T10:00:00Z"]},"r":"detect:secret/webapp#list"}}`.
pub(super) fn encode(versions: &Versions) -> String {
    let store = |MirroredVersion { request, version }: &MirroredVersion| Stored {
        number: version.number,
        created: version.created,
        previous: version.previous,
        secrets: version.secrets.iter().map(|(path, one)| (path.clone(), (one.number, one.created))).collect(),
        request: request.clone(),
    };
    let stored: BTreeMap<&str, Stored> =
        versions.iter().map(|(name, version)| (name.as_str(), store(version))).collect();
    serde_json::to_string(&stored).expect("a map with text keys is JSON")
}

/// Decodes an annotation value. Returns no versions for an unknown format, for example of a later release.
pub(super) fn decode(text: &str) -> Versions {
    let stored: BTreeMap<String, Stored> = serde_json::from_str(text).unwrap_or_default();
    let one = |(number, created)| Version { number, created, ..Version::default() };
    let version = |Stored { number, created, previous, secrets, request }: Stored| MirroredVersion {
        request,
        version: Version {
            number,
            created,
            previous,
            secrets: secrets.into_iter().map(|(path, version)| (path, one(version))).collect(),
        },
    };
    stored.into_iter().filter_map(|(name, stored)| Some((SourceName::new(&name).ok()?, version(stored)))).collect()
}

/// Result of comparing the desired versions with the versions in the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recency {
    /// At least one source is older than in the Secret, so that a write would replace a newer value.
    Older,
    /// No source is older, and at least one is newer or missing in the Secret.
    Newer,
    /// No source is older or newer.
    Same,
}

/// Compares versions. Ignores sources that are only in `stored`, because they no longer contribute to the Secret.
pub(super) fn recency(desired: &Versions, stored: &Versions) -> Recency {
    let mut recency = Recency::Same;
    for (name, new) in desired {
        match stored.get(name) {
            // The source has another path or a pinned version, so that the two versions cannot be compared.
            Some(old) if !comparable(new, old) => recency = Recency::Newer,
            Some(old) if new.version.order(&old.version) == Order::Older => return Recency::Older,
            Some(old) if new.version.order(&old.version) == Order::Newer => recency = Recency::Newer,
            None if new.version != Version::default() => recency = Recency::Newer,
            _ => {}
        }
    }
    recency
}

/// Whether every source has a version on both sides, and the same previous version or none. Versions of [`Recency::Same`] then
/// imply equal content.
pub(super) fn identify_content(desired: &Versions, stored: &Versions) -> bool {
    let versioned = |version: &MirroredVersion| version.version != Version::default();
    let same_previous = |new: &MirroredVersion, old: &MirroredVersion| new.version.previous == old.version.previous;
    let identifies = |new, old| versioned(new) && versioned(old) && same_previous(new, old);
    desired.iter().all(|(name, new)| stored.get(name).is_some_and(|old| identifies(new, old)))
}

/// Annotations of keyferry 0.1 have no request and always count as comparable.
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
            _ => Version { number: Some(number), created: created(number), ..Version::default() },
        };
        list.iter()
            .map(|(name, request, number)| {
                let mirrored = MirroredVersion { request: (*request).to_owned(), version: version(*number) };
                (SourceName::new(name).expect(name), mirrored)
            })
            .collect()
    }

    #[test]
    fn recency_is_older_if_any_source_is_older() {
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
    fn source_with_other_request_counts_as_newer() {
        let moved = (versions(&[("a", "detect:secret/b", 1)]), versions(&[("a", "detect:secret/a", 7)]));
        assert_eq!(recency(&moved.0, &moved.1), Recency::Newer);
        let pinned = (versions(&[("a", "detect:s#version=1", 1)]), versions(&[("a", "detect:s", 2)]));
        assert_eq!(recency(&pinned.0, &pinned.1), Recency::Newer);
    }

    #[test]
    fn annotation_without_requests_is_compared() {
        let old = decode(r#"{"a":{"v":3,"t":"1970-01-01T00:00:03Z"}}"#);
        assert_eq!(recency(&versions(&[("a", "p", 2)]), &old), Recency::Older);
        assert_eq!(recency(&versions(&[("a", "p", 3)]), &old), Recency::Same);
    }

    #[test]
    fn versions_round_trip_through_annotation() {
        let all = versions(&[("secret/webapp/config", "detect:secret/webapp/config", 3), ("lease", "detect:db", 0)]);
        let expected = r#"{"lease":{"r":"detect:db"},"secret/webapp/config":{"v":3,"t":"1970-01-01T00:00:03Z","r":"detect:secret/webapp/config"}}"#;
        assert_eq!(encode(&all), expected);
        assert_eq!(decode(&encode(&all)), all);
    }

    #[test]
    fn versions_of_a_list_round_trip_and_are_compared() {
        let list = |numbers: &[(&str, u64)]| {
            let secrets = numbers.iter().map(|(path, number)| {
                let created = Timestamp::from_second(i64::try_from(*number).expect("small")).ok();
                ((*path).to_owned(), Version { number: Some(*number), created, ..Version::default() })
            });
            let version = Version { secrets: secrets.collect(), ..Version::default() };
            let mirrored = MirroredVersion { request: "detect:secret/team#list".into(), version };
            Versions::from([(SourceName::new("team").expect("name"), mirrored)])
        };
        let stored = list(&[("a", 1), ("web/db", 3)]);
        let expected = r#"{"team":{"s":{"a":[1,"1970-01-01T00:00:01Z"],"web/db":[3,"1970-01-01T00:00:03Z"]},"r":"detect:secret/team#list"}}"#;
        assert_eq!(encode(&stored), expected);
        assert_eq!(decode(expected), stored);
        for (numbers, expected) in [
            (&[("a", 1), ("web/db", 3)][..], Recency::Same),
            (&[("a", 2), ("web/db", 2)], Recency::Older),
            (&[("web/db", 3)], Recency::Newer),
        ] {
            assert_eq!(recency(&list(numbers), &stored), expected, "{numbers:?}");
        }
        assert!(identify_content(&stored, &stored));
    }

    #[test]
    fn unknown_annotation_format_decodes_to_no_versions() {
        for text in ["", "[]", "{\"a\":1}", "x"] {
            assert!(decode(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn content_is_identified_by_versions_on_both_sides() {
        let (one, none) = (versions(&[("a", "p", 1)]), versions(&[("a", "p", 0)]));
        assert!(identify_content(&one, &one));
        for (desired, stored) in [(&one, &none), (&none, &one), (&one, &Versions::new())] {
            assert!(!identify_content(desired, stored));
        }
        let mut both = one.clone();
        both.values_mut().next().expect("a source").version.previous = Some(1);
        assert!(identify_content(&both, &both) && !identify_content(&both, &one) && !identify_content(&one, &both));
        assert_eq!(decode(&encode(&both)), both);
        assert_eq!((recency(&both, &one), recency(&one, &both)), (Recency::Same, Recency::Same));
    }
}
