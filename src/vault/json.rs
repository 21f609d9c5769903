//! JSON parsing and serialization that leave no unzeroed copies of secrets in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::model::{SecretBytes, SecretValue};

/// Limit for durations from a server. Far above the TTLs that Vault issues, and small enough that sums do not overflow.
pub(super) const MAX_TIME: Duration = Duration::from_hours(365 * 24);

/// Serializes a request body in one allocation of its exact size.
pub(super) fn body(body: &impl Serialize) -> SecretBytes {
    SecretBytes::written(|buffer| serde_json::to_writer(buffer, body))
        .expect("a struct of strings and numbers always serializes into memory")
}

/// Keys and values of a secret. `None` if `object` is not a JSON object, or if a string in it is malformed.
pub(super) fn values(object: &RawValue) -> Option<BTreeMap<String, SecretValue>> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).ok()?;
    raw.into_iter().map(|(key, value)| Some((key, value_of(value)?))).collect()
}

fn value_of(raw: &RawValue) -> Option<SecretValue> {
    if raw.get().starts_with('"') {
        return Some(SecretValue::Text(text(raw)?));
    }
    Some(SecretValue::Json(compact(raw.get())))
}

/// Unescapes a JSON string. `serde_json` collects strings with escapes (such as PEM keys) in a growing buffer, which it frees
/// without zeroing. An escape is never shorter than its character, so the raw length is a sufficient capacity.
pub(super) fn text(raw: &RawValue) -> Option<SecretBytes> {
    let mut rest = raw.get().strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(rest.len()));
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (character, after) = unescape(escaped.strip_prefix(b"\\")?)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    out.extend_from_slice(rest);
    Some(SecretBytes::new(std::mem::take(&mut *out)))
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

/// A duration in seconds, clamped to the range from 0 to [`MAX_TIME`]. `None` if the JSON value is not a number. Never an error,
/// so an unexpected value does not prevent parsing of the rest of the response.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Seconds(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

struct SecondsVisitor;

impl<'de> Visitor<'de> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in seconds")
    }

    fn visit_u64<E>(self, seconds: u64) -> Result<Seconds, E> {
        Ok(Seconds(Some(Duration::from_secs(seconds).min(MAX_TIME))))
    }

    fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Seconds, E> {
        self.visit_u64(u64::try_from(seconds).unwrap_or_default())
    }

    fn visit_f64<E>(self, seconds: f64) -> Result<Seconds, E> {
        let clamped = seconds.clamp(0.0, MAX_TIME.as_secs_f64());
        Ok(Seconds(Duration::try_from_secs_f64(clamped).ok()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Seconds, E> {
        Ok(Seconds(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seconds, E> {
        Ok(Seconds(None))
    }

    fn visit_unit<E>(self) -> Result<Seconds, E> {
        Ok(Seconds(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Seconds, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Seconds(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seconds, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Seconds(None))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn values_keep_digits_of_numbers_and_bytes_of_strings() {
        let found = values(raw(
            r#"{"n": 12345678901234567890.10, "e":1E400, "s":"a\n\u00fc\"", "o": { "k" : [ 1, "x \" y\\", null ] }, "b":true, "z":null}"#,
        ))
        .expect("an object");
        let text = |key: &str| found.get(key).and_then(|value| value.bytes().expose_str()).expect(key).to_owned();
        assert_eq!(text("n"), "12345678901234567890.10");
        assert_eq!(text("e"), "1E400");
        assert_eq!(text("s"), "a\nü\"");
        assert_eq!(text("o"), r#"{"k":[1,"x \" y\\",null]}"#);
        assert_eq!((text("b"), text("z")), ("true".into(), "null".into()));
        assert!(matches!(found.get("s"), Some(SecretValue::Text(_))));
        assert!(matches!(found.get("n"), Some(SecretValue::Json(_))));
        assert!(values(raw("[1]")).is_none());
    }

    #[test]
    fn seconds_are_clamped_and_never_an_error() {
        for (json, expected) in [
            ("60", Some(Duration::from_mins(1))),
            ("0", Some(Duration::ZERO)),
            ("-17", Some(Duration::ZERO)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("-0.5", Some(Duration::ZERO)),
            ("18446744073709551615", Some(MAX_TIME)),
            ("-9223372036854775808", Some(Duration::ZERO)),
            ("1e300", Some(MAX_TIME)),
            ("null", None),
            ("\"60\"", None),
            ("true", None),
            ("[1]", None),
            ("{\"a\":1}", None),
        ] {
            let found: Seconds = serde_json::from_str(json).expect(json);
            assert_eq!(found, Seconds(expected), "{json}");
        }
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
        fn text_unescapes_like_serde_json_within_raw_length(json in quoted()) {
            let Ok(raw) = serde_json::from_str::<&RawValue>(&json) else { return Ok(()) };
            let expected: Option<String> = serde_json::from_str(&json).ok();
            let found = text(raw);
            prop_assert_eq!(found.as_ref().and_then(SecretBytes::expose_str), expected.as_deref());
            prop_assert!(found.is_none_or(|found| found.len() <= json.len() - 2));
        }

        #[test]
        fn text_round_trips_through_serde_json(expected: String) {
            let json = serde_json::to_string(&expected).expect("JSON");
            let found = text(raw(&json)).expect("a string");
            prop_assert_eq!(found.expose_str(), Some(expected.as_str()));
        }
    }
}
