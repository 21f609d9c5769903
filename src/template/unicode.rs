//! Classes of characters of Go's package `unicode`. Those of `char` are wider: they contain marks and other numbers.

use std::sync::LazyLock;

use regex::Regex;

/// `unicode.IsLetter`.
pub(in crate::template) fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Regex> = LazyLock::new(|| class(r"\p{L}"));
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is(&LETTER, c) }
}

/// `unicode.IsDigit`.
pub(in crate::template) fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Regex> = LazyLock::new(|| class(r"\p{Nd}"));
    if c.is_ascii() { c.is_ascii_digit() } else { is(&DIGIT, c) }
}

/// `unicode.IsPrint`: what a quoted string contains without an escape.
pub(in crate::template) fn is_print(c: char) -> bool {
    static PRINT: LazyLock<Regex> = LazyLock::new(|| class(r"[\p{L}\p{M}\p{N}\p{P}\p{S}]"));
    if c.is_ascii() { (' '..='~').contains(&c) } else { is(&PRINT, c) }
}

fn class(class: &str) -> Regex {
    Regex::new(&format!("^{class}$")).expect("the expression is constant")
}

fn is(class: &Regex, c: char) -> bool {
    class.is_match(c.encode_utf8(&mut [0; 4]))
}
