//! Generated expressions: mostly well-typed, and of all functions that are the same at every call.

use fastrand::Rng;

use crate::functions::{ANY_TO_TEXT, PATTERNS, REPLACEMENTS, TEXT_TO_TEXT};
use crate::shape::{Shape, number, quoted, text, value};

/// What an expression can read: a name and its shape.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) shape: Shape,
}

/// One argument in this many is of any kind instead of the right one.
const ILL_TYPED: usize = 40;

pub(crate) struct Expressions<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) missing_error: bool,
}

impl Expressions<'_> {
    pub(crate) fn one_of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.rng.usize(0..all.len())]
    }

    pub(crate) fn chance(&mut self, of: usize) -> bool {
        self.rng.usize(0..of) == 0
    }

    /// An operand of this kind: a literal, a name, or a pipeline in parentheses.
    pub(crate) fn operand(&mut self, known: &[Known], want: &Shape, depth: usize) -> String {
        let want = if self.chance(ILL_TYPED) { self.any_kind() } else { want.clone() };
        if self.rng.usize(0..3) > 0
            && let Some(found) = self.path(known, &want)
        {
            return found.name;
        }
        if depth == 0 { self.literal(known, &want) } else { format!("({})", self.pipeline(known, &want, depth - 1)) }
    }

    pub(crate) fn any_kind(&mut self) -> Shape {
        match self.rng.usize(0..12) {
            0..=3 => Shape::Text,
            4 => Shape::Number,
            5 => Shape::Int,
            6 => Shape::Float,
            7 => Shape::Bool,
            8 => Shape::List(Vec::new()),
            9 => Shape::Texts,
            10 => Shape::Map(Vec::new()),
            _ => Shape::Any,
        }
    }

    /// A path to a value of this kind below the names.
    pub(crate) fn path(&mut self, known: &[Known], want: &Shape) -> Option<Known> {
        let mut all = Vec::new();
        for root in known {
            below(root, 4, &mut all);
        }
        let found: Vec<Known> = all.into_iter().filter(|k| *want == Shape::Any || k.shape.is_like(want)).collect();
        if found.is_empty() { None } else { Some(found[self.rng.usize(0..found.len())].clone()) }
    }

    fn literal(&mut self, known: &[Known], want: &Shape) -> String {
        match want {
            Shape::Text => quoted(&text(self.rng)),
            Shape::Number | Shape::Null | Shape::Any => {
                self.path(known, want).map_or_else(|| quoted(&text(self.rng)), |found| found.name)
            }
            Shape::Int => self.one_of(&["0", "1", "2", "-3", "42", "0x1F", "1_000", "9223372036854775807"]).to_owned(),
            Shape::Float => self.one_of(&["1.5", "0.0", "-2.25", "1e21", "1.0e-7", "100000000.5"]).to_owned(),
            Shape::Bool => self.rng.bool().to_string(),
            Shape::Texts => format!("(split \",\" {})", quoted(&text(self.rng))),
            Shape::List(_) => {
                format!("(parseJSON {})", quoted(&format!("[{},{}]", number(self.rng), value(self.rng, 1).0)))
            }
            Shape::Map(_) => {
                let json = format!("{{\"k\":{},\"l\":{}}}", value(self.rng, 1).0, number(self.rng));
                format!("(parseJSON {})", quoted(&json))
            }
        }
    }

    /// A pipeline of this kind, without parentheses.
    pub(crate) fn pipeline(&mut self, known: &[Known], want: &Shape, depth: usize) -> String {
        match want {
            Shape::Text => self.text(known, depth),
            Shape::Bool => self.condition(known, depth),
            Shape::Int => self.int(known, depth),
            Shape::Float => self.float(known, depth),
            Shape::List(_) => self.list(known, depth),
            Shape::Texts => self.texts(known, depth),
            Shape::Map(_) => self.map(known, depth),
            Shape::Number | Shape::Null | Shape::Any => self.any(known, depth),
        }
    }

    fn any(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..10) {
            0 => {
                let f = self.one_of(&["sprig_first", "sprig_last", "sprig_initial"]);
                format!("{f} {}", self.operand(known, &Shape::List(Vec::new()), depth))
            }
            1 => {
                // keyferry refuses `index` with a missing key where a missing key is an error.
                let map = self.operand(known, &Shape::Map(Vec::new()), depth);
                format!(
                    "{} {map} {}",
                    if self.missing_error { "sprig_get" } else { self.one_of(&["index", "sprig_get"]) },
                    self.one_of(&["\"a\"", "\"absent\"", "\"x1\""])
                )
            }
            2 => {
                let (a, b) = (self.operand(known, &Shape::Any, depth), self.operand(known, &Shape::Any, depth));
                format!("sprig_coalesce {a} {b}")
            }
            3 => format!("slice {} 0 1", self.operand(known, &Shape::Texts, depth)),
            4 => format!("executeTemplate \"part\" {}", self.operand(known, &Shape::Any, depth)),
            5 | 6 => self.operand(known, &Shape::Any, depth),
            _ => {
                let kind = self.any_kind();
                self.operand(known, &kind, depth)
            }
        }
    }

    fn text(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..20) {
            0..=6 => {
                let (from, f) = (self.operand(known, &Shape::Text, depth), self.one_of(&TEXT_TO_TEXT));
                let parses = f.starts_with("parse");
                if parses {
                    let json = quoted(&value(self.rng, 2).0);
                    return format!(
                        "{json} | {f} | {}",
                        self.one_of(&["toYAML", "print", "printf \"%v\"", "sprig_toString"])
                    );
                }
                if f.contains('|') || self.rng.bool() { format!("{from} | {f}") } else { format!("{f} {from}") }
            }
            7..=11 => {
                let (any, f) = (self.operand(known, &Shape::Any, depth), self.one_of(&ANY_TO_TEXT));
                format!("{any} | {f}")
            }
            12 | 13 => self.printf(known, depth),
            14 => {
                let (re, to) = (self.one_of(&PATTERNS), self.one_of(&REPLACEMENTS));
                format!("{} | regexReplaceAll \"{re}\" \"{to}\"", self.operand(known, &Shape::Text, depth))
            }
            15 => {
                let map = self.operand(known, &Shape::Map(Vec::new()), depth);
                format!(
                    "{map} | {}",
                    self.one_of(&["toTOML", "toYAML", "toJSON", "sprig_toPrettyJson", "sprig_toRawJson"])
                )
            }
            16 => {
                let sort = self.one_of(&["sprig_join \",\"", "sprig_sortAlpha | join \";\"", "toJSON"]);
                format!("{} | {sort}", self.operand(known, &Shape::List(Vec::new()), depth))
            }
            17 => format!("join \"-\" {}", self.operand(known, &Shape::Texts, depth)),
            18 => {
                let (a, b) = (self.operand(known, &Shape::Any, depth), self.operand(known, &Shape::Any, depth));
                format!(
                    "{} {a} {b}",
                    self.one_of(&["print", "println", "html", "urlquery", "sprig_cat", "sprig_default"])
                )
            }
            _ => {
                let (a, b) = (self.operand(known, &Shape::Text, depth), self.operand(known, &Shape::Text, depth));
                format!("sprig_ternary {a} {b} {}", self.operand(known, &Shape::Bool, depth))
            }
        }
    }

    fn printf(&mut self, known: &[Known], depth: usize) -> String {
        let (verb, kind) = match self.rng.usize(0..9) {
            0..=2 => (self.one_of(&["%s", "%q", "%v", "%10s", "%-6s", "%.2s", "%x", "% X", "%+q"]), Shape::Text),
            3 | 4 => {
                (self.one_of(&["%d", "%5d", "%05d", "%+d", "%x", "%#x", "%o", "%b", "%c", "%v", "%U"]), Shape::Int)
            }
            5 => (self.one_of(&["%f", "%.2f", "%8.3f", "%e", "%g", "%v", "%+.1f", "%06.1f"]), Shape::Float),
            6 => (self.one_of(&["%t", "%v", "%5t", "%s"]), Shape::Bool),
            7 => (self.one_of(&["%s", "%v", "%q", "%d", "%5s", "%T", "%f"]), Shape::Number),
            _ => (self.one_of(&["%v", "%s", "%d", "%q", "%+v", "%T", "%x", "%t"]), Shape::Any),
        };
        let argument = self.operand(known, &kind, depth);
        match self.rng.usize(0..8) {
            0 => format!("{argument} | printf \"[{verb}]\""),
            1 => format!("printf \"{verb} {verb}\" {argument}"),
            2 => format!("printf \"%%\" {argument}"),
            _ => format!("printf \"<{verb}>\" {argument}"),
        }
    }

    pub(crate) fn condition(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..12) {
            0..=2 => {
                let kind =
                    [Shape::Text, Shape::Int, Shape::Number, Shape::Text, Shape::Float][self.rng.usize(0..5)].clone();
                let operator = self.one_of(&["eq", "ne", "lt", "le", "gt", "ge"]);
                format!("{operator} {} {}", self.operand(known, &kind, depth), self.operand(known, &kind, depth))
            }
            3 => format!("not {}", self.operand(known, &Shape::Any, depth)),
            4 | 5 => {
                let operator = self.one_of(&["and", "or"]);
                format!(
                    "{operator} {} {}",
                    self.operand(known, &Shape::Bool, depth),
                    self.operand(known, &Shape::Bool, depth)
                )
            }
            6 => {
                let kind = [Shape::Text, Shape::List(Vec::new()), Shape::Texts][self.rng.usize(0..3)].clone();
                let (hay, needle) = (self.operand(known, &kind, depth), self.operand(known, &Shape::Text, depth));
                if self.rng.bool() { format!("{hay} | contains {needle}") } else { format!("in {hay} {needle}") }
            }
            7 => format!("{} | regexMatch \"{}\"", self.operand(known, &Shape::Text, depth), self.one_of(&PATTERNS)),
            8 => {
                let map = self.operand(known, &Shape::Map(Vec::new()), depth);
                format!("sprig_hasKey {map} {}", self.one_of(&["\"a\"", "\"user\"", "\"zz\""]))
            }
            9 => format!("sprig_empty {}", self.operand(known, &Shape::Any, depth)),
            10 => format!("eq {0} {0}", self.operand(known, &Shape::Bool, depth)),
            _ => format!("{} | print | sprig_contains \"a\"", self.operand(known, &Shape::Any, depth)),
        }
    }

    fn int(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..8) {
            0..=2 => {
                let kind = [Shape::Text, Shape::List(Vec::new()), Shape::Map(Vec::new())][self.rng.usize(0..3)].clone();
                format!("len {}", self.operand(known, &kind, depth))
            }
            3..=5 => {
                let f = self.one_of(&[
                    "add",
                    "subtract",
                    "multiply",
                    "minimum",
                    "maximum",
                    "sprig_add",
                    "sprig_sub",
                    "sprig_max",
                ]);
                format!("{f} {} {}", self.operand(known, &Shape::Int, depth), self.operand(known, &Shape::Int, depth))
            }
            6 => {
                let f = self.one_of(&["divide", "modulo"]);
                format!("{} | {f} {}", self.operand(known, &Shape::Int, depth), self.one_of(&["2", "7", "-3"]))
            }
            _ => self.one_of(&["parseInt \"42\"", "\"-7\" | parseInt", "parseInt \"\"", "sprig_int \"12\""]).to_owned(),
        }
    }

    fn float(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..5) {
            0..=2 => {
                let f = self.one_of(&["add", "subtract", "multiply", "minimum", "maximum"]);
                format!("{f} {} {}", self.operand(known, &Shape::Float, depth), self.operand(known, &Shape::Int, depth))
            }
            3 => format!("parseFloat \"{}\"", number(self.rng)),
            _ => format!("index (parseJSON \"[{}]\") 0", number(self.rng)),
        }
    }

    fn list(&mut self, known: &[Known], depth: usize) -> String {
        let list = self.operand(known, &Shape::List(Vec::new()), depth);
        match self.rng.usize(0..8) {
            0 | 1 => {
                let (a, b) = (self.operand(known, &Shape::Any, depth), self.operand(known, &Shape::Text, depth));
                format!("sprig_list {a} {b}")
            }
            2 => format!("sprig_reverse {list}"),
            3 => format!("sprig_append {list} {}", self.operand(known, &Shape::Any, depth)),
            4 => format!("sprig_concat {list} {list}"),
            5 => format!("sprig_uniq {list}"),
            6 => format!("sprig_rest {list}"),
            _ => format!("sprig_compact {list}"),
        }
    }

    fn texts(&mut self, known: &[Known], depth: usize) -> String {
        match self.rng.usize(0..3) {
            0 => format!(
                "split {} {}",
                self.one_of(&["\",\"", "\" \"", "\"\""]),
                self.operand(known, &Shape::Text, depth)
            ),
            1 => format!("sprig_sortAlpha {}", self.operand(known, &Shape::List(Vec::new()), depth)),
            _ => format!("sprig_keys {} | sprig_sortAlpha", self.operand(known, &Shape::Map(Vec::new()), depth)),
        }
    }

    fn map(&mut self, known: &[Known], depth: usize) -> String {
        let map = self.operand(known, &Shape::Map(Vec::new()), depth);
        match self.rng.usize(0..7) {
            0 | 1 => {
                let (a, b) = (self.operand(known, &Shape::Any, depth), self.operand(known, &Shape::Text, depth));
                format!("sprig_dict \"k\" {a} \"a/b\" {b}")
            }
            2 => format!("explodeMap {map}"),
            3 => format!("mergeMap (sprig_deepCopy {map}) {}", self.operand(known, &Shape::Map(Vec::new()), depth)),
            4 => format!(
                "mergeMapWithOverride (sprig_deepCopy {map}) {}",
                self.operand(known, &Shape::Map(Vec::new()), depth)
            ),
            5 => format!("sprig_omit {map} \"a\" \"user\""),
            _ => format!("sprig_pick {map} \"a\" \"url\" \"x1\""),
        }
    }
}

/// All paths below a name, the name included.
fn below(root: &Known, depth: usize, all: &mut Vec<Known>) {
    all.push(root.clone());
    if depth == 0 {
        return;
    }
    match &root.shape {
        Shape::Map(entries) => {
            for (key, shape) in entries {
                below(&Known { name: field(&root.name, key), shape: shape.clone() }, depth - 1, all);
            }
        }
        Shape::List(items) => {
            for (at, shape) in items.iter().enumerate().take(2) {
                below(&Known { name: format!("(index {} {at})", root.name), shape: shape.clone() }, depth - 1, all);
            }
        }
        _ => {}
    }
}

/// A field, by name where Go allows it.
fn field(of: &str, key: &str) -> String {
    if !key.chars().all(char::is_alphanumeric) {
        return format!("(index {of} \"{key}\")");
    }
    if of == "." { format!(".{key}") } else { format!("{of}.{key}") }
}
