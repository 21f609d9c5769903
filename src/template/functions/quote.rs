//! Text in quotes, like the verb `%q` of Go's package `fmt`.

use std::fmt::Write as _;

use super::super::bytes::byte_of;
use super::unicode::is_print;

/// `%q`: a quoted string with the escapes of Go.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\0'..' ' | '\u{7f}' => _ = write!(quoted, "\\x{:02x}", u32::from(c)),
            _ => match byte_of(c) {
                Some(byte) => _ = write!(quoted, "\\x{byte:02x}"),
                None if is_print(c) => quoted.push(c),
                None if u32::from(c) < 0x1_0000 => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
                None => _ = write!(quoted, "\\U{:08x}", u32::from(c)),
            },
        }
    }
    quoted.push('"');
    quoted
}
