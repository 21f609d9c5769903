//! Which keys of a secret an output uses, and what it calls them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::Glob;

/// The keys of a secret that an output uses, and their names in the output. By default, all keys under their own names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySelection {
    /// Patterns of the keys to use. If empty, all keys.
    pub include: Vec<Glob>,
    /// Patterns of the keys to leave out, even if `include` matches.
    pub exclude: Vec<Glob>,
    /// Name in the output by key. A key with a slash at the end stands for all keys that start with it: its name replaces this
    /// start. Other keys keep their names.
    pub rename: BTreeMap<String, String>,
}

impl KeySelection {
    /// The name of `key` in the output; `None` if the output does not use the key.
    #[must_use]
    pub fn name_of<'a>(&'a self, key: &'a str) -> Option<Cow<'a, str>> {
        let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(key));
        let is_selected = (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude);
        is_selected.then(|| match self.rename.get(key) {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => self.moved(key).map_or(Cow::Borrowed(key), Cow::Owned),
        })
    }

    /// The name of a key in a renamed directory. The longest one applies.
    fn moved(&self, key: &str) -> Option<String> {
        let ends = key.rmatch_indices('/').map(|(at, _)| at + 1);
        ends.into_iter().find_map(|end| Some(format!("{}{}", self.rename.get(&key[..end])?, &key[end..])))
    }

    /// Whether a secret can have a key with this name in the output.
    #[must_use]
    pub fn can_contain(&self, name: &str) -> bool {
        let key_of = |(key, to): (&String, &String)| match key.strip_suffix('/') {
            Some(_) => name.strip_prefix(to.as_str()).map(|rest| format!("{key}{rest}")),
            None => (to == name).then(|| key.clone()),
        };
        let mut keys = self.rename.iter().filter_map(key_of).chain([name.to_owned()]);
        keys.any(|key| self.name_of(&key).is_some_and(|found| found == name))
    }

    /// The keys that the configuration names and the output uses, with their names in the output. A secret can have more.
    pub fn named(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let literals = self.include.iter().filter(|glob| glob.is_literal()).map(Glob::as_str);
        let renamed = self.rename.keys().map(String::as_str).filter(|key| !key.ends_with('/'));
        let keys: BTreeSet<&str> = literals.chain(renamed).collect();
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
    fn key_with_a_slash_at_the_end_renames_all_keys_below_it() {
        let chosen = selection(&[], &["web/old/*"], &[("web/", "shop/"), ("web/tls/", ""), ("web/a", "b")]);
        for (key, name) in [
            ("web/db/password", Some("shop/db/password")),
            ("web/tls/key", Some("key")),
            ("web/a", Some("b")),
            ("web", Some("web")),
            ("webx/a", Some("webx/a")),
            ("web/old/a", None),
        ] {
            assert_eq!(chosen.name_of(key).as_deref(), name, "{key}");
        }
        let chosen = selection(&["web/*", "a"], &[], &[("web/", "shop/")]);
        for (name, expected) in [("shop/x", true), ("web/x", false), ("shop/x/y", false), ("a", true), ("b", false)] {
            assert_eq!(chosen.can_contain(name), expected, "{name}");
        }
        assert_eq!(chosen.named().collect::<Vec<_>>(), [("a", Cow::Borrowed("a"))]);
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
            assert_eq!(chosen.name_of(key).as_deref(), name, "{key}");
        }
        assert_eq!(KeySelection::default().name_of("any").as_deref(), Some("any"));
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
        assert!(
            chosen.named().eq([("a", "a"), ("b", "x"), ("c-1", "y")].map(|(key, name)| (key, Cow::Borrowed(name))))
        );
        assert!(!chosen.is_complete_list() && !KeySelection::default().is_complete_list());
        assert!(selection(&["a"], &[], &[]).is_complete_list());
    }
}
