//! The functions of templates: those of consul-template 0.41 that make sense in a pod, and the pure ones of sprig.
//! <https://github.com/hashicorp/consul-template/blob/main/docs/templating-language.md>
//!
//! The text that a function works on is its last argument. Messages name the function and the types, never a value.

mod arguments;
mod builtin;
mod collections;
mod encoding;
mod json;
mod math;
mod names;
mod secrets;
mod sprig;
mod text;
mod toml;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};

use super::context::Context;
pub(super) use arguments::Arguments;
pub(super) use names::{Known, is_constant, known};

/// A function. The error is its message without the name of the function.
pub(super) type Function = fn(&Arguments<'_>) -> Result<Value, String>;

/// All functions by name, without those that the engine has.
fn all() -> impl Iterator<Item = (&'static str, Function)> {
    [
        builtin::FUNCTIONS,
        collections::FUNCTIONS,
        encoding::FUNCTIONS,
        json::FUNCTIONS,
        math::FUNCTIONS,
        secrets::FUNCTIONS,
        text::FUNCTIONS,
        toml::FUNCTIONS,
        yaml::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain(sprig::functions())
}

/// The functions for one execution.
pub(super) fn table(context: &Arc<Context>) -> FuncMap {
    let bound = |(name, function): (&'static str, Function)| {
        let context = Arc::clone(context);
        let bound: ValueFunc = Arc::new(move |values: &[Value]| call(name, function, values, &context));
        (name.to_owned(), bound)
    };
    all().map(bound).collect::<BTreeMap<_, _>>()
}

fn call(name: &'static str, function: Function, values: &[Value], context: &Context) -> gotmpl::Result<Value> {
    let result =
        context.charge_work(values).and_then(|()| function(&Arguments { values, context })).and_then(|value| {
            context.charge(&value)?;
            check_nesting(&value, context)?;
            Ok(value)
        });
    result.map_err(|message| {
        if message.is_empty() {
            // A nested execution has kept its message.
            return TemplateError::Exec(message);
        }
        context.fail(if name.contains(' ') { message } else { format!("{name}: {message}") });
        // The message is in the context: the engine adds its own words, which can contain values.
        TemplateError::Exec(String::new())
    })
}

/// Maximum nesting of lists and maps. Reading, writing, and dropping a value needs stack for each level.
pub(super) const MAX_NESTING: usize = 256;

/// Maximum number of values inside of one value. A list can contain another one many times without a copy.
const MAX_NODES: usize = 1 << 20;

/// Fails for a value with too many levels or values. They count as output, because the check visits all of them.
fn check_nesting(value: &Value, context: &Context) -> Result<(), String> {
    fn visit(value: &Value, depth: usize, count: &mut usize) -> bool {
        *count += 1;
        depth <= MAX_NESTING
            && *count <= MAX_NODES
            && match value {
                Value::List(items) => items.iter().all(|item| visit(item, depth + 1, count)),
                Value::Map(entries) => entries.values().all(|entry| visit(entry, depth + 1, count)),
                _ => true,
            }
    }
    let mut count = 0;
    if !visit(value, 0, &mut count) {
        return Err(format!("the value has more than {MAX_NESTING} levels, or {MAX_NODES} values"));
    }
    context.charge_bytes(count)
}

#[cfg(test)]
mod tests {
    use super::super::value::{list, map, text};
    use super::*;

    /// A panic would end the agent.
    #[test]
    fn no_function_panics() {
        let values = [
            Value::Nil,
            Value::Bool(true),
            Value::Int(0),
            Value::Int(-1),
            Value::Int(3),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Uint(u64::MAX),
            Value::Float(f64::NAN),
            Value::Float(-1e308),
            text(""),
            text("é1"),
            text("-9223372036854775808"),
            text("a: [b, {c: d}]"),
            list(Vec::new()),
            list(vec![text("b"), Value::Int(1), Value::Nil]),
            map::<&str>([]),
            map([("é", Value::Int(1))]),
        ];
        let mut panics = std::collections::BTreeSet::new();
        let mut run = |name: &str, function: Function, arguments: &[Value]| {
            let context = Context::default();
            let call = || function(&Arguments { values: arguments, context: &context }).is_ok();
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
                panics.insert(format!("{name} {arguments:?}"));
            }
        };
        std::panic::set_hook(Box::new(|_| {}));
        for (name, function) in all() {
            run(name, function, &[]);
            for first in &values {
                run(name, function, std::slice::from_ref(first));
                for second in &values {
                    run(name, function, &[first.clone(), second.clone()]);
                    for third in &values {
                        run(name, function, &[first.clone(), second.clone(), third.clone()]);
                    }
                }
            }
        }
        let _ = std::panic::take_hook();
        let shown: Vec<_> = panics.iter().take(20).collect();
        assert!(panics.is_empty(), "{}: {shown:?}", panics.len());
    }
}
