//! Properties of the order of operations, of the active configuration, and of monotonic state.

use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::{Op, Ticket};
use keyferry::model::{ConditionStatus, ConditionType};

use super::super::process::{Flight, Process};
use super::super::server::id_of;
use super::super::world::World;
use super::Property;

/// Maximum length of a condition's message, in bytes.
const MAX_MESSAGE: usize = 1536;
/// Minimum time between two reports that differ only in messages.
const REPORT_GAP: Duration = Duration::from_secs(5);

impl World {
    pub fn is_ready(&self) -> bool {
        let conditions = self.process.as_ref().map(|process| process.agent.conditions()).unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition.kind == ConditionType::SecretsReady && condition.status == ConditionStatus::True)
    }

    /// [`Property::SingleFlight`], and the rate of reports.
    pub fn check_start(&mut self, ticket: Ticket, op: &Op, flight: &Flight) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let twin = process.in_flight.values().find(|other| other.subject == flight.subject);
        // The login of an abandoned trial continues; its session is revoked on arrival.
        let abandoned = |other: &Flight| matches!(op, Op::LogIn { .. }) && other.started <= process.last_read_at;
        let twin = twin.filter(|other| !abandoned(other)).map(|other| other.what.clone());
        if let Some(twin) = twin {
            let what = &flight.what;
            return self
                .violate(Property::SingleFlight, format!("{what} ({}) starts while {twin} is in flight", ticket.0));
        }
        let is_restart = process.restarting && matches!(op, Op::Publish { .. } | Op::RecordEvent { .. });
        let is_shutdown = is_restart || matches!(op, Op::PatchConditions { .. } | Op::Save { .. } | Op::Revoke { .. });
        if process.terminated.is_some() && !is_shutdown {
            let what = &flight.what;
            return self.violate(Property::SingleFlight, format!("{what} starts after SIGTERM"));
        }
        match op {
            Op::Read { settings, token, source } => {
                self.check_certificate_request(settings, token.expose(), source);
                self.check_requested_read(settings, source);
            }
            Op::Revoke { token, .. } => self.check_revocation(token.expose()),
            Op::RevokeLease { settings, source, lease, .. } => {
                let overlap = settings.sources.get(source).and_then(|source| source.overlap);
                self.check_lease_revocation(source, id_of(lease), overlap);
            }
            Op::ReadSeed { .. } => self.check_seed_read(),
            Op::Notify { name, generation, .. } => self.check_notification(name, *generation),
            Op::Mirror { content, .. } => self.check_seed_mirror(content),
            Op::Publish { directory, set } => {
                let seeded = set.manifest.seeded().next().is_some();
                let in_force = process.agent.settings();
                let by =
                    if in_force.directory.path == directory.path { Some(in_force) } else { process.last_read.as_ref() };
                if let Some(by) = by {
                    let read = process.read.clone();
                    self.watch.publishing_by.insert(directory.path.clone(), (Arc::clone(by), read));
                }
                if seeded && !self.is_ready() {
                    self.check_seed_use();
                }
            }
            Op::PatchConditions { conditions, .. } => {
                let statuses: Vec<_> = conditions.iter().map(|condition| (condition.kind, condition.status)).collect();
                let (changed_at, is_shutdown) =
                    (process.in_force_since, process.terminated.is_some() || process.is_once() || process.restarting);
                let last = self.watch.last_report.replace((now, statuses.clone()));
                let too_soon =
                    last.filter(|(at, last)| *at + REPORT_GAP > now && *last == statuses && *at > changed_at);
                // A failed report is retried by the schedule.
                let failed =
                    self.cluster.faults.down.max(self.cluster.faults.reports_hang).max(self.cluster.reports_rest)
                        + REPORT_GAP
                        > now;
                let settings = process.agent.settings();
                if let Some((at, _)) =
                    too_soon.filter(|_| !is_shutdown && !failed && Arc::ptr_eq(settings, &process.in_force))
                {
                    self.violate(
                        Property::BoundedReports,
                        format!("a report starts {:?} after the previous one", now - at),
                    );
                }
            }
            _ => {}
        }
    }

    /// The drain ends in time.
    pub fn check_exit(&mut self, process: &Process) {
        let Some(terminated) = process.terminated else { return };
        let took = self.now - terminated;
        if took > process.agent.settings().drain + Duration::from_millis(10) {
            self.violate(Property::SingleFlight, format!("the drain took {took:?}"));
        }
    }

    /// Checks after each input.
    pub fn check_after_input(&mut self) {
        let ready = self.is_ready();
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if let Some(generation) = process.agent.generation() {
            let last = std::mem::replace(&mut process.generation, generation.0);
            if generation.0 < last {
                return self.violate(Property::MonotonicState, format!("generation {} after {last}", generation.0));
            }
        }
        let was = std::mem::replace(&mut process.ready, ready);
        if was && !ready {
            return self.violate(Property::MonotonicState, "SecretsReady is no longer True".into());
        }
        let long = process.agent.conditions().iter().map(|condition| condition.message.len()).max().unwrap_or_default();
        self.watch.measure("message", long as f64, String::new);
        if long > MAX_MESSAGE {
            return self.violate(Property::BoundedReports, format!("a message has {long} bytes"));
        }
        if let Some(terminated) = process.terminated {
            if now > terminated + process.agent.settings().drain + Duration::from_millis(10) {
                self.violate(Property::SingleFlight, "the drain has not ended in time".into());
            }
            return;
        }
        self.check_configuration();
    }

    /// [`Property::ConfigStatusReported`].
    fn check_configuration(&mut self) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let in_force = process.agent.settings();
        let settled =
            process.last_read.as_ref().is_some_and(|last| Arc::ptr_eq(last, in_force) || **last == **in_force);
        let rejected = process.agent.is_config_rejected();
        if settled && rejected {
            return self
                .violate(Property::ConfigStatusReported, "the active configuration is reported as rejected".into());
        }
        if process.last_read.is_none() && !rejected {
            return self.violate(
                Property::ConfigStatusReported,
                "an invalid configuration is not reported as rejected".into(),
            );
        }
        if settled || rejected {
            self.watch.unsettled_since = None;
            return;
        }
        // A trial takes one login, the reads and a publication, each with its timeout.
        let timeout = in_force.server.timeout.max(Duration::from_secs(10));
        let since = *self.watch.unsettled_since.get_or_insert(process.last_read_at.max(process.started));
        let since = since.max(process.last_read_at);
        let reads = u32::try_from(in_force.sources.len().div_ceil(4)).unwrap_or(1) + 1;
        let bound = timeout * (reads + 4);
        self.watch.measure("trial seconds", (now - since).as_secs_f64(), String::new);
        if now > since + bound {
            self.violate(
                Property::ConfigStatusReported,
                format!("the configuration is neither active nor rejected for {:?}", now - since),
            );
        }
    }
}
