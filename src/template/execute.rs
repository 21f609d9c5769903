//! Execution: a template and readings → the content of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos};
use gotmpl::{MissingKey as EngineMissingKey, TemplateError, Value};
use zeroize::Zeroizing;

use super::bytes::from_text;
use super::context::{Context, MAX_OUTPUT, MAX_STEPS};
use super::instrument::{instrument, pipeline};
use super::syntax::{Parsed, parse};
use super::{Problem, functions, value};
use crate::model::{MissingKey, Reading, SecretBytes, SecretCall, SecretFunction, SourceName, Template, lock};

/// Name of the text outside of definitions. A template cannot define it, because names are text without control characters.
const MAIN: &str = "main\0";

/// The result of an execution.
pub struct Executed {
    /// The content of the file.
    pub content: SecretBytes,
    /// The calls for secrets that it has made.
    pub calls: BTreeSet<SecretCall>,
}

/// Why a template has no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionError {
    /// It fails at one place.
    Failed(Problem),
    /// It calls for secrets that have not been read, which its parse tree does not show.
    Needs(BTreeSet<SecretCall>),
}

/// Executes `template`. A source without a reading is missing in the root, and a call for it returns nothing.
///
/// # Errors
/// [`ExecutionError`]. `Needs` takes precedence: the content without these secrets is not final.
pub fn execute(template: &Template, readings: &BTreeMap<SourceName, Arc<Reading>>) -> Result<Executed, ExecutionError> {
    run(template, readings, None)
}

/// [`execute`], but each action prints `mask` instead of its value. The text of the template and its conditions stay.
///
/// # Errors
/// As [`execute`].
pub fn execute_masked(
    template: &Template,
    readings: &BTreeMap<SourceName, Arc<Reading>>,
    mask: &str,
) -> Result<Executed, ExecutionError> {
    run(template, readings, Some(mask))
}

fn run(
    template: &Template,
    readings: &BTreeMap<SourceName, Arc<Reading>>,
    mask: Option<&str>,
) -> Result<Executed, ExecutionError> {
    let (left, right) = (template.delimiters.0.as_str(), template.delimiters.1.as_str());
    let text = super::bytes::to_text(template.text.as_bytes());
    let parsed = parse(&text, (left, right)).map_err(|problems| first(problems, &text))?;
    let (context, root) = context(template, readings);
    let missing_key = if context.is_strict { EngineMissingKey::Error } else { EngineMissingKey::Invalid };
    let mask = mask.map(str::to_owned);
    let context = Arc::new_cyclic(|own| Context { own: own.clone(), mask, defined: parsed.defined.clone(), ..context });
    let engine = engine(&parsed, missing_key, &context);
    let mut output = Output::default();
    let result = engine.execute_template_fmt(&mut output, MAIN, &root);
    drop((engine, root));
    let needed = std::mem::take(&mut *lock(&context.needed));
    if !needed.is_empty() {
        return Err(ExecutionError::Needs(needed));
    }
    match result {
        Ok(()) => Ok(Executed {
            content: SecretBytes::new(from_text(&output.text).into_owned()),
            calls: std::mem::take(&mut *lock(&context.called)),
        }),
        Err(error) => {
            let offset = context.position.load(Ordering::Relaxed);
            let message = context.take_error().unwrap_or_else(|| describe(&error, offset, &parsed, template));
            Err(ExecutionError::Failed(Problem::at(&text, offset, message)))
        }
    }
}

fn first(problems: Vec<Problem>, text: &str) -> ExecutionError {
    let problem = problems.into_iter().next();
    ExecutionError::Failed(problem.unwrap_or_else(|| Problem::at(text, 0, "cannot be parsed")))
}

/// The context of an execution, and the root of the data: the sources by name.
fn context(template: &Template, readings: &BTreeMap<SourceName, Arc<Reading>>) -> (Context, Value) {
    let mut context = Context {
        text: template.text.clone(),
        variables: template.variables.clone(),
        is_strict: template.missing_key == MissingKey::Error,
        ..Context::default()
    };
    let mut root = BTreeMap::new();
    for name in template.sources() {
        let Some(reading) = readings.get(name) else { continue };
        context.now = context.now.max(reading.received);
        context.metadata.insert(name.as_str().to_owned(), value::metadata(reading));
    }
    for name in &template.named {
        let Some(reading) = readings.get(name) else { continue };
        root.insert(Arc::from(name.as_str()), value::of_data(&reading.data, &context));
    }
    for (call, name) in template.all_calls() {
        let Some(reading) = readings.get(name) else { continue };
        let answer = match call.function {
            SecretFunction::Secret => value::secret(reading, &context),
            SecretFunction::Secrets => value::names(reading, &context),
            SecretFunction::PkiCert => value::certificate(reading, &context),
        };
        context.secrets.insert(call.clone(), answer);
    }
    // Without sources, the root is nothing, as in the Vault Agent.
    let root = if template.named.is_empty() { Value::Nil } else { Value::Map(Arc::new(root)) };
    (context, root)
}

fn engine(parsed: &Parsed, missing_key: EngineMissingKey, context: &Arc<Context>) -> gotmpl::Template {
    let engine = gotmpl::Template::new("").missing_key(missing_key).max_range_iters(MAX_STEPS as u64);
    let engine = engine.funcs(functions::table(context)).add_parse_tree(MAIN, instrument(&parsed.main));
    parsed.defined.iter().fold(engine, |engine, (name, body)| engine.add_parse_tree(name, instrument(body)))
}

/// The output of the template `name` of `define`, for a function of the execution with `context`.
pub(super) fn nested(context: &Arc<Context>, name: &str, dot: &Value) -> Result<String, TemplateError> {
    let missing_key = if context.is_strict { EngineMissingKey::Error } else { EngineMissingKey::Invalid };
    let main = ListNode { pos: Pos::new(0, 1), nodes: Vec::new() };
    let engine = engine(&Parsed { main, defined: context.defined.clone() }, missing_key, context);
    let mut output = Output::default();
    engine.execute_template_fmt(&mut output, name, dot)?;
    Ok(output.text.to_string())
}

/// The text that `commands` return, which depend on no secret.
pub(super) fn constant(commands: &[CommandNode], variables: &BTreeMap<String, String>) -> Option<String> {
    let pos = commands.first()?.pos;
    let pipe = PipeNode { pos, decl: Vec::new(), commands: commands.to_vec(), is_assign: false };
    let main = ListNode { pos, nodes: vec![Node::Action(ActionNode { pos, pipe: pipeline(&pipe) })] };
    let parsed = Parsed { main, defined: BTreeMap::new() };
    let context = Arc::new(Context { variables: variables.clone(), is_strict: true, ..Context::default() });
    let engine = engine(&parsed, EngineMissingKey::Error, &context);
    let mut output = Output::default();
    engine.execute_template_fmt(&mut output, MAIN, &Value::Nil).ok()?;
    Some(output.text.to_string())
}

/// Collects the output up to a maximum size.
#[derive(Default)]
struct Output {
    text: Zeroizing<String>,
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > MAX_OUTPUT {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// The message for an error of the engine. Its own messages can contain values.
fn describe(error: &TemplateError, offset: usize, parsed: &Parsed, template: &Template) -> String {
    match error {
        TemplateError::MissingKey { key } => {
            let origin = origin(&parsed.main, offset, key, None, template);
            let origin = origin.and_then(|found| found.0).unwrap_or_else(|| "the value".to_owned());
            let shown = if template.text.contains(&**key) { format!("key {key:?}") } else { "such key".to_owned() };
            let of_secret = origin.starts_with("secret ");
            let remedy = if of_secret && &**key == "data" {
                "if the path is not of KV version 2, write `.Data.KEY`".to_owned()
            } else if of_secret && origin.contains("/data/") && template.text.contains(&format!(".Data.{key}")) {
                format!("the keys of KV version 2 are in `.Data.data`: write `.Data.data.{key}`")
            } else {
                "correct the key, or set the output's `missingKey: default`".to_owned()
            };
            format!("{origin} has no {shown}; {remedy}")
        }
        other => plain_message(other),
    }
}

/// The message for an error that has no origin.
pub(super) fn plain_message(error: &TemplateError) -> String {
    match error {
        TemplateError::MissingKey { .. } => {
            "the value has no such key; correct the key, or set the output's `missingKey: default`".to_owned()
        }
        // The number can be of a secret.
        TemplateError::IndexOutOfRange { .. } => "an index is out of range".to_owned(),
        TemplateError::TypeMismatch { expected, got } => format!("expected {expected}, found {got}"),
        TemplateError::ArgCount { name, expected, got } => {
            format!("function {name} requires {expected} arguments, found {got}")
        }
        TemplateError::NotIterable(kind) => format!("`range` cannot loop over {kind}"),
        TemplateError::UndefinedVariable(name) => format!("variable {name} is not defined"),
        TemplateError::UndefinedFunction(name) => format!("function {name} does not exist"),
        TemplateError::UndefinedTemplate(name) => format!("template {name:?} is not defined"),
        TemplateError::RecursionLimit => "templates and blocks are nested too deeply".to_owned(),
        TemplateError::RangeIterLimit => format!("the loops have more than {MAX_STEPS} steps; shorten them"),
        TemplateError::Write => format!("the content is larger than {} MiB", MAX_OUTPUT >> 20),
        TemplateError::Exec(message) => known_message(message),
        _ => "cannot be evaluated".to_owned(),
    }
}

/// The messages of the engine that contain types and names only.
fn known_message(message: &str) -> String {
    const KNOWN: [&str; 7] = [
        "incompatible types for comparison",
        "non-comparable type",
        "invalid type for comparison",
        "can't evaluate field",
        "can't give argument to non-function",
        "nil is not a command",
        "cannot assign",
    ];
    if message.starts_with("can't evaluate field") && message.ends_with("in type string") {
        return format!("{message}; if the text is JSON, convert it with `parseJSON`");
    }
    let is_known = KNOWN.iter().any(|known| message.starts_with(known));
    if is_known { message.to_owned() } else { "cannot be evaluated with this value".to_owned() }
}

/// Where a value comes from; `None` if it is not known.
struct Origin(Option<String>);

/// Where the value comes from that has no `key`, for the action at `offset`. `None` if the action is not in `list`.
fn origin(list: &ListNode, offset: usize, key: &str, dot: Option<&str>, template: &Template) -> Option<Origin> {
    list.nodes.iter().find_map(|node| match node {
        Node::List(list) => origin(list, offset, key, dot, template),
        Node::Action(action) if action.pos.offset == offset => {
            Some(Origin(origin_in(&action.pipe, key, dot, template)))
        }
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
            if branch.pos.offset == offset {
                return Some(Origin(origin_in(&branch.pipe, key, dot, template)));
            }
            let inner = secret_in(&branch.pipe).filter(|_| !matches!(node, Node::If(_)));
            let inner = inner.or_else(|| dot.map(str::to_owned));
            origin(&branch.body, offset, key, inner.as_deref(), template)
                .or_else(|| branch.else_body.as_ref().and_then(|body| origin(body, offset, key, dot, template)))
        }
        _ => None,
    })
}

fn origin_in(pipe: &PipeNode, key: &str, dot: Option<&str>, template: &Template) -> Option<String> {
    let fields = pipe.commands.iter().flat_map(|command| &command.args).filter_map(|argument| match argument {
        Expr::Field(_, fields) | Expr::Variable(_, _, fields) | Expr::Chain(_, _, fields) => Some(fields),
        _ => None,
    });
    let named = fields.filter(|fields| fields.iter().any(|field| field == key)).find_map(|fields| {
        let first = fields.first()?;
        template.named.iter().find(|name| name.as_str() == first.as_str()).map(|name| format!("source {name}"))
    });
    named.or_else(|| secret_in(pipe)).or_else(|| dot.map(str::to_owned))
}

/// `secret PATH`, if a command of `pipe` reads it.
fn secret_in(pipe: &PipeNode) -> Option<String> {
    pipe.commands.iter().find_map(|command| match &command.args[..] {
        [Expr::Identifier(_, function), Expr::String(_, path), ..] if is_secret(function) => {
            Some(format!("secret {path}"))
        }
        [Expr::Identifier(_, function), ..] if is_secret(function) => Some("the secret".to_owned()),
        _ => None,
    })
}

fn is_secret(function: &str) -> bool {
    matches!(SecretFunction::named(function), Some(SecretFunction::Secret | SecretFunction::PkiCert))
}

impl fmt::Display for ExecutionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(problem) => problem.fmt(f),
            Self::Needs(calls) => {
                let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();

                write!(f, "requires secrets that are not read yet: {}", paths.join(", "))
            }
        }
    }
}
