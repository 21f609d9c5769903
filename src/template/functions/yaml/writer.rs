//! Writing: a value → YAML, with blocks for lists and maps. A port of the emitter of yaml.v2.

use gotmpl::Value;

use super::super::super::context::Context;
use super::order;
use super::style::{Analysis, Style, is_break, is_printable};
use super::text::{Text, escaped};

/// Spaces for each level.
const INDENT: usize = 2;
/// Column after which a text continues in the next line.
const WIDTH: usize = 80;
/// Maximum length in bytes of a key that is not after a question mark.
const MAX_SIMPLE_KEY: usize = 128;

pub(super) fn write(value: &Value, context: &Context) -> Result<String, String> {
    let mut writer =
        Writer { out: String::new(), column: 0, indent: None, is_after_space: true, is_indention: true, context };
    writer.node(value, Place::Other)?;
    Ok(writer.out)
}

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A key in one line, or its value.
    SimpleKey,
    /// A key after a question mark, or a value.
    InMap,
    Other,
}

struct Writer<'a> {
    out: String,
    column: usize,
    /// `None` before the first level.
    indent: Option<usize>,
    is_after_space: bool,
    /// Whether the line has only spaces and indicators so far.
    is_indention: bool,
    context: &'a Context,
}

impl Writer<'_> {
    fn node(&mut self, value: &Value, place: Place) -> Result<(), String> {
        match value {
            Value::List(items) if items.is_empty() => self.empty("[", "]"),
            Value::Map(entries) if entries.is_empty() => self.empty("{", "}"),
            Value::List(items) => {
                let outer = self.indent;
                let is_same_level = place != Place::Other && !self.is_indention;
                self.indent = Some(match outer {
                    None => 0,
                    Some(indent) if is_same_level => indent,
                    Some(indent) => indent + INDENT,
                });
                for item in items.iter() {
                    self.line();
                    self.indicator("-", true, false, true);
                    self.node(item, Place::Other)?;
                }
                self.indent = outer;
            }
            Value::Map(entries) => {
                let outer = self.indent;
                self.indent = Some(outer.map_or(0, |indent| indent + INDENT));
                let entries = entries.iter().map(|(key, entry)| (key.chars().collect(), (key, entry)));
                for (_, (key, entry)) in order::sort(entries.collect()) {
                    self.line();
                    self.entry(&Value::String(key.clone()), entry)?;
                }
                self.indent = outer;
            }
            scalar => {
                let text = Text::of(scalar, self.context)?;
                self.scalar(&text, place);
            }
        }
        Ok(())
    }

    fn empty(&mut self, open: &str, close: &str) {
        self.indicator(open, true, true, false);
        self.indicator(close, false, false, false);
    }

    fn entry(&mut self, key: &Value, entry: &Value) -> Result<(), String> {
        let key = Text::of(key, self.context)?;
        let tag = if key.is_binary { "!!binary".len() } else { 0 };
        if !key.characters.iter().any(|c| is_break(*c)) && key.bytes + tag <= MAX_SIMPLE_KEY {
            self.scalar(&key, Place::SimpleKey);
            self.indicator(":", false, false, false);
        } else {
            self.indicator("?", true, false, true);
            self.scalar(&key, Place::InMap);
            self.line();
            self.indicator(":", true, false, true);
        }
        self.node(entry, Place::InMap)
    }

    fn scalar(&mut self, text: &Text, place: Place) {
        let is_simple_key = place == Place::SimpleKey;
        let style = Analysis::of(&text.characters).style(text.wanted, is_simple_key);
        if text.is_binary {
            self.space();
            self.put_all("!!binary");
            self.end_token();
        }
        let outer = self.indent;
        self.indent = Some(outer.map_or(INDENT, |indent| indent + INDENT));
        let characters = &text.characters;
        match style {
            Style::Plain => self.plain(characters, !is_simple_key),
            Style::SingleQuoted => self.single_quoted(characters, !is_simple_key),
            Style::DoubleQuoted => self.double_quoted(characters, !is_simple_key),
            Style::Literal => self.literal(characters),
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &[char], can_fold: bool) {
        self.space();
        self.flowing(text, can_fold, false);
        self.end_token();
    }

    fn single_quoted(&mut self, text: &[char], can_fold: bool) {
        self.indicator("'", true, false, false);
        self.flowing(text, can_fold, true);
        self.indicator("'", false, false, false);
        self.end_token();
    }

    /// A text whose lines continue at spaces.
    fn flowing(&mut self, text: &[char], can_fold: bool, is_quoted: bool) {
        let (mut in_spaces, mut in_breaks) = (false, false);
        for (at, &c) in text.iter().enumerate() {
            if c == ' ' {
                let is_inside = !is_quoted || (at > 0 && at + 1 < text.len());
                let folds =
                    can_fold && !in_spaces && self.column > WIDTH && is_inside && text.get(at + 1) != Some(&' ');
                if folds {
                    self.line();
                } else {
                    self.put(c);
                }
                in_spaces = true;
            } else if is_break(c) {
                if !in_breaks && c == '\n' {
                    self.put('\n');
                }
                self.put(c);
                self.is_indention = true;
                in_breaks = true;
            } else {
                if in_breaks {
                    self.line();
                }
                if is_quoted && c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.is_indention = false;
                (in_spaces, in_breaks) = (false, false);
            }
        }
    }

    fn double_quoted(&mut self, text: &[char], can_fold: bool) {
        self.indicator("\"", true, false, false);
        // The original escapes all characters after a byte order mark.
        let escapes_all = text.first() == Some(&'\u{feff}');
        let mut in_spaces = false;
        for (at, &c) in text.iter().enumerate() {
            if escapes_all || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.put_all(&escaped(c));
                in_spaces = false;
            } else if c == ' ' {
                if can_fold && !in_spaces && self.column > WIDTH && at > 0 && at + 1 < text.len() {
                    self.line();
                    if text[at + 1] == ' ' {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                in_spaces = true;
            } else {
                self.put(c);
                in_spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.end_token();
    }

    fn literal(&mut self, text: &[char]) {
        self.indicator("|", true, false, false);
        if text.first().is_some_and(|c| *c == ' ' || is_break(*c)) {
            self.indicator("2", false, false, false);
        }
        let breaks = text.iter().rev().take_while(|c| is_break(**c)).count();
        match breaks {
            0 => self.indicator("-", false, false, false),
            1 if text.len() > 1 => {}
            _ => self.indicator("+", false, false, false),
        }
        self.put('\n');
        (self.is_indention, self.is_after_space) = (true, true);
        let mut in_breaks = true;
        for &c in text {
            if !is_break(c) && in_breaks {
                self.line();
            }
            self.put(c);
            in_breaks = is_break(c);
            self.is_indention = in_breaks;
        }
    }

    /// Starts a line, unless it has nothing but its indentation.
    fn line(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.is_indention || self.column > indent || (self.column == indent && !self.is_after_space) {
            self.put('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        (self.is_after_space, self.is_indention) = (true, true);
    }

    fn indicator(&mut self, indicator: &str, needs_space: bool, is_space: bool, is_indention: bool) {
        if needs_space {
            self.space();
        }
        self.put_all(indicator);
        self.is_after_space = is_space;
        self.is_indention = self.is_indention && is_indention;
    }

    fn space(&mut self) {
        if !self.is_after_space {
            self.put(' ');
        }
    }

    fn end_token(&mut self) {
        (self.is_after_space, self.is_indention) = (false, false);
    }

    fn put_all(&mut self, text: &str) {
        text.chars().for_each(|c| self.put(c));
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column = if is_break(c) { 0 } else { self.column + 1 };
    }
}
