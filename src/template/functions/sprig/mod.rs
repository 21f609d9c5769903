//! The functions of sprig that depend on nothing but their arguments, with the prefix `sprig_` that consul-template gives them.
//! <https://masterminds.github.io/sprig/>

mod case;
mod decimal;
mod dicts;
mod encoding;
mod lists;
mod numbers;
mod paths;
mod regex;
mod text;
mod types;
mod url;
mod words;

use gotmpl::Value;

use super::super::print;
use super::{Arguments, Function};

/// All functions by name.
pub(super) fn functions() -> impl Iterator<Item = (&'static str, Function)> {
    [
        case::FUNCTIONS,
        dicts::FUNCTIONS,
        encoding::FUNCTIONS,
        lists::FUNCTIONS,
        numbers::FUNCTIONS,
        paths::FUNCTIONS,
        regex::FUNCTIONS,
        text::FUNCTIONS,
        types::FUNCTIONS,
        url::FUNCTIONS,
        words::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The text of any value.
fn shown(value: &Value) -> String {
    let mut shown = String::new();
    print::append(&mut shown, value);
    shown
}

/// The texts of a list without nothing, or of one value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Nil => Vec::new(),
        Value::List(items) => items.iter().filter(|item| !matches!(item, Value::Nil)).map(shown).collect(),
        other => vec![shown(other)],
    }
}

/// Whether two values have the same type and content.
fn is_equal(a: &Value, b: &Value, arguments: &Arguments<'_>) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            a == b && arguments.context.is_number(a) == arguments.context.is_number(b)
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_equal(a, b, arguments))
        }
        (Value::Map(a), Value::Map(b)) => {
            let is_same =
                |((key, a), (other, b)): ((_, &Value), (_, &Value))| key == other && is_equal(a, b, arguments);
            a.len() == b.len() && a.iter().zip(b.iter()).all(is_same)
        }
        _ => a == b,
    }
}
