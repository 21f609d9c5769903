//! Arithmetic. Any value counts as a number, as the Go module `github.com/spf13/cast` converts it: wrong text is 0.

use std::num::{IntErrorKind, ParseIntError};

use gotmpl::Value;

use super::super::super::context::MAX_STEPS;
use super::super::super::value::{list, text};
use super::super::{Arguments, Function};
use super::decimal::calculate;
use super::shown;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_add", |arguments| Ok(Value::Int(all(arguments).fold(0, i64::wrapping_add)))),
    ("sprig_add1", |arguments| {
        arguments.exactly(1)?;
        Ok(Value::Int(integer_of(arguments.value(0)?).wrapping_add(1)))
    }),
    ("sprig_add1f", |arguments| {
        arguments.exactly(1)?;
        calculate([number_of(arguments.value(0)?), 1.0].into_iter(), '+')
    }),
    ("sprig_addf", |arguments| calculate(std::iter::once(0.0).chain(all_numbers(arguments)), '+')),
    ("sprig_atoi", |arguments| {
        arguments.exactly(1)?;
        Ok(Value::Int(arguments.text(0)?.parse().unwrap_or_else(|error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => i64::MAX,
            IntErrorKind::NegOverflow => i64::MIN,
            _ => 0,
        })))
    }),
    ("sprig_biggest", |arguments| extreme(arguments, i64::max)),
    ("sprig_ceil", |arguments| rounded(arguments, f64::ceil)),
    ("sprig_div", |arguments| divided(arguments, i64::wrapping_div)),
    ("sprig_divf", |arguments| calculate(at_least_one(arguments)?, '/')),
    ("sprig_float64", |arguments| rounded(arguments, |number| number)),
    ("sprig_floor", |arguments| rounded(arguments, f64::floor)),
    ("sprig_int", to_integer),
    ("sprig_int64", to_integer),
    ("sprig_max", |arguments| extreme(arguments, i64::max)),
    ("sprig_maxf", |arguments| extreme_number(arguments, |a, b| if a.is_nan() || a > b { a } else { b })),
    ("sprig_min", |arguments| extreme(arguments, i64::min)),
    ("sprig_minf", |arguments| extreme_number(arguments, |a, b| if a.is_nan() || a < b { a } else { b })),
    ("sprig_mod", |arguments| divided(arguments, i64::wrapping_rem)),
    ("sprig_mul", |arguments| extreme(arguments, i64::wrapping_mul)),
    ("sprig_mulf", |arguments| calculate(at_least_one(arguments)?, '*')),
    ("sprig_round", round),
    ("sprig_seq", sequence),
    ("sprig_sub", |arguments| {
        arguments.exactly(2)?;
        Ok(Value::Int(integer_of(arguments.value(0)?).wrapping_sub(integer_of(arguments.value(1)?))))
    }),
    ("sprig_subf", |arguments| calculate(at_least_one(arguments)?, '-')),
    ("sprig_toDecimal", |arguments| {
        arguments.exactly(1)?;
        Ok(Value::Int(i64::from_str_radix(&shown(arguments.value(0)?), 8).unwrap_or_default()))
    }),
    ("sprig_until", |arguments| {
        arguments.exactly(1)?;
        let count = arguments.integer(0)?;
        Ok(list(steps(0, count, if count < 0 { -1 } else { 1 })?.into_iter().map(Value::Int).collect()))
    }),
    ("sprig_untilStep", |arguments| {
        arguments.exactly(3)?;
        let steps = steps(arguments.integer(0)?, arguments.integer(1)?, arguments.integer(2)?)?;
        Ok(list(steps.into_iter().map(Value::Int).collect()))
    }),
];

/// `cast.ToInt64`.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "Go converts in the same way")]
pub(super) fn integer_of(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Uint(number) => *number as i64,
        // On amd64, Go gives the smallest number for all that do not fit.
        Value::Float(number) if number.is_nan() || number.abs() >= 9_223_372_036_854_775_808.0 => i64::MIN,
        Value::Float(number) => *number as i64,
        Value::Bool(flag) => i64::from(*flag),
        Value::String(text) => integer_in(text).unwrap_or_default(),
        _ => 0,
    }
}

/// The whole number in `text`, also with a prefix for its base and zeros after a point.
fn integer_in(text: &str) -> Option<i64> {
    let text = match text.rsplit_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.chars().all(|c| c == '0') => whole,
        _ => text,
    };
    let (is_negative, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits, has_prefix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, &*lower, false),
    };
    // An underscore stands between two digits, or between the prefix and a digit.
    let is_separated = digits.contains('_')
        && (digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !has_prefix));
    let digits = digits.replace('_', "");
    if is_separated || digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(&digits, radix).ok()?;
    i64::try_from(if is_negative { -number } else { number }).ok()
}

/// `cast.ToFloat64`.
#[allow(clippy::cast_precision_loss, reason = "Go converts in the same way")]
fn number_of(value: &Value) -> f64 {
    match value {
        Value::Int(number) => *number as f64,
        Value::Uint(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::String(text) => number_in(text).unwrap_or_default(),
        _ => 0.0,
    }
}

fn number_in(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    // Too large a number is an error in Go, unless it is written as infinity.
    (!number.is_infinite() || text.to_ascii_lowercase().contains("inf")).then_some(number)
}

fn all(arguments: &Arguments<'_>) -> impl Iterator<Item = i64> {
    arguments.values.iter().map(integer_of)
}

fn all_numbers(arguments: &Arguments<'_>) -> impl Iterator<Item = f64> {
    arguments.values.iter().map(number_of)
}

fn at_least_one(arguments: &Arguments<'_>) -> Result<impl Iterator<Item = f64>, String> {
    arguments.between(1, usize::MAX)?;
    Ok(all_numbers(arguments))
}

fn extreme(arguments: &Arguments<'_>, choose: fn(i64, i64) -> i64) -> Result<Value, String> {
    arguments.between(1, usize::MAX)?;
    Ok(Value::Int(all(arguments).reduce(choose).unwrap_or_default()))
}

fn extreme_number(arguments: &Arguments<'_>, choose: fn(f64, f64) -> f64) -> Result<Value, String> {
    Ok(Value::Float(at_least_one(arguments)?.reduce(choose).unwrap_or_default()))
}

fn divided(arguments: &Arguments<'_>, divide: fn(i64, i64) -> i64) -> Result<Value, String> {
    arguments.exactly(2)?;
    match integer_of(arguments.value(1)?) {
        0 => Err("division by zero".to_owned()),
        divisor => Ok(Value::Int(divide(integer_of(arguments.value(0)?), divisor))),
    }
}

fn rounded(arguments: &Arguments<'_>, round: fn(f64) -> f64) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(Value::Float(round(number_of(arguments.value(0)?))))
}

fn to_integer(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(Value::Int(integer_of(arguments.value(0)?)))
}

/// Rounds to a number of places. A fraction of at least the third argument, or 0.5, rounds up.
#[allow(clippy::cast_precision_loss, reason = "the number of places is small")]
fn round(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.between(2, usize::MAX)?;
    let limit = match arguments.values.get(2) {
        None => 0.5,
        Some(Value::Int(limit)) => *limit as f64,
        Some(Value::Float(limit)) => *limit,
        Some(other) => return Err(arguments.mismatch(2, "a number", other)),
    };
    let places = i32::try_from(arguments.integer(1)?).unwrap_or(i32::MAX);
    let power = 10_f64.powi(places);
    let digits = power * number_of(arguments.value(0)?);
    let rounded = if digits.fract() >= limit { digits.ceil() } else { digits.floor() };
    Ok(Value::Float(rounded / power))
}

/// The numbers from `start` to and without `end`.
fn steps(start: i64, end: i64, by: i64) -> Result<Vec<i64>, String> {
    if by == 0 || (by > 0) == (end < start) {
        return Ok(Vec::new());
    }
    let count = (i128::from(end) - i128::from(start)).unsigned_abs().div_ceil(u128::from(by.unsigned_abs()));
    if count > MAX_STEPS as u128 {
        return Err(format!("the list has more than {MAX_STEPS} numbers"));
    }
    let numbers = std::iter::successors(Some(start), |number| number.checked_add(by));
    Ok(numbers.take(usize::try_from(count).unwrap_or_default()).collect())
}

/// The numbers from the first to the last argument, like the program `seq`.
fn sequence(arguments: &Arguments<'_>) -> Result<Value, String> {
    let mut numbers = Vec::new();
    for index in 0..arguments.values.len() {
        numbers.push(arguments.integer(index)?);
    }
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match numbers[..] {
        [end] => (1, direction(1, end), end),
        [start, end] => (start, direction(start, end), end),
        [start, step, end] if end >= start || step <= 0 => (start, step, end),
        _ => return Ok(text("")),
    };
    let numbers = steps(start, end.saturating_add(direction(start, end)), step)?;
    Ok(text(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
}
