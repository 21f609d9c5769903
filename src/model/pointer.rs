//! References to a value inside a JSON value.

use std::fmt;

use super::NameError;

/// A JSON Pointer, such as `/db/0/host` ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer {
    text: String,
    /// Names of keys, or indexes of an array, from the outside in. Not empty.
    tokens: Vec<String>,
}

impl JsonPointer {
    /// # Errors
    /// If `text` does not start with `/`, or contains a `~` that is not part of `~0` (for `~`) or `~1` (for `/`). The pointer to
    /// the whole value, which is empty, is an error too.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let Some(tokens) = text.strip_prefix('/') else {
            return Err(NameError("expected a JSON Pointer (RFC 6901), such as \"/db/0/host\"".into()));
        };
        let unescaped = |token: &str| {
            let is_valid = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            // In this order, so that `~01` becomes `~1`.
            is_valid.then(|| token.replace("~1", "/").replace("~0", "~"))
        };
        let tokens = tokens.split('/').map(unescaped).collect::<Option<_>>().ok_or_else(|| {
            NameError("expected a JSON Pointer (RFC 6901), in which \"~0\" stands for '~' and \"~1\" for '/'".into())
        })?;
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// Names of keys, or indexes of an array, from the outside in.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_unescapes_its_tokens() {
        for (text, tokens) in [
            ("/db/0/host", &["db", "0", "host"][..]),
            ("/", &[""]),
            ("/a//b", &["a", "", "b"]),
            ("/a~1b/m~0n/~01", &["a/b", "m~n", "~1"]),
            ("/a b/ü\"", &["a b", "ü\""]),
        ] {
            let pointer = JsonPointer::new(text).expect(text);
            assert!(pointer.tokens().iter().map(String::as_str).eq(tokens.iter().copied()), "{pointer:?}");
            assert_eq!(pointer.to_string(), text);
        }
        for bad in ["", "db", "db/host", "$.db", "/a~", "/a~2", "/~~01"] {
            assert!(JsonPointer::new(bad).is_err(), "{bad}");
        }
    }
}
