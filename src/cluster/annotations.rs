//! What a mirrored Secret says of the readings that it was made of, so that an older one never replaces a newer one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Order, SourceName, Version};

/// Versions by source.
pub(super) type Versions = BTreeMap<SourceName, Version>;

/// One version in the annotation. Short names: an object has 256 KiB for all of its annotations.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// KV v2 version number.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// When that version was written, RFC 3339.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
}

/// The annotation's text: `{"<source>":{"v":3,"t":"2026-11-24T10:00:00Z"}}`. Sources without versions are left out, since
/// there is nothing to compare.
pub(super) fn encode(versions: &Versions) -> String {
    let known = versions.iter().filter(|(_, version)| **version != Version::default());
    let stored: BTreeMap<&str, Stored> = known
        .map(|(name, version)| (name.as_str(), Stored { number: version.number, created: version.created }))
        .collect();
    serde_json::to_string(&stored).expect("a map with text keys is JSON")
}

/// The reverse of [`encode`]. A text of another format (of a later release) orders nothing.
pub(super) fn decode(text: &str) -> Versions {
    let stored: BTreeMap<String, Stored> = serde_json::from_str(text).unwrap_or_default();
    let version = |stored: Stored| Version { number: stored.number, created: stored.created };
    stored.into_iter().filter_map(|(name, stored)| Some((SourceName::new(&name).ok()?, version(stored)))).collect()
}

/// How our readings stand to those in the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// At least one of ours is older, whatever the others are: writing would take a newer value away.
    Older,
    /// None of ours is older and at least one is newer, or the Secret does not know it.
    Newer,
    /// Neither.
    Level,
}

/// Sources that are only in the Secret do not count: our configuration no longer has them.
pub(super) fn standing(ours: &Versions, theirs: &Versions) -> Standing {
    let mut standing = Standing::Level;
    for (name, our) in ours {
        match theirs.get(name) {
            Some(their) if our.order(their) == Order::Older => return Standing::Older,
            Some(their) if our.order(their) == Order::Newer => standing = Standing::Newer,
            None if *our != Version::default() => standing = Standing::Newer,
            _ => {}
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[(&str, u64)]) -> Versions {
        let created = |number: u64| Timestamp::from_second(i64::try_from(number).expect("small")).ok();
        let version = |number| match number {
            0 => Version::default(),
            _ => Version { number: Some(number), created: created(number) },
        };
        list.iter().map(|(name, number)| (SourceName::new(name).expect(name), version(*number))).collect()
    }

    #[test]
    fn an_older_reading_never_replaces_a_newer_one() {
        let table: [(&[_], &[_], _); 8] = [
            (&[("a", 1)], &[("a", 1)], Standing::Level),
            (&[("a", 2)], &[("a", 1)], Standing::Newer),
            (&[("a", 1)], &[("a", 2)], Standing::Older),
            (&[("a", 9), ("b", 1)], &[("a", 1), ("b", 2)], Standing::Older),
            (&[("a", 1), ("b", 1)], &[("a", 1)], Standing::Newer),
            (&[("a", 1)], &[("a", 1), ("b", 1)], Standing::Level),
            (&[("a", 0)], &[("a", 3)], Standing::Level),
            (&[("a", 0)], &[], Standing::Level),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(standing(&versions(ours), &versions(theirs)), expected, "{ours:?} against {theirs:?}");
        }
    }

    #[test]
    fn versions_survive_the_annotation() {
        let mut all = versions(&[("secret/webapp/config", 3), ("lease", 0)]);
        assert_eq!(encode(&all), r#"{"secret/webapp/config":{"v":3,"t":"1970-01-01T00:00:03Z"}}"#);
        let decoded = decode(&encode(&all));
        all.remove(&SourceName::new("lease").expect("a name"));
        assert_eq!(decoded, all);
    }

    #[test]
    fn a_text_of_another_format_orders_nothing() {
        for text in ["", "[]", "{\"a\":1}", "x"] {
            assert!(decode(text).is_empty(), "{text}");
        }
    }
}
