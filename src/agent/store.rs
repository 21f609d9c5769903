//! The accepted reading of each source and the files that are made from them.
//!
//! A reading is accepted only if every output that depends on it can be made, so that a publication of accepted readings
//! never fails because of their content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{AdoptedSet, Failure, FileEntry, FilePath, FileSet, Output, Reading, SourceName};
use crate::render::{self, Rendered};

type Files = BTreeMap<FilePath, FileEntry>;

/// Readings, and files by output.
#[derive(Clone, Default)]
pub(super) struct Store {
    readings: BTreeMap<SourceName, Arc<Reading>>,
    outputs: Vec<RenderedOutput>,
    /// Files that an earlier process made of a source that has not been read since.
    adopted: BTreeMap<SourceName, Files>,
}

/// An output and the files that were last made for it.
#[derive(Clone)]
struct RenderedOutput {
    output: Output,
    rendered: Rendered,
    /// Why it could not be made when a reload brought it; the rest is not affected.
    failure: Option<Failure>,
}

impl Store {
    pub(super) fn new(outputs: &[Output]) -> Self {
        let made = |output: &Output| RenderedOutput { output: output.clone(), rendered: Rendered::default(), failure: None };
        Self { outputs: outputs.iter().map(made).collect(), ..Self::default() }
    }

    /// Takes the files of those sources in `keep` from the set that an earlier process left.
    pub(super) fn adopt(&mut self, set: &AdoptedSet, keep: &BTreeSet<SourceName>) {
        for (path, entry) in &set.files.files {
            // A file of several sources belongs to all of them; it goes when the first of them is read again.
            if let Some(name) = entry.sources.first().filter(|_| entry.sources.is_subset(keep)) {
                self.adopted.entry(name.clone()).or_default().insert(path.clone(), entry.clone());
            }
        }
    }

    /// Whether files of an earlier process stand in for `source`.
    pub(super) fn has_adopted(&self, source: &SourceName) -> bool {
        self.adopted.contains_key(source)
    }

    /// Drops the files of an earlier process; whether there were any.
    pub(super) fn drop_adopted(&mut self, source: &SourceName) -> bool {
        self.adopted.remove(source).is_some()
    }

    pub(super) fn reading(&self, source: &SourceName) -> Option<&Arc<Reading>> {
        self.readings.get(source)
    }

    /// Accepts `reading` if every output that depends on `source` can be made with it and the accepted readings of the
    /// others, and its files have a place beside theirs. Otherwise nothing changes. An output that a reload brought and that
    /// could not be made then does not stand in the way.
    pub(super) fn accept(&mut self, source: &SourceName, reading: Arc<Reading>) -> Result<(), Failure> {
        let mut readings = self.readings.clone();
        readings.insert(source.clone(), reading);
        let mut made = BTreeMap::new();
        for (index, old) in self.outputs.iter().enumerate() {
            if !render::sources_of(&old.output).contains(source) {
                continue;
            }
            match render::render_output(&old.output, &readings) {
                Ok(rendered) => _ = made.insert(index, rendered),
                Err(_) if old.failure.is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
        if self.changes_paths(source, &made) {
            let adopted = self.adopted.iter().filter(|(name, _)| *name != source).map(|(_, files)| files);
            let others = self.outputs.iter().enumerate().map(|(index, old)| made.get(&index).unwrap_or(&old.rendered));
            render::join(others.map(|rendered| &rendered.files).chain(adopted))?;
        }
        for (index, rendered) in made {
            let output = &mut self.outputs[index];
            (output.rendered, output.failure) = (rendered, None);
        }
        self.readings = readings;
        self.adopted.remove(source);
        Ok(())
    }

    /// Takes a reading with the same data as the accepted one, for its lease.
    pub(super) fn confirm(&mut self, source: &SourceName, reading: Arc<Reading>) {
        self.readings.insert(source.clone(), reading);
    }

    /// Whether there are other paths than before, which could collide with those of other sources.
    fn changes_paths(&self, source: &SourceName, made: &BTreeMap<usize, Rendered>) -> bool {
        let same = |(index, rendered): (&usize, &Rendered)| {
            self.outputs[*index].rendered.files.keys().eq(rendered.files.keys())
        };
        self.adopted.contains_key(source) || !made.iter().all(same)
    }

    /// Takes over other outputs and another set of sources. An output that cannot be made has no files and says why; the
    /// rest is not affected.
    pub(super) fn reconcile(&mut self, outputs: &[Output], keep: impl Fn(&SourceName) -> bool) {
        self.readings.retain(|name, _| keep(name));
        self.adopted.retain(|name, _| keep(name));
        let old = std::mem::take(&mut self.outputs);
        for output in outputs {
            let sources = render::sources_of(output);
            let unchanged = old.iter().find(|made| made.output == *output && sources.iter().all(&keep));
            let made = unchanged.cloned().unwrap_or_else(|| self.render(output));
            self.outputs.push(made);
        }
    }

    /// Renders an output that is new, beside those that were made before it.
    fn render(&self, output: &Output) -> RenderedOutput {
        let made = render::render_output(output, &self.readings).and_then(|rendered| {
            let others = self.outputs.iter().map(|made| &made.rendered.files);
            render::join(others.chain([&rendered.files]))?;
            Ok(rendered)
        });
        let (rendered, failure) = match made {
            Ok(rendered) => (rendered, None),
            Err(failure) => (Rendered::default(), Some(failure)),
        };
        RenderedOutput { output: output.clone(), rendered, failure }
    }

    /// Why an output that a reload brought cannot be made.
    pub(super) fn render_failure(&self) -> Option<&Failure> {
        self.outputs.iter().find_map(|made| made.failure.as_ref())
    }

    /// Keys of `source` that cannot be file names and have no file.
    pub(super) fn left_out(&self, source: &SourceName) -> Vec<String> {
        let of_source = self.outputs.iter().filter(|made| render::sources_of(&made.output).contains(source));
        of_source.flat_map(|made| made.rendered.left_out.iter().cloned()).collect()
    }

    /// The union of all files. A collision is refused when a reading is accepted; between outputs that a reload has brought
    /// together, the first output keeps the path.
    pub(super) fn files(&self) -> FileSet {
        let made = self.outputs.iter().map(|made| &made.rendered.files);
        let parts: Vec<_> = made.chain(self.adopted.values()).collect();
        render::join(parts.iter().copied()).unwrap_or_else(|_| {
            let mut set = FileSet::default();
            for (path, entry) in parts.into_iter().flatten() {
                if !set.files.keys().any(|there| there.collides_with(path)) {
                    set.files.insert(path.clone(), entry.clone());
                }
            }
            set
        })
    }
}
