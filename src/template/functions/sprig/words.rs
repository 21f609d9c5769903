//! Functions on words and lines of text: ports of the Go module `github.com/Masterminds/goutils`, which counts in bytes.

use gotmpl::Value;

use super::super::super::bytes::{from_text, to_text};
use super::super::super::unicode::{is_digit, is_letter};
use super::super::super::value::text;
use super::super::text::each;
use super::super::{Arguments, Function};
use super::text::changed;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_abbrev", |arguments| {
        arguments.exactly(2)?;
        Ok(text(&abbreviated(arguments.text(1)?, 0, arguments.integer(0)?, 4)))
    }),
    ("sprig_abbrevboth", |arguments| {
        arguments.exactly(3)?;
        let (left, right) = (arguments.integer(0)?, arguments.integer(1)?);
        Ok(text(&abbreviated(arguments.text(2)?, left, right, if left > 0 { 7 } else { 4 })))
    }),
    ("sprig_initials", |arguments| changed(arguments, initials)),
    ("sprig_nospace", |arguments| changed(arguments, without_space)),
    ("sprig_swapcase", |arguments| changed(arguments, swap_case)),
    ("sprig_title", |arguments| changed(arguments, title)),
    ("sprig_untitle", |arguments| changed(arguments, untitle)),
    ("sprig_wrap", |arguments| {
        arguments.exactly(2)?;
        wrapped(arguments, arguments.integer(0)?, "\n", 1, false)
    }),
    ("sprig_wrapWith", |arguments| {
        arguments.exactly(3)?;
        let separator = arguments.text(1)?;
        let separator = if separator.is_empty() { "\n" } else { separator };
        wrapped(arguments, arguments.integer(0)?, separator, 2, true)
    }),
];

/// At most `width` bytes of a text, from about `offset`, with dots for what is left out.
fn abbreviated(whole: &str, offset: i64, width: i64, least: i64) -> String {
    let bytes = from_text(whole);
    let (length, mut offset) = (i64::try_from(bytes.len()).unwrap_or(i64::MAX), offset);
    if width < least || length <= width {
        return whole.to_owned();
    }
    offset = offset.min(length);
    if length - offset < width - 3 {
        offset = length - (width - 3);
    }
    let part = |from: i64, to: i64| {
        let range = usize::try_from(from).unwrap_or_default()..usize::try_from(to).unwrap_or_default();
        to_text(bytes.get(range).unwrap_or_default()).into_owned()
    };
    if offset <= 4 {
        return format!("{}...", part(0, width - 3));
    }
    if width < 7 {
        return String::new();
    }
    if offset + width - 3 >= length {
        return format!("...{}", part(length - (width - 3), length));
    }
    let end = offset + width - 6;
    format!("...{}...", part(offset, end))
}

/// Like in Go, a byte of a character that is not ASCII counts as a character of Latin-1.
fn initials(text: &str) -> String {
    let mut is_after_space = true;
    let mut initials = String::new();
    for c in from_text(text).iter().copied().map(char::from) {
        if is_after_space && !c.is_whitespace() {
            initials.push(c);
        }
        is_after_space = c.is_whitespace();
    }
    initials
}

/// See [`initials`].
fn without_space(text: &str) -> String {
    let bytes = from_text(text);
    if !bytes.iter().copied().map(char::from).any(char::is_whitespace) {
        return text.to_owned();
    }
    bytes.iter().copied().map(char::from).filter(|c| !c.is_whitespace()).collect()
}

fn swap_case(text: &str) -> String {
    let swapped = text.chars().map(|c| {
        let one = c.to_string();
        // Go has special rules for four title-case letters only, which are neither upper nor lower case here.
        if c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ') {
            each(&one, char::to_lowercase)
        } else if c.is_lowercase() && is_letter(c) {
            each(&one, char::to_uppercase)
        } else {
            one
        }
    });
    swapped.collect()
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut previous = ' ';
    let mut result = String::new();
    for c in text.chars() {
        let starts = match previous {
            c if c.is_ascii() => !(c.is_ascii_alphanumeric() || c == '_'),
            c => !is_letter(c) && !is_digit(c) && c.is_whitespace(),
        };
        if starts {
            result.push_str(&each(&c.to_string(), char::to_uppercase));
        } else {
            result.push(c);
        }
        previous = c;
    }
    result
}

/// The first letter of each word in lower case.
fn untitle(text: &str) -> String {
    let mut is_after_space = true;
    let mut result = String::new();
    for c in text.chars() {
        if is_after_space && !c.is_whitespace() {
            result.push_str(&each(&c.to_string(), char::to_lowercase));
        } else {
            result.push(c);
        }
        is_after_space = c.is_whitespace();
    }
    result
}

/// Lines of at most `width` bytes, divided at spaces. A longer word is divided only if `divides_words`.
fn wrapped(
    arguments: &Arguments<'_>,
    width: i64,
    separator: &str,
    index: usize,
    divides_words: bool,
) -> Result<Value, String> {
    let bytes = from_text(arguments.text(index)?);
    let separator = from_text(separator);
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let mut lines: Vec<u8> = Vec::new();
    let mut offset = 0;
    while bytes.len() - offset > width {
        let rest = &bytes[offset..];
        if rest[0] == b' ' {
            offset += 1;
            continue;
        }
        let end = match rest[..=width].iter().rposition(|byte| *byte == b' ') {
            Some(space) => Some((space, space + 1)),
            None if divides_words => Some((width, width)),
            None => rest[width..].iter().position(|byte| *byte == b' ').map(|at| (width + at, width + at + 1)),
        };
        let (end, next) = end.unwrap_or((rest.len(), rest.len()));
        lines.extend_from_slice(&rest[..end]);
        if end < rest.len() {
            lines.extend_from_slice(&separator);
        }
        arguments.context.charge_bytes(end + separator.len())?;
        offset += next;
    }
    lines.extend_from_slice(&bytes[offset..]);
    Ok(text(&to_text(&lines)))
}
