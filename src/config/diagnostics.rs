//! Errors in a configuration, collected so that all are reported at once. Never contains a secret.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use thiserror::Error;

pub(super) use crate::model::{nearest, suggestion};

/// Path of the configuration as a whole.
pub(super) const DOCUMENT: &str = "configuration";

/// Maximum characters of a value in a message.
const MAX_SHOWN: usize = 80;

/// Keys below `auth` whose values are shown. Others are hidden: a user may have written the credential itself instead
/// of the name of its file.
const SHOWN_OF_AUTH: [&str; 6] = ["method", "mount", "namespace", "role", "audience", "removeSecretId"];

/// Prefixes of Vault tokens (<https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes>).
const TOKEN_PREFIXES: [&str; 6] = ["hvs.", "hvb.", "hvr.", "s.", "b.", "r."];

/// All errors of a configuration. `Display` prints one line per error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// Not empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Key path (`outputs[2].mode`) or the name of the environment variable.
    pub path: String,
    /// The value found, as text. `None` if it may be a secret or is not a scalar.
    pub value: Option<String>,
    /// What is expected, and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        match &self.value {
            Some(value) => write!(f, " (found {value})"),
            None => Ok(()),
        }
    }
}

/// Collects errors. Remembers which keys were set by an environment variable, so that an error names what the user
/// wrote.
#[derive(Default)]
pub(super) struct Diagnostics {
    list: Vec<Diagnostic>,
    origins: BTreeMap<String, String>,
}

impl Diagnostics {
    /// Records that the value at `path`, and below it, came from the environment variable `name`.
    pub(super) fn set_origin(&mut self, path: &str, name: &str) {
        self.origins.insert(path.to_owned(), name.to_owned());
    }

    /// Reports the value found at `path`. `message` says what the value must be.
    pub(super) fn invalid(&mut self, path: &str, found: impl Into<Value>, message: impl Into<String>) {
        let value = showable(path, &found.into());
        self.push(path, value, message.into());
    }

    /// Reports a value that is not shown, because it may be a secret or too large to help.
    pub(super) fn invalid_hidden(&mut self, path: &str, message: impl Into<String>) {
        self.push(path, None, message.into());
    }

    /// Reports an absent value, unless `path` is already reported: then the value was present but invalid.
    pub(super) fn required(&mut self, path: &str, message: impl Into<String>) {
        if !self.contains(path) {
            self.push(path, None, message.into());
        }
    }

    /// Reports a key that must not be set, whatever its value.
    pub(super) fn forbidden(&mut self, path: &str, message: impl Into<String>) {
        self.push(path, None, message.into());
    }

    /// Reports a value that an earlier entry has too. `message` starts with what is duplicate.
    pub(super) fn duplicate(&mut self, path: &str, found: impl Into<Value>, message: impl fmt::Display) {
        self.invalid(path, found, format!("duplicate {message}"));
    }

    /// Reports a name that keyferry does not know. `path` ends with the name, `kind` says what kind of name it is.
    pub(super) fn unknown<'a>(
        &mut self,
        path: &str,
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        self.push(path, None, format!("unknown {kind}; {}", suggestion(name, known)));
    }

    fn push(&mut self, path: &str, value: Option<String>, message: String) {
        let path = self.origin(path).unwrap_or(path).to_owned();
        let diagnostic = Diagnostic { path, value, message };
        // One variable can set a value for several sources.
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
        }
    }

    /// The environment variable that set `path` or the nearest key above it.
    fn origin(&self, path: &str) -> Option<&str> {
        self.origins
            .iter()
            .filter(|(key, _)| covers(key, path))
            .max_by_key(|(key, _)| key.len())
            .map(|(_, name)| name.as_str())
    }

    /// Whether an error of `path` or of a key above it is reported.
    pub(super) fn contains(&self, path: &str) -> bool {
        let shown = self.origin(path).unwrap_or(path);
        self.list.iter().any(|diagnostic| covers(&diagnostic.path, path) || diagnostic.path == shown)
    }

    /// Whether an error of `path` or of a key below it is reported, so that its parsed value is incomplete.
    pub(super) fn contains_below(&self, path: &str) -> bool {
        self.list.iter().any(|diagnostic| covers(path, &diagnostic.path))
    }

    /// Whether the configuration file as a whole is unreadable.
    pub(super) fn is_unreadable(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.path == DOCUMENT)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_error(self) -> ConfigError {
        ConfigError { diagnostics: self.list }
    }
}

/// Whether `path` is `key` or below it.
fn covers(key: &str, path: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The value as text for a message. `None` if it may contain a secret.
fn showable(path: &str, value: &Value) -> Option<String> {
    if let Some(key) = path.strip_prefix("auth") {
        let key = key.trim_start_matches('.');
        if !SHOWN_OF_AUTH.contains(&key) {
            return None;
        }
    }
    // The file is a single text: probably the wrong file, perhaps with a password in it.
    if path == DOCUMENT {
        return None;
    }
    // A password in the place of its source and key.
    if path.starts_with("outputs") && path.ends_with(".password") {
        return None;
    }
    // Annotations can contain anything.
    if path.contains(".annotations.") {
        return None;
    }
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Number(_) | Value::Bool(_) => return Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    // `@`: an address can contain `user:password@`.
    if text.contains('@') || text.contains('\n') || TOKEN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return None;
    }
    let short: String = text.chars().take(MAX_SHOWN).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    Some(format!("{short:?}{dots}"))
}

/// Maximum bytes of an unknown key in a message.
const MAX_KEY: usize = 64;

/// The name of an unknown key for a key path. Hidden if it does not look like a key: it may be a secret pasted in the
/// wrong place.
pub(super) fn shown_name(name: &str) -> Cow<'_, str> {
    let plain = name.len() <= MAX_KEY
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && !TOKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if plain { name.into() } else { Cow::Owned("<name not shown>".to_owned()) }
}

/// [`shown_name`] for a sentence, in backquotes.
pub(super) fn shown_key(name: &str) -> String {
    match shown_name(name) {
        Cow::Borrowed(name) => format!("`{name}`"),
        Cow::Owned(placeholder) => placeholder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_that_may_be_secret_is_not_shown() {
        for (path, value) in [
            ("auth.tokenFile", "correct horse"),
            ("auth.secretIdFile", "correct horse"),
            ("auth", "correct horse"),
            ("vault.address", "https://user:horse@vault"),
            ("vault.namespace", "hvs.horse"),
            ("mirrors.a.annotations.b", "correct horse"),
        ] {
            let mut diagnostics = Diagnostics::default();
            diagnostics.invalid(path, value, "is wrong");
            assert!(!diagnostics.into_error().to_string().contains("horse"), "{path}");
        }
    }

    #[test]
    fn error_names_the_variable_that_set_the_value() {
        let mut diagnostics = Diagnostics::default();
        diagnostics.set_origin("vault.address", "VAULT_ADDR");
        diagnostics.invalid("vault.address", "ftp://x", "is not http");
        diagnostics.invalid("vault.addresses", "y", "is not known");
        let text = diagnostics.into_error().to_string();
        assert_eq!(text, "VAULT_ADDR: is not http (found \"ftp://x\")\nvault.addresses: is not known (found \"y\")");
    }

    #[test]
    fn similar_name_is_suggested_across_spellings() {
        let known = ["redirectTo", "timeout", "tokenFile"];
        assert_eq!(nearest("redirect_to", known), Some("redirectTo"));
        assert_eq!(nearest("tiemout", known), Some("timeout"));
        assert_eq!(nearest("token", known), Some("tokenFile"));
        assert_eq!(nearest("banana", known), None);
    }
}
