//! `printf`, as Go's `fmt.Sprintf` (<https://pkg.go.dev/fmt>). The engine's own does not print lists and maps with verbs other
//! than `%v`, names no types, and does not know text that is not UTF-8.

use std::fmt::Write as _;
use std::sync::Arc;

use gotmpl::Value;

use super::bytes::{byte_of, from_text};
use super::context::MAX_OUTPUT;
use super::print::float;
use super::unicode::is_print;

/// Maximum width and precision, as in Go.
const MAX_WIDTH: usize = 1_000_000;

/// The flags, width, and precision of a verb.
#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of a verb")]
struct Format {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats `values`. `is_number` returns whether text is a number of Vault.
///
/// # Errors
/// If a verb does not fit its argument, or if there are too many or too few arguments. Go writes such an error into the output.
pub(super) fn sprintf(
    pattern: &str,
    values: &[Value],
    is_number: &dyn Fn(&Arc<str>) -> bool,
) -> Result<String, String> {
    let mut printer = Printer { out: String::new(), values, next: 0, was_reordered: false, is_number, failure: None };
    let mut rest = pattern;
    while let Some((text, after)) = rest.split_once('%') {
        printer.out.push_str(text);
        rest = printer.verb(after);
    }
    printer.out.push_str(rest);
    if !printer.was_reordered && printer.next < values.len() {
        printer.fail("it has more arguments than verbs".to_owned());
    }
    printer.failure.map_or(Ok(printer.out), Err)
}

struct Printer<'a> {
    out: String,
    values: &'a [Value],
    next: usize,
    was_reordered: bool,
    is_number: &'a dyn Fn(&Arc<str>) -> bool,
    /// The first error.
    failure: Option<String>,
}

impl Printer<'_> {
    fn fail(&mut self, message: String) {
        self.failure.get_or_insert(message);
    }

    /// Prints one verb. Returns the text after it.
    fn verb<'t>(&mut self, text: &'t str) -> &'t str {
        let mut format = Format::default();
        let mut rest = text;
        while let Some(flag) = rest.chars().next() {
            match flag {
                '+' => format.plus = true,
                '-' => format.minus = true,
                '#' => format.sharp = true,
                ' ' => format.space = true,
                '0' => format.zero = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        format.zero &= !format.minus;
        let mut is_valid = true;
        rest = self.index(rest, &mut is_valid);
        (format.width, rest) = self.number(rest, &mut format.minus);
        if let Some(after) = rest.strip_prefix('.') {
            rest = self.index(after, &mut is_valid);
            let mut is_negative = false;
            (format.precision, rest) = self.number(rest, &mut is_negative);
            format.precision = if is_negative { None } else { format.precision.or(Some(0)) };
        }
        rest = self.index(rest, &mut is_valid);
        let Some(verb) = rest.chars().next() else {
            self.fail("the format ends with %; write %% for a percent sign".to_owned());
            return rest;
        };
        let after = &rest[verb.len_utf8()..];
        match (verb, self.values.get(self.next)) {
            ('%', _) => self.out.push('%'),
            _ if !is_valid => self.fail(format!("the argument index of verb %{verb} is not valid")),
            (_, None) => self.fail(format!("verb %{verb} has no argument")),
            (_, Some(value)) => {
                self.next += 1;
                self.value(value, verb, format);
            }
        }
        after
    }

    /// An argument index such as `[2]`.
    fn index<'t>(&mut self, text: &'t str, is_valid: &mut bool) -> &'t str {
        let Some((index, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return text };
        self.was_reordered = true;
        match index.parse::<usize>().ok().filter(|index| (1..=self.values.len()).contains(index)) {
            Some(index) => self.next = index - 1,
            None => *is_valid = false,
        }
        rest
    }

    /// A width or a precision: digits, or `*` for an argument.
    fn number<'t>(&mut self, text: &'t str, is_negative: &mut bool) -> (Option<usize>, &'t str) {
        if let Some(rest) = text.strip_prefix('*') {
            let number = match self.values.get(self.next) {
                Some(Value::Int(number)) => {
                    *is_negative |= *number < 0;
                    usize::try_from(number.unsigned_abs()).ok()
                }
                Some(Value::Uint(number)) => usize::try_from(*number).ok(),
                _ => None,
            };
            let number = number.filter(|number| *number <= MAX_WIDTH);
            self.next += 1;
            if number.is_none() {
                self.fail("a width or precision is not a whole number".to_owned());
            }
            return (number, rest);
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (text[..end].parse().ok().filter(|number| *number <= MAX_WIDTH), &text[end..])
    }

    fn type_of(&self, value: &Value) -> &'static str {
        match value {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint64",
            Value::Float(_) => "float64",
            Value::String(text) if (self.is_number)(text) => "json.Number",
            Value::String(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Function(_) => "func()",
        }
    }

    fn value(&mut self, value: &Value, verb: char, format: Format) {
        if verb == 'T' || format.sharp && verb == 'v' {
            return self.fail("it prints types of Go, which the values do not have here; use %v".to_owned());
        }
        // A width applies to each value of a list.
        if self.out.len() > MAX_OUTPUT {
            return self.fail(format!("it prints more than {} MiB", MAX_OUTPUT >> 20));
        }
        match (value, verb) {
            (Value::Nil, 'v') => self.pad("<nil>", format),
            (Value::Bool(flag), 't' | 'v') => self.pad(if *flag { "true" } else { "false" }, format),
            (Value::Int(number), _) if INTEGER_VERBS.contains(verb) => {
                self.integer(*number < 0, number.unsigned_abs(), verb, format);
            }
            (Value::Uint(number), _) if INTEGER_VERBS.contains(verb) => self.integer(false, *number, verb, format),
            (Value::Float(number), 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'v') => self.float(*number, verb, format),
            (Value::String(text), 's' | 'v' | 'q' | 'x' | 'X') => self.text(text, verb, format),
            (Value::List(items), _) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(' ');
                    }
                    self.value(item, verb, format);
                }
                self.out.push(']');
            }
            (Value::Map(entries), _) => {
                self.out.push_str("map[");
                for (index, (key, entry)) in entries.iter().enumerate() {
                    if index > 0 {
                        self.out.push(' ');
                    }
                    self.value(&Value::String(Arc::clone(key)), verb, format);
                    self.out.push(':');
                    self.value(entry, verb, format);
                }
                self.out.push(']');
            }
            _ => self.fail(format!("verb %{verb} does not fit an argument of type {}", self.type_of(value))),
        }
    }

    /// Appends `text`, padded with spaces.
    fn pad(&mut self, text: &str, format: Format) {
        let missing = format.width.unwrap_or_default().saturating_sub(text.chars().count());
        let padding = if format.zero { "0" } else { " " }.repeat(missing);
        if format.minus {
            self.out.extend([text, &" ".repeat(missing)]);
        } else {
            self.out.extend([padding.as_str(), text]);
        }
    }

    fn text(&mut self, text: &Arc<str>, verb: char, format: Format) {
        let cut: String = match format.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_string(),
        };
        match verb {
            'q' => {
                let quoted = if format.sharp && !cut.contains(['`', '\n', '\r']) && !cut.chars().any(char::is_control) {
                    format!("`{cut}`")
                } else {
                    quoted(&cut, '"', format.plus)
                };
                self.pad(&quoted, format);
            }
            'x' | 'X' => {
                let bytes = from_text(text);
                let length = format.precision.unwrap_or(bytes.len()).min(bytes.len());
                let mut hex = String::new();
                for (index, byte) in bytes[..length].iter().enumerate() {
                    if format.space && index > 0 {
                        hex.push(' ');
                    }
                    if format.sharp && (format.space || index == 0) {
                        hex.push_str(if verb == 'x' { "0x" } else { "0X" });
                    }
                    let _ = if verb == 'x' { write!(hex, "{byte:02x}") } else { write!(hex, "{byte:02X}") };
                }
                self.pad(&hex, format);
            }
            _ => self.pad(&cut, format),
        }
    }

    fn integer(&mut self, is_negative: bool, number: u64, verb: char, format: Format) {
        let character = u32::try_from(number).ok().and_then(char::from_u32).filter(|_| !is_negative);
        let (digits, prefix) = match verb {
            'b' => (format!("{number:b}"), "0b"),
            'o' => (format!("{number:o}"), "0"),
            'O' => (format!("{number:o}"), "0o"),
            'x' => (format!("{number:x}"), "0x"),
            'X' => (format!("{number:X}"), "0X"),
            'c' => return self.pad(&character.unwrap_or(char::REPLACEMENT_CHARACTER).to_string(), format),
            'q' => {
                let text = character.unwrap_or(char::REPLACEMENT_CHARACTER).to_string();
                return self.pad(&quoted(&text, '\'', format.plus), format);
            }
            'U' => {
                let shown = character.filter(|c| format.sharp && !c.is_control());
                let shown = shown.map_or_else(String::new, |c| format!(" '{c}'"));
                return self.pad(&format!("U+{number:04X}{shown}"), Format { zero: false, ..format });
            }
            _ => (number.to_string(), ""),
        };
        let prefix = if format.sharp || verb == 'O' { prefix } else { "" };
        let sign = match () {
            () if is_negative => "-",
            () if format.plus => "+",
            () if format.space => " ",
            () => "",
        };
        let mut digits = match format.precision {
            Some(0) if number == 0 => String::new(),
            Some(precision) => format!("{digits:0>precision$}"),
            None => digits,
        };
        if format.zero && format.precision.is_none() {
            // The sign is part of the width, the prefix is not.
            let width = format.width.unwrap_or_default().saturating_sub(sign.len());
            digits = format!("{digits:0>width$}");
        }
        self.pad(&format!("{sign}{prefix}{digits}"), Format { zero: false, ..format });
    }

    fn float(&mut self, number: f64, verb: char, format: Format) {
        let text = match verb {
            'v' => float(number),
            _ if !number.is_finite() => float(number),
            'e' | 'E' => exponential(number, format.precision.unwrap_or(6)),
            'f' | 'F' => format!("{number:.*}", format.precision.unwrap_or(6)),
            _ => match format.precision {
                Some(precision) => general(number, precision.max(1)),
                None => shortest(number),
            },
        };
        let text = if verb.is_ascii_uppercase() { text.to_uppercase() } else { text };
        let unsigned = text.trim_start_matches(['-', '+']);
        let sign = match () {
            () if text.starts_with('-') => "-",
            () if format.plus => "+",
            () if format.space => " ",
            () => "",
        };
        if format.zero && number.is_finite() {
            let width = format.width.unwrap_or_default().saturating_sub(sign.len());
            let padded = format!("{sign}{unsigned:0>width$}");
            return self.pad(&padded, Format { zero: false, ..format });
        }
        let infinite = if number == f64::INFINITY { "+Inf" } else { "" };
        let text = if infinite.is_empty() { format!("{sign}{unsigned}") } else { infinite.to_owned() };
        self.pad(&text, Format { zero: false, ..format });
    }
}

const INTEGER_VERBS: &str = "vdboOxXcqU";

/// `%e`: at least two digits of the exponent.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// `%g` without a precision: an exponent below -4 and from 21 on.
fn shortest(number: f64) -> String {
    let text = format!("{number:e}");
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default();
    if number == 0.0 || (-4..21).contains(&exponent) { format!("{number}") } else { float(number) }
}

/// `%g` with a precision: the number of significant digits.
fn general(number: f64, precision: usize) -> String {
    let text = exponential(number, precision - 1);
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default();
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent < -4 || usize::try_from(exponent).is_ok_and(|exponent| exponent >= precision) {
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let decimals = i32::try_from(precision).unwrap_or(i32::MAX) - 1 - exponent;
    trimmed(&format!("{number:.*}", usize::try_from(decimals).unwrap_or_default()))
}

/// `strconv.Quote`: escapes what is not printable, and with `ascii_only` what is not ASCII.
pub(super) fn quoted(text: &str, quote: char, ascii_only: bool) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            _ if byte_of(c).is_some() => _ = write!(out, "\\x{:02x}", byte_of(c).unwrap_or_default()),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => _ = write!(out, "\\x{:02x}", u32::from(c)),
            ' '..='~' => out.push(c),
            _ if !ascii_only && is_print(c) => out.push(c),
            _ if u32::from(c) < 0x10000 => _ = write!(out, "\\u{:04x}", u32::from(c)),
            _ => _ = write!(out, "\\U{:08x}", u32::from(c)),
        }
    }
    out.push(quote);
    out
}
