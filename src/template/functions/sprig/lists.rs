//! Functions on lists. The names with `must` differ in Go in how they fail only.

use std::sync::Arc;

use gotmpl::Value;

use super::super::super::value::list;
use super::super::{Arguments, Function};
use super::is_equal;
use super::numbers::integer_of;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_append", append),
    ("sprig_chunk", chunk),
    ("sprig_compact", compact),
    ("sprig_concat", |arguments| {
        let mut items = Vec::new();
        for index in 0..arguments.values.len() {
            items.extend(arguments.list(index)?.iter().cloned());
        }
        Ok(list(items))
    }),
    ("sprig_first", first),
    ("sprig_has", has),
    ("sprig_initial", initial),
    ("sprig_last", last),
    ("sprig_list", |arguments| Ok(list(arguments.values.to_vec()))),
    ("sprig_mustAppend", append),
    ("sprig_mustChunk", chunk),
    ("sprig_mustCompact", compact),
    ("sprig_mustFirst", first),
    ("sprig_mustHas", has),
    ("sprig_mustInitial", initial),
    ("sprig_mustLast", last),
    ("sprig_mustPrepend", prepend),
    ("sprig_mustPush", append),
    ("sprig_mustRest", rest),
    ("sprig_mustReverse", reverse),
    ("sprig_mustSlice", slice),
    ("sprig_mustUniq", uniq),
    ("sprig_mustWithout", without),
    ("sprig_prepend", prepend),
    ("sprig_push", append),
    ("sprig_rest", rest),
    ("sprig_reverse", reverse),
    ("sprig_slice", slice),
    ("sprig_tuple", |arguments| Ok(list(arguments.values.to_vec()))),
    ("sprig_uniq", uniq),
    ("sprig_without", without),
];

/// The only argument, which is a list.
fn only<'a>(arguments: &Arguments<'a>) -> Result<&'a Arc<[Value]>, String> {
    arguments.exactly(1)?;
    arguments.list(0)
}

fn append(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    Ok(list(arguments.list(0)?.iter().chain([arguments.value(1)?]).cloned().collect()))
}

fn prepend(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    Ok(list([arguments.value(1)?].into_iter().chain(arguments.list(0)?.iter()).cloned().collect()))
}

fn chunk(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let size = usize::try_from(arguments.integer(0)?).ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| "the size is not positive".to_owned())?;
    Ok(list(arguments.list(1)?.chunks(size).map(|chunk| list(chunk.to_vec())).collect()))
}

fn compact(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(list(only(arguments)?.iter().filter(|item| item.is_truthy()).cloned().collect()))
}

fn first(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(only(arguments)?.first().cloned().unwrap_or(Value::Nil))
}

fn last(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(only(arguments)?.last().cloned().unwrap_or(Value::Nil))
}

fn rest(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(list(only(arguments)?.iter().skip(1).cloned().collect()))
}

fn initial(arguments: &Arguments<'_>) -> Result<Value, String> {
    let items = only(arguments)?;
    Ok(list(items[..items.len().saturating_sub(1)].to_vec()))
}

fn reverse(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(list(only(arguments)?.iter().rev().cloned().collect()))
}

fn has(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    if matches!(arguments.value(1)?, Value::Nil) {
        return Ok(Value::Bool(false));
    }
    let wanted = arguments.value(0)?;
    Ok(Value::Bool(arguments.list(1)?.iter().any(|item| is_equal(item, wanted, arguments))))
}

fn slice(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let items = arguments.list(0)?;
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let index = |at: usize, default: usize| match arguments.values.get(at) {
        Some(value) => usize::try_from(integer_of(value)).ok(),
        None => Some(default),
    };
    let range = index(1, 0).zip(index(2, items.len()));
    let part = range.and_then(|(start, end)| items.get(start..end));
    part.map(|part| list(part.to_vec())).ok_or_else(|| "the range is outside the list".to_owned())
}

fn uniq(arguments: &Arguments<'_>) -> Result<Value, String> {
    let items = only(arguments)?;
    // Each pair is compared, so the work is limited like the output.
    arguments.context.charge_bytes(items.len().saturating_mul(items.len()) / 16)?;
    let mut found: Vec<Value> = Vec::new();
    for item in items.iter() {
        if !found.iter().any(|found| is_equal(found, item, arguments)) {
            found.push(item.clone());
        }
    }
    Ok(list(found))
}

fn without(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    let omitted = &arguments.values[1..];
    let kept = arguments.list(0)?.iter().filter(|item| !omitted.iter().any(|of| is_equal(of, item, arguments)));
    Ok(list(kept.cloned().collect()))
}
