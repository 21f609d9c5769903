//! Functions that read secrets, facts about them, environment variables, and the time; and `scratch`.

use std::sync::Arc;

use gotmpl::Value;

use super::super::value::{list, map, text};
use super::{Arguments, Function};
use crate::model::{SecretCall, SecretFunction, lock};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("env", env),
    ("envOrDefault", env_or_default),
    ("meta", meta),
    ("mustEnv", must_env),
    ("pkiCert", |arguments| secret(SecretFunction::PkiCert, arguments)),
    ("scratch.Get", |arguments| {
        arguments.exactly(1)?;
        Ok(lock(&arguments.context.scratch).get(&**arguments.text(0)?).cloned().unwrap_or(Value::Nil))
    }),
    ("scratch.Key", |arguments| {
        arguments.exactly(1)?;
        Ok(Value::Bool(lock(&arguments.context.scratch).contains_key(&**arguments.text(0)?)))
    }),
    ("scratch.MapSet", |arguments| scratch_map_set(arguments, true)),
    ("scratch.MapSetX", |arguments| scratch_map_set(arguments, false)),
    ("scratch.MapValues", scratch_map_values),
    ("scratch.Set", |arguments| scratch_set(arguments, true)),
    ("scratch.SetX", |arguments| scratch_set(arguments, false)),
    ("secret", |arguments| secret(SecretFunction::Secret, arguments)),
    ("secrets", |arguments| secret(SecretFunction::Secrets, arguments)),
    ("timestamp", timestamp),
];

/// The answer to a call; nothing, or an empty list, if there is none yet.
fn secret(function: SecretFunction, arguments: &Arguments<'_>) -> Result<Value, String> {
    let texts: Vec<&str> =
        (0..arguments.values.len()).map(|index| arguments.text(index).map(|text| &**text)).collect::<Result<_, _>>()?;
    let call = SecretCall::new(function, &texts)?;
    if let Some(answer) = arguments.context.secrets.get(&call) {
        lock(&arguments.context.called).insert(call);
        return Ok(answer.clone());
    }
    lock(&arguments.context.needed).insert(call);
    Ok(if function == SecretFunction::Secrets { list(Vec::new()) } else { Value::Nil })
}

fn meta(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let name = arguments.text(0)?;
    arguments.context.metadata.get(&**name).cloned().ok_or_else(|| {
        format!("the template does not read {}; use a name in `sources`", arguments.literal("a source", name))
    })
}

fn env(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let name = arguments.text(0)?;
    Ok(text(arguments.context.variables.get(&**name).map_or("", String::as_str)))
}

fn env_or_default(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let found = arguments.context.variables.get(&**arguments.text(0)?);
    Ok(text(found.map_or(&**arguments.text(1)?, String::as_str)))
}

fn must_env(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let name = arguments.text(0)?;
    match arguments.context.variables.get(&**name) {
        Some(value) if !value.is_empty() => Ok(text(value)),
        _ => Err(format!("{} is not set; set it in the container", arguments.literal("environment variable", name))),
    }
}

/// The time of the newest reading that the template uses, in UTC. The time of the execution would make equal input give
/// different bytes.
fn timestamp(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(0, 1)?;
    let now = arguments.context.now;
    if arguments.values.is_empty() {
        return Ok(text(&now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    let layout = arguments.text(0)?;
    if &**layout == "unix" {
        return Ok(text(&now.as_second().to_string()));
    }
    Ok(text(&now.strftime(&strftime(layout)).to_string()))
}

/// Converts a layout of Go (<https://pkg.go.dev/time#Layout>) to the format of `strftime`, for UTC.
fn strftime(layout: &str) -> String {
    const PARTS: [(&str, &str); 24] = [
        ("January", "%B"),
        ("Monday", "%A"),
        ("2006", "%Y"),
        ("-07:00", "+00:00"),
        ("Z07:00", "Z"),
        ("-0700", "+0000"),
        ("Z0700", "Z"),
        (".000000000", ".%9f"),
        (".000000", ".%6f"),
        (".000", ".%3f"),
        ("Jan", "%b"),
        ("Mon", "%a"),
        ("MST", "UTC"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("PM", "%p"),
        ("pm", "%P"),
        ("_2", "%e"),
        ("%", "%%"),
    ];
    let mut format = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((part, conversion)) = PARTS.into_iter().find(|(part, _)| rest.starts_with(part)) {
            format.push_str(conversion);
            rest = &rest[part.len()..];
        } else {
            format.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    format
}

fn scratch_set(arguments: &Arguments<'_>, replaces: bool) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (key, value) = (arguments.text(0)?, arguments.value(1)?.clone());
    let mut scratch = lock(&arguments.context.scratch);
    if replaces || !scratch.contains_key(&**key) {
        scratch.insert(key.to_string(), value);
    }
    Ok(text(""))
}

fn scratch_map_set(arguments: &Arguments<'_>, replaces: bool) -> Result<Value, String> {
    arguments.exactly(3)?;
    let (key, field, value) = (arguments.text(0)?, arguments.text(1)?, arguments.value(2)?.clone());
    let mut scratch = lock(&arguments.context.scratch);
    let entry = scratch.entry(key.to_string()).or_insert_with(|| map::<&str>([]));
    let Value::Map(entries) = entry else {
        return Err(format!("{} is not a map", arguments.literal("the value of the key", key)));
    };
    if replaces || !entries.contains_key(field) {
        Arc::make_mut(entries).insert(Arc::clone(field), value);
    }
    Ok(text(""))
}

fn scratch_map_values(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(match lock(&arguments.context.scratch).get(&**arguments.text(0)?) {
        Some(Value::Map(entries)) => list(entries.values().cloned().collect()),
        _ => Value::List(Arc::clone(&arguments.context.nil_list.0)),
    })
}
