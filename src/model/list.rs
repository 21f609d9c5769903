//! Selects the secrets below a path that a source delivers.

use std::fmt::Write as _;

use super::Glob;

/// The secrets below the path of a source. Here, "path" means the path of a secret below that path, such as `sub/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretList {
    /// Also deliver the secrets in folders, at any depth.
    pub recursive: bool,
    /// Deliver only secrets whose path matches one of these. Empty: all.
    pub include: Vec<Glob>,
    /// Do not deliver secrets whose path matches one of these.
    pub exclude: Vec<Glob>,
    /// Maximum number of secrets.
    pub max_count: usize,
    /// Maximum number of components of a path.
    pub max_depth: usize,
}

impl SecretList {
    /// Maximum number of concurrent requests of one read. Folders and secrets of a list are many small requests, and other
    /// sources and pods use the server too.
    pub const CONCURRENCY: usize = 4;

    /// Maximum number of folders. Each secret is in fewer than `max_depth` folders, so more folders than this contain too many
    /// secrets, or mostly secrets that are not selected.
    #[must_use]
    pub fn max_folders(&self) -> usize {
        self.max_count.saturating_mul(self.max_depth)
    }

    /// Number of requests of one read that run one after another, if there are as many folders as secrets.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        u32::try_from(self.max_count.saturating_mul(2).div_ceil(Self::CONCURRENCY)).unwrap_or(u32::MAX)
    }

    /// Whether the secret at `path` is delivered.
    #[must_use]
    pub fn selects(&self, path: &str) -> bool {
        let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }

    /// Whether a secret below `folder` can be delivered. A folder without such secrets needs no permission to list it.
    #[must_use]
    pub fn enters(&self, folder: &str) -> bool {
        self.recursive
            && (self.include.is_empty() || self.include.iter().any(|glob| can_match_below(glob, folder)))
            && !self.exclude.iter().any(|glob| matches_all_below(glob, folder))
    }

    /// The part of [`Source::request_id`](super::Source::request_id) that selects the secrets. The maxima are not part of it:
    /// they do not change what a successful read delivers.
    pub(super) fn request_id(&self) -> String {
        let mut text = if self.recursive { "#list=recursive" } else { "#list" }.to_owned();
        for (name, globs) in [("include", &self.include), ("exclude", &self.exclude)] {
            for glob in globs {
                // Cannot fail: a `String` accepts every write.
                let _ = write!(text, "#{name}={:?}", glob.as_str());
            }
        }
        text
    }
}

/// Whether `glob` can match a path below `folder`, compared component by component.
fn can_match_below(glob: &Glob, folder: &str) -> bool {
    let mut patterns = glob.as_str().split('/');
    for component in folder.split('/') {
        match patterns.next() {
            None => return false,
            Some("**") => return true,
            // A slash in brackets splits the pattern into parts that are not valid patterns.
            Some(pattern) => match Glob::new(pattern) {
                Ok(glob) if !glob.matches(component) => return false,
                _ => {}
            },
        }
    }
    patterns.next().is_some()
}

/// Whether `glob` matches every path below `folder`: `archive/**` for `archive` and for `archive/2025`.
fn matches_all_below(glob: &Glob, folder: &str) -> bool {
    if glob.as_str() == "**" {
        return true;
    }
    let Some(Ok(above)) = glob.as_str().strip_suffix("/**").map(Glob::new) else { return false };
    let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
    ends.into_iter().any(|end| above.matches(&folder[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(include: &[&str], exclude: &[&str]) -> SecretList {
        let globs = |patterns: &[&str]| patterns.iter().map(|text| Glob::new(text).expect(text)).collect();
        SecretList { recursive: true, include: globs(include), exclude: globs(exclude), max_count: 100, max_depth: 10 }
    }

    #[test]
    fn list_selects_by_include_and_exclude() {
        let all: &[&str] = &[];
        for (include, exclude, selected, others) in [
            (all, all, &["a", "a/b"][..], &[][..]),
            (&["*"], all, &["a"], &["a/b"]),
            (&["*/db", "shared/**"], &["shared/old"], &["web/db", "shared/a", "shared/b/c"], &["db", "shared/old"]),
            (all, &["**/tmp"], &["a/b"], &["tmp", "a/tmp"]),
        ] {
            let list = list(include, exclude);
            assert!(selected.iter().all(|path| list.selects(path)), "{include:?} {exclude:?} select {selected:?}");
            assert!(!others.iter().any(|path| list.selects(path)), "{include:?} {exclude:?} select none of {others:?}");
        }
    }

    #[test]
    fn list_enters_only_folders_with_secrets_to_deliver() {
        let all: &[&str] = &[];
        for (include, exclude, entered, skipped) in [
            (all, all, &["a", "a/b"][..], &[][..]),
            (&["*"], all, &[], &["a", "a/b"]),
            (&["web-*/db", "shared/**"], all, &["web-1", "shared", "shared/x/y"], &["api", "web-1/db", "web-1/x"]),
            (&["**/db"], all, &["a", "a/b"], &[]),
            (&["a/**/db"], all, &["a", "a/b/c"], &["b"]),
            (&["[a/]b/c"], all, &["[a"], &[]),
            (all, &["archive/**", "*/tmp"], &["a", "a/tmp"], &["archive", "archive/2025"]),
            (all, &["**"], &[], &["a"]),
            (all, &["*/old/**"], &["a", "old"], &["a/old", "a/old/b"]),
        ] {
            let list = list(include, exclude);
            assert!(entered.iter().all(|path| list.enters(path)), "{include:?} {exclude:?} enter {entered:?}");
            assert!(!skipped.iter().any(|path| list.enters(path)), "{include:?} {exclude:?} enter none of {skipped:?}");
        }
        assert!(!SecretList { recursive: false, ..list(all, all) }.enters("a"));
    }

    #[test]
    fn request_id_depends_on_selection_and_not_on_maxima() {
        let id = list(&["a", "\""], &["b"]).request_id();
        assert_eq!(id, r##"#list=recursive#include="a"#include="\""#exclude="b""##);
        assert_eq!(SecretList { max_count: 5, ..list(&["a", "\""], &["b"]) }.request_id(), id);
        assert_eq!(SecretList { recursive: false, ..list(&[], &[]) }.request_id(), "#list");
    }
}
