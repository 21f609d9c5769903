//! JSON, as Go's `encoding/json` reads and writes it.

use std::fmt::Write as _;

use std::sync::Arc;

use gotmpl::Value;
use serde_json::value::RawValue;

use super::super::bytes::byte_of;
use super::super::value::{map, of_json, text};
use super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("parseJSON", parse),
    ("toJSON", |arguments| write(arguments, Style { escapes_html: true, is_pretty: false })),
    ("toJSONPretty", |arguments| write(arguments, Style { escapes_html: true, is_pretty: true })),
    ("toUnescapedJSON", |arguments| write(arguments, Style { escapes_html: false, is_pretty: false })),
    ("toUnescapedJSONPretty", |arguments| write(arguments, Style { escapes_html: false, is_pretty: true })),
];

/// Numbers become floating-point numbers, as in Go.
fn parse(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let json = arguments.text(0)?;
    if json.is_empty() {
        return Ok(map::<&str>([]));
    }
    // The error of the library quotes parts of the value, so it is dropped.
    parsed(json).ok_or_else(|| "the text is not JSON".to_owned())
}

/// The value of JSON text.
pub(super) fn parsed(json: &str) -> Option<Value> {
    let raw: &RawValue = serde_json::from_str(json).ok()?;
    of_json(raw, &|digits: &str| digits.parse().map_or(Value::Nil, Value::Float), 0)
}

#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) escapes_html: bool,
    pub(super) is_pretty: bool,
}

fn write(arguments: &Arguments<'_>, style: Style) -> Result<Value, String> {
    arguments.exactly(1)?;
    let mut json = String::new();
    value(&mut json, arguments.value(0)?, style, 0, arguments)?;
    Ok(text(&json))
}

pub(super) fn value(
    out: &mut String,
    from: &Value,
    style: Style,
    depth: usize,
    arguments: &Arguments<'_>,
) -> Result<(), String> {
    match from {
        Value::Nil => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => _ = write!(out, "{number}"),
        Value::Uint(number) => _ = write!(out, "{number}"),
        Value::Float(number) => out.push_str(&float(*number)?),
        Value::String(number) if arguments.context.is_number(number) => out.push_str(number),
        Value::String(text) => string(out, text, style.escapes_html),
        Value::List(items) if Arc::ptr_eq(items, &arguments.context.nil_list.0) => out.push_str("null"),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(out, index, style, depth + 1);
                value(out, item, style, depth + 1, arguments)?;
            }
            close(out, ']', items.is_empty(), style, depth);
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, entry)) in entries.iter().enumerate() {
                separate(out, index, style, depth + 1);
                string(out, key, style.escapes_html);
                out.push_str(if style.is_pretty { ": " } else { ":" });
                value(out, entry, style, depth + 1, arguments)?;
            }
            close(out, '}', entries.is_empty(), style, depth);
        }
        Value::Function(_) => return Err("a function has no JSON form".to_owned()),
    }
    Ok(())
}

fn separate(out: &mut String, index: usize, style: Style, depth: usize) {
    if index > 0 {
        out.push(',');
    }
    if style.is_pretty {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
}

fn close(out: &mut String, bracket: char, is_empty: bool, style: Style, depth: usize) {
    if style.is_pretty && !is_empty {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(bracket);
}

/// The shortest digits that give the number, with an exponent as in JavaScript.
fn float(number: f64) -> Result<String, String> {
    if !number.is_finite() {
        return Err("infinity and NaN have no JSON form".to_owned());
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        // Rust writes 1e21, Go 1e+21.
        return Ok(if text.contains("e-") { text } else { text.replace('e', "e+") });
    }
    Ok(format!("{number}"))
}

/// A quoted string. A byte that is not UTF-8 becomes the replacement character.
fn string(out: &mut String, text: &str, escapes_html: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escapes_html => _ = write!(out, "\\u{:04x}", u32::from(c)),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => _ = write!(out, "\\u{:04x}", u32::from(c)),
            _ if byte_of(c).is_some() => out.push_str("\\ufffd"),
            _ => out.push(c),
        }
    }
    out.push('"');
}
