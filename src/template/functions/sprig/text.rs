//! Functions on text.

use gotmpl::Value;

use super::super::super::bytes::{from_text, to_text};
use super::super::super::printf::quoted;
use super::super::super::value::{list, map, text};
use super::super::text::{each, indented_all, parts, replace_all};
use super::super::{Arguments, Function};
use super::{shown, texts};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_cat", |arguments| Ok(text(&joined(arguments, shown)))),
    ("sprig_contains", |arguments| tested(arguments, |part, whole| whole.contains(part))),
    ("sprig_fail", |arguments| {
        arguments.exactly(1)?;
        arguments.text(0)?;
        Err("the template called this function".to_owned())
    }),
    ("sprig_hasPrefix", |arguments| tested(arguments, |part, whole| whole.starts_with(part))),
    ("sprig_hasSuffix", |arguments| tested(arguments, |part, whole| whole.ends_with(part))),
    ("sprig_hello", |arguments| {
        arguments.exactly(0)?;
        Ok(text("Hello!"))
    }),
    ("sprig_indent", |arguments| indent(arguments, "")),
    ("sprig_join", |arguments| {
        arguments.exactly(2)?;
        let (separator, items) = (arguments.text(0)?, texts(arguments.value(1)?));
        arguments.context.charge_bytes(separator.len().saturating_mul(items.len()))?;
        Ok(text(&items.join(separator)))
    }),
    ("sprig_lower", |arguments| changed(arguments, |text| each(text, char::to_lowercase))),
    ("sprig_nindent", |arguments| indent(arguments, "\n")),
    ("sprig_plural", |arguments| {
        arguments.exactly(3)?;
        let (one, many) = (arguments.text(0)?, arguments.text(1)?);
        Ok(text(if arguments.integer(2)? == 1 { one } else { many }))
    }),
    ("sprig_quote", |arguments| Ok(text(&joined(arguments, |value| quoted(&shown(value), '"', false))))),
    ("sprig_repeat", repeat),
    ("sprig_replace", |arguments| {
        arguments.exactly(3)?;
        replace_all(arguments.text(2)?, arguments.text(0)?, arguments.text(1)?, arguments)
    }),
    ("sprig_sortAlpha", |arguments| {
        arguments.exactly(1)?;
        let mut texts = match arguments.value(0)? {
            list @ Value::List(_) => texts(list),
            other => vec![shown(other)],
        };
        texts.sort_unstable();
        Ok(list(texts.iter().map(|of| text(of)).collect()))
    }),
    ("sprig_split", |arguments| {
        arguments.exactly(2)?;
        Ok(numbered(&parts(arguments.text(0)?, arguments.text(1)?)))
    }),
    ("sprig_splitList", |arguments| {
        arguments.exactly(2)?;
        Ok(list(parts(arguments.text(0)?, arguments.text(1)?).iter().map(|part| text(part)).collect()))
    }),
    ("sprig_splitn", |arguments| {
        arguments.exactly(3)?;
        Ok(numbered(&first_parts(arguments.text(0)?, arguments.integer(1)?, arguments.text(2)?)))
    }),
    ("sprig_squote", |arguments| Ok(text(&joined(arguments, |value| format!("'{}'", shown(value)))))),
    ("sprig_substr", substr),
    ("sprig_toString", |arguments| {
        arguments.exactly(1)?;
        Ok(text(&shown(arguments.value(0)?)))
    }),
    ("sprig_toStrings", |arguments| {
        arguments.exactly(1)?;
        Ok(list(texts(arguments.value(0)?).iter().map(|of| text(of)).collect()))
    }),
    ("sprig_trim", |arguments| changed(arguments, |text| text.trim().to_owned())),
    ("sprig_trimAll", trim_all),
    ("sprig_trimPrefix", |arguments| cut(arguments, |part, whole| whole.strip_prefix(part))),
    ("sprig_trimSuffix", |arguments| cut(arguments, |part, whole| whole.strip_suffix(part))),
    ("sprig_trimall", trim_all),
    ("sprig_trunc", trunc),
    ("sprig_upper", |arguments| changed(arguments, |text| each(text, char::to_uppercase))),
];

pub(super) fn changed(arguments: &Arguments<'_>, change: impl Fn(&str) -> String) -> Result<Value, String> {
    arguments.exactly(1)?;
    Ok(text(&change(arguments.text(0)?)))
}

fn tested(arguments: &Arguments<'_>, test: impl Fn(&str, &str) -> bool) -> Result<Value, String> {
    arguments.exactly(2)?;
    Ok(Value::Bool(test(arguments.text(0)?, arguments.text(1)?)))
}

fn cut(arguments: &Arguments<'_>, cut: impl for<'a> Fn(&str, &'a str) -> Option<&'a str>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let whole = arguments.text(1)?;
    Ok(text(cut(arguments.text(0)?, whole).unwrap_or(whole)))
}

fn trim_all(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let characters = arguments.text(0)?;
    Ok(text(arguments.text(1)?.trim_matches(|c| characters.contains(c))))
}

/// The values that are not nothing, with spaces between them.
fn joined(arguments: &Arguments<'_>, show: impl Fn(&Value) -> String) -> String {
    let values = arguments.values.iter().filter(|value| !matches!(value, Value::Nil));
    values.map(show).collect::<Vec<_>>().join(" ")
}

/// Indents each line, also the empty ones.
fn indent(arguments: &Arguments<'_>, before: &str) -> Result<Value, String> {
    arguments.exactly(2)?;
    let spaces = arguments.count(0, "spaces")?;
    Ok(text(&format!("{before}{}", indented_all(spaces, arguments.text(1)?, arguments)?)))
}

fn repeat(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let count = arguments.count(0, "times")?;
    let part = arguments.text(1)?;
    arguments.context.charge_bytes(part.len().saturating_mul(count))?;
    Ok(text(&part.repeat(count)))
}

/// The parts as `_0`, `_1`, and so on.
fn numbered(parts: &[String]) -> Value {
    map(parts.iter().enumerate().map(|(index, part)| (format!("_{index}"), text(part))))
}

/// At most `count` parts, of which the last one is the rest. All parts if `count` is negative.
fn first_parts(separator: &str, count: i64, whole: &str) -> Vec<String> {
    let mut first = match usize::try_from(count) {
        Ok(0) => return Vec::new(),
        Err(_) => return parts(separator, whole),
        Ok(count) if separator.is_empty() => {
            let mut characters = whole.chars();
            let mut first: Vec<String> = characters.by_ref().take(count - 1).map(String::from).collect();
            first.push(characters.as_str().to_owned());
            first
        }
        Ok(count) => return whole.splitn(count, separator).map(str::to_owned).collect(),
    };
    if first.last().is_some_and(String::is_empty) {
        first.pop();
    }
    first
}

/// The bytes `from` up to and without `to`, like a slice of Go.
fn bytes(of: &str, from: i64, to: i64) -> Result<Value, String> {
    let bytes = from_text(of);
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let part = range.and_then(|(from, to)| bytes.get(from..to));
    part.map(|part| text(&to_text(part))).ok_or_else(|| "the range is outside the text".to_owned())
}

fn length(text: &str) -> i64 {
    i64::try_from(from_text(text).len()).unwrap_or(i64::MAX)
}

fn substr(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(3)?;
    let (start, end, whole) = (arguments.integer(0)?, arguments.integer(1)?, arguments.text(2)?);
    match (start, end) {
        (..0, end) => bytes(whole, 0, end),
        (start, end) if end < 0 || end > length(whole) => bytes(whole, start, length(whole)),
        (start, end) => bytes(whole, start, end),
    }
}

fn trunc(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(2)?;
    let (count, whole) = (arguments.integer(0)?, arguments.text(1)?);
    let length = length(whole);
    if count < 0 && length + count > 0 {
        return bytes(whole, length + count, length);
    }
    if count >= 0 && length > count { bytes(whole, 0, count) } else { Ok(text(whole)) }
}
