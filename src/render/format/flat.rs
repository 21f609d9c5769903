//! The values of a document by one name each, for formats without mappings and lists.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::document::{Mapping, Node, Origin, Value};
use super::FormatError;
use crate::model::variable_of;

/// How the name of a nested value is made from its path.
#[derive(Clone, Copy)]
pub(super) enum Naming {
    /// `a.b[0]`, as Spring Boot reads it
    /// (<https://docs.spring.io/spring-boot/reference/features/external-config.html#features.external-config.yaml.mapping-to-properties>).
    Properties,
    /// See [`variable_of`].
    Variables,
}

/// A value without mappings and lists.
pub(super) struct Flat<'m, 'a> {
    pub(super) origin: Origin<'a>,
    pub(super) text: &'m str,
}

/// A part of the path to a value.
struct Part<'m> {
    name: Cow<'m, str>,
    is_index: bool,
}

/// The values by name. A null counts as a missing key. As in Spring Boot, a null in a list is empty text, so that the items after it
/// keep their index, and so is an empty mapping or list.
pub(super) fn flat<'m, 'a>(
    mapping: &'m Mapping<'a>,
    naming: Naming,
) -> Result<BTreeMap<String, Flat<'m, 'a>>, (Origin<'a>, FormatError)> {
    let mut found = Walk { naming, path: Vec::new(), found: BTreeMap::new() };
    found.mapping(mapping)?;
    Ok(found.found)
}

struct Walk<'m, 'a> {
    naming: Naming,
    path: Vec<Part<'m>>,
    found: BTreeMap<String, Flat<'m, 'a>>,
}

impl<'m, 'a> Walk<'m, 'a> {
    fn mapping(&mut self, mapping: &'m Mapping<'a>) -> Result<(), (Origin<'a>, FormatError)> {
        for (name, node) in mapping.iter().filter(|(_, node)| !node.is_null()) {
            self.at(Part { name: Cow::Borrowed(name), is_index: false }, node)?;
        }
        Ok(())
    }

    fn at(&mut self, part: Part<'m>, node: &'m Node<'a>) -> Result<(), (Origin<'a>, FormatError)> {
        self.path.push(part);
        match &node.value {
            Value::Text(text) => self.add(node, text.as_str())?,
            Value::Literal("null") => self.add(node, "")?,
            Value::Literal(text) => self.add(node, text)?,
            Value::List(items) if items.is_empty() => self.add(node, "")?,
            Value::Mapping(mapping) if mapping.is_empty() => self.add(node, "")?,
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(Part { name: Cow::Owned(index.to_string()), is_index: true }, item)?;
                }
            }
            Value::Mapping(mapping) => self.mapping(mapping)?,
        }
        self.path.pop();
        Ok(())
    }

    fn add(&mut self, node: &'m Node<'a>, text: &'m str) -> Result<(), (Origin<'a>, FormatError)> {
        let origin = node.origin;
        match self.found.entry(self.name()) {
            Entry::Vacant(entry) => {
                entry.insert(Flat { origin, text });
                Ok(())
            }
            Entry::Occupied(entry) => {
                let other = entry.get().origin;
                let of = (other.source != origin.source).then(|| other.source.to_string());
                let (key, other) = (origin.key.to_owned(), other.key.to_owned());
                Err((origin, FormatError::SameName { key, other, of, name: entry.key().clone() }))
            }
        }
    }

    fn name(&self) -> String {
        match self.naming {
            Naming::Variables => variable_of(self.path.iter().map(|part| &*part.name)),
            Naming::Properties => {
                let mut name = String::new();
                for Part { name: part, is_index } in &self.path {
                    match (is_index, name.is_empty()) {
                        (true, _) => name.extend(["[", part, "]"]),
                        (false, true) => name.push_str(part),
                        (false, false) => name.extend([".", part]),
                    }
                }
                name
            }
        }
    }
}
