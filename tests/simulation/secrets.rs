//! What a simulated server keeps at one path.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use keyferry::model::{SecretValue, Version};

/// How a secret lives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// KV version 2.
    Versioned,
    /// Each read issues a credential with a lease.
    Leased { ttl: Duration, max_ttl: Duration, renewable: bool },
    /// Each read issues a credential with a life of its own.
    Expires(Duration),
    /// The server replaces it after this time.
    Rotates(Duration),
}

/// Whether outputs can be made of a secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    Good,
    /// The key that outputs with `key` need is missing.
    NoPassword,
    /// One key cannot be a file name.
    OddKey,
}

/// One version.
#[derive(Clone)]
pub struct Content {
    /// Unique among all contents of a world; every value holds it.
    pub id: Rc<str>,
    pub version: Version,
    pub shape: Shape,
}

/// The content from `at` on; `None`: deleted.
pub struct State {
    pub at: Duration,
    pub content: Option<Content>,
}

/// Faults of one path, each until its time.
#[derive(Default, Clone, Copy)]
pub struct PathFaults {
    /// No policy allows the read.
    pub denied: Duration,
    /// No answer at all.
    pub hangs: Duration,
    /// An error of the server.
    pub broken: Duration,
    /// What it issues is over at once, and a static role says "rotates in 0 s".
    pub zero: Duration,
}

pub struct Secret {
    pub kind: Kind,
    /// In order of time.
    pub states: Vec<State>,
    /// Shape of what is written or issued next.
    pub shape: Shape,
    pub faults: PathFaults,
    pub number: u64,
    /// When the present rotation ends.
    pub rotates_at: Duration,
}

impl Secret {
    /// What a node sees that lags behind by `lag`.
    pub fn seen(&self, now: Duration, lag: Duration) -> Option<&Content> {
        let view = now.saturating_sub(lag);
        let state = self.states.iter().rev().find(|state| state.at <= view).or(self.states.first())?;
        state.content.as_ref()
    }

    pub fn current(&self) -> Option<&Content> {
        self.states.last()?.content.as_ref()
    }

    /// When the content with this id stopped to be the current one; `None` while it is.
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

/// The values of a content: each holds its id.
pub fn values(id: &str, shape: Shape) -> BTreeMap<String, SecretValue> {
    let mut keys = vec!["username"];
    match shape {
        Shape::Good => keys.push("password"),
        Shape::NoPassword => keys.push("passphrase"),
        Shape::OddKey => keys.extend(["password", "..odd"]),
    }
    let value = |key: &str| SecretValue::Text(format!("id={id}|{key}").as_str().into());
    keys.into_iter().map(|key| (key.to_owned(), value(key))).collect()
}

/// A version as KV v2 gives it.
pub fn version(number: u64, created: Timestamp) -> Version {
    Version { number: Some(number), created: Some(created) }
}
