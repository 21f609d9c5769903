//! Properties of notifications: after a change is visible, at least once, and not twice by one process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::PublishedSet;
use keyferry::model::{Notification, NotificationName, Settings};

use super::super::world::World;
use super::Property;

/// Time between a visible change and the outcome of the publication.
const LATENCY: Duration = Duration::from_millis(100);

/// Additional time for slow notifications.
const SLACK: Duration = Duration::from_secs(30);

fn concerned<'a>(
    settings: &'a Settings,
    set: &PublishedSet,
    before: &PublishedSet,
) -> Vec<(&'a NotificationName, &'a Notification)> {
    let changed: Vec<_> = set.files.changes(&before.files).collect();
    settings.notify.iter().filter(|(_, spec)| changed.iter().any(|path| spec.selects(path))).collect()
}

impl World {
    /// Notes which notifications a visible set requires.
    pub fn record_change(&mut self, path: &Path, set: &Arc<PublishedSet>, before: Option<&Arc<PublishedSet>>) {
        let (Some(process), Some(before)) = (&self.process, before) else { return };
        let settings = process.agent.settings();
        if settings.directory.path != path || process.is_once() {
            return;
        }
        for (name, _) in concerned(settings, set, before) {
            self.application.owed.entry(name.to_string()).or_insert(self.now);
            self.application.changed.insert(name.to_string(), self.now);
        }
    }

    /// [`Property::NotifiedWhenVisible`], when a notification starts.
    pub fn check_notification(&mut self, name: &NotificationName, generation: u64) {
        let Some(process) = &self.process else { return };
        let settings = process.agent.settings();
        let visible = self.volume.directories.get(&settings.directory.path);
        let record = visible.map(|visible| &visible.set.manifest.notifications);
        let Some(record) = record else {
            return self.violate(Property::NotifiedWhenVisible, format!("{name} starts without a visible set"));
        };
        if generation > record.generation {
            let detail = format!("{name} starts for generation {generation}, but {} is visible", record.generation);
            return self.violate(Property::NotifiedWhenVisible, detail);
        }
        let waits = settings.notify.get(name).is_some_and(|spec| {
            spec.after.iter().any(|other| {
                let owed = self.application.owed.get(other.as_str());
                owed.is_some_and(|since| *since + LATENCY < self.now) && settings.notify.contains_key(other)
            })
        });
        if waits {
            self.violate(Property::NotifiedWhenVisible, format!("{name} starts before the one that it comes after"));
        }
    }

    /// [`Property::NotifiedOnce`], when a notification succeeds.
    pub fn record_notification(&mut self, process: u64, name: &str, started: Duration) {
        let application = &mut self.application;
        let last = application.notified.insert(name.to_owned(), (process, started));
        if application.owed.get(name).is_some_and(|since| *since <= started) {
            application.owed.remove(name);
        }
        let Some((_, last)) = last.filter(|(before, _)| *before == process) else { return };
        let changed = application.changed.get(name).copied().unwrap_or_default();
        let is_new = self.process.as_ref().is_some_and(|process| process.in_force_since + SLACK >= last);
        if changed + LATENCY < last && !is_new {
            let detail = format!("{name} at {started:?} and {last:?}, but the last change is of {changed:?}");
            self.violate(Property::NotifiedOnce, detail);
        }
    }

    /// [`Property::NotifiedInTime`]
    pub fn check_owed(&mut self) {
        let Some(process) = &self.process else { return };
        if process.is_once() || process.restarting || process.terminated.is_some() {
            return;
        }
        let settings = process.agent.settings();
        let application = &mut self.application;
        application.owed.retain(|name, _| settings.notify.keys().any(|known| known.as_str() == name));
        let healthy = process.in_force_since.max(process.started).max(application.fails).max(application.hangs);
        let wait = settings.retry.max.max(settings.retry.slow);
        let mut late = None;
        let mut longest = 0.0;
        for (name, since) in &application.owed {
            let Some((_, spec)) = settings.notify.iter().find(|(known, _)| known.as_str() == name) else { continue };
            if spec.is_restart() {
                continue;
            }
            // Each notification that comes before this one can wait for its own retry.
            let turns = u32::try_from(spec.after.len() + 1).unwrap_or(1);
            let bound = (wait + spec.debounce + spec.jitter + SLACK) * turns;
            let took = self.now.saturating_sub(healthy.max(*since));
            longest = f64::max(longest, took.as_secs_f64() / bound.as_secs_f64());
            if took > bound {
                late = Some(format!("{name} is due since {since:?}"));
            }
        }
        self.watch.measure("notification relative to the bound", longest, String::new);
        if let Some(late) = late {
            self.violate(Property::NotifiedInTime, late);
        }
    }

    /// [`Property::PacedRestarts`]
    pub fn check_restart(&mut self) {
        let Some((last, shift)) = self.application.restarted else { return };
        let changed = self.application.changed.get("restart").copied().unwrap_or_default();
        if changed <= last {
            return self.violate(Property::PacedRestarts, format!("no change since the restart at {last:?}"));
        }
        let interval = super::super::config_file::RESTART_INTERVAL;
        // A process knows the time of the last restart from the wall clock only.
        if shift == self.wall_shift && self.now < last + interval - Duration::from_secs(1) {
            self.violate(Property::PacedRestarts, format!("{:?} after the previous restart", self.now - last));
        }
    }
}
