//! Sources of template calls whose arguments depend on other secrets. They are known only when the template is executed.
//!
//! A reading with which a template calls for other secrets is not accepted yet. It waits, and each missing secret becomes a
//! source. When a source is accepted, the waiting readings are tried again. So the files of a set always belong to accepted
//! readings. Calls that a template does not make any more lose their source. A template that a reload has changed keeps its
//! file until the secrets for which it calls are read, and does not block the readings of its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::journal::Subject;
use super::lifetime::{TokenView, wait_after_unusable};
use super::reload::is_other_server;
use super::source::{InFlight, SourceState};
use super::time::{Elapsed, Now};
use super::{Agent, Parts};
use crate::model::{
    Failure, FailureClass, FilePath, Output, OutputKind, Reading, Reason, SavedSource, SecretCall, Settings,
    SourceName, Template,
};

/// Maximum number of secrets of a template whose paths depend on other secrets.
const MAX_CALLS: usize = 100;

/// How long a reading waits for other secrets before its source is read again.
const WAIT: Duration = Duration::from_secs(30);

/// The state of the calls.
#[derive(Default)]
pub(super) struct Computed {
    /// The sources that calls have added.
    pub(super) added: BTreeSet<SourceName>,
    waiting: BTreeMap<SourceName, Waiting>,
    /// The rounds of the last reading of each source, until it is accepted.
    rounds: BTreeMap<SourceName, Rounds>,
    /// The calls of the previous process, by file, until the template has content.
    restored: BTreeMap<FilePath, BTreeSet<SecretCall>>,
}

/// The rounds in which a reading has called for secrets.
#[derive(Default)]
struct Rounds {
    /// Number of those with a call that no template has made before.
    count: u32,
    calls: BTreeSet<SecretCall>,
}

/// A reading that waits.
struct Waiting {
    flight: InFlight,
    reading: Reading,
    /// When it was read. Its lifetime began then.
    read: Elapsed,
}

impl Agent {
    /// Adds a source for each call of `needed`, by index of the output. `reading` of `name`, of the time `read`, waits for them.
    ///
    /// # Errors
    /// If a template needs too many rounds or secrets.
    pub(super) fn wait_for_calls(
        &mut self,
        name: &SourceName,
        flight: &InFlight,
        (reading, read): (Reading, Elapsed),
        needed: &BTreeMap<usize, BTreeSet<SecretCall>>,
        now: &Now,
    ) -> Result<(), Failure> {
        let added = self.add_calls(needed, now);
        let rounds = self.parts.computed.rounds.entry(name.clone()).or_default();
        rounds.calls.extend(needed.values().flatten().cloned());
        let result = added.and_then(|of_new| {
            let Some(path) = of_new else { return Ok(()) };
            rounds.count += 1;
            let what = || format!("paths from other secrets in more than {} rounds", SecretCall::MAX_ROUNDS);
            if rounds.count > SecretCall::MAX_ROUNDS { Err(too_much(&path, &what())) } else { Ok(()) }
        });
        if result.is_err() {
            // The rounds of the next reading start at zero.
            self.parts.computed.rounds.remove(name);
        }
        self.drop_unused_calls(now);
        result?;
        let wait = wait_after_unusable(&reading.validity, now).unwrap_or(WAIT);
        let validity = reading.validity.clone();
        let earlier =
            self.parts.computed.waiting.insert(name.clone(), Waiting { flight: flight.clone(), reading, read });
        if let Some(earlier) = earlier {
            self.discard_lease(name, &earlier.reading.validity, earlier.flight.token, now);
        }
        self.update(name, |source| source.waits(&validity, now.at + wait));
        Ok(())
    }

    /// Adds a source for each call of `needed`, by index of the output. Returns the file of the last template that has not made
    /// all of them before.
    fn add_calls(
        &mut self,
        needed: &BTreeMap<usize, BTreeSet<SecretCall>>,
        now: &Now,
    ) -> Result<Option<FilePath>, Failure> {
        let mut settings = (*self.parts.settings).clone();
        let mut added = self.parts.computed.added.clone();
        let mut of_new = None;
        let Settings { outputs, sources, call_defaults, .. } = &mut settings;
        for (index, calls) in needed {
            let Some((path, template)) = outputs.get_mut(*index).and_then(template_of) else { continue };
            for call in calls {
                if template.computed.contains_key(call) {
                    continue;
                }
                of_new = Some(path.clone());
                if template.computed.len() >= MAX_CALLS {
                    return Err(too_much(path, &format!("more than {MAX_CALLS} paths from other secrets")));
                }
                let (source, is_new) = call.find_or_add(sources, call_defaults);
                if is_new {
                    added.insert(source.clone());
                }
                template.computed.insert(call.clone(), source);
            }
        }
        self.parts.computed.added = added;
        self.apply_calls(settings, now);
        Ok(of_new)
    }

    /// Adds the sources of the calls that changed templates make. Their files stay until these secrets are read.
    pub(super) fn call_for_changed_templates(&mut self, now: &Now) {
        let needed = self.parts.store.needed();
        if !needed.is_empty() {
            self.try_add_calls(&needed, now);
        }
    }

    /// As [`Self::add_calls`], for calls without a reading that waits for them.
    fn try_add_calls(&mut self, needed: &BTreeMap<usize, BTreeSet<SecretCall>>, now: &Now) {
        if let Err(failure) = self.add_calls(needed, now) {
            self.journal.failed(&Subject::Publication, &failure);
        }
    }

    /// The calls whose source is in `saved`, by file of the template, for the next process.
    pub(super) fn calls_of(
        &self,
        saved: &BTreeMap<SourceName, SavedSource>,
    ) -> BTreeMap<FilePath, BTreeSet<SecretCall>> {
        let mut calls: BTreeMap<FilePath, BTreeSet<SecretCall>> = BTreeMap::new();
        for output in &self.parts.settings.outputs {
            let OutputKind::Template { path, template } = &output.kind else { continue };
            for (call, _) in template.computed.iter().filter(|(_, source)| saved.contains_key(*source)) {
                calls.entry(path.clone()).or_default().insert(call.clone());
            }
        }
        calls
    }

    /// Adds the sources of the calls of the previous process, so that its leases are used. Calls that a template does not
    /// make any more are dropped after its other sources are read.
    pub(super) fn restore_calls(&mut self, saved: &BTreeMap<FilePath, BTreeSet<SecretCall>>, now: &Now) {
        let of = |output: &Output| match &output.kind {
            OutputKind::Template { path, .. } => saved.get(path).cloned(),
            _ => None,
        };
        let outputs = self.parts.settings.outputs.iter().enumerate();
        let needed: BTreeMap<_, _> = outputs.filter_map(|(index, output)| Some((index, of(output)?))).collect();
        self.parts.computed.restored.clone_from(saved);
        self.try_add_calls(&needed, now);
    }

    /// A reading has arrived, so its rounds begin.
    pub(super) fn begin_rounds(&mut self, name: &SourceName) {
        self.parts.computed.rounds.remove(name);
    }

    /// Tries the readings again that wait for the same templates, after `name` was accepted.
    pub(super) fn retry_waiting(&mut self, name: &SourceName, now: &Now) {
        self.parts.computed.rounds.remove(name);
        if let Some(earlier) = self.parts.computed.waiting.remove(name) {
            self.discard_lease(name, &earlier.reading.validity, earlier.flight.token, now);
        }
        self.call_for_changed_templates(now);
        // Each of them stays in the list until its turn: the acceptance of one tries the others, too.
        let others: Vec<_> = self.parts.computed.waiting.keys().cloned().collect();
        for other in others.iter().filter(|other| self.parts.store.shares_output(name, other)).collect::<Vec<_>>() {
            let Some(Waiting { flight, reading, read }) = self.parts.computed.waiting.remove(other) else { continue };
            if reading.validity.lease().is_some() && flight.token != self.parts.sessions.number() {
                // Vault revokes the lease with its token.
                self.discard_lease(other, &reading.validity, flight.token, now);
                self.update(other, SourceState::stop_waiting);
                continue;
            }
            self.received(other, &flight, (reading, read), now);
        }
        self.drop_unused_calls(now);
    }

    /// Removes the calls that neither a template makes nor a reading waits for, and their sources.
    pub(super) fn drop_unused_calls(&mut self, now: &Now) {
        let Parts { settings, store, computed, .. } = &mut self.parts;
        let has_calls = |output: &Output| matches!(&output.kind, OutputKind::Template { template, .. } if !template.computed.is_empty());
        if computed.added.is_empty() && !settings.outputs.iter().any(has_calls) {
            return;
        }
        let is_awaited = |call: &SecretCall| computed.rounds.values().any(|rounds| rounds.calls.contains(call));
        let mut changed = (**settings).clone();
        for (index, output) in changed.outputs.iter_mut().enumerate() {
            let Some((path, template)) = template_of(output) else { continue };
            if !store.is_waiting(index) {
                computed.restored.remove(path);
            }
            let is_restored = |call: &SecretCall| computed.restored.get(path).is_some_and(|calls| calls.contains(call));
            let Some(made) = store.calls(index) else { continue };
            template.computed.retain(|call, _| made.contains(call) || is_awaited(call) || is_restored(call));
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

    /// `new` with the calls of the active configuration, for the templates of the same files. Another server can have other
    /// secrets.
    pub(super) fn with_calls(&self, new: Arc<Settings>) -> Arc<Settings> {
        let Parts { settings: old, computed, .. } = &self.parts;
        if computed.added.is_empty() || is_other_server(old, &new) {
            return new;
        }
        let mut extended = (*new).clone();
        let old_calls: BTreeMap<&FilePath, &Template> = old
            .outputs
            .iter()
            .filter_map(|output| match &output.kind {
                OutputKind::Template { path, template } => Some((path, &**template)),
                _ => None,
            })
            .collect();
        let Settings { outputs, sources, .. } = &mut extended;
        for (path, template) in outputs.iter_mut().filter_map(template_of) {
            for (call, name) in old_calls.get(path).into_iter().flat_map(|old| &old.computed) {
                if template.calls.contains_key(call) {
                    continue;
                }
                let Some(source) = old.sources.get(name) else { continue };
                // A source of this name can be a configured one.
                if sources.entry(name.clone()).or_insert_with(|| source.clone()).request_id() == source.request_id() {
                    template.computed.insert(call.clone(), name.clone());
                }
            }
        }
        Arc::new(extended)
    }

    /// Forgets the readings that wait, because the configuration has changed.
    pub(super) fn reset_calls(&mut self, now: &Now) {
        for (name, Waiting { flight, reading, .. }) in std::mem::take(&mut self.parts.computed.waiting) {
            self.discard_lease(&name, &reading.validity, flight.token, now);
            self.update(&name, SourceState::stop_waiting);
        }
        self.parts.computed.rounds.clear();
        let Parts { settings, computed, .. } = &mut self.parts;
        let configured: BTreeSet<SourceName> =
            settings.outputs.iter().flat_map(|output| output.configured().sources()).collect();
        computed.added.retain(|name| settings.sources.contains_key(name) && !configured.contains(name));
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
