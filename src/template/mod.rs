//! Templates in the language of Go's `text/template` with the functions of consul-template, as in the Vault Agent.
//!
//! Owns: the parse tree, the functions, the calls that read secrets, the limits of an execution. The engine is the crate
//! `gotmpl`; where its behavior differs from Go's, this module corrects it. Never touches: I/O, the clock, the environment,
//! the wire types of Vault. Pure: equal input gives equal bytes. Messages name the place in the template, keys, and paths,
//! never a value.
//!
//! The values in the engine are not zeroed. They live only during [`execute`].

mod analysis;
mod blocks;
mod bytes;
mod context;
mod execute;
mod functions;
mod instrument;
mod mutation;
mod print;
mod printf;
mod syntax;
#[cfg(test)]
mod tests;
mod unicode;
mod value;

pub use analysis::{Inspection, inspect};
pub use execute::{Executed, ExecutionError, execute, execute_masked};

/// A mistake at one place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to do. Contains no value of a secret.
    pub message: String,
}

impl Problem {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}
