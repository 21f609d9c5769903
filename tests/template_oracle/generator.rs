//! Generated templates, as trees, so that a template that differs can be made smaller.

use fastrand::Rng;

use crate::expressions::{Expressions, Known};
use crate::shape::{Shape, map};

/// A part of a template.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// Text, or an action without a body, as it is.
    Leaf(String),
    /// Actions with a body after each, and the action that ends the last one.
    Block { parts: Vec<(String, Vec<Node>)>, end: String },
}

/// The template as text.
pub(crate) fn print(nodes: &[Node]) -> String {
    let one = |node: &Node| match node {
        Node::Leaf(text) => text.clone(),
        Node::Block { parts, end } => {
            let parts: String = parts.iter().map(|(action, body)| format!("{action}{}", print(body))).collect();
            parts + end
        }
    };
    nodes.iter().map(one).collect()
}

/// Every template that is one step smaller.
pub(crate) fn smaller(nodes: &[Node]) -> Vec<Vec<Node>> {
    let mut all = Vec::new();
    for at in 0..nodes.len() {
        let with = |replacement: Vec<Node>| [&nodes[..at], &replacement, &nodes[at + 1..]].concat();
        all.push(with(Vec::new()));
        let Node::Block { parts, end } = &nodes[at] else { continue };
        for (action, body) in parts {
            // The body of another action can use its dot, or break out of its loop.
            if ["if", "else if", "else"].iter().any(|head| action.trim_start_matches(['{', '-', ' ']).starts_with(head))
            {
                all.push(with(body.clone()));
            }
        }
        if parts.len() > 1 {
            all.push(with(vec![Node::Block { parts: parts[..parts.len() - 1].to_vec(), end: end.clone() }]));
        }
        for part in 0..parts.len() {
            for body in smaller(&parts[part].1) {
                let mut parts = parts.clone();
                parts[part].1 = body;
                all.push(with(vec![Node::Block { parts, end: end.clone() }]));
            }
        }
    }
    all
}

/// A template, the data of the secrets that it reads (JSON text), and the mode for missing keys.
pub(crate) struct Pair {
    pub(crate) nodes: Vec<Node>,
    /// By path: `secret/data/app` (KV version 2) and `kv1/app`.
    pub(crate) data: [(&'static str, String); 2],
    pub(crate) missing_error: bool,
}

/// The pair of this seed.
pub(crate) fn pair(seed: u64) -> Pair {
    let mut rng = Rng::with_seed(seed);
    let (app, app_shape) = map(&mut rng, 3..9, 3);
    let (flat, flat_shape) = map(&mut rng, 1..6, 1);
    let missing_error = rng.usize(0..3) == 0;
    let mut generator = Generator { rng: &mut rng, names: 0, missing_error };
    let mut nodes = vec![generator.definition()];
    let known = vec![Known { name: "$s.Data.data".to_owned(), shape: app_shape.clone() }];
    match generator.rng.usize(0..4) {
        // The most common form: the secret is the dot.
        0 | 1 => {
            let known = Known { name: ".Data.data".to_owned(), shape: app_shape };
            nodes.push(generator.with("with secret \"secret/data/app\"", &[known], 4));
        }
        2 => nodes.push(generator.with("with $s := secret \"secret/data/app\"", &known, 4)),
        _ => {
            let flat = Known { name: "$f.Data".to_owned(), shape: flat_shape };
            let inner = generator.with("with $f := secret \"kv1/app\"", &[known.clone(), vec![flat]].concat(), 4);
            let mut body = generator.nodes(&known, None, 1, false);
            body.push(inner);
            nodes.push(generator.block("with $s := secret \"secret/data/app\"", body));
        }
    }
    if generator.chance(3) {
        nodes.push(generator.plain_text());
    }
    Pair { nodes, data: [("secret/data/app", app), ("kv1/app", flat)], missing_error }
}

struct Generator<'a> {
    rng: &'a mut Rng,
    /// Number of variables so far, for unique names.
    names: usize,
    missing_error: bool,
}

impl Generator<'_> {
    fn expressions(&mut self) -> Expressions<'_> {
        Expressions { rng: self.rng, missing_error: self.missing_error }
    }

    fn chance(&mut self, of: usize) -> bool {
        self.rng.usize(0..of) == 0
    }

    fn variable(&mut self) -> String {
        self.names += 1;
        format!("$v{}", self.names)
    }

    /// An action, with trim markers now and then.
    fn action(&mut self, content: &str) -> String {
        let left = if self.chance(5) { "{{- " } else { "{{ " };
        let right = if self.chance(5) { " -}}" } else { " }}" };
        format!("{left}{content}{right}")
    }

    fn block(&mut self, head: &str, body: Vec<Node>) -> Node {
        let head = self.action(head);
        Node::Block { parts: vec![(head, body)], end: self.action("end") }
    }

    fn with(&mut self, head: &str, known: &[Known], count: usize) -> Node {
        let body = self.nodes(known, None, count, false);
        self.block(head, body)
    }

    fn plain_text(&mut self) -> Node {
        const TEXTS: [&str; 12] =
            [" ", "\n", "\n\n", "  \n\t", "key=", "a: ", ", ", "{ ", "} ", "é\n", "\"", " text with spaces "];
        Node::Leaf(TEXTS[self.rng.usize(0..TEXTS.len())].to_owned())
    }

    /// `{{ define "part" }}`, for `template` and `executeTemplate`. It calls no template, so that there is no recursion. Where a
    /// missing value is an error, it does not print its dot: a function could hide `<no value>`.
    fn definition(&mut self) -> Node {
        const BODIES: [&str; 5] = [
            "{{ . | toJSON }}",
            "{{- with . }}{{ . | printf \"%v\" }}{{ else }}nothing{{ end -}}",
            "",
            "<{{ . }}>",
            "\n {{ $ }} \n",
        ];
        let count = if self.missing_error { 3 } else { BODIES.len() };
        let body = vec![Node::Leaf(BODIES[self.rng.usize(0..count)].to_owned())];
        self.block("define \"part\"", body)
    }

    /// Some statements. A variable is known to those after it.
    fn nodes(&mut self, known: &[Known], dot: Option<&Shape>, count: usize, in_loop: bool) -> Vec<Node> {
        let mut known = known.to_vec();
        if let Some(shape) = dot {
            known.push(Known { name: ".".to_owned(), shape: shape.clone() });
        }
        let mut all = Vec::new();
        for _ in 0..=self.rng.usize(0..=count) {
            let node = self.statement(&mut known, count, in_loop);
            all.push(node);
            if self.chance(2) {
                all.push(self.plain_text());
            }
        }
        all
    }

    fn statement(&mut self, known: &mut Vec<Known>, count: usize, in_loop: bool) -> Node {
        let nested = count > 0;
        match self.rng.usize(0..23) {
            0..=8 => self.output(known),
            9 | 10 => {
                let want = self.expressions().any_kind();
                let content = self.expressions().pipeline(known, &want, 2);
                let name = self.variable();
                let leaf = Node::Leaf(self.action(&format!("{name} := {content}")));
                known.push(Known { name, shape: without_elements(&want) });
                leaf
            }
            11 => self.assignment(known),
            12 | 13 if nested => self.condition(known, count - 1, in_loop),
            14 if nested => self.with_value(known, count - 1, in_loop),
            15..=17 if nested => self.range(known, count - 1),
            18 => Node::Leaf(self.action("/* a comment */").replace("{{ /*", "{{/*").replace("*/ }}", "*/}}")),
            19 => self.scratch(known),
            20 if in_loop => {
                let (condition, end) = (self.expressions().condition(known, 1), self.rng.bool());
                let body = vec![Node::Leaf(self.action(if end { "break" } else { "continue" }))];
                self.block(&format!("if {condition}"), body)
            }
            21 => {
                let dot = self.expressions().operand(known, &Shape::Any, 1);
                let body = vec![Node::Leaf("[{{ . }}]".to_owned())];
                let name = format!("b{}", {
                    self.names += 1;
                    self.names
                });
                self.block(&format!("block \"{name}\" {dot}"), body)
            }
            22 if count < 4 => {
                let dot = self.expressions().operand(known, &Shape::Any, 1);
                Node::Leaf(self.action(&format!("template \"part\" {dot}")))
            }
            _ => self.output(known),
        }
    }

    fn output(&mut self, known: &[Known]) -> Node {
        let want = match self.rng.usize(0..8) {
            0..=3 => Shape::Text,
            4 => Shape::Any,
            _ => self.expressions().any_kind(),
        };
        let content = match self.rng.usize(0..10) {
            0..=2 => self.expressions().path(known, &want).map(|found| found.name),
            3 if !self.missing_error => absent(known),
            _ => None,
        };
        let content = content.unwrap_or_else(|| self.expressions().pipeline(known, &want, 2));
        Node::Leaf(self.action(&content))
    }

    fn assignment(&mut self, known: &[Known]) -> Node {
        let variables: Vec<Known> = known.iter().filter(|k| k.name.starts_with("$v")).cloned().collect();
        if variables.is_empty() {
            return self.output(known);
        }
        let variable = &variables[self.rng.usize(0..variables.len())];
        let content = self.expressions().pipeline(known, &variable.shape, 1);
        Node::Leaf(self.action(&format!("{} = {content}", variable.name)))
    }

    fn condition(&mut self, known: &[Known], count: usize, in_loop: bool) -> Node {
        let content = self.expressions().condition(known, 1);
        let mut parts = vec![(self.action(&format!("if {content}")), self.nodes(known, None, count, in_loop))];
        if self.chance(3) {
            let content = self.expressions().operand(known, &Shape::Any, 1);
            parts.push((self.action(&format!("else if {content}")), self.nodes(known, None, count, in_loop)));
        }
        if self.chance(2) {
            parts.push((self.action("else"), self.nodes(known, None, count, in_loop)));
        }
        Node::Block { parts, end: self.action("end") }
    }

    fn with_value(&mut self, known: &[Known], count: usize, in_loop: bool) -> Node {
        let want = self.expressions().any_kind();
        let found = self.expressions().path(known, &want);
        let found = found.unwrap_or_else(|| Known { name: "\"x\"".to_owned(), shape: Shape::Text });
        let outside = outside(known);
        let body = self.nodes(&outside, Some(&found.shape), count, in_loop);
        let mut parts = vec![(self.action(&format!("with {}", found.name)), body)];
        if self.chance(2) {
            parts.push((self.action("else"), self.nodes(known, None, count, in_loop)));
        }
        Node::Block { parts, end: self.action("end") }
    }

    fn range(&mut self, known: &[Known], count: usize) -> Node {
        let want = [Shape::List(Vec::new()), Shape::Map(Vec::new()), Shape::Texts][self.rng.usize(0..3)].clone();
        let found = match self.rng.usize(0..6) {
            0 => Known {
                name: self.expressions().one_of(&["loop 3", "loop 1 4", "2", "loop 0"]).to_owned(),
                shape: Shape::Int,
            },
            1 => Known { name: self.expressions().pipeline(known, &want, 1), shape: without_elements(&want) },
            _ => self
                .expressions()
                .path(known, &want)
                .unwrap_or_else(|| Known { name: "split \",\" \"a,b,c\"".to_owned(), shape: Shape::Texts }),
        };
        let element = found.shape.element();
        let mut known = known.to_vec();
        let head = match self.rng.usize(0..4) {
            0 | 1 => format!("range {}", found.name),
            2 => {
                let value = self.variable();
                known.push(Known { name: value.clone(), shape: element.clone() });
                format!("range {value} := {}", found.name)
            }
            _ if found.shape == Shape::Int => format!("range {}", found.name),
            _ => {
                let (key, value) = (self.variable(), self.variable());
                let is_map = matches!(found.shape, Shape::Map(_));
                known.push(Known { name: key.clone(), shape: if is_map { Shape::Text } else { Shape::Int } });
                known.push(Known { name: value.clone(), shape: element.clone() });
                format!("range {key}, {value} := {}", found.name)
            }
        };
        let body = self.nodes(&outside(&known), Some(&element), count, true);
        let mut parts = vec![(self.action(&head), body)];
        if self.chance(4) {
            parts.push((self.action("else"), vec![self.plain_text()]));
        }
        Node::Block { parts, end: self.action("end") }
    }

    fn scratch(&mut self, known: &[Known]) -> Node {
        let any = self.expressions().operand(known, &Shape::Any, 1);
        let content = match self.rng.usize(0..6) {
            0 => format!("scratch.Set \"one\" {any}"),
            1 => format!("scratch.MapSet \"map\" \"b\" {any}"),
            2 => format!("scratch.MapSetX \"map\" \"a\" {any}"),
            3 => "scratch.Get \"map\" | toJSON".to_owned(),
            4 => "scratch.Get \"one\" | printf \"%v\"".to_owned(),
            _ => "scratch.MapValues \"map\" | toJSON".to_owned(),
        };
        Node::Leaf(self.action(&content))
    }
}

/// The shape without elements, which are not known of a computed value.
fn without_elements(shape: &Shape) -> Shape {
    match shape {
        Shape::List(_) => Shape::List(Vec::new()),
        Shape::Map(_) => Shape::Map(Vec::new()),
        Shape::Number => Shape::Any,
        other => other.clone(),
    }
}

/// The names that are still known where the dot is another value.
fn outside(known: &[Known]) -> Vec<Known> {
    known.iter().filter(|k| k.name.starts_with('$')).cloned().collect()
}

/// A key that the first map does not have.
fn absent(known: &[Known]) -> Option<String> {
    let map = known.iter().find(|k| matches!(k.shape, Shape::Map(_)))?;
    Some(format!("{}.absent", map.name.trim_end_matches('.')))
}
