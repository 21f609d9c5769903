//! The accepted reading of each source and the files rendered from it.
//!
//! A reading is accepted only if every output that depends on it can be rendered. A publication of accepted readings
//! therefore never fails because of their content.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::paths::Paths;
use crate::model::{
    AdoptedSet, Failure, FileEntry, FilePath, FileSet, ManifestSource, Output, Reading, SecretCall, SourceName,
};
use crate::render::{self, Rendered};

type Files = BTreeMap<FilePath, FileEntry>;

/// The accepted readings and the rendered outputs.
#[derive(Clone, Default)]
pub(super) struct Store {
    readings: BTreeMap<SourceName, Arc<Reading>>,
    outputs: Vec<RenderedOutput>,
    /// Indexes of the outputs that depend on a source.
    by_source: BTreeMap<SourceName, Vec<usize>>,
    /// Request and version of the files of an earlier process or of the seed, by source, until the source is read.
    adopted: BTreeMap<SourceName, ManifestSource>,
    /// Those files. A file of several sources stays until all of them are read, because only then its output is rendered.
    adopted_files: Files,
    /// As `adopted_files`, but made, or possibly made, from another request or for other outputs than the configured ones.
    outdated_files: Files,
    /// Files of outputs that a reload has changed, by path, until the new output has content.
    kept_files: Files,
    /// The paths of all outputs, and of adopted files that are not outdated.
    paths: Paths,
}

/// An output and the files last rendered for it.
#[derive(Clone)]
struct RenderedOutput {
    output: Output,
    rendered: Rendered,
    /// Why the output could not be rendered after a reload added it. Other outputs are not affected.
    failure: Option<Failure>,
}

impl RenderedOutput {
    /// Whether the output has no content yet, because a source has not been read.
    fn is_waiting(&self, readings: &BTreeMap<SourceName, Arc<Reading>>) -> bool {
        !self.rendered.needed.is_empty()
            || !self.output.configured().sources().iter().all(|name| readings.contains_key(name))
    }
}

impl Store {
    pub(super) fn new(outputs: &[Output]) -> Self {
        let made =
            |output: &Output| RenderedOutput { output: output.clone(), rendered: Rendered::default(), failure: None };
        Self { outputs: outputs.iter().map(made).collect(), by_source: by_source(outputs), ..Self::default() }
    }

    /// The outputs that depend on `source`, with their indexes.
    fn outputs_of(&self, source: &SourceName) -> impl Iterator<Item = (usize, &RenderedOutput)> {
        self.by_source.get(source).into_iter().flatten().map(|index| (*index, &self.outputs[*index]))
    }

    /// Adopts the files of the sources in `keep` from the set of an earlier process or from the seed. `outdated`: whether
    /// they were made, or may have been made, from another request or for other outputs than the configured ones.
    pub(super) fn adopt(
        &mut self,
        set: &AdoptedSet,
        keep: &BTreeSet<SourceName>,
        outdated: impl Fn(&SourceName) -> bool,
    ) {
        for (path, entry) in set.files.files.iter().filter(|(_, entry)| entry.sources.is_subset(keep)) {
            for name in &entry.sources {
                let source = || set.manifest.sources.get(name).cloned().unwrap_or_default();
                self.adopted.entry(name.clone()).or_insert_with(source);
            }
            let is_outdated = entry.sources.iter().any(&outdated);
            let files = if is_outdated { &mut self.outdated_files } else { &mut self.adopted_files };
            files.insert(path.clone(), entry.clone());
        }
        self.index_paths();
    }

    /// Whether the files of `source` are adopted ones.
    pub(super) fn has_adopted(&self, source: &SourceName) -> bool {
        self.adopted.contains_key(source)
    }

    /// Request and version of the adopted files of `source`.
    pub(super) fn adopted(&self, source: &SourceName) -> Option<&ManifestSource> {
        self.adopted.get(source)
    }

    /// Whether the files of `source` are those of the seed.
    pub(super) fn is_seeded(&self, source: &SourceName) -> bool {
        self.adopted(source).is_some_and(|adopted| adopted.seeded)
    }

    /// Whether the files of any source are those of the seed.
    pub(super) fn has_seeded(&self) -> bool {
        self.adopted.values().any(|adopted| adopted.seeded)
    }

    /// Removes the files of the seed.
    pub(super) fn drop_seeded(&mut self) {
        self.adopted.retain(|_, adopted| !adopted.seeded);
        self.drop_read_files();
        self.index_paths();
    }

    /// Whether there are adopted files of another configuration.
    pub(super) fn has_outdated(&self) -> bool {
        !self.outdated_files.is_empty() || !self.kept_files.is_empty()
    }

    /// Removes the adopted files of `source`, which does not exist any more. Returns whether there were any.
    pub(super) fn drop_adopted(&mut self, source: &SourceName) -> bool {
        let dropped = self.adopted.remove(source).is_some();
        if dropped {
            self.retain_adopted(|entry| !entry.sources.contains(source));
            self.index_paths();
        }
        dropped
    }

    /// Removes the adopted files whose sources are all read.
    fn drop_read_files(&mut self) {
        let unread: BTreeSet<_> = self.adopted.keys().cloned().collect();
        self.retain_adopted(|entry| !entry.sources.is_disjoint(&unread));
    }

    /// Keeps the adopted files that `keep` selects, and their sources.
    fn retain_adopted(&mut self, keep: impl Fn(&FileEntry) -> bool) {
        let Self { adopted, adopted_files, outdated_files, .. } = self;
        adopted_files.retain(|_, entry| keep(entry));
        outdated_files.retain(|_, entry| keep(entry));
        let files = adopted_files.values().chain(outdated_files.values());
        let sources: BTreeSet<_> = files.flat_map(|entry| &entry.sources).collect();
        adopted.retain(|name, _| sources.contains(name));
    }

    /// Whether an adopted file gives way to the outputs of `source`, the last of its sources to be read.
    fn gives_way_to(&self, source: &SourceName, entry: &FileEntry) -> bool {
        let mut unread = entry.sources.iter().filter(|name| self.adopted.contains_key(*name));
        unread.all(|name| name == source)
    }

    pub(super) fn reading(&self, source: &SourceName) -> Option<&Arc<Reading>> {
        self.readings.get(source)
    }

    /// Accepts `reading` if every output that depends on `source` can be rendered and its file paths do not collide
    /// with others. Otherwise nothing changes. An output that already failed when a reload added it does not block the
    /// reading.
    ///
    /// # Errors
    /// The rendering failure or collision, or the calls of templates that need other secrets.
    pub(super) fn accept(&mut self, source: &SourceName, reading: Arc<Reading>) -> Result<(), NotAccepted> {
        let previous = self.readings.insert(source.clone(), reading);
        let rendered = self.render_outputs_of(source).map_err(NotAccepted::Failed);
        let rendered = rendered.and_then(|made| {
            // A template that a reload changed does not block the reading. Its file is kept.
            let blocks = |index: &usize| self.outputs[*index].rendered.needed.is_empty();
            let blocking = made.iter().filter(|(index, rendered)| !rendered.needed.is_empty() && blocks(index));
            let needed: BTreeMap<_, _> = blocking.map(|(index, rendered)| (*index, rendered.needed.clone())).collect();
            if !needed.is_empty() {
                return Err(NotAccepted::Needs(needed));
            }
            self.claim_paths(source, &made).map(|()| made).map_err(NotAccepted::Failed)
        });
        match rendered {
            Ok(made) => {
                for (index, rendered) in made {
                    let output = &mut self.outputs[index];
                    (output.rendered, output.failure) = (rendered, None);
                    if !output.is_waiting(&self.readings) {
                        for path in output.output.known_files().into_iter().flatten() {
                            self.kept_files.remove(&path);
                        }
                    }
                }
                if self.adopted.remove(source).is_some() {
                    self.drop_read_files();
                }
                Ok(())
            }
            Err(error) => {
                match previous {
                    Some(previous) => _ = self.readings.insert(source.clone(), previous),
                    None => _ = self.readings.remove(source),
                }
                Err(error)
            }
        }
    }

    /// Renders the outputs that depend on `source`, by index.
    fn render_outputs_of(&self, source: &SourceName) -> Result<BTreeMap<usize, Rendered>, Failure> {
        let mut made = BTreeMap::new();
        for (index, old) in self.outputs_of(source) {
            match render::render_output(&old.output, &self.readings) {
                Ok(rendered) => _ = made.insert(index, rendered),
                Err(_) if old.failure.is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(made)
    }

    /// Replaces the paths of `source` with those of its new files, unless they collide with others.
    fn claim_paths(&mut self, source: &SourceName, made: &BTreeMap<usize, Rendered>) -> Result<(), Failure> {
        if !self.changes_paths(source, made) {
            return Ok(());
        }
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.adopted_files.iter().partition(|(_, entry)| self.gives_way_to(source, entry));
        let old = made.keys().flat_map(|index| self.outputs[*index].rendered.files.keys());
        for path in old.chain(leaving.into_iter().map(|(path, _)| path)) {
            self.paths.remove(path);
        }
        let mut collides = false;
        for path in made.values().flat_map(|rendered| rendered.files.keys()) {
            collides |= self.paths.collides_with(path);
            self.paths.add(path);
        }
        if !collides {
            return Ok(());
        }
        // Finds the files that collide, for the message. Adopted files of another configuration give way.
        let staying: Files = staying.into_iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
        self.index_paths();
        let others = self.outputs.iter().enumerate().map(|(index, old)| made.get(&index).unwrap_or(&old.rendered));
        render::join(others.map(|rendered| &rendered.files).chain([&staying])).map(|_| ())
    }

    fn index_paths(&mut self) {
        self.paths = Paths::default();
        let made = self.outputs.iter().map(|made| &made.rendered.files);
        for path in made.chain([&self.adopted_files]).flat_map(BTreeMap::keys) {
            self.paths.add(path);
        }
    }

    /// Replaces the reading with one of equal data, which may have another lease.
    pub(super) fn confirm(&mut self, source: &SourceName, reading: Arc<Reading>) {
        self.readings.insert(source.clone(), reading);
    }

    /// Whether the set of file paths changes, so that paths could collide.
    fn changes_paths(&self, source: &SourceName, made: &BTreeMap<usize, Rendered>) -> bool {
        let same = |(index, rendered): (&usize, &Rendered)| {
            self.outputs[*index].rendered.files.keys().eq(rendered.files.keys())
        };
        self.adopted.contains_key(source) || !made.iter().all(same)
    }

    /// Applies new outputs, and keeps the sources that `keep` selects. An output that cannot be rendered has no files,
    /// and other outputs are not affected.
    pub(super) fn reconcile(&mut self, outputs: &[Output], keep: impl Fn(&SourceName) -> bool) {
        self.readings.retain(|name, _| keep(name));
        self.adopted.retain(|name, _| keep(name));
        self.retain_adopted(|entry| entry.sources.iter().all(&keep));
        let new = by_source(outputs);
        let is_changed = |name: &SourceName| {
            let before = self.by_source.get(name).into_iter().flatten().map(|index| &self.outputs[*index].output);
            !before.eq(new.get(name).into_iter().flatten().map(|index| &outputs[*index]))
        };
        let files = std::mem::take(&mut self.adopted_files).into_iter();
        let (changed, same): (Files, Files) = files.partition(|(_, entry)| entry.sources.iter().any(is_changed));
        self.adopted_files = same;
        self.outdated_files.extend(changed);
        self.by_source = new;
        let old = std::mem::take(&mut self.outputs);
        let mut before = std::mem::take(&mut self.kept_files);
        before.extend(old.iter().flat_map(|made| made.rendered.files.clone()));
        for output in outputs {
            let sources = output.sources();
            let unchanged = old.iter().find(|made| made.output == *output && sources.iter().all(&keep));
            let made = unchanged.cloned().unwrap_or_else(|| self.render(output));
            self.outputs.push(made);
        }
        self.keep_files(before);
        self.index_paths();
    }

    /// Keeps the files of the previous outputs whose path belongs to a new output without content.
    fn keep_files(&mut self, mut before: Files) {
        let without_content =
            self.outputs.iter().filter(|made| made.failure.is_some() || made.is_waiting(&self.readings));
        for made in without_content {
            let sources: BTreeSet<_> =
                made.output.sources().into_iter().filter(|name| self.readings.contains_key(name)).collect();
            for path in made.output.known_files().into_iter().flatten() {
                let is_made = self.outputs.iter().any(|made| made.rendered.files.contains_key(&path));
                let Some(mut entry) = before.remove(&path).filter(|_| !is_made) else { continue };
                entry.sources.retain(|name| self.readings.contains_key(name));
                entry.sources.extend(sources.iter().cloned());
                self.kept_files.insert(path, entry);
            }
        }
    }

    /// Renders a new output after the outputs before it.
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

    /// The failure of an output that cannot be rendered after a reload.
    pub(super) fn render_failure(&self) -> Option<&Failure> {
        self.outputs.iter().find_map(|made| made.failure.as_ref())
    }

    /// Keys of `source` without a file, because they cannot be file names.
    pub(super) fn left_out(&self, source: &SourceName) -> Vec<String> {
        self.outputs_of(source).flat_map(|(_, made)| made.rendered.left_out.iter().cloned()).collect()
    }

    /// All files. `accept` rejects collisions; between outputs that a reload combined, the first output keeps the path.
    pub(super) fn files(&self) -> FileSet {
        let made = self.outputs.iter().map(|made| &made.rendered.files);
        let parts: Vec<_> = made.chain([&self.adopted_files, &self.outdated_files, &self.kept_files]).collect();
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

/// Why a reading is not accepted.
#[derive(Debug)]
pub(super) enum NotAccepted {
    /// An output cannot be rendered.
    Failed(Failure),
    /// Templates need other secrets first: their calls, by index of the output.
    Needs(BTreeMap<usize, BTreeSet<SecretCall>>),
}

/// Indexes of the outputs that depend on each source.
fn by_source(outputs: &[Output]) -> BTreeMap<SourceName, Vec<usize>> {
    let mut indexes: BTreeMap<SourceName, Vec<usize>> = BTreeMap::new();
    for (index, output) in outputs.iter().enumerate() {
        for source in output.sources() {
            indexes.entry(source).or_default().push(index);
        }
    }
    indexes
}
