//! Sources of template calls whose arguments depend on other secrets. They are known only when the template is executed.
//!
//! A reading with which a template calls for other secrets is not accepted yet. It waits, and each missing secret becomes a
//! source. When a source is accepted, the waiting readings are tried again. So the files of a set always belong to accepted
//! readings. Calls that a template does not make any more lose their source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lifetime::{TokenView, wait_after_unusable};
use super::source::InFlight;
use super::time::Now;
use super::{Agent, Parts};
use crate::model::{
    Failure, FailureClass, FilePath, Output, OutputKind, Reading, Reason, SecretCall, Settings, SourceName, Template,
};

/// Maximum number of rounds in which a template calls for other secrets before it has content.
const MAX_ROUNDS: u32 = 3;

/// Maximum number of secrets of a template whose paths depend on other secrets.
const MAX_CALLS: usize = 100;

/// How long a reading waits for other secrets before its source is read again.
const WAIT: Duration = Duration::from_secs(30);

/// The state of the calls.
#[derive(Default)]
pub(super) struct Computed {
    /// The sources that calls have added.
    pub(super) added: BTreeSet<SourceName>,
    waiting: BTreeMap<SourceName, (InFlight, Reading)>,
    /// Rounds since a template last had content, by its file.
    rounds: BTreeMap<FilePath, u32>,
}

impl Agent {
    /// Adds a source for each call of `needed`, by index of the output. `reading` of `name` waits for them.
    ///
    /// # Errors
    /// If a template needs too many rounds or secrets.
    pub(super) fn wait_for_calls(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        reading: Reading,
        needed: &BTreeMap<usize, BTreeSet<SecretCall>>,
        now: &Now,
    ) -> Result<(), Failure> {
        let mut settings = (*self.parts.settings).clone();
        let Settings { outputs, sources, call_defaults, .. } = &mut settings;
        for (index, calls) in needed {
            let Some((path, template)) = outputs.get_mut(*index).and_then(template_of) else { continue };
            let new: Vec<_> = calls.iter().filter(|call| !template.computed.contains_key(*call)).collect();
            if new.is_empty() {
                // The others of the round have not been read yet.
                continue;
            }
            let rounds = self.parts.computed.rounds.entry(path.clone()).or_default();
            *rounds += 1;
            if *rounds > MAX_ROUNDS {
                return Err(too_much(path, &format!("paths from other secrets in more than {MAX_ROUNDS} rounds")));
            }
            for call in new {
                if template.computed.len() >= MAX_CALLS {
                    return Err(too_much(path, &format!("more than {MAX_CALLS} paths from other secrets")));
                }
                let (source, is_new) = call.find_or_add(sources, call_defaults);
                if is_new {
                    self.parts.computed.added.insert(source.clone());
                }
                template.computed.insert(call.clone(), source);
            }
        }
        let wait = wait_after_unusable(&reading.validity, now).unwrap_or(WAIT);
        self.apply_calls(settings, now);
        let earlier = self.parts.computed.waiting.insert(name.clone(), (flight.clone(), reading));
        if let Some((flight, earlier)) = earlier {
            self.discard_lease(name, &earlier.validity, flight.token, now);
        }
        self.update(name, |source| source.backoff.not_before = now.at + wait);
        Ok(())
    }

    /// Tries the waiting readings again, after `name` was accepted.
    pub(super) fn retry_waiting(&mut self, name: &SourceName, now: &Now) {
        if let Some((flight, earlier)) = self.parts.computed.waiting.remove(name) {
            self.discard_lease(name, &earlier.validity, flight.token, now);
        }
        for (name, (flight, reading)) in std::mem::take(&mut self.parts.computed.waiting) {
            self.received(&name, &flight, reading, now);
        }
        // The calls of a waiting reading are not made yet.
        if self.parts.computed.waiting.is_empty() {
            self.drop_unused_calls(now);
        }
    }

    /// Removes the calls that templates with content have not made, and their sources.
    fn drop_unused_calls(&mut self, now: &Now) {
        let Parts { settings, store, computed, .. } = &mut self.parts;
        if computed.added.is_empty() && computed.rounds.is_empty() {
            return;
        }
        let mut changed = (**settings).clone();
        for (index, output) in changed.outputs.iter_mut().enumerate() {
            let Some((path, template)) = template_of(output) else { continue };
            let Some(made) = store.calls(index) else { continue };
            computed.rounds.remove(path);
            template.computed.retain(|call, _| made.contains(call));
        }
        let used: BTreeSet<SourceName> = changed.outputs.iter().flat_map(Output::sources).collect();
        changed.sources.retain(|name, _| used.contains(name) || !computed.added.contains(name));
        computed.added.retain(|name| used.contains(name));
        if changed != **settings {
            self.apply_calls(changed, now);
        }
    }

    fn apply_calls(&mut self, settings: Settings, now: &Now) {
        if settings == *self.parts.settings {
            return;
        }
        let settings = Arc::new(settings);
        self.parts.settings = Arc::clone(&settings);
        let Parts { sessions, sources, store, .. } = &mut self.parts;
        let token_expiry = |number| sessions.expiry_of(number);
        let tokens = TokenView { token: sessions.number(), token_expiry: &token_expiry };
        sources.reconcile(&settings.sources, &tokens, now);
        store.set_calls(&settings.outputs, |name| settings.sources.contains_key(name));
    }

    /// `new` with the calls of the active configuration, for templates that are the same in both.
    pub(super) fn with_calls(&self, new: Arc<Settings>) -> Arc<Settings> {
        let old = &self.parts.settings;
        if self.parts.computed.added.is_empty() {
            return new;
        }
        let mut extended = (*new).clone();
        for output in &mut extended.outputs {
            let Some(same) = old.outputs.iter().find(|old| old.configured() == *output) else { continue };
            *output = same.clone();
            for name in same.sources() {
                if let Some(source) = old.sources.get(&name).filter(|_| self.parts.computed.added.contains(&name)) {
                    extended.sources.entry(name).or_insert_with(|| source.clone());
                }
            }
        }
        Arc::new(extended)
    }

    /// Forgets the readings that wait, because the configuration has changed.
    pub(super) fn reset_calls(&mut self, now: &Now) {
        for (name, (flight, reading)) in std::mem::take(&mut self.parts.computed.waiting) {
            self.discard_lease(&name, &reading.validity, flight.token, now);
            self.update(&name, |source| source.backoff.reset());
        }
        self.parts.computed.rounds.clear();
        let sources = &self.parts.settings.sources;
        self.parts.computed.added.retain(|name| sources.contains_key(name));
    }
}

fn template_of(output: &mut Output) -> Option<(&FilePath, &mut Template)> {
    match &mut output.kind {
        OutputKind::Template { path, template } => Some((path, template)),
        _ => None,
    }
}

fn too_much(path: &FilePath, what: &str) -> Failure {
    let message = format!("failed to render file {path}: its template reads {what}; use fewer `secret` calls");
    Failure::new(FailureClass::Invalid, Reason::RenderFailed, message)
}
