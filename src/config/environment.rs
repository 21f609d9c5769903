//! The environment behind one small trait, so that no test sets a real variable.
#![allow(clippy::disallowed_methods, reason = "the one place that reads the process's environment")]

use std::collections::HashMap;

/// Environment variables as the configuration sees them.
pub trait Environment {
    /// The variable's value; `None` if it is not set or not UTF-8.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether the variable is set to something that is not UTF-8, so that [`Environment::get`] cannot give it.
    fn is_unreadable(&self, name: &str) -> bool;

    /// Names of all variables, to find misspelt ones. In no order.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn is_unreadable(&self, name: &str) -> bool {
        matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_)))
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl<S: std::hash::BuildHasher> Environment for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn is_unreadable(&self, _: &str) -> bool {
        false
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}
