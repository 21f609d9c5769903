//! Which keys of a secret an output uses, and what it calls them.

use std::collections::{BTreeMap, BTreeSet};

use super::Glob;

/// The keys of a secret that an output uses, and their names in the output. By default, all keys under their own names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySelection {
    /// Patterns of the keys to use. If empty, all keys.
    pub include: Vec<Glob>,
    /// Patterns of the keys to leave out, even if `include` matches.
    pub exclude: Vec<Glob>,
    /// Name in the output by key. Other keys keep their names.
    pub rename: BTreeMap<String, String>,
}

impl KeySelection {
    /// The name of `key` in the output; `None` if the output does not use the key.
    #[must_use]
    pub fn name_of<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(key));
        let is_selected = (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude);
        is_selected.then(|| self.rename.get(key).map_or(key, String::as_str))
    }

    /// Whether a secret can have a key with this name in the output.
    #[must_use]
    pub fn can_contain(&self, name: &str) -> bool {
        let renamed = self.rename.iter().any(|(key, to)| to == name && self.name_of(key).is_some());
        renamed || self.name_of(name) == Some(name)
    }

    /// The keys that the configuration names and the output uses, with their names in the output. A secret can have more.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        let literals = self.include.iter().filter(|glob| glob.is_literal()).map(Glob::as_str);
        let keys: BTreeSet<&str> = literals.chain(self.rename.keys().map(String::as_str)).collect();
        keys.into_iter().filter_map(|key| Some((key, self.name_of(key)?)))
    }

    /// Whether [`Self::named`] returns every key that the output can use.
    #[must_use]
    pub fn is_complete_list(&self) -> bool {
        !self.include.is_empty() && self.include.iter().all(Glob::is_literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str], rename: &[(&str, &str)]) -> KeySelection {
        let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern).expect(pattern)).collect();
        let rename = rename.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
        KeySelection { include: globs(include), exclude: globs(exclude), rename }
    }

    #[test]
    fn exclude_takes_precedence_and_rename_applies_to_selected_keys() {
        let chosen = selection(&["db-*", "url"], &["*-old"], &[("db-host", "host"), ("db-old", "old")]);
        for (key, name) in [
            ("db-user", Some("db-user")),
            ("db-host", Some("host")),
            ("url", Some("url")),
            ("db-old", None),
            ("a", None),
        ] {
            assert_eq!(chosen.name_of(key), name, "{key}");
        }
        assert_eq!(KeySelection::default().name_of("any"), Some("any"));
    }

    #[test]
    fn names_that_no_key_can_have_are_known() {
        let chosen = selection(&[], &["b"], &[("a", "x"), ("b", "y")]);
        for (name, possible) in [("x", true), ("a", false), ("b", false), ("y", true), ("other", true)] {
            assert_eq!(chosen.can_contain(name), possible, "{name}");
        }
    }

    #[test]
    fn named_keys_are_the_literal_and_renamed_ones() {
        let chosen = selection(&["a", "b", "c-*", "d"], &["d"], &[("b", "x"), ("c-1", "y"), ("z", "z")]);
        assert!(chosen.named().eq([("a", "a"), ("b", "x"), ("c-1", "y")]));
        assert!(!chosen.is_complete_list() && !KeySelection::default().is_complete_list());
        assert!(selection(&["a"], &[], &[]).is_complete_list());
    }
}
