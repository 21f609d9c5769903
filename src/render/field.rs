//! A value inside a JSON value.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::{JsonPointer, SecretValue};

/// The value is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// The part of `value` that `pointer` refers to; `None` if there is no such part. `value` is JSON itself, or a string that
/// contains JSON. The parts are not parsed until the pointer refers into them, so they are not copied, and numbers keep their
/// digits.
pub(super) fn field_of(value: &SecretValue, pointer: &JsonPointer) -> Result<Option<SecretValue>, NotJson> {
    // The error of the library quotes parts of the value, so it is dropped.
    let json = value.bytes().expose_str().and_then(|text| serde_json::from_str(text).ok());
    let found = pointer.tokens().iter().try_fold(json.ok_or(NotJson)?, child);
    let Some(found) = found else { return Ok(None) };
    SecretValue::from_json(found.get()).map(Some).ok_or(NotJson)
}

/// The value of a key of an object, or at an index of an array.
fn child<'a>(value: &'a RawValue, token: &String) -> Option<&'a RawValue> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'{' => serde_json::from_str::<BTreeMap<String, &RawValue>>(json).ok()?.remove(token),
        b'[' => {
            // RFC 6901 §4: digits without a leading zero.
            let is_index = token == "0" || !token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit());
            let index: usize = token.parse().ok().filter(|_| is_index)?;
            serde_json::from_str::<Vec<&RawValue>>(json).ok()?.get(index).copied()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#" {"db": [{"host": "a\n\u00fc", "port" : 5432, "n": 12345678901234567890.10,
        "o": {"k" : [ 1, null ]}}], "a/b": {"m~n": true}, "": "empty", "1": "one", "twice": 1, "twice": 2} "#;

    fn found(value: &SecretValue, pointer: &str) -> Result<Option<SecretValue>, NotJson> {
        field_of(value, &JsonPointer::new(pointer).expect(pointer))
    }

    #[test]
    fn field_is_found_in_json_and_in_text_with_json() {
        for value in [SecretValue::Json(JSON.trim().into()), SecretValue::Text(JSON.into())] {
            for (pointer, text, is_json) in [
                ("/db/0/host", "a\nü", false),
                ("/db/0/port", "5432", true),
                ("/db/0/n", "12345678901234567890.10", true),
                ("/db/0/o", r#"{"k":[1,null]}"#, true),
                ("/db/0/o/k/1", "null", true),
                ("/a~1b/m~0n", "true", true),
                ("/", "empty", false),
                ("/1", "one", false),
                ("/twice", "2", true),
            ] {
                let found = found(&value, pointer).expect("JSON").expect(pointer);
                assert_eq!(found.bytes().expose_str(), Some(text), "{pointer}");
                assert_eq!(matches!(found, SecretValue::Json(_)), is_json, "{pointer}");
            }
            for pointer in
                ["/dB", "/db/1", "/db/-", "/db/00", "/db/+0", "/db/host", "/db/0/host/x", "/db/0/port/0", "/db/"]
            {
                assert!(found(&value, pointer) == Ok(None), "{pointer}");
            }
        }
    }

    #[test]
    fn value_that_is_not_json_is_an_error() {
        for text in ["", "plain", "{", "{\"a\":1} x", "{\"a\":\"\u{1}\"}", r#"{"a":"\ud800"}"#] {
            assert!(found(&SecretValue::Text(text.into()), "/a") == Err(NotJson), "{text:?}");
        }
        assert!(found(&SecretValue::Text(crate::model::SecretBytes::new(vec![0xff])), "/a") == Err(NotJson));
        assert!(found(&SecretValue::Text("7".into()), "/a") == Ok(None), "a number has no fields");
    }
}
