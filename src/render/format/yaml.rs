//! A YAML mapping that parsers of YAML 1.1 and 1.2 read alike. Every string is double-quoted, so that none looks like a number,
//! a boolean or null. Characters that some parsers fold, reject or drop are escaped.

use std::io::{self, Write};

use super::super::document::{Mapping, Node, Value};
use super::{Entry, separated};

/// Limit for a key without `? `. YAML limits it to 1024 characters
/// (<https://yaml.org/spec/1.2.2/#rule-ns-s-implicit-yaml-key>), and an escape has at most ten.
const MAX_SIMPLE_KEY: usize = 100;

pub(super) fn write(entries: &[Entry<'_>], out: &mut dyn Write) -> io::Result<()> {
    if entries.is_empty() {
        return out.write_all(b"{}\n");
    }
    for Entry { name, text, is_json } in entries {
        if name.chars().count() > MAX_SIMPLE_KEY {
            out.write_all(b"? ")?;
            quoted(name, out)?;
            out.write_all(b"\n: ")?;
        } else {
            quoted(name, out)?;
            out.write_all(b": ")?;
        }
        if *is_json {
            flow(text, out)?;
        } else {
            quoted(text, out)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A document, with one line for each value that is not a mapping.
pub(super) fn write_nested(document: &Mapping<'_>, out: &mut dyn Write) -> io::Result<()> {
    if document.is_empty() {
        return out.write_all(b"{}\n");
    }
    block(document, 0, out)
}

/// Writes the keys of a mapping on separate lines, `depth` levels deep.
fn block(mapping: &Mapping<'_>, depth: usize, out: &mut dyn Write) -> io::Result<()> {
    for (name, node) in mapping {
        indent(depth, out)?;
        if name.chars().count() > MAX_SIMPLE_KEY {
            out.write_all(b"? ")?;
            quoted(name, out)?;
            out.write_all(b"\n")?;
            indent(depth, out)?;
        } else {
            quoted(name, out)?;
        }
        out.write_all(b":")?;
        match &node.value {
            Value::Mapping(inner) if !inner.is_empty() => {
                out.write_all(b"\n")?;
                block(inner, depth + 1, out)?;
            }
            _ => {
                out.write_all(b" ")?;
                inline(node, out)?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(())
}

fn indent(depth: usize, out: &mut dyn Write) -> io::Result<()> {
    (0..depth).try_for_each(|_| out.write_all(b"  "))
}

/// A value as a YAML flow value.
fn inline(node: &Node<'_>, out: &mut dyn Write) -> io::Result<()> {
    match &node.value {
        Value::Text(text) => quoted(text.as_str(), out),
        Value::Literal(text) => out.write_all(text.as_bytes()),
        Value::List(items) => {
            out.write_all(b"[")?;
            separated(items, b", ", out, inline)?;
            out.write_all(b"]")
        }
        Value::Mapping(mapping) => {
            out.write_all(b"{")?;
            separated(mapping, b", ", out, |(name, node), out| {
                if name.chars().count() > MAX_SIMPLE_KEY {
                    out.write_all(b"? ")?;
                }
                quoted(name, out)?;
                out.write_all(b": ")?;
                inline(node, out)
            })?;
            out.write_all(b"}")
        }
    }
}

fn quoted(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    text.chars().try_for_each(|c| character(c, out))?;
    out.write_all(b"\"")
}

/// One character within double quotes.
fn character(c: char, out: &mut dyn Write) -> io::Result<()> {
    match c {
        '"' => out.write_all(br#"\""#),
        '\\' => out.write_all(br"\\"),
        '\n' => out.write_all(br"\n"),
        '\r' => out.write_all(br"\r"),
        '\t' => out.write_all(br"\t"),
        // Printable in both versions, except the line breaks of YAML 1.1 (U+0085, U+2028, U+2029) and the byte order mark.
        ' '..='~'
        | '\u{a0}'..='\u{2027}'
        | '\u{202a}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}' => {
            write!(out, "{c}")
        }
        '\u{10000}'.. => write!(out, "\\U{:08X}", u32::from(c)),
        _ => write!(out, "\\u{:04X}", u32::from(c)),
    }
}

/// Writes JSON as a YAML flow value. Only strings differ: YAML 1.1 has no `\/`, YAML has no surrogate pairs, and some characters
/// of JSON strings must be escaped in YAML. YAML 1.1 also requires a space after `:`.
fn flow(json: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = json.chars();
    let mut in_string = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.write_all(b"\"")?;
            }
            '\\' if in_string => escape(&mut rest, out)?,
            _ if in_string => character(c, out)?,
            ':' => out.write_all(b": ")?,
            _ => write!(out, "{c}")?,
        }
    }
    Ok(())
}

/// Converts one escape of a JSON string, after its backslash.
fn escape(rest: &mut std::str::Chars<'_>, out: &mut dyn Write) -> io::Result<()> {
    let unit = |rest: &mut std::str::Chars<'_>| {
        let digits = rest.as_str().get(..4)?;
        *rest = rest.as_str()[4..].chars();
        u16::from_str_radix(digits, 16).ok()
    };
    match rest.next() {
        Some('u') => {
            let first = unit(rest).unwrap_or(0xfffd);
            let mut second = None;
            if (0xd800..0xdc00).contains(&first) && rest.as_str().starts_with("\\u") {
                *rest = rest.as_str()[2..].chars();
                second = Some(unit(rest).unwrap_or(0xfffd));
            }
            char::decode_utf16([first].into_iter().chain(second))
                .try_for_each(|c| character(c.unwrap_or(char::REPLACEMENT_CHARACTER), out))
        }
        Some('/') => out.write_all(b"/"),
        // b, f, n, r, t, the quote and the backslash have the same meaning in YAML.
        Some(c) => write!(out, "\\{c}"),
        None => Ok(()),
    }
}
