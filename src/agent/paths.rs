//! The file paths of a set, to find collisions without comparing every file with every other.

use std::collections::BTreeMap;

use crate::model::FilePath;

/// Paths, with the number of outputs that produce each of them.
#[derive(Clone, Default)]
pub(super) struct Paths(BTreeMap<String, usize>);

impl Paths {
    pub(super) fn add(&mut self, path: &FilePath) {
        *self.0.entry(path.as_str().to_owned()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, path: &FilePath) {
        if let Some(count) = self.0.get_mut(path.as_str()) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(path.as_str());
            }
        }
    }

    /// Whether `path` cannot exist next to these paths, as by [`FilePath::collides_with`].
    pub(super) fn collides_with(&self, path: &FilePath) -> bool {
        let path = path.as_str();
        let below = format!("{path}/");
        let has_file_below = || self.0.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below));
        let mut parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        self.0.contains_key(path) || parents.any(|parent| self.0.contains_key(parent)) || has_file_below()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn collisions_are_those_of_each_pair(texts in prop::collection::vec("[ab]{1,2}([-/.][ab]{1,2}){0,3}", 1..12)) {
            let parsed: Vec<_> = texts.iter().filter_map(|text| FilePath::new(text).ok()).collect();
            let Some((last, others)) = parsed.split_last() else { return Ok(()) };
            let mut paths = Paths::default();
            for path in others {
                paths.add(path);
            }
            prop_assert_eq!(paths.collides_with(last), others.iter().any(|other| other.collides_with(last)));
            for path in others {
                paths.remove(path);
            }
            prop_assert!(!paths.collides_with(last));
        }
    }
}
