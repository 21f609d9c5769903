//! Regular expressions. Unlike those of consul-template, the text is before the replacement.

use gotmpl::Value;
use regex::{NoExpand, Regex};

use super::super::super::value::{list, text};
use super::super::text::{compiled, replaced};
use super::super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("sprig_mustRegexFind", find),
    ("sprig_mustRegexFindAll", find_all),
    ("sprig_mustRegexMatch", |arguments| {
        let expression = expression(arguments, 2)?;
        Ok(Value::Bool(expression.is_match(arguments.text(1)?)))
    }),
    ("sprig_mustRegexReplaceAll", replace_all),
    ("sprig_mustRegexReplaceAllLiteral", replace_all_literal),
    ("sprig_mustRegexSplit", split),
    ("sprig_regexFind", find),
    ("sprig_regexFindAll", find_all),
    // A wrong expression does not match.
    ("sprig_regexMatch", |arguments| {
        arguments.exactly(2)?;
        let whole = arguments.text(1)?;
        Ok(Value::Bool(compiled(arguments.text(0)?).is_ok_and(|expression| expression.is_match(whole))))
    }),
    ("sprig_regexQuoteMeta", |arguments| {
        arguments.exactly(1)?;
        let escape = |c: char| if r"\.+*?()|[]{}^$".contains(c) { format!("\\{c}") } else { c.to_string() };
        Ok(text(&arguments.text(0)?.chars().map(escape).collect::<String>()))
    }),
    ("sprig_regexReplaceAll", replace_all),
    ("sprig_regexReplaceAllLiteral", replace_all_literal),
    ("sprig_regexSplit", split),
];

fn expression(arguments: &Arguments<'_>, count: usize) -> Result<Regex, String> {
    arguments.exactly(count)?;
    compiled(arguments.text(0)?)
}

fn find(arguments: &Arguments<'_>) -> Result<Value, String> {
    let expression = expression(arguments, 2)?;
    Ok(text(expression.find(arguments.text(1)?).map_or("", |found| found.as_str())))
}

/// The maximum number in the third argument. A negative number means no maximum.
fn limit(arguments: &Arguments<'_>) -> Result<usize, String> {
    Ok(usize::try_from(arguments.integer(2)?).unwrap_or(usize::MAX))
}

fn find_all(arguments: &Arguments<'_>) -> Result<Value, String> {
    let expression = expression(arguments, 3)?;
    let found = expression.find_iter(arguments.text(1)?).take(limit(arguments)?);
    Ok(list(found.map(|found| text(found.as_str())).collect()))
}

fn replace_all(arguments: &Arguments<'_>) -> Result<Value, String> {
    let expression = expression(arguments, 3)?;
    Ok(text(&replaced(&expression, arguments.text(1)?, arguments.text(2)?, arguments)?))
}

fn replace_all_literal(arguments: &Arguments<'_>) -> Result<Value, String> {
    let expression = expression(arguments, 3)?;
    let (whole, replacement) = (arguments.text(1)?, arguments.text(2)?);
    let count = expression.find_iter(whole).count();
    arguments.context.charge_bytes(count.saturating_mul(replacement.len()))?;
    Ok(text(&expression.replace_all(whole, NoExpand(replacement))))
}

fn split(arguments: &Arguments<'_>) -> Result<Value, String> {
    let expression = expression(arguments, 3)?;
    let (whole, limit) = (arguments.text(1)?, limit(arguments)?);
    if limit == 0 {
        return Ok(list(Vec::new()));
    }
    if whole.is_empty() && !arguments.text(0)?.is_empty() {
        return Ok(list(vec![text("")]));
    }
    let (mut parts, mut start, mut end) = (Vec::new(), 0, 0);
    for found in expression.find_iter(whole).take(limit) {
        if parts.len() + 1 == limit {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(text(&whole[start..end]));
        }
        start = found.end();
    }
    if end != whole.len() {
        parts.push(text(&whole[start..]));
    }
    Ok(list(parts))
}
