//! The secret at one path of a simulated server.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use keyferry::model::{SecretValue, Version};

use super::random::Random;

/// The kind of a secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// KV version 2.
    Versioned,
    /// A list of secrets of KV version 2.
    List,
    /// Each read issues a credential with a lease.
    Leased { ttl: Duration, max_ttl: Duration, renewable: bool },
    /// Each read issues a credential with its own TTL.
    Expires(Duration),
    /// The server rotates the secret at this interval.
    Rotates(Duration),
    /// Each request issues a certificate with this lifetime.
    Certificate(Duration),
}

/// Whether outputs can be rendered from a secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    Good,
    /// The key that outputs with `key` require is missing.
    NoPassword,
    /// One key cannot be a file name.
    OddKey,
}

/// A key of the previous version.
pub const PREVIOUS: &str = "password.previous";

/// One version.
#[derive(Clone)]
pub struct Content {
    /// Unique in a world; contained in every value.
    pub id: Rc<str>,
    pub version: Version,
    pub shape: Shape,
}

/// The content from `at` on; `None` if deleted.
pub struct State {
    pub at: Duration,
    pub content: Option<Content>,
}

/// Faults of one path, each with its end time.
#[derive(Default, Clone, Copy)]
pub struct PathFaults {
    /// No policy allows reads.
    pub denied: Duration,
    /// Requests get no response.
    pub hangs: Duration,
    /// The server returns an error.
    pub broken: Duration,
    /// Issued credentials expire immediately, and a static role reports a TTL of 0.
    pub zero: Duration,
    /// The CA expires then, and its successor is in use from then on.
    pub ca_ends: Duration,
    /// Issued certificates do not verify.
    pub unverifiable: Duration,
}

pub struct Secret {
    pub kind: Kind,
    /// In chronological order.
    pub states: Vec<State>,
    /// Shape of the next content.
    pub shape: Shape,
    pub faults: PathFaults,
    pub number: u64,
    /// When the next rotation is due.
    pub rotates_at: Duration,
}

impl Secret {
    /// The content on a standby that lags by `lag`.
    pub fn seen(&self, now: Duration, lag: Duration) -> Option<&Content> {
        let view = now.saturating_sub(lag);
        let state = self.states.iter().rev().find(|state| state.at <= view).or(self.states.first())?;
        state.content.as_ref()
    }

    /// The reading of a list: `None` without secrets. Each of its requests can reach a standby that lags by `lag`.
    pub fn list_seen(&self, now: Duration, lag: Duration, random: &mut Random) -> Option<(Version, Shape)> {
        let mut seen = || self.seen(now, if random.chance(50) { lag } else { Duration::ZERO });
        let listed = seen()?;
        let mut version = Version::default();
        for name in listed.version.secrets.keys() {
            let found = seen().and_then(|content| content.version.secrets.get(name));
            version.secrets.extend(found.map(|found| (name.clone(), found.clone())));
        }
        (!version.secrets.is_empty()).then_some((version, listed.shape))
    }

    /// The versions of a list after a write at `created`: a secret is added, changed, re-created, or removed.
    pub fn list_after_write(&self, created: Timestamp, random: &mut Random) -> Version {
        let last = self.states.iter().rev().find_map(|state| state.content.as_ref());
        let mut secrets = last.map(|content| content.version.secrets.clone()).unwrap_or_default();
        let name = format!("m{}", random.below(4));
        let number = secrets.get(&name).and_then(|version| version.number);
        let version = |number| Version { previous: None, ..version(number, created) };
        match number {
            // Outputs require `m0`.
            Some(_) if name != "m0" && random.chance(20) => _ = secrets.remove(&name),
            Some(number) if random.chance(90) => _ = secrets.insert(name, version(number + 1)),
            _ => _ = secrets.insert(name, version(1)),
        }
        secrets.entry("m0".into()).or_insert_with(|| version(1));
        Version { secrets, ..Version::default() }
    }

    pub fn current(&self) -> Option<&Content> {
        self.states.last()?.content.as_ref()
    }

    /// When the content with this ID was replaced; `None` while it is the current content.
    pub fn replaced_at(&self, id: &str) -> Option<Duration> {
        let of = |state: &State| state.content.as_ref().is_some_and(|content| &*content.id == id);
        if self.states.last().is_some_and(of) {
            return None;
        }
        let last = self.states.iter().rposition(of);
        Some(last.and_then(|index| self.states.get(index + 1)).map_or(Duration::ZERO, |state| state.at))
    }

    pub fn push(&mut self, at: Duration, content: Option<Content>) {
        self.states.push(State { at, content });
        if self.states.len() > 64 {
            self.states.remove(0);
        }
    }
}

/// The ID of a reading of a list, which is equal for equal content.
pub fn list_id(path: &str, server: &str, shape: Shape, version: &Version) -> Rc<str> {
    let one = |(name, version): (&String, &Version)| {
        let created = version.created.map(Timestamp::as_nanosecond).unwrap_or_default();
        format!("{name}.{}.{created}", version.number.unwrap_or_default())
    };
    let secrets: Vec<_> = version.secrets.iter().map(one).collect();
    format!("{path}@{server}#{shape:?}:{}", secrets.join(",")).into()
}

/// The values of a content; each contains its ID, also those of the previous version, which belong to the same reading.
pub fn values(id: &str, shape: Shape, version: &Version) -> BTreeMap<String, SecretValue> {
    let mut keys = vec!["username"];
    match shape {
        Shape::Good => keys.push("password"),
        Shape::NoPassword => keys.push("passphrase"),
        Shape::OddKey => keys.extend(["password", "..odd"]),
    }
    if version.previous.is_some() {
        keys.push(PREVIOUS);
    }
    let value = |key: &str| SecretValue::Text(format!("id={id}|{key}").as_str().into());
    if version.secrets.is_empty() {
        return keys.into_iter().map(|key| (key.to_owned(), value(key))).collect();
    }
    let in_list = version.secrets.keys().flat_map(|name| keys.iter().map(move |key| format!("{name}/{key}")));
    in_list.map(|key| (key.clone(), value(&key))).collect()
}

/// A version of KV version 2, read together with the version before it.
pub fn version(number: u64, created: Timestamp) -> Version {
    let previous = number.checked_sub(1).filter(|number| *number > 0);
    Version { number: Some(number), created: Some(created), previous, ..Version::default() }
}
