//! JSON parsing and serialization that leave no unzeroed copies of secrets in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

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
    raw.into_iter().map(|(key, value)| Some((key, SecretValue::from_json(value.get())?))).collect()
}

/// Unescapes a JSON string.
pub(super) fn text(raw: &RawValue) -> Option<SecretBytes> {
    SecretBytes::from_json_string(raw.get())
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
}
