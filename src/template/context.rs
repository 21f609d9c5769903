//! The state of one execution of a template.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use gotmpl::Value;
use gotmpl::parse::ListNode;
use jiff::Timestamp;

use crate::model::{SecretCall, lock, truncated};

/// Maximum number of actions that one execution performs. About 0.1 s.
pub(super) const MAX_STEPS: usize = 100_000;

/// Maximum size of the file in bytes. A Secret and a `ConfigMap` hold 1 MiB.
pub(super) const MAX_OUTPUT: usize = 4 << 20;

/// Maximum total size in bytes of the text that the functions of one execution return.
pub(super) const MAX_PRODUCED: usize = 16 << 20;

/// Maximum total size of the arguments of all functions of one execution, in bytes and items. The slowest ones need about 1 s for it.
pub(super) const MAX_WORK: usize = 128 << 20;

/// What an execution reads, and what it has done so far. The functions of the engine share it.
#[derive(Default)]
pub(super) struct Context {
    /// The text of the template.
    pub(super) text: String,
    /// The answers to the calls for secrets.
    pub(super) secrets: BTreeMap<SecretCall, Value>,
    /// `meta`, by name of the source.
    pub(super) metadata: BTreeMap<String, Value>,
    /// Environment variables that the template reads.
    pub(super) variables: BTreeMap<String, String>,
    /// The time of `timestamp`.
    pub(super) now: Timestamp,
    /// What actions print instead of their values.
    pub(super) mask: Option<String>,
    /// Whether a missing key is an error.
    pub(super) is_strict: bool,
    /// Calls with an answer.
    pub(super) called: Mutex<BTreeSet<SecretCall>>,
    /// Calls without an answer.
    pub(super) needed: Mutex<BTreeSet<SecretCall>>,
    /// The templates of `define`, for `executeTemplate`.
    pub(super) defined: BTreeMap<String, ListNode>,
    /// The context itself, for the functions of a nested execution.
    pub(super) own: Weak<Context>,
    /// Nested executions in progress.
    pub(super) depth: AtomicUsize,
    pub(super) scratch: Mutex<BTreeMap<String, Value>>,
    /// The first error of a function. The errors of the engine can contain values; these do not.
    pub(super) error: Mutex<Option<String>>,
    /// The numbers of Vault. In Go they are `json.Number`: text with another type. The engine has no such type, so they are
    /// recognized by their address, which stays valid because they are held here.
    pub(super) numbers: Mutex<BTreeMap<usize, Arc<str>>>,
    /// The list that Go calls nil: it is empty, and its JSON form is null.
    pub(super) nil_list: NilList,
    /// Byte offset of the action in progress.
    pub(super) position: AtomicUsize,
    pub(super) steps: AtomicUsize,
    pub(super) produced: AtomicUsize,
    pub(super) work: AtomicUsize,
}

/// Maximum number of nested executions by `executeTemplate`. Each needs several frames of the stack.
const MAX_DEPTH: usize = 20;

impl Context {
    /// The output of the template `name` of `define`.
    pub(super) fn execute(&self, name: &str, dot: &Value) -> Result<String, String> {
        let Some(own) = self.own.upgrade().filter(|_| self.defined.contains_key(name)) else {
            return Err(format!("template {:?} is not defined; add its `define`", truncated(name, 100)));
        };
        if self.depth.fetch_add(1, Ordering::Relaxed) >= MAX_DEPTH {
            return Err(format!("its calls are nested more than {MAX_DEPTH} times"));
        }
        let result = super::execute::nested(&own, name, dot);
        self.depth.fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(output) => Ok(output),
            Err(error) => {
                // The message of a function that failed is kept already.
                self.fail(super::execute::plain_message(&error));
                Err(String::new())
            }
        }
    }

    /// A number with the digits of `text`.
    pub(super) fn number(&self, text: &str) -> Value {
        let text: Arc<str> = text.into();
        lock(&self.numbers).insert(address(&text), Arc::clone(&text));
        Value::String(text)
    }

    /// Whether `text` is a number of Vault.
    pub(super) fn is_number(&self, text: &Arc<str>) -> bool {
        lock(&self.numbers).contains_key(&address(text))
    }

    /// Records that the action at `offset` begins. Fails after too many actions.
    pub(super) fn begin(&self, offset: usize) -> Result<(), String> {
        self.position.store(offset, Ordering::Relaxed);
        if self.steps.fetch_add(1, Ordering::Relaxed) < MAX_STEPS {
            return Ok(());
        }
        Err(format!("the template performs more than {MAX_STEPS} actions; shorten its loops"))
    }

    /// Adds the size of a result of a function. Fails if the functions produce too much.
    pub(super) fn charge(&self, value: &Value) -> Result<(), String> {
        let size = match value {
            Value::String(text) => text.len(),
            Value::List(items) => items.len() * size_of::<Value>(),
            Value::Map(entries) => entries.len() * size_of::<Value>(),
            _ => 0,
        };
        self.charge_bytes(size)
    }

    /// [`Self::charge`] for a size in bytes, before a function allocates it.
    pub(super) fn charge_bytes(&self, size: usize) -> Result<(), String> {
        let before = self.produced.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) <= MAX_PRODUCED {
            return Ok(());
        }
        Err(format!("the functions of the template return more than {} MiB", MAX_PRODUCED >> 20))
    }

    /// Whether the template contains `text`, so that a message can contain it.
    pub(super) fn has_literal(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// Counts the text that a function reads. Fails if the functions read too much, which takes time.
    pub(super) fn charge_work(&self, values: &[Value]) -> Result<(), String> {
        // Few functions visit each item, so an item counts as little as a byte.
        let size = values.iter().map(|value| match value {
            Value::String(text) => text.len(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            _ => 0,
        });
        let size = size.sum::<usize>();
        if self.work.fetch_add(size, Ordering::Relaxed).saturating_add(size) <= MAX_WORK {
            return Ok(());
        }
        Err(format!("the functions of the template read more than {} MiB; shorten its loops", MAX_WORK >> 20))
    }

    /// Keeps the first error of a function.
    pub(super) fn fail(&self, message: String) {
        lock(&self.error).get_or_insert(message);
    }

    /// Takes the error that [`Self::fail`] kept.
    pub(super) fn take_error(&self) -> Option<String> {
        lock(&self.error).take()
    }
}

/// An empty list that is recognized by its address.
pub(super) struct NilList(pub(super) Arc<[Value]>);

impl Default for NilList {
    fn default() -> Self {
        Self(Vec::new().into())
    }
}

fn address(text: &Arc<str>) -> usize {
    Arc::as_ptr(text).cast::<u8>().addr()
}
