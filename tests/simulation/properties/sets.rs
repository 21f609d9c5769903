//! Properties of the content of sets and mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use keyferry::agent::{MirrorRequest, MirrorResult, PublishedSet};
use keyferry::model::{FileSet, Manifest, ObjectName, Order, Reading, Settings, SourceName, Validity};
use keyferry::render::render_output;

use super::super::cluster::Write;
use super::super::pki;
use super::super::process::Flight;
use super::super::secrets::{Kind, values};
use super::super::world::{Record, World};
use super::{Property, Watch};

fn reading(record: &Record, id: &str) -> Reading {
    let data = match record.kind {
        Kind::Certificate(_) => pki::values(id, record.shape),
        _ => values(id, record.shape, &record.version),
    };
    Reading {
        data,
        version: record.version.clone(),
        validity: Validity::Unlimited,
        warnings: Vec::new(),
        ..Reading::default()
    }
}

/// The IDs of the readings in a content.
fn ids(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split("id=").skip(1).filter_map(|rest| rest.split('|').next()).map(str::to_owned).collect()
}

impl World {
    /// [`Property::OneReadingPerSource`] and [`Property::NoRollback`], for a set that becomes visible. Returns the reading of
    /// each source.
    pub fn check_set(
        &mut self,
        path: &Path,
        set: &Arc<PublishedSet>,
        before: Option<&Arc<PublishedSet>>,
    ) -> BTreeMap<SourceName, Rc<str>> {
        let mut of: BTreeMap<SourceName, Rc<str>> = BTreeMap::new();
        let mut wrong = None;
        for (file, entry) in set.files.files.iter().filter(|(_, entry)| entry.sources.len() == 1) {
            let source = entry.sources.first().expect("a file has a source");
            let found = ids(entry.bytes.expose());
            let Some(id) =
                found.first().filter(|_| found.len() == 1).and_then(|id| self.records.get_key_value(id.as_str()))
            else {
                wrong = Some(format!("file {file} contains the readings {found:?}"));
                continue;
            };
            if let Some(other) = of.insert(source.clone(), Rc::clone(id.0)).filter(|other| other != id.0) {
                wrong = Some(format!("files of source {source} contain the readings {other} and {}", id.0));
            }
        }
        wrong = wrong.or_else(|| self.wrong_template(set, &of));
        if let Some((settings, read)) = self.watch.publishing_by.get(path).cloned() {
            self.watch.published_by.insert(path.to_owned(), Arc::clone(&settings));
            wrong = wrong.or_else(|| self.wrong_files(&settings, &read, set, &of));
        }
        for (source, id) in &of {
            let record = &self.records[id];
            let known = set.manifest.sources.get(source);
            if known.is_none_or(|known| known.version != record.version && !known.seeded) {
                let version = known.map(|known| &known.version);
                wrong =
                    Some(format!("the manifest has version {version:?} for source {source}, whose files contain {id}"));
            }
        }
        if let Some(wrong) = wrong {
            self.violate(Property::OneReadingPerSource, wrong);
        }
        if let Some(before) = before {
            self.check_no_rollback(path, set, before, &of);
        }
        for id in of.values() {
            let record = &self.records[id];
            self.watch.rolled_back.remove(&(record.server.to_owned(), record.path.clone()));
        }
        of
    }

    /// A file of several sources that contains another reading of one of them than its other files. An adopted file stays
    /// until all its sources have been read.
    fn wrong_template(&self, set: &PublishedSet, of: &BTreeMap<SourceName, Rc<str>>) -> Option<String> {
        let is_adopted = |source: &SourceName| {
            let is_seeded = set.manifest.sources.get(source).is_some_and(|found| found.seeded);
            is_seeded || of.get(source).is_none_or(|id| self.watch.adopted.get(source) == Some(id))
        };
        let several = set.files.files.iter().filter(|(_, entry)| entry.sources.len() > 1);
        several.filter(|(_, entry)| !entry.sources.iter().any(is_adopted)).find_map(|(file, entry)| {
            let found = ids(entry.bytes.expose());
            let missing = entry.sources.iter().find(|source| !found.contains(&*of[*source]))?;
            Some(format!("file {file} contains the readings {found:?}, and source {missing} has {}", of[missing]))
        })
    }

    /// Renders the outputs whose reading or settings have changed since the last call.
    fn render(&mut self, settings: &Arc<Settings>, of: &BTreeMap<SourceName, Rc<str>>) {
        let Watch { rendered, rendered_for, .. } = &mut self.watch;
        if rendered_for.as_ref().is_none_or(|known| !Arc::ptr_eq(known, settings)) {
            *rendered = vec![None; settings.outputs.len()];
            *rendered_for = Some(Arc::clone(settings));
        }
        for (output, known) in settings.outputs.iter().zip(rendered) {
            let sources = output.sources();
            let ids: Option<Vec<_>> = sources.iter().map(|source| of.get(source)).collect();
            let key: Option<Rc<str>> =
                ids.as_ref().map(|ids| ids.iter().map(|id| &***id).collect::<Vec<_>>().join(" ").into());
            if known.as_ref().map(|(id, _)| id) == key.as_ref() {
                continue;
            }
            *known = key.zip(ids).and_then(|(key, ids)| {
                let readings = sources.iter().cloned().zip(ids);
                let readings = readings.map(|(source, id)| (source, Arc::new(reading(&self.records[id], id))));
                let files = render_output(output, &readings.collect()).ok()?.files;
                Some((key, FileSet { files }))
            });
        }
    }

    /// A missing, wrong or unexpected file.
    fn wrong_files(
        &mut self,
        settings: &Arc<Settings>,
        known: &BTreeSet<SourceName>,
        set: &PublishedSet,
        of: &BTreeMap<SourceName, Rc<str>>,
    ) -> Option<String> {
        self.render(settings, of);
        // Files of an earlier process can come from other outputs or another request. Without a layout, the set has such files.
        let is_current = |source: &SourceName| {
            let found = set.manifest.sources.get(source);
            let is_adopted = found.is_some_and(|found| found.seeded)
                || set.manifest.layout.is_none() && self.watch.adopted.get(source) == of.get(source);
            let request = || settings.sources.get(source).map(keyferry::model::Source::request_id);
            !is_adopted && found.map(|found| &found.request) == request().as_ref()
        };
        let current: BTreeSet<_> = known.iter().filter(|source| is_current(source)).collect();
        let read = |entry: &keyferry::model::FileEntry| entry.sources.iter().all(|source| current.contains(source));
        let files = self.watch.rendered.iter().flatten().flat_map(|(_, set)| &set.files);
        let expected: BTreeMap<_, _> = files.filter(|(_, entry)| read(entry)).collect();
        let actual = set.files.files.iter().filter(|(_, entry)| read(entry));
        for (path, entry) in actual {
            if expected.get(path) != Some(&entry) {
                return Some(format!("file {path} does not match the outputs"));
            }
        }
        expected.keys().find(|path| !set.files.files.contains_key(**path)).map(|path| format!("file {path} is missing"))
    }

    fn check_no_rollback(
        &mut self,
        path: &Path,
        set: &PublishedSet,
        before: &PublishedSet,
        of: &BTreeMap<SourceName, Rc<str>>,
    ) {
        let old_ids = self.visible.get(path).cloned().unwrap_or_default();
        for (source, id) in of {
            let (Some(new), Some(old)) = (set.manifest.sources.get(source), before.manifest.sources.get(source)) else {
                continue;
            };
            let record = &self.records[id];
            let same_server = old_ids
                .get(source)
                .and_then(|old| self.records.get(old))
                .is_some_and(|old| old.server == record.server);
            if new.request != old.request || !same_server || !record.too_old {
                continue;
            }
            if new.version.order(&old.version) == Order::Older {
                let detail = format!("source {source}: {:?} after {:?}", new.version.number, old.version.number);
                return self.violate(Property::NoRollback, detail);
            }
        }
    }

    /// Whether a new reading is allowed to replace a newer one; `None` if it is older and not allowed to.
    pub fn judge_order(
        &mut self,
        flight: &Flight,
        source: &SourceName,
        settings: &Settings,
        reading: &Reading,
        id: &Rc<str>,
    ) -> Option<bool> {
        let Some(process) = &self.process else { return Some(false) };
        let in_force = Arc::clone(process.agent.settings());
        let record = &self.records[id];
        let key = (record.server.to_owned(), record.path.clone());
        let asked = self.watch.refreshes.is_asked(source, flight.started);
        if settings.server.address != in_force.server.address || settings.auth != in_force.auth {
            // On trial: another server or role means another secret.
            return Some(true);
        }
        let readings = BTreeMap::from([(source.clone(), Arc::new(reading.clone()))]);
        let renders = in_force
            .outputs
            .iter()
            .filter(|output| output.source == *source)
            .all(|output| render_output(output, &readings).is_ok());
        let best = self.watch.best.get(&key);
        let order = best.map_or(Order::Newer, |best| reading.version.order(best));
        // The visible files came from another server, whose versions cannot be compared.
        let visible = self.visible.get(&in_force.directory.path).and_then(|set| self.records.get(set.get(source)?));
        let mut may_be_older = best.is_none() && visible.is_some_and(|visible| visible.server != record.server);
        if order == Order::Older {
            let since = *self.watch.older_since.entry(key.clone()).or_insert(self.now);
            let tolerance = in_force.sources.get(source).map(|spec| spec.max_stale).unwrap_or_default();
            may_be_older = asked || since + tolerance <= self.now;
            if !may_be_older {
                return None;
            }
        }
        if may_be_older {
            self.watch.rolled_back.insert(key.clone());
        }
        may_be_older |= self.watch.rolled_back.contains(&key);
        if renders {
            self.watch.older_since.remove(&key);
            self.watch.best.insert(key, reading.version.clone());
            self.watch.refreshes.answered(source, flight.started);
        }
        Some(may_be_older)
    }

    /// Checks a process that starts with a visible set.
    pub fn check_adoption(&mut self, manifest: Option<&Manifest>) {
        self.watch.best.clear();
        let Some(process) = &self.process else { return };
        let settings = Arc::clone(process.agent.settings());
        if let Some(visible) = self.visible.get(&settings.directory.path) {
            for id in visible.values() {
                let record = &self.records[id];
                self.watch.best.insert((record.server.to_owned(), record.path.clone()), record.version.clone());
            }
        }
        let same_outputs =
            self.watch.published_by.get(&settings.directory.path).is_some_and(|by| by.outputs == settings.outputs);
        let required = settings.sources.iter().filter(|(_, source)| source.required);
        let same = manifest.is_some_and(|manifest| {
            required.into_iter().all(|(name, source)| {
                manifest.sources.get(name).is_some_and(|known| known.request == source.request_id())
            })
        });
        // `run` also adopts the set of another configuration.
        let known = |manifest: &Manifest| manifest.sources.keys().any(|name| settings.sources.contains_key(name));
        // `once` uses the seed again instead of its files.
        let seeded = manifest.is_some_and(|manifest| manifest.seeded().next().is_some());
        let adopted = (same && same_outputs && !seeded) || (!process.is_once() && manifest.is_some_and(known));
        if adopted && !self.is_ready() {
            self.violate(
                Property::MonotonicState,
                "SecretsReady is not True after a restart, although the set is complete".into(),
            );
        }
    }

    /// [`Property::NoRollback`], for a mirror.
    pub fn check_mirror_write(&mut self, name: &ObjectName, request: &MirrorRequest, write: &Write) {
        if write.result == MirrorResult::Superseded {
            let now = self.now;
            self.watch.superseded.entry(name.clone()).or_insert(now);
            return;
        }
        let since = self.watch.superseded.remove(name);
        if since.is_some() {
            // The set may have changed since the write started; the next write has its own time.
            self.watch.mirror_wrong_since.remove(name);
        }
        let Some(before) = &write.before else { return };
        let Some(settings) = self.process.as_ref().map(|process| Arc::clone(process.agent.settings())) else { return };
        let visible = self.visible.get(&settings.directory.path).cloned().unwrap_or_default();
        // The agent allows older versions for a Secret as a whole, not for each source.
        let is_allowed = || {
            let readings = request.versions.keys().filter_map(|source| visible.get(source));
            readings.filter_map(|id| self.records.get(id)).any(|record| record.may_be_older)
        };
        for (source, (id, version)) in &request.versions {
            let older = before
                .versions
                .get(source)
                .is_some_and(|(other, written)| other == id && version.order(written) == Order::Older);
            let tolerance = settings.sources.get(source).map(|spec| spec.max_stale).unwrap_or_default();
            let long = since.is_some_and(|since| since + tolerance <= self.now);
            if older && !long && !is_allowed() {
                let detail = format!("Secret {name}, source {source}: {:?} over a newer one", version.number);
                return self.violate(Property::NoRollback, detail);
            }
        }
        // The answer to this write can be lost. The agent then repeats it, also over a newer write of a replica.
        let is_newer = request.versions.iter().any(|(source, (id, version))| {
            let known = before.versions.get(source);
            known.is_some_and(|(other, written)| other == id && version.order(written) == Order::Newer)
        });
        if let Some(since) = since.filter(|_| !is_newer) {
            self.watch.superseded.insert(name.clone(), since);
        }
    }
}
