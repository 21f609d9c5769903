//! Reading: YAML → a value. The events are from `granit-parser`; the types of scalars are those of yaml.v2.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;
use granit_parser::{Event, Options, Parser, ScalarStyle, StrInput, Tag};

use super::super::super::bytes::{byte_of, to_text};
use super::super::super::context::Context;
use super::super::super::value::{list, text};
use super::scalar::{Scalar, resolve};

/// Maximum nesting. The same as for JSON.
const MAX_DEPTH: usize = 128;
/// Prefix of the tags of YAML itself, which are written `!!str`.
const CORE: &str = "tag:yaml.org,2002:";

type Entries = BTreeMap<Arc<str>, Value>;

/// The value of the first document.
pub(super) fn read(yaml: &str, context: &Context) -> Result<Value, String> {
    // `\u{7f}` and others are not allowed in YAML. The parser accepts some of them.
    let is_allowed = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => byte_of(c).is_none(),
    };
    if !yaml.chars().all(is_allowed) {
        return Err("the text is not YAML: it contains control characters, or bytes that are not UTF-8".to_owned());
    }
    let mut options = Options::default();
    options.block_scalar_eof_without_line_feed = true;
    options.bom_inside_document_as_content = true;
    let parser = Parser::new_from_str_with_options(yaml, options);
    let mut reader = Reader { parser, anchors: BTreeMap::new(), context };
    loop {
        match reader.event()? {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Nil),
            event => return reader.node(event, 0).map(|node| node.value),
        }
    }
}

struct Reader<'input, 'a> {
    parser: Parser<'input, StrInput<'input>>,
    /// The nodes with an anchor, by the number of the anchor.
    anchors: BTreeMap<usize, Value>,
    context: &'a Context,
}

struct Node {
    value: Value,
    /// Whether it is `<<` without quotes.
    is_merge: bool,
}

impl<'input> Reader<'input, '_> {
    /// The next event that is part of the data. The errors of the parser can quote the text, so they are dropped.
    fn event(&mut self) -> Result<Event<'input>, String> {
        loop {
            match self.parser.next_event() {
                #[allow(clippy::wildcard_in_or_patterns, reason = "the enum is not exhaustive")]
                Some(Ok((event, _))) => match event {
                    Event::StreamStart
                    | Event::StreamEnd
                    | Event::DocumentStart(..)
                    | Event::DocumentEnd
                    | Event::Alias(_)
                    | Event::Scalar(..)
                    | Event::SequenceStart(..)
                    | Event::SequenceEnd
                    | Event::MappingStart(..)
                    | Event::MappingEnd => return Ok(event),
                    _ => {}
                },
                Some(Err(error)) => {
                    return Err(format!("the text is not YAML (line {})", error.marker().line()));
                }
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'input>, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the YAML has more than {MAX_DEPTH} levels"));
        }
        let mut is_merge = false;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                is_merge = style == ScalarStyle::Plain && text == "<<" && tag.is_none();
                (scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.event()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?.value),
                    }
                }
                (list(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.entries(depth + 1)?, anchor),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) => (value.clone(), 0),
                None => return Err("an anchor of the YAML contains itself".to_owned()),
            },
            _ => return Err("the text is not YAML".to_owned()),
        };
        self.context.charge(&value)?;
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(Node { value, is_merge })
    }

    fn entries(&mut self, depth: usize) -> Result<Value, String> {
        let mut entries = Entries::new();
        loop {
            let key = match self.event()? {
                Event::MappingEnd => return Ok(Value::Map(Arc::new(entries))),
                event => self.node(event, depth)?,
            };
            let event = self.event()?;
            let value = self.node(event, depth)?.value;
            match key.value {
                _ if key.is_merge => merge(&mut entries, &value)?,
                Value::String(key) => _ = entries.insert(key, value),
                Value::List(_) | Value::Map(_) => {
                    return Err("a key of the YAML is a list or a map; use text as the key".to_owned());
                }
                // Go has keys of other types, and orders them differently. The engine has text only.
                _ => {
                    return Err(
                        "a key of the YAML is not text, such as a number, `on`, or `y`; put it in quotes".to_owned()
                    );
                }
            }
        }
    }
}

/// Adds the entries of `value`, which is a map or a list of maps, of which the first one wins.
fn merge(entries: &mut Entries, value: &Value) -> Result<(), String> {
    let maps: Vec<&Value> = match value {
        Value::List(maps) => maps.iter().rev().collect(),
        map => vec![map],
    };
    for map in maps {
        let Value::Map(map) = map else { return Err("`<<` in YAML requires a map or a list of maps".to_owned()) };
        entries.extend(map.iter().map(|(key, value)| (Arc::clone(key), value.clone())));
    }
    Ok(())
}

fn scalar(of: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { value(of, resolve(of)) } else { text(of) });
    };
    let resolved = resolve(of);
    let is = match tag.strip_prefix(CORE).or_else(|| tag.strip_prefix("!!")) {
        Some("str") => return Ok(text(of)),
        Some("binary") => {
            let packed: String = of.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            let bytes = STANDARD.decode(packed).map_err(|_| "a `!!binary` of the YAML is not base64".to_owned())?;
            return Ok(text(&to_text(&bytes)));
        }
        Some("bool") => matches!(resolved, Scalar::Bool(_)),
        Some("int") => matches!(resolved, Scalar::Int(_) | Scalar::Uint(_)),
        Some("float") => match resolved {
            #[allow(clippy::cast_precision_loss, reason = "Go converts in the same way")]
            Scalar::Int(number) => return Ok(Value::Float(number as f64)),
            other => matches!(other, Scalar::Float(_)),
        },
        Some("null") => resolved == Scalar::Null,
        Some("timestamp") => resolved == Scalar::Time,
        _ => return Ok(text(of)),
    };
    if is { Ok(value(of, resolved)) } else { Err("a value of the YAML does not have the type of its tag".to_owned()) }
}

fn value(of: &str, scalar: Scalar) -> Value {
    match scalar {
        Scalar::Text | Scalar::Time => text(of),
        Scalar::Null => Value::Nil,
        Scalar::Bool(flag) => Value::Bool(flag),
        Scalar::Int(number) => Value::Int(number),
        Scalar::Uint(number) => Value::Uint(number),
        Scalar::Float(number) => Value::Float(number),
    }
}
