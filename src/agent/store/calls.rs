//! Calls of templates for other secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::{Store, by_source};
use crate::model::{Output, OutputKind, SecretCall, SourceName};

impl Store {
    /// The calls that the template of an output has made; `None` if it still calls for other secrets.
    pub(in crate::agent) fn calls(&self, index: usize) -> Option<&BTreeSet<SecretCall>> {
        self.outputs.get(index).map(|made| &made.rendered).filter(|made| made.needed.is_empty()).map(|made| &made.calls)
    }

    /// Whether an output waits for the first reading of a source.
    pub(in crate::agent) fn is_waiting(&self, index: usize) -> bool {
        self.outputs.get(index).is_none_or(|made| made.is_waiting(&self.readings))
    }

    /// The calls for other secrets of templates that a reload changed, by index of the output.
    pub(in crate::agent) fn needed(&self) -> BTreeMap<usize, BTreeSet<SecretCall>> {
        let made = self.outputs.iter().map(|made| &made.rendered.needed).enumerate();
        made.filter(|(_, needed)| !needed.is_empty()).map(|(index, needed)| (index, needed.clone())).collect()
    }

    /// Whether an output depends on both sources.
    pub(in crate::agent) fn shares_output(&self, one: &SourceName, other: &SourceName) -> bool {
        self.outputs_of(one).any(|(_, made)| made.output.sources().contains(other))
    }

    /// Applies outputs that differ only in the sources of their calls, and drops the readings of other sources than `keep`.
    pub(in crate::agent) fn set_calls(&mut self, outputs: &[Output], keep: impl Fn(&SourceName) -> bool) {
        self.readings.retain(|name, _| keep(name));
        for entry in self.kept_files.values_mut() {
            entry.sources.retain(&keep);
        }
        for (made, output) in self.outputs.iter_mut().zip(outputs) {
            made.output.clone_from(output);
            if matches!(output.kind, OutputKind::Template { .. }) {
                // A source that the template does not call any more can be gone.
                let sources = output.sources();
                for entry in made.rendered.files.values_mut() {
                    entry.sources.retain(|name| sources.contains(name));
                }
            }
        }
        self.by_source = by_source(outputs);
    }
}
