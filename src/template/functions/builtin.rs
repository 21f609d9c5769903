//! Functions of Go's `text/template` whose behavior in gotmpl differs, and the functions that `instrument` inserts.

use std::fmt::Write as _;

use gotmpl::Value;

use super::super::bytes::from_text;
use super::super::instrument::{BEGIN, PRINT};
use super::super::mutation::PUT;
use super::super::print;
use super::super::printf::sprintf;
use super::super::unicode::is_print;
use super::super::value::text;
use super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    (BEGIN, begin),
    (PRINT, print_action),
    (PUT, put),
    ("executeTemplate", execute_template),
    ("index", index),
    ("len", len),
    ("print", |arguments| Ok(text(&print::sprint(arguments.values)))),
    ("html", |arguments| escaped(arguments, gotmpl::html_escape)),
    ("js", |arguments| escaped(arguments, js_escape)),
    ("printf", printf),
    ("urlquery", |arguments| escaped(arguments, gotmpl::url_encode)),
    ("println", |arguments| Ok(text(&print::sprintln(arguments.values)))),
];

fn begin(arguments: &Arguments<'_>) -> Result<Value, String> {
    let offset = usize::try_from(arguments.integer(0)?).unwrap_or_default();
    arguments.context.begin(offset)?;
    Ok(text(""))
}

fn print_action(arguments: &Arguments<'_>) -> Result<Value, String> {
    match arguments.value(0)? {
        Value::Nil if arguments.context.is_strict => Err("the action has no value (null, or a missing key); test the \
                                                          value with `if`, or set the output's `missingKey: default`"
            .to_owned()),
        Value::Nil => Ok(text("<no value>")),
        Value::Function(_) => Err("the action returns a function, which cannot be printed".to_owned()),
        value if arguments.context.mask.is_some() && value.is_truthy() => {
            Ok(text(arguments.context.mask.as_deref().unwrap_or_default()))
        }
        value @ Value::String(_) => Ok(value.clone()),
        value => {
            let mut printed = String::new();
            print::append(&mut printed, value);
            Ok(text(&printed))
        }
    }
}

/// Escapes the arguments, which are joined as by `print`.
fn escaped<T: AsRef<str>>(arguments: &Arguments<'_>, escape: impl Fn(&str) -> T) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let shown = arguments.values.iter().map(|value| match value {
        Value::Nil => text("<no value>"),
        value => value.clone(),
    });
    Ok(text(escape(&print::sprint(&shown.collect::<Vec<_>>())).as_ref()))
}

/// The engine does not escape characters that cannot be printed.
fn js_escape(text: &str) -> String {
    let escaped = gotmpl::js_escape(text);
    let escaped: &str = escaped.as_ref();
    escaped.chars().fold(String::with_capacity(escaped.len()), |mut out, c| {
        if c.is_ascii() || is_print(c) {
            out.push(c);
        } else {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        }
        out
    })
}

fn printf(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let is_number = |text: &std::sync::Arc<str>| arguments.context.is_number(text);
    sprintf(arguments.text(0)?, &arguments.values[1..], &is_number).map(|printed| text(&printed))
}

/// The output of a template of `define`. Its name is text in quotes, which `analysis` checks.
fn execute_template(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, 2)?;
    let dot = arguments.values.get(1).unwrap_or(&Value::Nil);
    arguments.context.execute(arguments.text(0)?, dot).map(|output| text(&output))
}

/// The length in bytes, as in Go. Text can contain characters that stand for bytes.
fn len(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let length = match arguments.value(0)? {
        Value::String(text) => from_text(text).len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(arguments.mismatch(0, "text, a list, or a map", other)),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// The value of a key, or at an index. A missing key is an error if the template is strict. The engine would return nothing.
fn index(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let mut value = arguments.value(0)?.clone();
    for (place, key) in arguments.values.iter().enumerate().skip(1) {
        value = match (&value, key) {
            (Value::Map(entries), Value::String(key)) => match entries.get(key) {
                Some(found) => found.clone(),
                None if arguments.context.is_strict => {
                    return Err(format!(
                        "the value has no {}; correct the key, or set the output's `missingKey: default`",
                        arguments.literal("key", key)
                    ));
                }
                None => Value::Nil,
            },
            (Value::Nil, _) => return Err("argument 1 has no value (null, or a missing key)".to_owned()),
            (Value::List(_) | Value::String(_), Value::Int(at)) => value.index(key).map_err(|_| {
                format!("{} is out of range", arguments.literal("index", &at.to_string()).replace('"', ""))
            })?,
            (Value::Map(_), other) => return Err(arguments.mismatch(place, "text", other)),
            (Value::List(_) | Value::String(_), other) => {
                return Err(arguments.mismatch(place, "a whole number", other));
            }
            (other, _) => return Err(arguments.mismatch(0, "a map, a list, or text", other)),
        };
    }
    Ok(value)
}

/// The first argument with the second one at the path of keys in the others.
fn put(arguments: &Arguments<'_>) -> Result<Value, String> {
    fn at(root: &Value, value: &Value, keys: &[Value]) -> Option<Value> {
        let Some((key, rest)) = keys.split_first() else { return Some(value.clone()) };
        let (Value::Map(entries), Value::String(key)) = (root, key) else { return None };
        let mut entries = (**entries).clone();
        let inner = at(entries.get(key)?, value, rest)?;
        entries.insert(key.clone(), inner);
        Some(Value::Map(entries.into()))
    }
    let keys = arguments.values.get(2..).unwrap_or_default();
    at(arguments.value(0)?, arguments.value(1)?, keys).ok_or_else(|| "the map to change does not exist".to_owned())
}
