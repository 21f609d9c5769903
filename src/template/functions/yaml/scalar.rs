//! The types of plain scalars. Those of YAML 1.1, with some differences that yaml.v2 has.

use std::sync::LazyLock;

use regex::Regex;

/// The value of a plain scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    Text,
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A point in time, which stays text.
    Time,
}

/// The value of the plain scalar `text`.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => match text.as_bytes()[0] {
            b'.' if is_float(text) => float(text),
            b'+' | b'-' | b'0'..=b'9' => number(text),
            _ => Scalar::Text,
        },
    }
}

fn number(text: &str) -> Scalar {
    if is_time(text) {
        return Scalar::Time;
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return number;
    }
    if is_float(&plain) { float(&plain) } else { Scalar::Text }
}

/// A number of Go: its prefix is the base. `010` is 8.
fn integer(text: &str) -> Option<Scalar> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    if digits.starts_with(['+', '-']) {
        // `0b-1` is a binary number after a prefix that Go removes. `-0b-1` is not.
        return match lower.strip_prefix("0b") {
            Some(rest) if sign == 1 && !text.starts_with('+') => i64::from_str_radix(rest, 2).ok().map(Scalar::Int),
            _ => None,
        };
    }
    let number = i128::from_str_radix(digits, radix).ok()? * sign;
    if let Ok(number) = i64::try_from(number) {
        return Some(Scalar::Int(number));
    }
    let is_signed = text.starts_with(['+', '-']);
    u64::try_from(number).ok().filter(|_| !is_signed).map(Scalar::Uint)
}

/// Too large a number is text.
fn float(text: &str) -> Scalar {
    text.parse().ok().filter(|number: &f64| number.is_finite()).map_or(Scalar::Text, Scalar::Float)
}

fn is_float(text: &str) -> bool {
    static FLOAT: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"));
    FLOAT.is_match(text)
}

/// Whether `text` is a number with base 60, which yaml.v2 writes with quotes for other parsers.
pub(super) fn is_base_60(text: &str) -> bool {
    static BASE_60: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$"));
    text.contains(':') && BASE_60.is_match(text)
}

fn is_time(text: &str) -> bool {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        regex(concat!(
            r"^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})",
            r"(?: +([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?",
            r"|[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?:Z|[-+]([0-9]{2}):([0-9]{2})))?$"
        ))
    });
    let Some(parts) = TIME.captures(text) else { return false };
    let part = |index: usize| parts.get(index).and_then(|part| part.as_str().parse::<i16>().ok());
    let below = |index: usize, limit: i16| part(index).is_none_or(|part| part < limit);
    let date = |month: i16, day: i16| {
        jiff::civil::Date::new(part(1)?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
    };
    part(2).zip(part(3)).and_then(|(month, day)| date(month, day)).is_some()
        && [4, 7].into_iter().all(|hour| below(hour, 24) && below(hour + 1, 60) && below(hour + 2, 60))
        && below(10, 25)
        && below(11, 61)
}

fn regex(expression: &str) -> Regex {
    Regex::new(expression).expect("the expression is constant")
}
