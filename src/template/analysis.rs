//! What a template reads, and the mistakes that its parse tree shows.

use std::collections::{BTreeMap, BTreeSet};

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode};

use super::Problem;
use super::execute::constant;
use super::functions::{self, Known};
use super::syntax::parse;
use crate::model::{SecretCall, SecretFunction};

/// The functions that read environment variables.
const ENVIRONMENT: [&str; 3] = ["env", "mustEnv", "envOrDefault"];

/// What a template reads.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Its calls whose arguments are known before it is executed.
    pub calls: BTreeSet<SecretCall>,
    /// Whether it has other calls, whose arguments depend on secrets.
    pub has_other_calls: bool,
    /// The names of sources that it reads.
    pub named: BTreeSet<String>,
    /// Whether it uses all sources at once, as in `{{ range $name, $secret := . }}`.
    pub reads_all: bool,
    /// The environment variables that it reads.
    pub variables: BTreeMap<String, String>,
}

/// Inspects a template. `sources`: the names of the sources. `variable` returns an environment variable, or the reason why
/// templates must not read it.
///
/// # Errors
/// All mistakes that the parse tree shows, in the order of the text.
pub fn inspect(
    text: &str,
    delimiters: (&str, &str),
    sources: &BTreeSet<&str>,
    variable: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<Inspection, Vec<Problem>> {
    let parsed = parse(text, delimiters)?;
    let mut walk = Walk { text, sources, variable, found: Inspection::default(), problems: Vec::new() };
    walk.variables_in(&parsed.main);
    parsed.defined.values().for_each(|body| walk.variables_in(body));
    let mut scope = Scope { variables: vec!["$".into()], dot: Dot::Root, templates: parsed.defined.keys().collect() };
    walk.list(&parsed.main, &mut scope);
    for body in parsed.defined.values() {
        scope.variables.truncate(1);
        scope.dot = Dot::Unknown;
        walk.list(body, &mut scope);
    }
    if walk.problems.is_empty() {
        return Ok(walk.found);
    }
    walk.problems.sort_by_key(|problem| (problem.line, problem.column));
    walk.problems.dedup();
    Err(walk.problems)
}

/// What the dot is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dot {
    /// All sources by name.
    Root,
    /// Another value, in `with` and `range`.
    Other,
    /// The argument of a `template` action, which can be the root.
    Unknown,
}

struct Scope<'a> {
    /// Names of variables, with the dollar sign.
    variables: Vec<String>,
    dot: Dot,
    templates: BTreeSet<&'a String>,
}

struct Walk<'a> {
    text: &'a str,
    sources: &'a BTreeSet<&'a str>,
    variable: &'a dyn Fn(&str) -> Result<Option<String>, String>,
    found: Inspection,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn problem(&mut self, offset: usize, message: impl Into<String>) {
        self.problems.push(Problem::at(self.text, offset, message));
    }

    fn list(&mut self, list: &ListNode, scope: &mut Scope<'_>) {
        for node in &list.nodes {
            match node {
                Node::List(list) => self.list(list, scope),
                Node::Action(action) => self.pipeline(&action.pipe, scope),
                Node::If(branch) => self.branch(branch, false, scope),
                Node::Range(branch) | Node::With(branch) => self.branch(branch, true, scope),
                Node::Template(template) => {
                    if !scope.templates.contains(&template.name.to_string()) {
                        let message = format!("template {:?} is not defined; add its `define`", template.name);
                        self.problem(template.pos.offset, message);
                    }
                    template.pipe.iter().for_each(|pipe| self.argument_of_template(pipe, scope));
                }
                Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    /// The argument of a `template` action. The root itself is passed on, and its fields are found in the definition.
    fn argument_of_template(&mut self, pipe: &PipeNode, scope: &mut Scope<'_>) {
        let is_dot = |of: &CommandNode| matches!(&of.args[..], [Expr::Dot(_)]);
        let is_root = |of: &CommandNode| matches!(&of.args[..], [Expr::Variable(_, name, fields)] if name == "$" && fields.is_empty());
        match &pipe.commands[..] {
            [of] if pipe.decl.is_empty() && (is_dot(of) || is_root(of)) => {}
            _ => self.pipeline(pipe, scope),
        }
    }

    fn branch(&mut self, branch: &BranchNode, moves_dot: bool, scope: &mut Scope<'_>) {
        let (depth, dot) = (scope.variables.len(), scope.dot);
        self.pipeline(&branch.pipe, scope);
        if moves_dot {
            scope.dot = Dot::Other;
        }
        let of_pipe = scope.variables.len();
        self.list(&branch.body, scope);
        scope.variables.truncate(of_pipe);
        scope.dot = dot;
        branch.else_body.iter().for_each(|body| self.list(body, scope));
        scope.variables.truncate(depth);
    }

    fn pipeline(&mut self, pipe: &PipeNode, scope: &mut Scope<'_>) {
        for (index, command) in pipe.commands.iter().enumerate() {
            self.command(command, &pipe.commands[..index], scope);
        }
        for name in &pipe.decl {
            if pipe.is_assign {
                self.check_variable(name, pipe.pos.offset, scope);
            } else {
                scope.variables.push(name.to_string());
            }
        }
    }

    /// `before`: the commands whose result is the last argument of this one.
    fn command(&mut self, command: &CommandNode, before: &[CommandNode], scope: &mut Scope<'_>) {
        let Some((first, arguments)) = command.args.split_first() else { return };
        let name = match first {
            Expr::Identifier(_, name) => Some(name.as_str()),
            Expr::Chain(_, inner, _) => match inner.as_ref() {
                Expr::Identifier(_, name) => Some(name.as_str()),
                _ => None,
            },
            _ => None,
        };
        if let Some(function) = name.and_then(SecretFunction::named) {
            self.call(function, first.pos().offset, arguments, before);
        }
        match (name, arguments) {
            // `index . "name"` and `meta "name"` read one source.
            (Some("index"), [Expr::Dot(pos), Expr::String(_, key), rest @ ..]) if scope.dot != Dot::Other => {
                self.source(key, pos.offset, scope.dot);
                self.expressions(rest, scope);
            }
            (Some("index"), [Expr::Variable(pos, root, fields), Expr::String(_, key), rest @ ..])
                if root == "$" && fields.is_empty() =>
            {
                self.source(key, pos.offset, Dot::Root);
                self.expressions(rest, scope);
            }
            (Some("executeTemplate"), [name, rest @ ..]) => {
                match name {
                    Expr::String(pos, name) if !scope.templates.contains(&name.to_string()) => {
                        self.problem(pos.offset, format!("template {name:?} is not defined; add its `define`"));
                    }
                    Expr::String(..) => {}
                    other => {
                        let message = "executeTemplate requires the name of a `define` in quotes";
                        self.problem(other.pos().offset, message);
                    }
                }
                self.expressions(rest, scope);
            }
            (Some("meta"), [Expr::String(pos, key)]) => self.source(key, pos.offset, Dot::Root),
            _ => arguments.iter().for_each(|argument| self.expression(argument, scope)),
        }
        self.expression(first, scope);
    }

    fn call(&mut self, function: SecretFunction, offset: usize, arguments: &[Expr], before: &[CommandNode]) {
        let variables = &self.found.variables;
        let mut known: Option<Vec<String>> =
            arguments.iter().map(|argument| constant_text(argument, variables)).collect();
        if !before.is_empty() {
            let last = is_constant(before).then(|| constant(before, variables)).flatten();
            known = known.zip(last).map(|(mut known, last)| {
                known.push(last);
                known
            });
        }
        let Some(known) = known else {
            self.found.has_other_calls = true;
            return;
        };
        match SecretCall::new(function, &known.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(call) => _ = self.found.calls.insert(call),
            Err(message) => self.problem(offset, message),
        }
    }

    fn expressions(&mut self, expressions: &[Expr], scope: &mut Scope<'_>) {
        for expression in expressions {
            self.expression(expression, scope);
        }
    }

    fn expression(&mut self, expression: &Expr, scope: &mut Scope<'_>) {
        match expression {
            Expr::Dot(_) => self.found.reads_all |= scope.dot == Dot::Root,
            Expr::Field(pos, fields) => {
                if let Some(name) = fields.first().filter(|_| scope.dot != Dot::Other) {
                    self.source(name, pos.offset, scope.dot);
                }
            }
            Expr::Variable(pos, name, fields) => {
                self.check_variable(name, pos.offset, scope);
                if name == "$" {
                    match fields.first() {
                        // In a definition, `$` is the argument.
                        Some(field) if scope.dot == Dot::Unknown => self.source(field, pos.offset, Dot::Unknown),
                        Some(field) => self.source(field, pos.offset, Dot::Root),
                        None => self.found.reads_all |= scope.dot != Dot::Unknown,
                    }
                }
            }
            Expr::Identifier(pos, name) => {
                if let Known::No(message) = functions::known(name) {
                    self.problem(pos.offset, message);
                }
            }
            Expr::Pipe(_, pipe) => self.pipeline(pipe, scope),
            Expr::Chain(pos, inner, fields) => match inner.as_ref() {
                Expr::Identifier(_, name) if name == "scratch" => {
                    let method = fields.first().map(ToString::to_string).unwrap_or_default();
                    if let Known::No(message) = functions::known(&format!("scratch.{method}")) {
                        self.problem(pos.offset, message);
                    }
                }
                inner => self.expression(inner, scope),
            },
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => {}
        }
    }

    fn check_variable(&mut self, name: &str, offset: usize, scope: &Scope<'_>) {
        if !scope.variables.iter().any(|known| known == name) {
            self.problem(offset, format!("variable {name} is not defined; declare it with {name} := before its use"));
        }
    }

    fn source(&mut self, name: &str, offset: usize, dot: Dot) {
        if self.sources.contains(name) {
            self.found.named.insert(name.to_owned());
        } else if dot == Dot::Root {
            let message = match name {
                "Data" | "data" => "is a field of a secret; write it inside `with secret \"PATH\"`".to_owned(),
                "Values" | "Release" | "Chart" => "is a value of Helm; render the template with Helm first".to_owned(),
                _ => match crate::model::nearest(name, self.sources.iter().copied()) {
                    Some(near) => format!("must be a name in `sources`; did you mean `.{near}`?"),
                    None => "must be a name in `sources`".to_owned(),
                },
            };
            self.problem(offset, format!(".{name} {message}"));
        }
    }

    /// Resolves the environment variables whose names are literals.
    fn variables_in(&mut self, list: &ListNode) {
        let mut names = Vec::new();
        visit_commands(list, &mut |before, command| {
            if let [Expr::Identifier(pos, function), arguments @ ..] = &command.args[..]
                && ENVIRONMENT.contains(&function.as_str())
            {
                let piped = before.last().map(|command| &command.args[..]);
                let name = match (arguments, piped) {
                    ([Expr::String(_, name), ..], _) | ([], Some([Expr::String(_, name)])) => Some(name.to_string()),
                    _ => None,
                };
                names.push((pos.offset, name));
            }
        });
        for (offset, name) in names {
            let Some(name) = name else {
                self.problem(offset, "the name of an environment variable must be text in quotes");
                continue;
            };
            match (self.variable)(&name) {
                Ok(value) => self.found.variables.extend(value.map(|value| (name, value))),
                Err(message) => self.problem(offset, message),
            }
        }
    }
}

/// Calls `visitor` for each command, with the commands before it in its pipeline.
fn visit_commands<'a>(list: &'a ListNode, visitor: &mut dyn FnMut(&'a [CommandNode], &'a CommandNode)) {
    fn pipe<'a>(of: &'a PipeNode, visitor: &mut dyn FnMut(&'a [CommandNode], &'a CommandNode)) {
        for (index, command) in of.commands.iter().enumerate() {
            visitor(&of.commands[..index], command);
            command.args.iter().for_each(|argument| expression(argument, visitor));
        }
    }
    fn expression<'a>(of: &'a Expr, visitor: &mut dyn FnMut(&'a [CommandNode], &'a CommandNode)) {
        match of {
            Expr::Pipe(_, inner) => pipe(inner, visitor),
            Expr::Chain(_, inner, _) => expression(inner, visitor),
            _ => {}
        }
    }
    for node in &list.nodes {
        match node {
            Node::List(list) => visit_commands(list, visitor),
            Node::Action(action) => pipe(&action.pipe, visitor),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                pipe(&branch.pipe, visitor);
                visit_commands(&branch.body, visitor);
                branch.else_body.iter().for_each(|body| visit_commands(body, visitor));
            }
            Node::Template(template) => template.pipe.iter().for_each(|of| pipe(of, visitor)),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn constant_text(expression: &Expr, variables: &BTreeMap<String, String>) -> Option<String> {
    match expression {
        Expr::String(_, text) => Some(text.to_string()),
        Expr::Pipe(_, pipe) if is_constant(&pipe.commands) => constant(&pipe.commands, variables),
        _ => None,
    }
}

/// Whether the commands depend on no secret.
fn is_constant(commands: &[CommandNode]) -> bool {
    commands.iter().flat_map(|command| &command.args).all(|argument| match argument {
        Expr::String(..) | Expr::Number(..) | Expr::Bool(..) => true,
        Expr::Identifier(_, name) => functions::is_constant(name),
        Expr::Pipe(_, pipe) => pipe.decl.is_empty() && is_constant(&pipe.commands),
        Expr::Dot(_) | Expr::Field(..) | Expr::Variable(..) | Expr::Nil(_) | Expr::Chain(..) => false,
    })
}
