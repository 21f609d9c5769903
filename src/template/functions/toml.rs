//! TOML, as the Go module `github.com/BurntSushi/toml` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use gotmpl::Value;

use super::super::context::Context;
use super::super::value::text;
use super::Function;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[("toTOML", |arguments| {
    arguments.exactly(1)?;
    let mut writer = Writer { out: String::new(), context: arguments.context };
    let value = arguments.value(0)?;
    kind(value)?;
    match value {
        Value::Nil => return Err("the value is null or a missing key, which has no TOML form".to_owned()),
        Value::Map(entries) => writer.entries(&mut Vec::new(), entries)?,
        value if kind(value)? == Kind::Tables => {
            return Err("a list of maps has no TOML form without a key; use a map that contains it".to_owned());
        }
        value => writer.value(value)?,
    }
    Ok(text(writer.out.trim()))
})];

type Entries = BTreeMap<Arc<str>, Value>;

/// How a value is written below a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing, which is left out.
    Nothing,
    /// In one line.
    Line,
    /// A table.
    Table,
    /// A list of tables.
    Tables,
}

fn kind(value: &Value) -> Result<Kind, String> {
    Ok(match value {
        Value::Nil => Kind::Nothing,
        Value::Map(_) => Kind::Table,
        Value::List(items) => {
            let kinds = items.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
            if kinds.contains(&Kind::Nothing) {
                return Err("a list that contains null has no TOML form".to_owned());
            }
            let is_tables = !kinds.is_empty() && kinds.iter().all(|kind| *kind == Kind::Table);
            if is_tables { Kind::Tables } else { Kind::Line }
        }
        Value::Function(_) => return Err("a function has no TOML form".to_owned()),
        _ => Kind::Line,
    })
}

struct Writer<'a> {
    out: String,
    context: &'a Context,
}

impl Writer<'_> {
    /// The entries of the table `path`: first those in one line, then the tables.
    fn entries(&mut self, path: &mut Vec<Arc<str>>, entries: &Entries) -> Result<(), String> {
        let (lines, tables) = split(entries)?;
        for (key, value) in lines.into_iter().chain(tables) {
            let indent = "  ".repeat(path.len());
            path.push(Arc::clone(key));
            match (kind(value)?, value) {
                (Kind::Nothing, _) => {}
                (Kind::Tables, Value::List(items)) => {
                    for item in items.iter() {
                        self.newline();
                        _ = write!(self.out, "{indent}[[{}]]", dotted(path));
                        self.newline();
                        if let Value::Map(entries) = item {
                            self.entries(path, entries)?;
                        }
                    }
                }
                (_, Value::Map(entries)) => {
                    if path.len() == 1 {
                        self.newline();
                    }
                    _ = write!(self.out, "{indent}[{}]", dotted(path));
                    self.newline();
                    self.entries(path, entries)?;
                }
                (_, value) => {
                    _ = write!(self.out, "{indent}{} = ", key_form(key));
                    self.value(value)?;
                    self.newline();
                }
            }
            path.pop();
        }
        Ok(())
    }

    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    /// A value in one line.
    fn value(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Nil => return Err("a list that contains null has no TOML form".to_owned()),
            Value::Bool(flag) => _ = write!(self.out, "{flag}"),
            Value::Int(number) => _ = write!(self.out, "{number}"),
            Value::Uint(number) => _ = write!(self.out, "{number}"),
            Value::Float(number) => self.out.push_str(&float(*number)),
            Value::String(digits) if self.context.is_number(digits) => {
                match (digits.parse::<i64>(), digits.parse::<f64>()) {
                    (Ok(number), _) => _ = write!(self.out, "{number}"),
                    (Err(_), Ok(number)) if number.is_finite() => self.out.push_str(&float(number)),
                    _ => return Err("a number is too large for TOML".to_owned()),
                }
            }
            Value::String(text) => _ = write!(self.out, "\"{}\"", escaped(text)),
            Value::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(item)?;
                }
                self.out.push(']');
            }
            Value::Map(entries) => self.inline(entries)?,
            Value::Function(_) => return Err("a function has no TOML form".to_owned()),
        }
        Ok(())
    }

    /// A table in one line. As in Go, a null at the end leaves a comma.
    fn inline(&mut self, entries: &Entries) -> Result<(), String> {
        let (lines, tables) = split(entries)?;
        self.out.push('{');
        let has_tables = !tables.is_empty();
        for (group, is_followed) in [(&lines, has_tables), (&tables, false)] {
            for (index, (key, value)) in group.iter().enumerate() {
                if matches!(value, Value::Nil) {
                    continue;
                }
                _ = write!(self.out, "{} = ", key_form(key));
                self.value(value)?;
                if is_followed || index + 1 < group.len() {
                    self.out.push_str(", ");
                }
            }
        }
        self.out.push('}');
        Ok(())
    }
}

type Group<'a> = Vec<(&'a Arc<str>, &'a Value)>;

/// The entries in one line, and the tables.
fn split(entries: &Entries) -> Result<(Group<'_>, Group<'_>), String> {
    let (mut lines, mut tables) = (Group::new(), Group::new());
    for (key, value) in entries {
        let is_table = matches!(kind(value)?, Kind::Table | Kind::Tables);
        if is_table { tables.push((key, value)) } else { lines.push((key, value)) }
    }
    Ok((lines, tables))
}

fn dotted(path: &[Arc<str>]) -> String {
    path.iter().map(|key| key_form(key)).collect::<Vec<_>>().join(".")
}

fn key_form(key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { key.to_owned() } else { format!("\"{}\"", escaped(key)) }
}

fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    let text = number.to_string();
    if number.is_infinite() || text.contains('.') { text } else { format!("{text}.0") }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\u{8}' => escaped.push_str("\\b"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\u{c}' => escaped.push_str("\\f"),
            '\r' => escaped.push_str("\\r"),
            '\0'..=' ' | '\u{7f}' if c != ' ' => _ = write!(escaped, "\\u{:04x}", u32::from(c)),
            _ => escaped.push(c),
        }
    }
    escaped
}
