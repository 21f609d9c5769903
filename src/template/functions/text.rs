//! Functions on text.

use gotmpl::Value;
use regex::Regex;

use super::super::bytes::byte_of;
use super::super::value::{list, map, text};
use super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("indent", indent),
    ("join", join),
    ("parseBool", parse_bool),
    ("parseFloat", parse_float),
    ("parseInt", parse_int),
    ("parseUint", parse_uint),
    ("regexMatch", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(expression(arguments)?.is_match(arguments.text(1)?)))
    }),
    ("regexReplaceAll", |arguments| {
        arguments.exactly(3)?;
        Ok(text(&replaced(&expression(arguments)?, arguments.text(2)?, arguments.text(1)?, arguments)?))
    }),
    ("replaceAll", |arguments| {
        arguments.exactly(3)?;
        replace_all(arguments.text(2)?, arguments.text(0)?, arguments.text(1)?, arguments)
    }),
    ("split", split),
    ("splitToMap", split_to_map),
    ("toLower", |arguments| mapped(arguments, |text| each(text, char::to_lowercase))),
    ("toTitle", |arguments| mapped(arguments, title)),
    ("toUpper", |arguments| mapped(arguments, |text| each(text, char::to_uppercase))),
    ("trim", |arguments| {
        arguments.exactly(2)?;
        let cut = arguments.text(0)?;
        Ok(text(arguments.text(1)?.trim_matches(|c| cut.contains(c))))
    }),
    ("trimPrefix", |arguments| {
        arguments.exactly(2)?;
        let whole = arguments.text(1)?;
        Ok(text(whole.strip_prefix(&**arguments.text(0)?).unwrap_or(whole)))
    }),
    ("trimSpace", |arguments| mapped(arguments, |text| text.trim().to_owned())),
    ("trimSuffix", |arguments| {
        arguments.exactly(2)?;
        let whole = arguments.text(1)?;
        Ok(text(whole.strip_suffix(&**arguments.text(0)?).unwrap_or(whole)))
    }),
];

fn mapped(arguments: &Arguments<'_>, change: impl Fn(&str) -> String) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(text(&change(arguments.text(0)?)))
}

/// Changes the case of each character. Go maps a character to one character, so `ß` stays `ß`, and a byte that is not UTF-8
/// to the replacement character.
pub(super) fn each<I: Iterator<Item = char> + Clone>(text: &str, change: impl Fn(char) -> I) -> String {
    let one = |c: char| {
        let mut changed = change(c);
        match (changed.next(), changed.next()) {
            _ if byte_of(c).is_some() => char::REPLACEMENT_CHARACTER,
            (Some(changed), None) => changed,
            // These have a mapping to one character too, which the standard library does not have.
            (Some('i'), Some(_)) => 'i',
            (Some(_), Some('\u{399}')) => match u32::from(c) {
                0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => char::from_u32(u32::from(c) + 8).unwrap_or(c),
                0x1fb3 | 0x1fc3 | 0x1ff3 => char::from_u32(u32::from(c) + 9).unwrap_or(c),
                _ => c,
            },
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

/// Changes the first letter of each word to upper case, also after digits, and keeps the others.
fn title(text: &str) -> String {
    let (mut in_word, mut has_letter) = (false, false);
    let mut characters = text.chars().peekable();
    let mut result = String::with_capacity(text.len());
    while let Some(c) = characters.next() {
        let is_joiner = in_word
            && matches!(c, '\'' | '\u{2019}' | '.' | ':' | '\u{b7}')
            && characters.peek().is_some_and(|next| next.is_alphabetic());
        if c.is_alphabetic() && !has_letter {
            // One letter can become several, such as `ß`. Only the first one is in upper case.
            let mut upper = c.to_uppercase();
            result.extend(upper.next());
            result.extend(upper.flat_map(char::to_lowercase));
        } else {
            result.push(c);
        }
        in_word = c.is_alphanumeric() || c == '_' || is_joiner;
        has_letter = in_word && (has_letter || c.is_alphabetic());
    }
    result
}

/// Indents each line that is not empty.
pub(super) fn indented(spaces: usize, text: &str, arguments: &Arguments<'_>) -> Result<String, String> {
    let lines = text.split_inclusive('\n');
    arguments.context.charge_bytes(text.len().saturating_add(spaces.saturating_mul(lines.clone().count().max(1))))?;
    let prefix = " ".repeat(spaces);
    Ok(lines.fold(String::new(), |mut result, line| {
        if line != "\n" {
            result.push_str(&prefix);
        }
        result.push_str(line);
        result
    }))
}

/// Indents each line, also the empty ones.
pub(super) fn indented_all(spaces: usize, text: &str, arguments: &Arguments<'_>) -> Result<String, String> {
    let breaks = text.matches('\n').count();
    arguments.context.charge_bytes(text.len().saturating_add(spaces.saturating_mul(breaks + 1)))?;
    let prefix = " ".repeat(spaces);
    Ok(format!("{prefix}{}", text.replace('\n', &format!("\n{prefix}"))))
}

fn indent(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let spaces = arguments.count(0, "spaces")?;
    indented(spaces, arguments.text(1)?, arguments).map(|indented| text(&indented))
}

fn join(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let separator = arguments.text(0)?;
    let items = arguments.list(1)?.iter().map(|item| match item {
        Value::String(item) => Ok(&**item),
        other => Err(format!("the list contains {}; convert it with `print`", arguments.kind(other))),
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    arguments.context.charge_bytes(separator.len().saturating_mul(items.len()))?;
    Ok(text(&items.join(separator)))
}

/// The parts of `text` between `separator`s. An empty separator separates all characters.
pub(super) fn parts(separator: &str, text: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

fn split(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let whole = arguments.text(1)?.trim();
    if whole.is_empty() {
        return Ok(list(Vec::new()));
    }
    Ok(list(parts(arguments.text(0)?, whole).iter().map(|part| text(part)).collect()))
}

fn split_to_map(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(3)?;
    let whole = arguments.text(2)?.trim();
    let separator = arguments.text(1)?;
    let pairs = parts(arguments.text(0)?, whole);
    let pairs = pairs.iter().filter_map(|pair| pair.split_once(&**separator));
    Ok(map(pairs.map(|(key, value)| (key, text(value)))))
}

fn parse_bool(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    match &**arguments.text(0)? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
        _ => Err("the text is not true or false".to_owned()),
    }
}

fn parse_float(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    match &**arguments.text(0)? {
        "" => Ok(Value::Float(0.0)),
        number => number.parse().map(Value::Float).map_err(|_| "the text is not a number".to_owned()),
    }
}

fn parse_int(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    match &**arguments.text(0)? {
        "" => Ok(Value::Int(0)),
        number => number.parse().map(Value::Int).map_err(|_| "the text is not a whole number".to_owned()),
    }
}

fn parse_uint(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    match &**arguments.text(0)? {
        "" => Ok(Value::Uint(0)),
        number if number.starts_with('+') => Err("the text is not a whole number without a sign".to_owned()),
        number => {
            number.parse().map(Value::Uint).map_err(|_| "the text is not a whole number without a sign".to_owned())
        }
    }
}

/// Replaces all occurrences of text.
pub(super) fn replace_all(whole: &str, from: &str, to: &str, arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.context.charge_bytes(whole.matches(from).count().saturating_mul(to.len()))?;
    Ok(text(&whole.replace(from, to)))
}

/// Replaces all matches. `$1` in the replacement can repeat a match, so the size is limited before it is written.
pub(super) fn replaced(
    expression: &Regex,
    whole: &str,
    replacement: &str,
    arguments: &Arguments<'_>,
) -> Result<String, String> {
    let groups = replacement.matches('$').count();
    let (mut result, mut start) = (String::new(), 0);
    for captures in expression.captures_iter(whole) {
        let found = captures.get_match();
        arguments.context.charge_bytes(found.len().saturating_mul(groups).saturating_add(replacement.len()))?;
        result.push_str(&whole[start..found.start()]);
        captures.expand(replacement, &mut result);
        start = found.end();
    }
    result.push_str(&whole[start..]);
    Ok(result)
}

/// The regular expression in the first argument.
fn expression(arguments: &Arguments<'_>) -> Result<Regex, String> {
    compiled(arguments.text(0)?)
}

/// Compiles an expression in the syntax of Go. Its classes such as `\d` contain ASCII only
/// (<https://pkg.go.dev/regexp/syntax>), those of `regex` all of Unicode.
pub(super) fn compiled(expression: &str) -> Result<Regex, String> {
    let mut ascii = String::with_capacity(expression.len());
    let mut characters = expression.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            ascii.push(c);
            continue;
        }
        match characters.next() {
            Some('d') => ascii.push_str("[0-9]"),
            Some('D') => ascii.push_str("[^0-9]"),
            Some('w') => ascii.push_str("[0-9A-Za-z_]"),
            Some('W') => ascii.push_str("[^0-9A-Za-z_]"),
            Some('s') => ascii.push_str(r"[\t\n\f\r ]"),
            Some('S') => ascii.push_str(r"[^\t\n\f\r ]"),
            Some('b') => ascii.push_str(r"(?-u:\b)"),
            Some(other) => ascii.extend(['\\', other]),
            None => ascii.push('\\'),
        }
    }
    Regex::new(&ascii).map_err(|_| "the regular expression is not valid".to_owned())
}
