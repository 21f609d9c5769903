//! Functions on types, and choices by them.

use gotmpl::Value;

use super::super::super::value::text;
use super::super::{Arguments, Function};
use super::is_equal;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_all", |arguments| Ok(Value::Bool(arguments.values.iter().all(Value::is_truthy)))),
    ("sprig_any", |arguments| Ok(Value::Bool(arguments.values.iter().any(Value::is_truthy)))),
    ("sprig_coalesce", |arguments| {
        Ok(arguments.values.iter().find(|value| value.is_truthy()).cloned().unwrap_or(Value::Nil))
    }),
    ("sprig_deepEqual", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(is_equal(arguments.value(0)?, arguments.value(1)?, arguments)))
    }),
    ("sprig_default", |arguments| {
        arguments.between(1, usize::MAX)?;
        let given = arguments.values.get(1).filter(|given| given.is_truthy());
        Ok(given.unwrap_or(arguments.value(0)?).clone())
    }),
    ("sprig_empty", |arguments| {
        arguments.exactly(1)?;
        Ok(Value::Bool(!arguments.value(0)?.is_truthy()))
    }),
    ("sprig_kindIs", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Bool(kind(arguments.value(1)?) == &**arguments.text(0)?))
    }),
    ("sprig_kindOf", |arguments| {
        arguments.exactly(1)?;
        Ok(text(kind(arguments.value(0)?)))
    }),
    ("sprig_ternary", |arguments| {
        arguments.exactly(3)?;
        match arguments.value(2)? {
            Value::Bool(true) => arguments.value(0).cloned(),
            Value::Bool(false) => arguments.value(1).cloned(),
            other => Err(arguments.mismatch(2, "true or false", other)),
        }
    }),
    ("sprig_typeIs", type_is),
    ("sprig_typeIsLike", type_is),
    ("sprig_typeOf", |arguments| {
        arguments.exactly(1)?;
        Ok(text(type_of(arguments.value(0)?, arguments)))
    }),
];

fn type_is(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    Ok(Value::Bool(type_of(arguments.value(1)?, arguments) == &**arguments.text(0)?))
}

/// The kind of the value in Go. The engine has one type of signed numbers; Go has `int` for those in a template.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}

/// The type of the value in Go.
fn type_of(value: &Value, arguments: &Arguments<'_>) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::String(text) if arguments.context.is_number(text) => "json.Number",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        other => kind(other),
    }
}
