//! Properties of refreshes that a user requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::{Input, Outcome, RefreshRequest};
use keyferry::model::{Settings, SourceName};

use super::super::process::Flight;
use super::super::world::World;
use super::Property;
use super::certificates::renders;

/// Minimum interval between two refreshes. Requests that arrive earlier become one refresh.
const INTERVAL: Duration = Duration::from_secs(1);

/// When refreshes begin that no reading has answered, by source.
#[derive(Default)]
struct Pending(BTreeMap<SourceName, Vec<Duration>>);

impl Pending {
    fn began_by(&self, source: &SourceName, at: Duration) -> bool {
        self.0.get(source).is_some_and(|begins| begins.iter().any(|begin| *begin <= at))
    }

    fn answered(&mut self, source: &SourceName, started: Duration) {
        if let Some(begins) = self.0.get_mut(source) {
            begins.retain(|begin| *begin > started);
        }
        self.0.retain(|_, begins| !begins.is_empty());
    }
}

/// What the agent handles at the moment.
#[derive(Default)]
enum Handling {
    #[default]
    Other,
    /// A refresh without new leases.
    Refresh,
    /// A reading of this source that Vault issued for the agent.
    Issued(SourceName),
}

/// The refreshes of one process.
#[derive(Default)]
pub struct Refreshes {
    all: Pending,
    with_new_leases: Pending,
    /// When the last refresh begins.
    last: Option<Duration>,
    /// Sources whose last reading was issued for the agent and whose last operation succeeded.
    holding: BTreeSet<SourceName>,
    handling: Handling,
}

impl Refreshes {
    /// Whether a read that started at this time answers a refresh.
    pub fn is_asked(&self, source: &SourceName, started: Duration) -> bool {
        self.all.began_by(source, started)
    }

    /// Whether a user has requested another credential of this source.
    pub fn is_new_lease_asked(&self, source: &SourceName) -> bool {
        self.with_new_leases.0.contains_key(source)
    }

    /// Records an accepted reading.
    pub fn answered(&mut self, source: &SourceName, started: Duration) {
        self.all.answered(source, started);
        self.with_new_leases.answered(source, started);
    }
}

impl World {
    /// A user requests a refresh.
    pub fn request_refresh(&mut self) {
        if self.process.as_ref().is_some_and(|process| process.wake.is_some_and(|wake| wake <= self.now)) {
            // What is due at this time is not caused by the refresh.
            self.input(Input::TimerFired, "timer");
        }
        let new_leases = self.random.chance(30);
        let now = self.now;
        let names = self.process.iter().flat_map(|process| process.agent.settings().sources.keys().cloned());
        let names: Vec<_> = names.collect();
        let refreshes = &mut self.watch.refreshes;
        // A request joins the refresh that waits for its time.
        let begin = refreshes.last.map_or(now, |last| if last > now { last } else { now.max(last + INTERVAL) });
        refreshes.last = Some(begin);
        for name in names {
            refreshes.all.0.entry(name.clone()).or_default().push(begin);
            if new_leases {
                refreshes.with_new_leases.0.entry(name).or_default().push(begin);
            }
        }
        refreshes.handling = if new_leases { Handling::Other } else { Handling::Refresh };
        self.input(Input::Refresh(RefreshRequest { new_leases, by: "a user" }), "refresh");
        self.watch.refreshes.handling = Handling::Other;
    }

    fn is_active(&self, settings: &Arc<Settings>) -> bool {
        self.process.as_ref().is_some_and(|process| Arc::ptr_eq(process.agent.settings(), settings))
    }

    /// Records an outcome before the agent handles it.
    pub fn record_credential(&mut self, flight: &Flight, outcome: &Outcome) {
        self.watch.refreshes.handling = Handling::Other;
        if matches!(outcome, Outcome::LoggedIn(_) | Outcome::Restored(_)) {
            self.watch.refreshes.holding.clear();
        }
        let Some((source, settings)) = flight.source.as_ref().zip(flight.settings.as_ref()) else { return };
        let is_issued = match outcome {
            Outcome::Read(Ok(reading)) => {
                self.is_active(settings) && reading.validity.is_issued() && renders(settings, source, reading)
            }
            Outcome::LeaseRenewed(Ok(_)) | Outcome::LeaseLookedUp(Ok(())) => return,
            _ => false,
        };
        let refreshes = &mut self.watch.refreshes;
        if is_issued {
            refreshes.holding.insert(source.clone());
            refreshes.handling = Handling::Issued(source.clone());
        } else {
            refreshes.holding.remove(source);
        }
    }

    /// The agent has handled an outcome.
    pub fn outcome_handled(&mut self) {
        self.watch.refreshes.handling = Handling::Other;
    }

    /// [`Property::RefreshIssuesNothing`] when a read starts.
    pub fn check_requested_read(&mut self, settings: &Arc<Settings>, source: &SourceName) {
        if !self.is_active(settings) {
            return;
        }
        let refreshes = &self.watch.refreshes;
        let why = match &refreshes.handling {
            Handling::Refresh => refreshes.holding.contains(source).then_some("by a refresh without new leases"),
            Handling::Issued(just) => {
                (just == source && !refreshes.is_new_lease_asked(source)).then_some("as soon as it was issued")
            }
            Handling::Other => None,
        };
        if let Some(why) = why {
            let detail = format!("source {source}, which holds an issued credential, is read {why}");
            self.violate(Property::RefreshIssuesNothing, detail);
        }
    }
}
