//! Delivers outcomes to the agent and records them for the checks.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::{Input, Outcome, Ticket};
use keyferry::model::{Lease, Reading, Validity};

use super::process::Flight;
use super::server::id_of;
use super::world::{Note, World};

impl World {
    /// Delivers an outcome, if the process still waits for it.
    pub fn deliver(&mut self, process: u64, ticket: Ticket, outcome: Outcome, note: &Note) {
        let Some(running) = self.process.as_mut().filter(|running| running.id == process) else { return };
        let Some(flight) = running.in_flight.remove(&ticket) else { return };
        let mut outcome = outcome;
        if let Outcome::Restored(Ok(checkpoint)) = &mut outcome {
            checkpoint.pass(self.now - flight.started);
        }
        self.record_outcome(&flight, &outcome, note);
        self.record_credential(&flight, &outcome);
        let what =
            if self.tracing { format!("{} {}: {}", ticket.0, flight.what, describe(&outcome)) } else { String::new() };
        self.input(Input::Completed(ticket, outcome), &what);
        self.outcome_handled();
    }

    /// Records an outcome for the checks.
    pub fn record_outcome(&mut self, flight: &Flight, outcome: &Outcome, note: &Note) {
        let now = self.now;
        self.record_answer(flight, outcome);
        if let Outcome::Read(result) = outcome {
            self.record_certificate(flight, result);
        }
        if let Some(token) = &note.token {
            for server in self.servers.values_mut() {
                if let Some(state) = server.tokens.get_mut(token) {
                    state.delivered = true;
                    if note.restored {
                        state.owner = self.processes;
                    }
                }
            }
        }
        match outcome {
            Outcome::LoggedIn(Ok(session)) => {
                let ends = session.info.ttl.map_or(Duration::MAX, |ttl| now + ttl);
                self.reported_token_end.insert(session.token.expose().to_vec(), ends);
            }
            Outcome::Restored(Ok(checkpoint)) => {
                self.record_restored_certificates(flight, checkpoint);
                if let Some(saved) = &checkpoint.token {
                    let ends = saved.left.map_or(Duration::MAX, |left| now + left);
                    self.reported_token_end.insert(saved.token.expose().to_vec(), ends);
                }
            }
            Outcome::TokenRenewed(Ok(info)) => {
                let ends = info.ttl.map_or(Duration::MAX, |ttl| now + ttl);
                self.reported_token_end.insert(flight.token.clone(), ends);
            }
            Outcome::LeaseRenewed(Ok(Lease { id, duration, .. })) => {
                for record in self.records.values_mut().filter(|record| record.lease.as_deref() == Some(id_of(id))) {
                    record.reported_end = Some(now + *duration);
                }
            }
            Outcome::Read(Ok(reading)) => {
                if let Some(id) = &note.reading {
                    self.record_reading(flight, reading, id);
                }
            }
            Outcome::ConditionsPatched(Err(_)) => self.watch.report_failed(),
            Outcome::Read(Err(_)) => self.watch.read_failed(flight),
            _ => {}
        }
    }

    pub fn record_reading(&mut self, flight: &Flight, reading: &Reading, id: &Rc<str>) {
        let life = match &reading.validity {
            Validity::Lease(lease) => Some(lease.duration),
            Validity::Expires(life) => Some(*life),
            Validity::Certificate(times) => Some(self.life(times)),
            Validity::Unlimited | Validity::Rotates(_) => None,
        };
        let source = flight.source.clone().expect("a read has a source");
        let settings = flight.settings.clone().expect("a read has settings");
        let may_be_older = self.judge_order(flight, &source, &settings, reading, id);
        let record = self.records.get_mut(id).expect("the reading was served");
        record.reported_end = life.map(|life| self.now + life);
        record.may_be_older |= may_be_older.unwrap_or(false);
        record.too_old = may_be_older.is_none();
        if let Some(process) = &mut self.process {
            process.read.insert(source);
        }
    }

    pub fn publish(
        &mut self,
        path: &Path,
        set: &Arc<keyferry::agent::PublishedSet>,
    ) -> Result<bool, keyferry::model::Failure> {
        let (now, wall) = (self.now, self.wall());
        let before = self.volume.directories.get(path).map(|visible| Arc::clone(&visible.set));
        let result = self.volume.publish(path, set, now, wall);
        if result.is_ok() {
            self.record_change(path, set, before.as_ref());
            let ids = self.check_set(path, set, before.as_ref());
            let old = self.visible.insert(path.to_owned(), ids);
            for id in old.iter().flatten().map(|(_, id)| id) {
                if let Some(lease) = self.records.get(id).and_then(|record| record.lease.clone()) {
                    self.watch.last_visible.insert(lease, now);
                }
            }
        }
        result
    }
}

/// Describes an outcome, for the trace.
fn describe(outcome: &Outcome) -> String {
    let or = |result: Result<String, &keyferry::model::Failure>| {
        result.unwrap_or_else(|failure| format!("{:?} {failure}", failure.class))
    };
    match outcome {
        Outcome::LoggedIn(result) => or(result
            .as_ref()
            .map(|session| format!("{} {:?}", String::from_utf8_lossy(session.token.expose()), session.info))),
        Outcome::Restored(result) => or(result.as_ref().map(|checkpoint| {
            let left = checkpoint.token.as_ref().map(|saved| saved.left);
            format!("restored, token {left:?}, {:?}", checkpoint.sources.keys().collect::<Vec<_>>())
        })),
        Outcome::LookedUp(result) | Outcome::TokenRenewed(result) => {
            or(result.as_ref().map(|info| format!("{info:?}")))
        }
        Outcome::Read(result) => {
            or(result.as_ref().map(|reading| format!("{:?} {:?}", reading.version, reading.validity)))
        }
        Outcome::LeaseRenewed(result) => or(result.as_ref().map(|lease| format!("{lease:?}"))),
        Outcome::SeedRead(result) => or(result.as_ref().map(|data| format!("{} files", data.len()))),
        Outcome::Published(result) | Outcome::ConditionsPatched(result) => {
            or(result.as_ref().map(|yes| format!("{yes}")))
        }
        Outcome::Mirrored(result) => or(result.as_ref().map(|result| format!("{result:?}"))),
        Outcome::Retired(result)
        | Outcome::Notified(result)
        | Outcome::EventRecorded(result)
        | Outcome::Saved(result)
        | Outcome::LeaseLookedUp(result)
        | Outcome::LeaseRevoked(result)
        | Outcome::Unsubscribed(result)
        | Outcome::Revoked(result) => or(result.as_ref().map(|()| "done".to_owned())),
    }
}
