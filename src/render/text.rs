//! Names of keys in messages. The writer of a secret chooses them, so they can be long and contain control characters.

use crate::model::truncated;

/// Most characters of a name in a message.
const MAX_SHOWN: usize = 100;

/// At most 100 characters of `name`, with control characters escaped.
pub(super) fn shortened(name: &str) -> String {
    let mut text = String::new();
    for c in truncated(name, MAX_SHOWN).chars() {
        if c.is_control() { text.extend(c.escape_debug()) } else { text.push(c) }
    }
    text
}

/// [`shortened`], in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", shortened(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_truncates_and_escapes_control_characters() {
        assert_eq!(shortened("tls.key"), "tls.key");
        assert_eq!(shortened("a\nb\0\u{1b}[31mü"), "a\\nb\\0\\u{1b}[31mü");
        assert_eq!(shortened(&"ü".repeat(100)), "ü".repeat(100));
        assert_eq!(shortened(&"ü".repeat(101)), format!("{}…", "ü".repeat(100)));
        assert_eq!(quoted("a b"), "\"a b\"");
    }
}
