//! Generated data, with its shape, so that a template can use it in the right way.

use fastrand::Rng;

/// What is known about a value when a template is generated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Text,
    /// A number of Vault, which is a text in Go.
    Number,
    /// An integer of the template.
    Int,
    Float,
    Bool,
    Null,
    List(Vec<Shape>),
    /// A list that is known to have texts only, as `split` returns it.
    Texts,
    Map(Vec<(String, Shape)>),
    /// A value that is only printed.
    Any,
}

impl Shape {
    /// The shape of each element: that of all, or `Any`.
    pub(crate) fn element(&self) -> Shape {
        let all: Vec<&Shape> = match self {
            Shape::List(items) => items.iter().collect(),
            Shape::Map(entries) => entries.iter().map(|(_, shape)| shape).collect(),
            Shape::Texts => return Shape::Text,
            Shape::Int => return Shape::Int,
            _ => Vec::new(),
        };
        match all.split_first() {
            Some((first, rest)) if rest.iter().all(|other| other == first) => (*first).clone(),
            _ => Shape::Any,
        }
    }

    /// Whether both are of one kind, without their elements.
    pub(crate) fn is_like(&self, other: &Shape) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "42",
    "7",
    "1.50",
    "0.1",
    "-0.0",
    "1e21",
    "1E+2",
    "1e-7",
    "100000",
    "1000000",
    "3.14159",
    "9007199254740993",
    "12345678901234567890",
    "-9223372036854775808",
    "123456789012345678901234567890",
];

const TEXTS: [&str; 58] = [
    "",
    "a",
    "app",
    "Hello World",
    "it's",
    "say \"hi\"",
    "<a href=\"x\">&</a>",
    "héllo",
    "日本",
    "😀",
    "a\nb",
    "line\n",
    "\n",
    " padded ",
    "tab\there",
    "a,b,c",
    "k=v,l=w",
    "x y z",
    "true",
    "false",
    "null",
    "~",
    "42",
    "-7",
    "0x1F",
    "010",
    "1.50",
    "1e3",
    "yes",
    "No",
    "on",
    "y",
    "n",
    "- item",
    "key: value",
    "a #b",
    "#c",
    "*x",
    "&y",
    "!z",
    "%p",
    "@q",
    "`r`",
    "{a}",
    "[b]",
    "a: ",
    ": b",
    "?",
    "|",
    ">",
    "\\",
    "$1",
    "${x}",
    "2020-01-01",
    "ß",
    "\u{2028}",
    "\u{7f}",
    "word word word \
     word word word word word word word word word word word word word word",
];

const KEYS: [&str; 20] = [
    "a",
    "b",
    "c",
    "user",
    "password",
    "host",
    "port",
    "url",
    "list",
    "conf",
    "nested",
    "x1",
    "x10",
    "x2",
    "login-password",
    "svc.token",
    "db/host",
    "y",
    "true",
    "ключ",
];

/// A text of one or more fragments.
pub(crate) fn text(rng: &mut Rng) -> String {
    let count = [1, 1, 1, 2, 3][rng.usize(0..5)];
    (0..count).map(|_| TEXTS[rng.usize(0..TEXTS.len())]).collect()
}

/// The literal of a number, as Vault returns it.
pub(crate) fn number(rng: &mut Rng) -> &'static str {
    NUMBERS[rng.usize(0..NUMBERS.len())]
}

/// A JSON text of any kind, and its shape.
pub(crate) fn value(rng: &mut Rng, depth: usize) -> (String, Shape) {
    let kinds = if depth == 0 { 10 } else { 16 };
    match rng.usize(0..kinds) {
        0..=4 => (quoted(&text(rng)), Shape::Text),
        5..=7 => (number(rng).to_owned(), Shape::Number),
        8 => (rng.bool().to_string(), Shape::Bool),
        9 => ("null".to_owned(), Shape::Null),
        10..=12 => list(rng, depth - 1),
        _ => map(rng, 0..4, depth - 1),
    }
}

fn list(rng: &mut Rng, depth: usize) -> (String, Shape) {
    let (mut texts, mut shapes) = (Vec::new(), Vec::new());
    let one_kind = rng.usize(0..3);
    for _ in 0..rng.usize(0..5) {
        let (text, shape) = match one_kind {
            0 => (quoted(&text(rng)), Shape::Text),
            1 => (number(rng).to_owned(), Shape::Number),
            _ => value(rng, depth),
        };
        texts.push(text);
        shapes.push(shape);
    }
    (format!("[{}]", texts.join(",")), Shape::List(shapes))
}

/// A JSON object with that many keys or fewer.
pub(crate) fn map(rng: &mut Rng, count: std::ops::Range<usize>, depth: usize) -> (String, Shape) {
    let mut entries: Vec<(String, String, Shape)> = Vec::new();
    for _ in 0..rng.usize(count) {
        let key = KEYS[rng.usize(0..KEYS.len())].to_owned();
        if entries.iter().all(|(other, _, _)| *other != key) {
            let (text, shape) = value(rng, depth);
            entries.push((key, text, shape));
        }
    }
    let text: Vec<String> = entries.iter().map(|(key, text, _)| format!("{}:{text}", quoted(key))).collect();
    let shapes = entries.into_iter().map(|(key, _, shape)| (key, shape)).collect();
    (format!("{{{}}}", text.join(",")), Shape::Map(shapes))
}

/// A JSON text, which is a literal in Go as well, as it has no `\/` and no surrogates.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
