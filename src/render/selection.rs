//! The keys of a secret that an output uses, by their name in the output.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::text::quoted;
use crate::model::{KeySelection, SecretValue};

/// A key of a secret and its value.
#[derive(Clone, Copy)]
pub(super) struct Selected<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a SecretValue,
}

/// Two keys that have the same name in an output.
pub(super) struct Collision<'a> {
    keys: [&'a str; 2],
    pub(super) name: Cow<'a, str>,
}

impl fmt::Display for Collision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.keys.map(quoted);
        let name = quoted(&self.name);
        write!(
            f,
            "keys {one} and {other} both have the name {name} in the output; correct `rename`, or leave one out with `exclude`"
        )
    }
}

/// The selected keys and values by their name in the output.
pub(super) fn selected<'a>(
    data: &'a BTreeMap<String, SecretValue>,
    keys: &'a KeySelection,
) -> Result<BTreeMap<Cow<'a, str>, Selected<'a>>, Collision<'a>> {
    let mut by_name = BTreeMap::new();
    for (key, value) in data {
        let Some(name) = keys.name_of(key) else { continue };
        if let Some(Selected { key: other, .. }) = by_name.insert(name.clone(), Selected { key, value }) {
            return Err(Collision { keys: [other, key], name });
        }
    }
    Ok(by_name)
}
