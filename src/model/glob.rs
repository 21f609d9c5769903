//! Patterns that select keys and paths.

use std::fmt;

use glob::{MatchOptions, Pattern};

use super::NameError;

/// A pattern as in a shell: `*` and `?` match within a path component, `**` matches any number of whole components, and
/// `[a-z]` or `[!a-z]` match one character. `[*]` matches a literal `*`. Case matters, and a leading `.` is not special.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(Pattern);

impl Glob {
    /// # Errors
    /// If the pattern is empty, contains an incomplete `[…]`, combines `**` with other text in one component, or seems to be a
    /// regular expression, a list of alternatives in braces, or a negation.
    pub fn new(pattern: &str) -> Result<Self, NameError> {
        if pattern.is_empty() {
            return Err(NameError("expected a pattern such as \"db-*\"".into()));
        }
        let has = |character: char| pattern.contains(character) && !pattern.contains(&format!("[{character}]"));
        if pattern.starts_with(['^', '!']) || ['{', '|'].into_iter().any(has) {
            let why = "only `*`, `**`, `?`, and `[a-z]` have a meaning; use several patterns, `exclude`, or `[{]` for a literal {";
            return Err(NameError(format!("expected a pattern such as \"db-*\": {why}")));
        }
        Pattern::new(pattern).map(Self).map_err(|error| {
            let (part, at) = (error.msg, error.pos + 1);
            NameError(format!("{part}, at character {at}; expected a pattern such as \"db-*\""))
        })
    }

    /// Whether the pattern matches the whole `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let options =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        self.0.matches_with(text, options)
    }

    /// Whether the pattern matches only the text that equals it.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.as_str().contains(['*', '?', '['])
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_matches_like_a_shell() {
        for (pattern, matching, others) in [
            ("password", &["password"][..], &["passwords", "a/password", "Password", ""][..]),
            ("db-*", &["db-", "db-host", "db-ü"], &["db", "db-a/b", "xdb-a"]),
            ("*", &["a", ".hidden", ""], &["a/b"]),
            ("a?c", &["abc", "aüc"], &["ac", "a/c", "abbc"]),
            ("[a-cü]x", &["bx", "üx"], &["dx", "x", "/x"]),
            ("[!a-c]x", &["dx"], &["ax", "/x"]),
            ("[*]", &["*"], &["a"]),
            ("[{]a}", &["{a}"], &["a"]),
            ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ab/c"]),
            ("**/c", &["c", "a/c", "a/b/c"], &["a/b/cc"]),
            ("a/**/c", &["a/c", "a/b/c", "a/b/b/c"], &["a/bc"]),
            ("**", &["a", "a/b"], &[]),
        ] {
            let glob = Glob::new(pattern).expect(pattern);
            assert!(matching.iter().all(|text| glob.matches(text)), "{pattern} matches {matching:?}");
            assert!(!others.iter().any(|text| glob.matches(text)), "{pattern} does not match {others:?}");
        }
    }

    #[test]
    fn glob_rejects_incomplete_patterns_and_says_where() {
        for (pattern, part) in [
            ("", "expected"),
            ("a[b", "at character 2"),
            ("a**", "path component"),
            ("**a", "path component"),
            ("***", "`**`"),
            ("db-{a,b}", "several patterns"),
            ("^db-.*$", "several patterns"),
            ("!db", "`exclude`"),
        ] {
            let error = Glob::new(pattern).expect_err(pattern);
            assert!(error.0.contains(part), "{pattern}: {error}");
        }
    }

    /// A pattern with many stars takes time in proportion to the text, not exponential time.
    #[test]
    fn glob_with_many_stars_is_quick() {
        let glob = Glob::new(&"*a".repeat(30)).expect("a pattern");
        assert!(!glob.matches(&format!("{}b", "a".repeat(2000))));
    }
}
