//! Properties of recovery: every source, mirror and report recovers in time, independent of the others.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyferry::model::{Condition, ConditionType, ObjectName, OutputKind, Settings, Source, SourceName, WhenMissing};

use super::super::config_file::SourceSpec;
use super::super::pki::UNUSABLE_CERTIFICATE_RETRY;
use super::super::secrets::{Kind, Shape};
use super::super::server::Server;
use super::super::world::{Event, Phase, World};
use super::{ExpectedMirror, Property};

/// Wait after a denied report.
const DENIED_WAIT: Duration = Duration::from_secs(600);
/// Maximum number of repeated checks: without faults, a response can take some seconds, and `maxStale` can be one second.
const RECHECKS: u32 = 20;
/// The agent replaces a token without lookup permission after this time and this number of denied requests.
const SUSPECT: Duration = Duration::from_secs(30);
const SUSPECT_DENIALS: u32 = 4;

impl World {
    /// Maximum delay until a healthy source has its current content: the longest back-off of a login and of a read, the time
    /// until a suspected token is replaced, and the time until an unreported expiry is noticed.
    fn bound(settings: &Settings, source: &Source, server: &Server) -> Duration {
        let wait = settings.retry.max.max(settings.retry.slow).max(settings.retry.base);
        let turns = settings.sources.len().div_ceil(settings.concurrency.max(2) / 2);
        let queue = settings.server.timeout * u32::try_from(turns + 2).unwrap_or(10);
        let issued = server.secrets.get(&source.path).map_or(Duration::ZERO, |secret| match secret.kind {
            Kind::Leased { ttl, .. } => ttl,
            Kind::Expires(life) => life,
            Kind::Certificate(_) => UNUSABLE_CERTIFICATE_RETRY,
            Kind::Rotates(_) | Kind::Versioned | Kind::List => Duration::ZERO,
        });
        let older = source.max_stale + source.refresh;
        wait * SUSPECT_DENIALS + SUSPECT + source.refresh + older + queue + issued
    }

    /// The bound for everything together, including a reload with its trial.
    pub fn calm_bound(&self) -> Duration {
        let settings = self.config.settings();
        let server = self.server(&settings).expect("a working configuration");
        let sources =
            settings.sources.values().map(|source| Self::bound(&settings, source, server)).max().unwrap_or_default();
        let asked = server.asked_to_wait.saturating_sub(self.now);
        // Denied reports wait longest, and a trial reads all sources before the configuration becomes active.
        sources + asked + DENIED_WAIT + Duration::from_secs(180)
    }

    fn login_works(&self, settings: &Settings, server: &Server) -> bool {
        let authority = settings.server.tls.ca_file.as_ref().and_then(|file| file.to_str()) == Some(server.authority);
        let works = match &settings.auth.method {
            keyferry::model::AuthMethod::Kubernetes { role, .. } => server.roles.contains_key(role.as_str()),
            _ => server.given.as_ref().is_some_and(|token| server.token_is_alive(token, self.now)),
        };
        authority
            && works
            && server.faults.login_denied <= self.now
            && server.faults.lagging <= self.now
            && server.is_up(self.now)
    }

    fn source_is_healthy(&self, settings: &Settings, server: &Server, name: &SourceName, source: &Source) -> bool {
        let Some(secret) = server.secrets.get(&source.path) else { return false };
        let faults = secret.faults;
        let quiet = [faults.denied, faults.hangs, faults.broken, faults.zero, faults.ca_ends, faults.unverifiable]
            .iter()
            .all(|until| *until <= self.now);
        if source.certificate.is_some() && !self.wall_shift.is_zero() {
            return false;
        }
        let shape = match secret.kind {
            Kind::Versioned | Kind::List | Kind::Rotates(_) => secret.current().map(|content| content.shape),
            _ => Some(secret.shape),
        };
        let spec = self.config.sources.get(name.as_str());
        let needs_password = spec.is_none_or(SourceSpec::requires_password);
        quiet
            && shape.is_some_and(|shape| shape != Shape::NoPassword || !needs_password)
            && Self::renders(settings, name, shape)
    }

    fn renders(settings: &Settings, name: &SourceName, shape: Option<Shape>) -> bool {
        shape != Some(Shape::NoPassword)
            || settings.outputs.iter().filter(|output| output.source == *name).all(|output| match &output.kind {
                OutputKind::Key { missing, .. } => *missing != WhenMissing::Fail,
                OutputKind::Bundle { .. } | OutputKind::Pkcs12 { .. } => false,
                // The template uses the key `username`, which each secret has.
                OutputKind::EachKey { .. }
                | OutputKind::Whole { .. }
                | OutputKind::Merged { .. }
                | OutputKind::Template { .. } => true,
            })
    }

    /// Since when the visible content of a source is outdated.
    fn wrong_since(
        &mut self,
        settings: &Settings,
        name: &SourceName,
        source: &Source,
        since: Duration,
    ) -> Option<Duration> {
        let id: Option<Rc<str>> =
            self.visible.get(&settings.directory.path).and_then(|visible| visible.get(name)).cloned();
        let Some(id) = id else { return Some(since) };
        let record = &self.records[&id];
        let here = self.server(settings).map(|server| server.name);
        let names = source.certificate.as_ref().map(|wanted| wanted.alt_names.as_slice()).unwrap_or_default();
        if record.path != source.path || record.alt_names != names || Some(record.server) != here {
            return Some(since);
        }
        match record.kind {
            Kind::Versioned | Kind::List | Kind::Rotates(_) => {
                self.servers[record.server].secrets[&record.path].replaced_at(&id)
            }
            _ => self.expired_since(&id),
        }
    }

    /// Since when the first set can be complete, because all required sources are healthy; zero once a set is visible.
    fn first_set_since(&self, settings: &Settings) -> Option<Duration> {
        if self.process.as_ref().is_some_and(|process| process.agent.is_ready()) {
            return Some(Duration::ZERO);
        }
        let required = settings.sources.iter().filter(|(_, source)| source.required);
        let healthy = required.map(|(name, _)| self.watch.healthy_since.get(name).copied());
        healthy.collect::<Option<Vec<_>>>().map(|healthy| healthy.into_iter().max().unwrap_or_default())
    }

    /// Checks after each event.
    pub fn check_always(&mut self) {
        self.check_tokens();
        self.check_owed();
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if !Arc::ptr_eq(&process.in_force, process.agent.settings()) {
            process.in_force = Arc::clone(process.agent.settings());
            process.in_force_since = now;
            self.watch.configuration_changed();
            self.record_pace();
        }
        let Some(process) = &self.process else { return };
        let is_stopping = process.terminated.is_some() || process.restarting;
        if is_stopping || process.is_once() || self.phase == Phase::Ending {
            return;
        }
        self.check_known_expiries();
        self.check_certificates();
        let process = self.process.as_ref().expect("a process runs");
        let (settings, since) = (Arc::clone(process.agent.settings()), process.in_force_since);
        // With many sources, checking each of them after each event is too slow.
        if settings.sources.len() > 20 && !self.events.is_multiple_of(50) {
            return;
        }
        let Some(server) = self.server(&settings) else { return self.watch.healthy_since.clear() };
        let login = self.login_works(&settings, server) && self.volume.full <= now;
        for (name, source) in &settings.sources {
            let Some(server) = self.server(&settings) else { return };
            if !login || !self.source_is_healthy(&settings, server, name, source) {
                self.watch.healthy_since.remove(name);
                continue;
            }
            let bound = Self::bound(&settings, source, server);
            let healthy = *self.watch.healthy_since.entry(name.clone()).or_insert(now);
            if healthy.max(since).max(self.watch.tokens_revoked) + bound < now {
                let visible = self.visible.get(&settings.directory.path).and_then(|visible| visible.get(name)).cloned();
                if let Some(id) = visible {
                    self.check_gap(name, &id);
                }
            }
            let Some(wrong) = self.wrong_since(&settings, name, source, since) else { continue };
            let Some(first_set) = self.first_set_since(&settings) else { continue };
            let late = now.saturating_sub(healthy.max(wrong).max(first_set));
            self.watch.measure("recovery share", late.as_secs_f64() / bound.as_secs_f64(), || {
                format!("{name} {late:?} of {bound:?}")
            });
            if late > bound {
                let detail = format!(
                    "source {name} is healthy since {healthy:?} and outdated since {wrong:?}; the bound is {bound:?}"
                );
                return self.violate(Property::NoStarvation, detail);
            }
        }
        self.check_cluster(&settings);
    }

    /// Mirrors and reports follow the visible set, independent of Vault.
    fn check_cluster(&mut self, settings: &Arc<Settings>) {
        let now = self.now;
        let faults = self.cluster.faults;
        let wait = settings.retry.max.max(settings.retry.slow);
        let quiet = [faults.down, faults.reports_hang, faults.reports_denied, self.cluster.reports_rest]
            .iter()
            .all(|until| *until <= now);
        let healthy = if quiet { Some(self.watch.report_healthy_since.unwrap_or(now)) } else { None };
        self.watch.report_healthy_since = healthy;
        let statuses =
            |conditions: &[Condition]| conditions.iter().map(|c| (c.kind, c.status, c.reason)).collect::<Vec<_>>();
        let process = self.process.as_ref().expect("a process runs");
        let right = statuses(process.agent.conditions()) == statuses(&self.cluster.conditions);
        let wrong = if right { None } else { Some(self.watch.report_wrong_since.unwrap_or(now)) };
        self.watch.report_wrong_since = wrong;
        if let (Some(healthy), Some(wrong)) = (healthy, wrong) {
            let late = now.saturating_sub(healthy.max(wrong));
            self.watch.measure("report seconds", late.as_secs_f64(), String::new);
            // A report without a response takes its timeout before the wait.
            if late > wait + Duration::from_secs(30) {
                return self.violate(Property::NoStarvation, format!("the conditions are not reported for {late:?}"));
            }
        }
        let quiet = [faults.down, faults.mirrors_hang, faults.mirrors_denied, faults.conflicts]
            .iter()
            .all(|until| *until <= now);
        let healthy = if quiet { Some(self.watch.mirror_healthy_since.unwrap_or(now)) } else { None };
        self.watch.mirror_healthy_since = healthy;
        // Nothing is mirrored before the first complete set.
        let ready = self.process.as_ref().is_some_and(|process| process.agent.is_ready());
        for name in settings.mirrors.keys() {
            if !ready || !self.mirror_is_wrong(settings, name) {
                self.watch.mirror_wrong_since.remove(name);
                continue;
            }
            let wrong = *self.watch.mirror_wrong_since.entry(name.clone()).or_insert(now);
            let Some(healthy) = healthy else { continue };
            let late = now.saturating_sub(healthy.max(wrong));
            self.watch.measure("mirror seconds", late.as_secs_f64(), String::new);
            // The resync runs once per minute.
            let tolerance = settings.sources.values().map(|source| source.max_stale).max().unwrap_or_default();
            let superseded = if self.watch.superseded.contains_key(name) { tolerance } else { Duration::ZERO };
            if late > wait + Duration::from_secs(75) + superseded {
                return self.violate(Property::NoStarvation, format!("Secret {name} is outdated for {late:?}"));
            }
        }
    }

    fn mirror_is_wrong(&mut self, settings: &Arc<Settings>, name: &ObjectName) -> bool {
        let Some(visible) = self.volume.directories.get(&settings.directory.path) else { return false };
        let set = &visible.set;
        if set.manifest.seeded().next().is_some() {
            return false;
        }
        let known = self.watch.mirror_data.get(name);
        let known = known.filter(|known| Arc::ptr_eq(&known.settings, settings) && Arc::ptr_eq(&known.set, set));
        if known.is_none() {
            let has_read = |source: &SourceName| set.manifest.sources.contains_key(source);
            let made = keyferry::render::mirror_data(&settings.mirrors[name], name, &set.files, &set.leased, has_read);
            let bytes = |made: keyferry::render::MirrorData| {
                made.data.iter().map(|(key, bytes)| (key.clone(), bytes.expose().to_vec())).collect()
            };
            let (settings, set, data) = (Arc::clone(settings), Arc::clone(set), made.ok().map(bytes));
            self.watch.mirror_data.insert(name.clone(), ExpectedMirror { settings, set, data });
        }
        // Without data, the mirror cannot be built, and its condition says so.
        let Some(data) = &self.watch.mirror_data[name].data else { return false };
        self.cluster.secrets.get(name).is_none_or(|object| object.data != *data)
    }

    /// [`Property::Recovery`], some time after the last fault.
    pub fn check_calm(&mut self, times: u32) {
        let Some(process) = &self.process else {
            return self.end_of_pod();
        };
        if process.is_once() {
            return self.end_of_pod();
        }
        let settings = Arc::clone(process.agent.settings());
        let wanted = self.config.settings();
        let mut wrong = Vec::new();
        if *settings != *wanted {
            wrong.push("the configuration is not active".to_owned());
        }
        for condition in process.agent.conditions() {
            use keyferry::model::{ConditionStatus::True, Reason};
            // A restart of all containers can wait for an hour.
            let is_paced = condition.kind == ConditionType::Notified && condition.reason == Reason::Pending;
            let fine = condition.status == True || condition.reason == Reason::NotConfigured || is_paced;
            if !fine {
                wrong.push(format!(
                    "{} is {}: {}",
                    condition.kind.as_str(),
                    condition.status.as_str(),
                    condition.message
                ));
            }
        }
        if !wrong.is_empty() && times < RECHECKS {
            return self.schedule(self.now + Duration::from_secs(1), Event::CheckAgain(times + 1));
        }
        if !wrong.is_empty() {
            return self.violate(Property::Recovery, wrong.join("; "));
        }
        self.end_of_pod();
    }

    fn end_of_pod(&mut self) {
        self.check_sums();
        self.cluster.deleting = true;
        if self.process.is_none() {
            self.phase = Phase::Over;
            return;
        }
        self.phase = Phase::Ending;
        self.terminate();
    }
}
