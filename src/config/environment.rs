//! The environment behind a trait, so that tests do not set variables of the process.
#![allow(clippy::disallowed_methods, reason = "the only module that reads the environment of the process")]

use std::collections::HashMap;

/// Source of environment variables.
pub trait Environment {
    /// The value of the variable. `None` if it is unset or not UTF-8.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether the variable is set to a value that is not UTF-8, which [`Environment::get`] cannot return.
    fn is_unreadable(&self, name: &str) -> bool;

    /// Names of all variables, unordered, to find misspelled ones.
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
