//! Values of secrets as values of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::value::RawValue;

use super::bytes::to_text;
use super::context::Context;
use crate::model::{LeaseId, Reading, SecretBytes, SecretValue, Validity};

/// Maximum nesting of a JSON value. `serde_json` has the same limit for a value that it parses at once.
const MAX_DEPTH: usize = 128;

pub(super) fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub(super) fn list(items: Vec<Value>) -> Value {
    Value::List(items.into())
}

pub(super) fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}

/// The keys and values of a secret.
pub(super) fn of_data(data: &BTreeMap<String, SecretValue>, context: &Context) -> Value {
    map(data.iter().map(|(key, value)| (key.as_str(), of_secret(value, context))))
}

fn of_secret(value: &SecretValue, context: &Context) -> Value {
    match value {
        SecretValue::Text(bytes) => text(&to_text(bytes.expose())),
        SecretValue::Json(bytes) => of_bytes(bytes, context),
    }
}

/// The value of JSON text.
fn of_bytes(bytes: &SecretBytes, context: &Context) -> Value {
    let json = bytes.expose_str().and_then(|text| serde_json::from_str(text).ok());
    // A parser has accepted the text before.
    json.and_then(|json| of_json(json, &|digits: &str| context.number(digits), 0)).unwrap_or(Value::Nil)
}

/// The value of `json`. `number` makes the value of a number from its digits.
pub(super) fn of_json(json: &RawValue, number: &dyn Fn(&str) -> Value, depth: usize) -> Option<Value> {
    let raw = json.get();
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match raw.as_bytes().first()? {
        b'{' => {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
            let entries = entries.into_iter().map(|(key, value)| Some((key, of_json(value, number, depth + 1)?)));
            map(entries.collect::<Option<Vec<_>>>()?)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            list(items.into_iter().map(|item| of_json(item, number, depth + 1)).collect::<Option<_>>()?)
        }
        b'"' => text(&to_text(SecretBytes::from_json_string(raw)?.expose())),
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        b'n' => Value::Nil,
        _ => number(raw),
    })
}

/// A secret as the Vault Agent has it: `.Data`, `.LeaseID`, and others. KV version 2 has `data` and `metadata` in `.Data`.
pub(super) fn secret(reading: &Reading, context: &Context) -> Value {
    let data = of_data(&reading.data, context);
    let data = match &reading.metadata {
        Some(metadata) => map([("data", data), ("metadata", of_bytes(metadata, context))]),
        None => data,
    };
    let (id, seconds, renewable) = match &reading.validity {
        Validity::Lease(lease) => {
            let id = match &lease.id {
                LeaseId::Id(id) => id.as_str(),
                LeaseId::Token(_) => "",
            };
            (id, lease.duration.as_secs(), lease.renewable)
        }
        Validity::Expires(_) | Validity::Unlimited | Validity::Certificate(_) | Validity::Rotates(_) => ("", 0, false),
    };
    map([
        ("Data", data),
        ("LeaseID", text(id)),
        ("LeaseDuration", Value::Int(i64::try_from(seconds).unwrap_or(i64::MAX))),
        ("Renewable", Value::Bool(renewable)),
        ("Warnings", list(reading.warnings.iter().map(|warning| text(warning)).collect())),
    ])
}

/// The names of a list.
pub(super) fn names(reading: &Reading, context: &Context) -> Value {
    reading.data.get("keys").map_or_else(|| list(Vec::new()), |keys| of_secret(keys, context))
}

/// The fields of `pkiCert`, also below `Data` as in the documentation of the Vault Agent.
pub(super) fn certificate(reading: &Reading, context: &Context) -> Value {
    let of = |key: &str| reading.value(key).map_or_else(|| text(""), |value| of_secret(value, context));
    let with_newline = |value: Value| match value {
        Value::String(pem) if !pem.is_empty() && !pem.ends_with('\n') => text(&format!("{pem}\n")),
        other => other,
    };
    let chain = match of("ca_chain") {
        Value::List(items) => items.iter().cloned().map(with_newline).collect(),
        _ => Vec::new(),
    };
    let fields = [
        ("Cert", with_newline(of("certificate"))),
        ("Key", with_newline(of("private_key"))),
        ("CA", with_newline(of("issuing_ca"))),
        ("CAChain", list(chain)),
    ];
    let nested = map(fields.clone());
    map(fields.into_iter().chain([("Data", nested)]))
}

/// `meta`: facts about a reading that are not secret.
pub(super) fn metadata(reading: &Reading) -> Value {
    let number = |number: u64| i64::try_from(number).map_or(Value::Uint(number), Value::Int);
    let time = |time: jiff::Timestamp| text(&time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let lease = reading.validity.lease();
    map([
        ("version", reading.version.number.map_or(Value::Nil, number)),
        ("created", reading.version.created.map_or(Value::Nil, time)),
        ("read", time(reading.received)),
        ("lease", lease.map_or(Value::Bool(false), |_| Value::Bool(true))),
        ("leaseSeconds", lease.map_or(Value::Int(0), |lease| number(lease.duration.as_secs()))),
    ])
}
