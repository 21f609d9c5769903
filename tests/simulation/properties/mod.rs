//! What must hold in every world. Each property is a name, a sentence and a function.

mod credentials;
mod limits;
mod order;
mod recovery;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyferry::model::{ConditionStatus, ConditionType, ObjectName, Settings, SourceName, Version};

use super::process::Flight;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    OneReadingPerSource,
    NoRollback,
    NoExpiredCredential,
    NoStarvation,
    Recovery,
    BoundedRequests,
    NoLeakedTokens,
    NoLiveCredentialRevoked,
    ConfigStatusReported,
    BoundedWakeups,
    SingleFlight,
    MonotonicState,
    BoundedReports,
}

impl Property {
    /// The property as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OneReadingPerSource => {
                "every file of a source in the visible set is of one and the same reading, as one answer served it"
            }
            Self::NoRollback => {
                "no older reading replaces a newer one in the visible set or a mirror, except after maxStale of steady \
                 older answers, after a refresh that a person asked for, or after a move of the source"
            }
            Self::NoExpiredCredential => {
                "no credential in the visible set is dead for longer than the bound while a server that would issue another \
                 one answers; none ends by itself in calm; and SecretsFresh is not True while one is known to be dead"
            }
            Self::NoStarvation => {
                "a healthy source is read in time and what it gives becomes visible in time, whatever other sources, \
                 mirrors and reports do"
            }
            Self::Recovery => "when the faults stop, everything is fresh, mirrored and reported within the bound",
            Self::BoundedRequests => {
                "requests per source and hour, and logins and questions per hour, stay below the bound"
            }
            Self::NoLeakedTokens => {
                "after SIGTERM with the pod's deletion no token is left behind, and few are alive at any time"
            }
            Self::NoLiveCredentialRevoked => {
                "no revocation ends a live credential of the visible set, unless the pod is being deleted or `once` has failed"
            }
            Self::ConfigStatusReported => {
                "ConfigRejected is reported exactly while the configuration read last is neither in force nor on trial"
            }
            Self::BoundedWakeups => "wake-ups lie ahead and are few, and hardly one does nothing",
            Self::SingleFlight => {
                "at most one operation is in flight for one thing; after the drain has begun there are only report, save \
                 and revoke; and it ends in time"
            }
            Self::MonotonicState => "generations go forward, and SecretsReady stays True for the life of a pod",
            Self::BoundedReports => {
                "a condition's message has at most 1.5 KiB, and reports that differ in words only are 5 s apart"
            }
        }
    }
}

/// What the checks remember.
#[derive(Default)]
pub struct Watch {
    /// Since when nothing is wrong with a source, its server, our login, the volume and the process.
    healthy_since: BTreeMap<SourceName, Duration>,
    mirror_healthy_since: Option<Duration>,
    report_healthy_since: Option<Duration>,
    mirror_wrong_since: BTreeMap<ObjectName, Duration>,
    report_wrong_since: Option<Duration>,
    /// When a credential was first seen to be dead.
    expired_since: BTreeMap<Rc<str>, Duration>,
    /// The newest version that the agent may show, by server and path.
    best: BTreeMap<(String, String), Version>,
    older_since: BTreeMap<(String, String), Duration>,
    /// When a person asked for a refresh that a source has not served yet.
    refresh_asked: BTreeMap<SourceName, Duration>,
    /// Until when a healthy source must be read again.
    due: BTreeMap<SourceName, Duration>,
    superseded: BTreeMap<ObjectName, Duration>,
    /// The settings of the last publication to a directory.
    published_by: BTreeMap<PathBuf, Arc<Settings>>,
    /// The settings of the publication that was started last.
    publishing_by: BTreeMap<PathBuf, (Arc<Settings>, BTreeSet<SourceName>)>,
    /// Secrets of which an older version is the truth since the last publication.
    rolled_back: BTreeSet<(String, String)>,
    pub pod_ready: bool,
    /// Requests by hour and thing.
    requests: BTreeMap<(u64, String), usize>,
    /// The shortest refresh interval that each source had, in seconds.
    shortest: BTreeMap<String, f64>,
    idle_wakes: BTreeMap<u64, usize>,
    last_report: Option<(Duration, Vec<(ConditionType, ConditionStatus)>)>,
    unsettled_since: Option<Duration>,
    /// The largest values that were seen, for finding bounds.
    pub largest: BTreeMap<&'static str, (f64, String)>,
}

impl Watch {
    pub fn process_started(&mut self) {
        self.older_since.clear();
        self.refresh_asked.clear();
        self.superseded.clear();
        self.configuration_changed();
    }

    /// Another configuration is in force: what is late counts from now on.
    pub fn configuration_changed(&mut self) {
        self.healthy_since.clear();
        self.mirror_healthy_since = None;
        self.report_healthy_since = None;
        self.due.clear();
        self.last_report = None;
        self.unsettled_since = None;
    }

    /// A request reaches Vault.
    pub fn request(&mut self, flight: &Flight, now: Duration) {
        let thing = match &flight.source {
            Some(source) => source.to_string(),
            None => flight.what.split(' ').next().unwrap_or_default().to_owned(),
        };
        *self.requests.entry((now.as_secs() / 3600, thing)).or_default() += 1;
    }

    /// A report failed: the next one follows by the schedule of retries.
    pub fn report_failed(&mut self) {
        self.last_report = None;
    }

    pub fn read_failed(&mut self, flight: &Flight) {
        if let Some(source) = &flight.source {
            self.due.remove(source);
        }
    }

    pub fn measure(&mut self, what: &'static str, value: f64, detail: impl FnOnce() -> String) {
        let largest = self.largest.entry(what).or_default();
        if value > largest.0 {
            *largest = (value, detail());
        }
    }
}
