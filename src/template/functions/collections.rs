//! Functions on lists and maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::super::context::MAX_STEPS;
use super::super::value::{list, map};
use super::{Arguments, Function, MAX_NESTING};
use crate::model::truncated;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("contains", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(contains(arguments.value(1)?, arguments.value(0)?, arguments)))
    }),
    ("containsAll", |arguments| contains_some(arguments, |found, all| found == all)),
    ("containsAny", |arguments| contains_some(arguments, |found, _| found > 0)),
    ("containsNone", |arguments| contains_some(arguments, |found, _| found == 0)),
    ("containsNotAll", |arguments| contains_some(arguments, |found, all| found < all)),
    ("explodeMap", |arguments| {
        arguments.exactly(1)?;
        explode(arguments.map(0)?)
    }),
    ("in", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(contains(arguments.value(0)?, arguments.value(1)?, arguments)))
    }),
    ("loop", numbers),
    ("mergeMap", |arguments| merge(arguments, false)),
    ("mergeMapWithOverride", |arguments| merge(arguments, true)),
];

type Entries = BTreeMap<Arc<str>, Value>;

/// Whether a list contains an item, or text a part. Values of different types are different.
#[allow(clippy::float_cmp, reason = "Go compares in the same way")]
fn contains(whole: &Value, part: &Value, arguments: &Arguments<'_>) -> bool {
    let is_number = |text| arguments.context.is_number(text);
    match whole {
        Value::List(items) => items.iter().any(|item| match (item, part) {
            (Value::String(item), Value::String(part)) => is_number(item) == is_number(part) && item == part,
            (Value::Int(item), Value::Int(part)) => item == part,
            (Value::Float(item), Value::Float(part)) => item == part,
            _ => false,
        }),
        Value::String(whole) => match part {
            Value::String(part) => is_number(whole) == is_number(part) && whole.contains(&**part),
            _ => false,
        },
        _ => false,
    }
}

/// `is_met` gets the number of wanted values that are found, and the number of all wanted values.
fn contains_some(arguments: &Arguments<'_>, is_met: impl Fn(usize, usize) -> bool) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (wanted, whole) = (arguments.list(0)?, arguments.value(1)?);
    let found = wanted.iter().filter(|wanted| contains(whole, wanted, arguments)).count();
    Ok(Value::Bool(is_met(found, wanted.len())))
}

/// Turns keys with slashes into nested maps.
fn explode(entries: &Entries) -> Result<Value, String> {
    fn insert(entries: &mut Entries, key: &str, value: &Value, whole: &str) -> Result<(), String> {
        let Some((top, rest)) = key.split_once('/') else {
            if !key.is_empty() {
                entries.insert(key.into(), value.clone());
            }
            return Ok(());
        };
        match entries.entry(top.into()).or_insert_with(|| map::<&str>([])) {
            Value::Map(nested) => insert(Arc::make_mut(nested), rest, value, whole),
            _ => Err(format!("key {:?} requires a map where another key has a value", truncated(whole, 100))),
        }
    }
    let mut exploded = Entries::new();
    for (key, value) in entries {
        if key.matches('/').count() > MAX_NESTING {
            return Err(format!("a key has more than {MAX_NESTING} levels"));
        }
        insert(&mut exploded, key, value, key)?;
    }
    Ok(Value::Map(Arc::new(exploded)))
}

/// The numbers from the first argument, or 0, up to and without the last one.
fn numbers(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, 2)?;
    let number = |index| match arguments.value(index)? {
        Value::Int(number) => Ok(*number),
        Value::Uint(number) => i64::try_from(*number).map_err(|_| "the number is too large".to_owned()),
        Value::String(text) => text.parse().map_err(|_| "the text is not a whole number".to_owned()),
        other => Err(arguments.mismatch(index, "a whole number", other)),
    };
    let (start, stop) = if arguments.values.len() == 1 { (0, number(0)?) } else { (number(0)?, number(1)?) };
    if usize::try_from(stop.saturating_sub(start)).is_ok_and(|count| count > MAX_STEPS) {
        return Err(format!("the loop has more than {MAX_STEPS} steps"));
    }
    Ok(list((start..stop).map(Value::Int).collect()))
}

fn merge(arguments: &Arguments<'_>, replaces: bool) -> Result<Value, String> {
    arguments.exactly(2)?;
    let mut target = (**arguments.map(0)?).clone();
    merged(&mut target, arguments.map(1)?, replaces);
    Ok(Value::Map(Arc::new(target)))
}

/// Merges `source` into `target`, as the Go module `mergo` does: an empty value in `target` counts as missing. With `replaces`,
/// all values of `source` win, also empty ones.
pub(super) fn merged(target: &mut Entries, source: &Entries, replaces: bool) {
    for (key, value) in source {
        let wins = match (target.get_mut(key), value) {
            (_, Value::Nil) => replaces,
            (Some(Value::Map(target)), Value::Map(source)) => {
                merged(Arc::make_mut(target), source, replaces);
                false
            }
            (Some(present), _) => replaces || !present.is_truthy(),
            (None, _) => true,
        };
        if wins {
            target.insert(Arc::clone(key), value.clone());
        }
    }
}
