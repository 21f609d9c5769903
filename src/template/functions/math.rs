//! Arithmetic. The first argument is the second operand, so that `{{ 7 | subtract 2 }}` is 5.

use gotmpl::Value;

use super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("add", |arguments| {
        apply(
            arguments,
            &Operation {
                integers: |a, b| Ok(a.wrapping_add(b)),
                unsigned: |a, b| Ok(a.wrapping_add(b)),
                floats: |a, b| a + b,
            },
        )
    }),
    ("divide", |arguments| {
        apply(
            arguments,
            &Operation {
                integers: |a, b| nonzero(a.checked_div(b)),
                unsigned: |a, b| nonzero(a.checked_div(b)),
                floats: |a, b| a / b,
            },
        )
    }),
    ("maximum", |arguments| choose(arguments, |a, b| a > b)),
    ("minimum", |arguments| choose(arguments, |a, b| a < b)),
    ("modulo", modulo),
    ("multiply", |arguments| {
        apply(
            arguments,
            &Operation {
                integers: |a, b| Ok(a.wrapping_mul(b)),
                unsigned: |a, b| Ok(a.wrapping_mul(b)),
                floats: |a, b| a * b,
            },
        )
    }),
    ("subtract", |arguments| {
        apply(
            arguments,
            &Operation {
                integers: |a, b| Ok(a.wrapping_sub(b)),
                unsigned: |a, b| Ok(a.wrapping_sub(b)),
                floats: |a, b| a - b,
            },
        )
    }),
];

/// An operation on each type of numbers.
struct Operation {
    integers: fn(i64, i64) -> Result<i64, String>,
    unsigned: fn(u64, u64) -> Result<u64, String>,
    floats: fn(f64, f64) -> f64,
}

fn nonzero<T>(result: Option<T>) -> Result<T, String> {
    result.ok_or_else(|| "division by zero".to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "Go converts in the same way")]
fn float(number: &Value) -> Option<f64> {
    match number {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// Signed and unsigned numbers give a signed result, and any number with a floating-point number gives one of these.
#[allow(clippy::cast_possible_wrap, reason = "Go converts in the same way")]
fn apply(arguments: &Arguments<'_>, operation: &Operation) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (a, b) = (arguments.value(1)?, arguments.value(0)?);
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int((operation.integers)(*a, *b)?),
        (Value::Int(a), Value::Uint(b)) => Value::Int((operation.integers)(*a, *b as i64)?),
        (Value::Uint(a), Value::Int(b)) => Value::Int((operation.integers)(*a as i64, *b)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint((operation.unsigned)(*a, *b)?),
        _ => match (float(a), float(b)) {
            (Some(a), Some(b)) => Value::Float((operation.floats)(a, b)),
            (None, _) => return Err(arguments.mismatch(1, "a number", a)),
            (_, None) => return Err(arguments.mismatch(0, "a number", b)),
        },
    })
}

/// The second argument if `prefers` it to the first one, otherwise the first one.
#[allow(clippy::cast_possible_wrap, reason = "Go converts in the same way")]
fn choose(arguments: &Arguments<'_>, prefers: impl Fn(f64, f64) -> bool) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (a, b) = (arguments.value(1)?, arguments.value(0)?);
    let is_preferred = match (a, b) {
        (Value::Int(a), Value::Int(b)) if a != b => prefers(f64::from(u8::from(a > b)), f64::from(u8::from(b > a))),
        (Value::Uint(a), Value::Uint(b)) if a != b => prefers(f64::from(u8::from(a > b)), f64::from(u8::from(b > a))),
        _ => match (float(a), float(b)) {
            (Some(a), Some(b)) => prefers(a, b),
            (None, _) => return Err(arguments.mismatch(1, "a number", a)),
            (_, None) => return Err(arguments.mismatch(0, "a number", b)),
        },
    };
    Ok(if is_preferred { a.clone() } else { b.clone() })
}

#[allow(clippy::cast_possible_wrap, reason = "Go converts in the same way")]
fn modulo(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (a, b) = (arguments.value(1)?, arguments.value(0)?);
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(nonzero(a.checked_rem(*b))?),
        (Value::Int(a), Value::Uint(b)) => Value::Int(nonzero(a.checked_rem(*b as i64))?),
        (Value::Uint(a), Value::Int(b)) => Value::Int(nonzero((*a as i64).checked_rem(*b))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(nonzero(a.checked_rem(*b))?),
        (Value::Int(_) | Value::Uint(_), other) => return Err(arguments.mismatch(0, "a whole number", other)),
        (other, _) => return Err(arguments.mismatch(1, "a whole number", other)),
    })
}
