//! Values as text, as Go's `fmt` prints them with `%v`. The engine prints large and small floating-point numbers without an
//! exponent.

use std::fmt::Write as _;

use gotmpl::Value;

/// Appends `value`. Nothing inside a list or a map is `<nil>`.
pub(super) fn append(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                append(out, item);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push_str("map[");
            for (index, (key, entry)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                append(out, entry);
            }
            out.push(']');
        }
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Function(_) => _ = write!(out, "{value}"),
    }
}

/// `%v` of a floating-point number: the shortest digits that give the number, with an exponent if it is below -4 or above
/// 5. <https://pkg.go.dev/strconv#FormatFloat>, format `g`.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `fmt.Sprint`: a space between two operands if neither is text.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if index > 0 && !is_text(value) && !is_text(&values[index - 1]) {
            out.push(' ');
        }
        append(&mut out, value);
    }
    out
}

/// `fmt.Sprintln`: a space between all operands, and a line break.
pub(super) fn sprintln(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        append(&mut out, value);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Go 1.26.
    #[test]
    fn floats_print_as_in_go() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1.5e-10, "1.5e-10"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
