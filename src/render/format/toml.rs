//! A TOML table (<https://toml.io/en/v1.0.0>) with sorted keys. Numbers keep their digits. TOML has no null: a null counts as a
//! missing key.

use std::io::{self, Write};

use super::super::document::{Mapping, Node, Origin, Text, Value};
use super::{FormatError, separated};

/// Checks that TOML can represent each value.
pub(super) fn check<'a>(mapping: &Mapping<'a>) -> Result<(), (Origin<'a>, FormatError)> {
    mapping.values().try_for_each(check_value)
}

fn check_value<'a>(node: &Node<'a>) -> Result<(), (Origin<'a>, FormatError)> {
    let fail = |error: fn(String) -> FormatError| Err((node.origin, error(node.origin.key.to_owned())));
    match &node.value {
        // A missing item would move the items after it.
        Value::List(items) if items.iter().any(Node::is_null) => fail(FormatError::NullInList),
        Value::List(items) => items.iter().try_for_each(check_value),
        Value::Mapping(mapping) => check(mapping),
        Value::Literal(text) if is_integer(text) && text.parse::<i64>().is_err() => fail(FormatError::LargeInteger),
        Value::Literal(_) | Value::Text(_) => Ok(()),
    }
}

/// Whether the literal is a whole number. Other numbers of JSON are numbers of TOML too.
fn is_integer(literal: &str) -> bool {
    literal.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

pub(super) fn write(mapping: &Mapping<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut is_first = true;
    table(mapping, &mut Vec::new(), &mut is_first, out)
}

/// The keys of a table, and then its subtables. `is_first`: nothing is written yet.
fn table<'m>(
    mapping: &'m Mapping<'_>,
    path: &mut Vec<&'m str>,
    is_first: &mut bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (name, node) in members(mapping).filter(|(_, node)| !is_table(node)) {
        key(name, out)?;
        out.write_all(b" = ")?;
        value(node, out)?;
        out.write_all(b"\n")?;
        *is_first = false;
    }
    for (name, node) in members(mapping) {
        let Value::Mapping(inner) = &node.value else { continue };
        path.push(name);
        // The header of a table with only subtables is implied by theirs.
        if inner.is_empty() || !members(inner).all(|(_, node)| is_table(node)) {
            out.write_all(if *is_first { b"[" } else { b"\n[" })?;
            separated(path.iter(), b".", out, |name, out| key(name, out))?;
            out.write_all(b"]\n")?;
            *is_first = false;
        }
        table(inner, path, is_first, out)?;
        path.pop();
    }
    Ok(())
}

fn is_table(node: &Node<'_>) -> bool {
    matches!(node.value, Value::Mapping(_))
}

fn members<'m, 'a>(mapping: &'m Mapping<'a>) -> impl Iterator<Item = (&'m str, &'m Node<'a>)> {
    mapping.iter().map(|(name, node)| (&**name, node)).filter(|(_, node)| !node.is_null())
}

fn value(node: &Node<'_>, out: &mut dyn Write) -> io::Result<()> {
    match &node.value {
        Value::Text(text) => quoted(Text::as_str(text), out),
        Value::Literal(text) => out.write_all(text.as_bytes()),
        Value::List(items) => {
            out.write_all(b"[")?;
            separated(items, b", ", out, value)?;
            out.write_all(b"]")
        }
        Value::Mapping(mapping) => {
            out.write_all(b"{")?;
            for (index, (name, node)) in members(mapping).enumerate() {
                out.write_all(if index > 0 { b", " } else { b" " })?;
                key(name, out)?;
                out.write_all(b" = ")?;
                value(node, out)?;
            }
            out.write_all(if members(mapping).next().is_some() { b" }" } else { b"}" })
        }
    }
}

fn key(name: &str, out: &mut dyn Write) -> io::Result<()> {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(is_bare) { out.write_all(name.as_bytes()) } else { quoted(name, out) }
}

fn quoted(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    for c in text.chars() {
        match c {
            '"' => out.write_all(br#"\""#)?,
            '\\' => out.write_all(br"\\")?,
            '\n' => out.write_all(br"\n")?,
            '\r' => out.write_all(br"\r")?,
            '\t' => out.write_all(br"\t")?,
            _ if c.is_control() => write!(out, "\\u{:04X}", u32::from(c))?,
            _ => write!(out, "{c}")?,
        }
    }
    out.write_all(b"\"")
}
