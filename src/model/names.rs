//! Names that are valid by construction.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The error of an invalid name. The text states what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// The section of the configuration with the settings of the token file.
const TOKEN_FILE: &str = "tokenFile";

/// Name of a source: chosen by the user, or the secret's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// # Errors
    /// If the name is empty, contains control characters, or is longer than 253 bytes.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > 253 || name.chars().any(char::is_control) {
            return Err(NameError("expected 1 to 253 characters without control characters".into()));
        }
        Ok(Self(name.into()))
    }

    /// The name of a source that a template adds: `name` without control characters, and at most 253 bytes.
    pub(super) fn shortened(name: &str) -> Self {
        let plain: String = name.chars().filter(|c| !c.is_control()).collect();
        let mut start = plain.len().saturating_sub(253);
        while !plain.is_char_boundary(start) {
            start += 1;
        }
        Self(plain[start..].into())
    }

    /// This name with `suffix`.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self::shortened(&format!("{self}{suffix}"))
    }

    /// Name of the source of the token file. `config` gives it to no other source.
    #[must_use]
    pub fn token_file() -> Self {
        Self(TOKEN_FILE.into())
    }

    /// Whether it is the source of the token file, which is never copied.
    #[must_use]
    pub fn is_token_file(&self) -> bool {
        self.as_str() == TOKEN_FILE
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a Kubernetes object: an RFC 1123 subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// # Errors
    /// If the name is not an RFC 1123 subdomain
    /// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
    pub fn new(name: &str) -> Result<Self, NameError> {
        let label = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(NameError(
                "expected a Kubernetes name: at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at \
                 the start and the end".into(),
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Path of a file below the output directory: relative, and without components that start with `..`, which are reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// Checks the limits of the kubelet's `AtomicWriter`: 255 bytes per component and 4096 bytes per path.
    ///
    /// # Errors
    /// If the path is too long, or if a component is empty, `.`, starts with `..`, is too long, or contains a NUL byte.
    pub fn new(path: &str) -> Result<Self, NameError> {
        let invalid = |why: &str| Err(NameError(format!("{why}; expected a relative path such as \"tls/key.pem\"")));
        if path.is_empty() {
            return invalid("the path is empty");
        }
        if path.len() > 4096 {
            return invalid("the path is longer than 4096 bytes");
        }
        for part in path.split('/') {
            match part {
                "" => return invalid("a component is empty (a leading, trailing or double '/')"),
                "." => return invalid("a component is '.'"),
                _ if part.starts_with("..") => return invalid("a component starts with '..', which is reserved"),
                _ if part.len() > 255 => return invalid("a component is longer than 255 bytes"),
                _ if part.contains('\0') => return invalid("a component contains a NUL byte"),
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// The path as text, with `/` between components.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component, which is the visible name in the output directory.
    #[must_use]
    pub fn top(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// Whether the two paths cannot exist together: they are equal, or one is a parent directory of the other.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let inside = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        inside(&self.0, &other.0) || inside(&other.0, &self.0)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Permission bits of a published file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(u32);

impl Mode {
    /// # Errors
    /// If bits beyond 0777 are set, or if the owner, which is the agent, cannot read the file.
    pub fn new(bits: u32) -> Result<Self, NameError> {
        if bits > 0o777 || bits & 0o400 == 0 {
            return Err(NameError(
                "expected an octal mode, at most 0777 and readable by its owner, such as \"0440\"".into(),
            ));
        }
        Ok(Self(bits))
    }

    /// The bits for `chmod`.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Whether a shell variable can have this name: letters, digits, and `_`, without a digit at the start
/// (<https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap03.html#tag_03_216>).
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(valid)
}

/// Whether an env file of Kubernetes can have this key. A `fileKeyRef` takes printable ASCII without `=` (`IsRelaxedEnvVarName` of
/// `k8s.io/apimachinery`). The kubelet skips lines that start with `#`, ignores white space before a key, and rejects it after the
/// key (`pkg/kubelet/util/env`, Kubernetes 1.37).
#[must_use]
pub fn is_env_file_key(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
        && key.trim() == key
        && !key.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_path_rejects_paths_outside_directory() {
        for good in ["username", "tls/key.pem", ".hidden", "a.b-c_d", "ü/ß"] {
            assert_eq!(FilePath::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/./b", "..", "..data", "a/../b", "a/..b", "a\0b"] {
            assert!(FilePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(FilePath::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn file_and_directory_with_same_name_collide() {
        let path = |p| FilePath::new(p).expect(p);
        assert!(path("a").collides_with(&path("a")));
        assert!(path("a/b").collides_with(&path("a")));
        assert!(path("a").collides_with(&path("a/b")));
        assert!(!path("a/b").collides_with(&path("a/c")));
        assert!(!path("ab").collides_with(&path("a")));
    }

    #[test]
    fn object_name_accepts_dns_subdomains_only() {
        for good in ["top-secret-ks", "a.b-c", "0"] {
            assert!(ObjectName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", "a/b", "a b"] {
            assert!(ObjectName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mode_requires_owner_read_permission() {
        assert!(Mode::new(0o440).is_ok());
        assert!(Mode::new(0o1777).is_err());
        assert!(Mode::new(0o044).is_err());
    }
}
