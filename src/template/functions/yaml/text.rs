//! The text of a scalar before it is written, and its escapes.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;

use super::super::super::bytes::from_text;
use super::super::super::context::Context;
use super::super::super::print;
use super::scalar::{Scalar, is_base_60, resolve};
use super::style::Style;

/// A scalar before its style is known.
pub(super) struct Text {
    pub(super) characters: Vec<char>,
    /// Length in UTF-8.
    pub(super) bytes: usize,
    /// Whether it is base64, with a tag before it.
    pub(super) is_binary: bool,
    /// The best style.
    pub(super) wanted: Style,
}

impl Text {
    /// The text of a scalar.
    pub(super) fn of(value: &Value, context: &Context) -> Result<Self, String> {
        let plain = |text: String| Self {
            bytes: text.len(),
            characters: text.chars().collect(),
            is_binary: false,
            wanted: Style::Plain,
        };
        let float = |number: f64| match print::float(number).as_str() {
            "+Inf" => ".inf".to_owned(),
            "-Inf" => "-.inf".to_owned(),
            "NaN" => ".nan".to_owned(),
            digits => digits.to_owned(),
        };
        Ok(plain(match value {
            Value::Nil => "null".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Uint(number) => number.to_string(),
            Value::Float(number) => float(*number),
            // A number of Vault that is not a number for Go is text, but without quotes.
            Value::String(number) if context.is_number(number) => match number.parse::<i64>() {
                Ok(number) => number.to_string(),
                Err(_) => match number.parse::<f64>() {
                    Ok(number) if number.is_finite() => float(number),
                    _ => return Ok(string(number)),
                },
            },
            Value::String(text) => return Ok(string(text)),
            Value::Function(_) => return Err("a function has no YAML form".to_owned()),
            Value::List(_) | Value::Map(_) => return Err("a list or a map cannot be a key in YAML".to_owned()),
        }))
    }
}

fn string(text: &str) -> Text {
    let bytes = from_text(text);
    let is_binary = std::str::from_utf8(&bytes).is_err();
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => base64_lines(&bytes),
    };
    let wanted = if text.contains('\n') {
        Style::Literal
    } else if is_binary || (resolve(&text) == Scalar::Text && !is_base_60(&text)) {
        Style::Plain
    } else {
        Style::DoubleQuoted
    };
    Text { bytes: text.len(), characters: text.chars().collect(), is_binary, wanted }
}

/// Base64 in lines of 70 characters.
fn base64_lines(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let encoded = STANDARD.encode(bytes);
    if encoded.len() < LINE {
        return encoded;
    }
    let mut lines = String::new();
    for line in encoded.as_bytes().chunks(LINE) {
        lines.extend(line.iter().map(|byte| char::from(*byte)));
        lines.push('\n');
    }
    lines
}

/// The escape of `c` in double quotes.
pub(super) fn escaped(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            let (code, mut escaped) = (u32::from(c), String::from('\\'));
            _ = match code {
                0..=0xff => write!(escaped, "x{code:02X}"),
                0x100..=0xffff => write!(escaped, "u{code:04X}"),
                _ => write!(escaped, "U{code:08X}"),
            };
            return escaped;
        }
    };
    format!("\\{short}")
}
