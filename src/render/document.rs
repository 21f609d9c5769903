//! Nested values of one or more sources, for formats with mappings and lists, and how several of them are merged.
//!
//! Text stays in the reading that it is from, or is unescaped into [`SecretBytes`]. Numbers keep their digits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::value::RawValue;

use super::format::FormatError;
use super::selection::Selected;
use crate::model::{SecretBytes, SecretValue, SourceName};

/// Most levels of mappings and lists in a value. Code that walks through them is recursive, so that they need stack.
const MAX_DEPTH: usize = 64;

/// The values of a mapping by name, in the order of the file.
pub(super) type Mapping<'a> = BTreeMap<Cow<'a, str>, Node<'a>>;

/// The key of a secret that a value is from, for messages.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) source: &'a SourceName,
    pub(super) key: &'a str,
}

/// A value and its origin. The origin of a mapping that several sources have merged is one of them.
pub(super) struct Node<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) value: Value<'a>,
}

pub(super) enum Value<'a> {
    Text(Text<'a>),
    /// A number, true, false, or null, as in JSON.
    Literal(&'a str),
    List(Vec<Node<'a>>),
    Mapping(Mapping<'a>),
}

pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Unescaped(SecretBytes),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            // `from_json_string` makes UTF-8 from UTF-8.
            Self::Unescaped(bytes) => bytes.expose_str().unwrap_or_default(),
        }
    }
}

impl Node<'_> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Literal("null"))
    }
}

/// The selected keys of `source` at the place `under`. No key makes no mapping at that place.
pub(super) fn document<'a>(
    source: &'a SourceName,
    selected: BTreeMap<Cow<'a, str>, Selected<'a>>,
    under: &'a [String],
) -> Result<Mapping<'a>, FormatError> {
    let of_key = |(name, Selected { key, value }): (Cow<'a, str>, Selected<'a>)| {
        let origin = Origin { source, key };
        let text = value.bytes().expose_str().ok_or_else(|| FormatError::NotUtf8(key.to_owned()))?;
        let value = match value {
            SecretValue::Text(_) => Value::Text(Text::Borrowed(text)),
            SecretValue::Json(_) => parsed(text, origin, 1)?,
        };
        Ok((name, Node { origin, value }))
    };
    let mut mapping = selected.into_iter().map(of_key).collect::<Result<Mapping<'a>, FormatError>>()?;
    if let Some(origin) = mapping.values().next().map(|node| node.origin) {
        for name in under.iter().rev() {
            let inner = Node { origin, value: Value::Mapping(mapping) };
            mapping = Mapping::from([(Cow::Borrowed(name.as_str()), inner)]);
        }
    }
    Ok(mapping)
}

/// `json` is one value without white space around it.
fn parsed<'a>(json: &'a str, origin: Origin<'a>, depth: usize) -> Result<Value<'a>, FormatError> {
    if depth > MAX_DEPTH {
        return Err(FormatError::TooDeep(origin.key.to_owned()));
    }
    let node = |raw: &'a RawValue| Ok(Node { origin, value: parsed(raw.get(), origin, depth + 1)? });
    // The text has been parsed before, except for the escapes of its strings. The error of the library quotes parts of it.
    let broken = || FormatError::NotUtf8(origin.key.to_owned());
    match json.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &'a RawValue> = serde_json::from_str(json).map_err(|_| broken())?;
            let members = members.into_iter().map(|(name, raw)| Ok((Cow::Owned(name), node(raw)?)));
            Ok(Value::Mapping(members.collect::<Result<_, FormatError>>()?))
        }
        Some(b'[') => {
            let items: Vec<&'a RawValue> = serde_json::from_str(json).map_err(|_| broken())?;
            Ok(Value::List(items.into_iter().map(node).collect::<Result<_, FormatError>>()?))
        }
        Some(b'"') => {
            let text = SecretBytes::from_json_string(json).ok_or_else(broken)?;
            Ok(Value::Text(Text::Unescaped(text)))
        }
        _ => Ok(Value::Literal(json)),
    }
}

/// Merges `later` into `mapping`: two mappings key by key. Any other value is replaced as a whole.
pub(super) fn merge<'a>(mapping: &mut Mapping<'a>, later: Mapping<'a>) {
    for (name, node) in later {
        match mapping.entry(name) {
            Entry::Vacant(entry) => _ = entry.insert(node),
            Entry::Occupied(mut entry) => match (&mut entry.get_mut().value, node.value) {
                (Value::Mapping(earlier), Value::Mapping(later)) => merge(earlier, later),
                (_, value) => _ = entry.insert(Node { origin: node.origin, value }),
            },
        }
    }
}
