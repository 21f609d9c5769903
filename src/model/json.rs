//! Secret values in JSON text, parsed without unzeroed copies.

use zeroize::Zeroizing;

use super::{SecretBytes, SecretValue};

impl SecretValue {
    /// The value of `json`, one JSON value that a parser has accepted, without white space around it. `None` if it is a string
    /// with an invalid escape, which parsers that skip values do not check.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        if json.starts_with('"') {
            return Some(Self::Text(SecretBytes::from_json_string(json)?));
        }
        Some(Self::Json(compact(json)))
    }
}

impl SecretBytes {
    /// Unescapes a JSON string; `None` if `json` is none. `serde_json` collects strings with escapes (such as PEM keys) in a
    /// growing buffer, which it frees without zeroing. An escape is never shorter than its character, so the raw length is a
    /// sufficient capacity.
    #[must_use]
    pub fn from_json_string(json: &str) -> Option<Self> {
        let mut rest = json.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        let mut out = Zeroizing::new(Vec::with_capacity(rest.len()));
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            let (plain, escaped) = rest.split_at(at);
            out.extend_from_slice(plain);
            let (character, after) = unescape(escaped.strip_prefix(b"\\")?)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        }
        out.extend_from_slice(rest);
        Some(Self::new(std::mem::take(&mut *out)))
    }
}

/// Decodes one escape without its backslash. Returns the character and the rest of the text (RFC 8259, section 7).
fn unescape(escape: &[u8]) -> Option<(char, &[u8])> {
    let (kind, rest) = escape.split_first()?;
    let character = match kind {
        b'"' | b'\\' | b'/' => char::from(*kind),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(rest),
        _ => return None,
    };
    Some((character, rest))
}

fn unicode(digits: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = hex(digits)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let (second, rest) = hex(rest.strip_prefix(b"\\u")?)?;
    let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + low)?, rest))
}

fn hex(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let number = digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))?;
    Some((number, rest))
}

/// Removes white space between JSON tokens. Parsing and serializing could change the digits of numbers.
fn compact(json: &str) -> SecretBytes {
    let mut out = Zeroizing::new(Vec::with_capacity(json.len()));
    let (mut inside, mut escaped) = (false, false);
    for byte in json.bytes() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            inside = byte == b'"';
        }
        out.push(byte);
    }
    SecretBytes::new(std::mem::take(&mut *out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compact_json_keeps_digits_and_text() {
        let value = SecretValue::from_json("{ \"k\" : [ 1.50, \"x \\\" y\\\\\", null ] }").expect("JSON");
        assert_eq!(value.bytes().expose_str(), Some(r#"{"k":[1.50,"x \" y\\",null]}"#));
    }

    /// A JSON string with every kind of escape, including invalid ones.
    fn quoted() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>()
                .prop_filter("must be escaped", |c| !c.is_control() && !matches!(c, '"' | '\\'))
                .prop_map(String::from),
            r#"\\["\\/bfnrtx]"#,
            any::<u16>().prop_map(|unit| format!("\\u{unit:04x}")),
            any::<char>().prop_map(|c| c
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect()),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    proptest! {
        #[test]
        fn string_unescapes_like_serde_json_within_raw_length(json in quoted()) {
            if serde_json::from_str::<&serde_json::value::RawValue>(&json).is_err() {
                return Ok(());
            }
            let expected: Option<String> = serde_json::from_str(&json).ok();
            let found = SecretBytes::from_json_string(&json);
            prop_assert_eq!(found.as_ref().and_then(SecretBytes::expose_str), expected.as_deref());
            prop_assert!(found.is_none_or(|found| found.len() <= json.len() - 2));
        }

        #[test]
        fn string_round_trips_through_serde_json(expected: String) {
            let json = serde_json::to_string(&expected).expect("JSON");
            let found = SecretBytes::from_json_string(&json).expect("a string");
            prop_assert_eq!(found.expose_str(), Some(expected.as_str()));
        }
    }
}
