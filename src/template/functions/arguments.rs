//! The arguments of a function call, with checks of their number and types.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::super::context::Context;
use crate::model::truncated;

/// The arguments of a call.
pub(in crate::template) struct Arguments<'a> {
    pub(in crate::template) values: &'a [Value],
    pub(in crate::template) context: &'a Context,
}

impl<'a> Arguments<'a> {
    /// Fails unless there are `count` arguments.
    pub(in crate::template) fn exactly(&self, count: usize) -> Result<(), String> {
        self.between(count, count)
    }

    /// Fails unless there are `least` to `most` arguments.
    pub(in crate::template) fn between(&self, least: usize, most: usize) -> Result<(), String> {
        let found = self.values.len();
        if (least..=most).contains(&found) {
            return Ok(());
        }
        let wanted = if least == most {
            format!("{least}")
        } else if most == usize::MAX {
            format!("at least {least}")
        } else {
            format!("{least} to {most}")
        };
        Err(format!("requires {wanted} arguments, found {found}"))
    }

    /// The argument at `index`, counted from 0.
    pub(in crate::template) fn value(&self, index: usize) -> Result<&'a Value, String> {
        self.values.get(index).ok_or_else(|| format!("requires at least {} arguments", index + 1))
    }

    /// The text at `index`. A number of Vault is no text, as in Go.
    pub(in crate::template) fn text(&self, index: usize) -> Result<&'a Arc<str>, String> {
        match self.value(index)? {
            Value::String(text) if !self.context.is_number(text) => Ok(text),
            other => Err(self.mismatch(index, "text", other)),
        }
    }

    /// `what` with `text`, for a message. Without it if the template does not contain `text`: then it can be of a secret.
    pub(in crate::template) fn literal(&self, what: &str, text: &str) -> String {
        if self.context.has_literal(text) { format!("{what} {:?}", truncated(text, 100)) } else { what.to_owned() }
    }

    /// The whole number at `index`.
    pub(in crate::template) fn integer(&self, index: usize) -> Result<i64, String> {
        match self.value(index)? {
            Value::Int(number) => Ok(*number),
            other => Err(self.mismatch(index, "a whole number", other)),
        }
    }

    /// The whole number at `index`, which counts `what` and is not negative.
    pub(in crate::template) fn count(&self, index: usize, what: &str) -> Result<usize, String> {
        usize::try_from(self.integer(index)?).map_err(|_| format!("the number of {what} is negative"))
    }

    /// The list at `index`.
    pub(in crate::template) fn list(&self, index: usize) -> Result<&'a Arc<[Value]>, String> {
        match self.value(index)? {
            Value::List(items) => Ok(items),
            other => Err(self.mismatch(index, "a list", other)),
        }
    }

    /// The map at `index`.
    pub(in crate::template) fn map(&self, index: usize) -> Result<&'a Arc<BTreeMap<Arc<str>, Value>>, String> {
        match self.value(index)? {
            Value::Map(entries) => Ok(entries),
            other => Err(self.mismatch(index, "a map", other)),
        }
    }

    pub(in crate::template) fn mismatch(&self, index: usize, wanted: &str, found: &Value) -> String {
        let advice = match found {
            Value::String(_) if wanted == "text" => "; convert it with `print`",
            Value::String(_) if wanted.contains("number") => "; convert it with `parseInt` or `parseFloat`",
            _ => "",
        };
        format!("argument {} must be {wanted}, not {}{advice}", index + 1, self.kind(found))
    }

    /// The type of a value, for a message.
    pub(in crate::template) fn kind(&self, value: &Value) -> &'static str {
        match value {
            Value::Nil => "no value (null, or a missing key)",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Uint(_) => "a whole number",
            Value::Float(_) => "a floating-point number",
            Value::String(text) if self.context.is_number(text) => "a number of Vault",
            Value::String(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Function(_) => "a function",
        }
    }
}
