//! Functions on maps. Those that change their first argument return it changed; `mutation` assigns it to its variable.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::super::super::value::{list, text};
use super::super::collections::merged;
use super::super::{Arguments, Function};
use super::shown;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_deepCopy", copy),
    ("sprig_dict", |arguments| {
        let pairs = arguments.values.chunks(2).map(|pair| match pair {
            [key, value] => (shown(key).into(), value.clone()),
            single => (single.iter().map(shown).collect::<String>().into(), text("")),
        });
        Ok(entries(pairs.collect()))
    }),
    ("sprig_dig", dig),
    ("sprig_get", |arguments| {
        arguments.exactly(2)?;
        Ok(arguments.map(0)?.get(arguments.text(1)?).cloned().unwrap_or_else(|| text("")))
    }),
    ("sprig_hasKey", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(arguments.map(0)?.contains_key(arguments.text(1)?)))
    }),
    // Go returns the keys and the values in random order.
    ("sprig_keys", |arguments| {
        let mut keys = Vec::new();
        for index in 0..arguments.values.len() {
            keys.extend(arguments.map(index)?.keys().map(|key| Value::String(Arc::clone(key))));
        }
        Ok(list(keys))
    }),
    ("sprig_merge", |arguments| merge(arguments, false)),
    ("sprig_mergeOverwrite", |arguments| merge(arguments, true)),
    ("sprig_mustDeepCopy", copy),
    ("sprig_mustMerge", |arguments| merge(arguments, false)),
    ("sprig_mustMergeOverwrite", |arguments| merge(arguments, true)),
    ("sprig_omit", |arguments| select(arguments, false)),
    ("sprig_pick", |arguments| select(arguments, true)),
    ("sprig_pluck", |arguments| {
        arguments.between(1, usize::MAX)?;
        let key = arguments.text(0)?;
        let mut values = Vec::new();
        for index in 1..arguments.values.len() {
            values.extend(arguments.map(index)?.get(key).cloned());
        }
        Ok(list(values))
    }),
    ("sprig_set", |arguments| {
        arguments.exactly(3)?;
        let mut changed = (**arguments.map(0)?).clone();
        changed.insert(Arc::clone(arguments.text(1)?), arguments.value(2)?.clone());
        Ok(entries(changed))
    }),
    ("sprig_unset", |arguments| {
        arguments.exactly(2)?;
        let mut changed = (**arguments.map(0)?).clone();
        changed.remove(arguments.text(1)?);
        Ok(entries(changed))
    }),
    ("sprig_values", |arguments| {
        arguments.exactly(1)?;
        Ok(list(arguments.map(0)?.values().cloned().collect()))
    }),
];

type Entries = BTreeMap<Arc<str>, Value>;

fn entries(entries: Entries) -> Value {
    Value::Map(Arc::new(entries))
}

/// Values of the engine do not change, so a copy is the value itself.
fn copy(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    match arguments.value(0)? {
        Value::Nil => Ok(Value::Nil),
        value => Ok(value.clone()),
    }
}

/// The value at a path of keys, or a default if one of them is missing.
fn dig(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(3, usize::MAX)?;
    let count = arguments.values.len();
    let mut found = &Value::Map(Arc::clone(arguments.map(count - 1)?));
    for index in 0..count - 2 {
        let key = arguments.text(index)?;
        let Value::Map(entries) = found else {
            return Err(format!("the value before key {} is {}, not a map", index + 1, arguments.kind(found)));
        };
        match entries.get(key) {
            Some(next) => found = next,
            None => return arguments.value(count - 2).cloned(),
        }
    }
    Ok(found.clone())
}

fn select(arguments: &Arguments<'_>, picks: bool) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let mut keys = Vec::new();
    for index in 1..arguments.values.len() {
        keys.push(arguments.text(index)?);
    }
    let selected = arguments.map(0)?.iter().filter(|(key, _)| keys.contains(key) == picks);
    Ok(entries(selected.map(|(key, value)| (Arc::clone(key), value.clone())).collect()))
}

fn merge(arguments: &Arguments<'_>, replaces: bool) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let mut result = (**arguments.map(0)?).clone();
    for index in 1..arguments.values.len() {
        merged(&mut result, arguments.map(index)?, replaces);
    }
    Ok(entries(result))
}
