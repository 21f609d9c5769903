//! The properties that must hold in every world. Each has a name, a sentence and a check.

mod certificates;
mod credentials;
mod limits;
mod notifications;
mod order;
mod recovery;
mod refreshes;
mod seeds;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::PublishedSet;
use keyferry::model::{ConditionStatus, ConditionType, FileSet, ObjectName, Settings, SourceName, Version};

use super::cluster::Data;
use super::process::Flight;
use certificates::Certificates;
use refreshes::Refreshes;

/// A property that must hold.
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
    Overlap,
    ConfigStatusReported,
    BoundedWakeups,
    SingleFlight,
    MonotonicState,
    BoundedReports,
    SeedOnlyDuringOutage,
    SeedIsNotMirrored,
    OneIssuePerGeneration,
    RefreshIssuesNothing,
    CaExpiryIsLogged,
    NotifiedWhenVisible,
    NotifiedInTime,
    NotifiedOnce,
    PacedRestarts,
}

impl Property {
    /// The property as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OneReadingPerSource => "all files of a source in the visible set come from one reading",
            Self::NoRollback => {
                "no older reading replaces a newer one in the visible set or in a mirror, except after maxStale of older \
                responses only, after a refresh that a user requested, or after the source was moved"
            }
            Self::NoExpiredCredential => {
                "SecretsFresh is not True while a credential in the visible set is known to be expired"
            }
            Self::NoStarvation => {
                "a healthy source is read and published in time with its configured request, and its expired credentials are replaced in time, \
                independent of other sources, mirrors and reports"
            }
            Self::Recovery => "after the last fault, everything is fresh, mirrored and reported within the bound",
            Self::BoundedRequests => {
                "requests per source and hour, and logins and lookups per hour, stay below the bound"
            }
            Self::NoLeakedTokens => {
                "after SIGTERM during the pod's deletion no token remains, and few tokens are alive at any time"
            }
            Self::NoLiveCredentialRevoked => {
                "no live credential of the visible set is revoked, unless the pod is being deleted or `once` has failed"
            }
            Self::Overlap => {
                "a replaced lease is revoked only after its overlap, and a known expiry of a visible credential does not pass \
                 while its source is healthy"
            }
            Self::ConfigStatusReported => {
                "ConfigRejected is reported exactly while the last configuration is neither active nor on trial"
            }
            Self::BoundedWakeups => "wake-up times are in the future, and few wake-ups start no operation",
            Self::SingleFlight => {
                "at most one operation per subject is in flight; during the drain only report, save and revoke start; \
                and the drain ends in time"
            }
            Self::MonotonicState => "generations only increase, and SecretsReady stays True for the lifetime of a pod",
            Self::BoundedReports => {
                "a condition's message has at most 1.5 KiB, and reports that differ only in messages are 5 s apart"
            }
            Self::SeedOnlyDuringOutage => {
                "the seed is read only after Vault has not answered for its time, and never after a refusal"
            }
            Self::OneIssuePerGeneration => "a certificate is requested only once for each of its generations",
            Self::RefreshIssuesNothing => {
                "a refresh without new leases reads no source that holds a lease, a certificate, or an issued token"
            }
            Self::CaExpiryIsLogged => "a CA that expires before a certificate is logged",
            Self::NotifiedWhenVisible => {
                "a notification starts only after its change is visible, and after the notifications that it comes after"
            }
            Self::NotifiedInTime => {
                "while it works, a target is notified of each visible change in time, also if the agent was killed"
            }
            Self::NotifiedOnce => "a process notifies a target only once of each change",
            Self::PacedRestarts => {
                "all containers restart only after a change, and not sooner than the minimum interval"
            }
            Self::SeedIsNotMirrored => "files of the seed are never written to a Secret",
        }
    }
}

/// The data that a mirror must have for a set.
struct ExpectedMirror {
    settings: Arc<Settings>,
    set: Arc<PublishedSet>,
    /// `None` if the mirror cannot be built.
    data: Option<Data>,
}

/// State of the checks.
#[derive(Default)]
pub struct Watch {
    /// Since when a source, its server, the login, the volume and the process have no fault.
    healthy_since: BTreeMap<SourceName, Duration>,
    mirror_healthy_since: Option<Duration>,
    report_healthy_since: Option<Duration>,
    mirror_wrong_since: BTreeMap<ObjectName, Duration>,
    report_wrong_since: Option<Duration>,
    /// When a credential was first seen expired.
    expired_since: BTreeMap<Rc<str>, Duration>,
    /// When a user last revoked all tokens.
    pub tokens_revoked: Duration,
    /// When a publication last replaced the set with this lease, or confirmed it.
    pub last_visible: BTreeMap<String, Duration>,
    /// The newest version that the agent has read, by server and path.
    best: BTreeMap<(String, String), Version>,
    older_since: BTreeMap<(String, String), Duration>,
    refreshes: Refreshes,
    /// Deadline for the next read of a healthy source.
    due: BTreeMap<SourceName, Duration>,
    superseded: BTreeMap<ObjectName, Duration>,
    certificates: Certificates,
    mirror_data: BTreeMap<ObjectName, ExpectedMirror>,
    /// The visible readings when the process started.
    pub adopted: BTreeMap<SourceName, Rc<str>>,
    /// The files of each output of [`Watch::rendered_for`], rendered from the reading with this ID.
    rendered: Vec<Option<(Rc<str>, FileSet)>>,
    rendered_for: Option<Arc<Settings>>,
    /// The settings of the last publication to a directory.
    published_by: BTreeMap<PathBuf, Arc<Settings>>,
    /// The settings of the publication that started last, and the sources read before it.
    publishing_by: BTreeMap<PathBuf, (Arc<Settings>, BTreeSet<SourceName>)>,
    /// Secrets whose version went back since the last publication.
    rolled_back: BTreeSet<(String, String)>,
    /// Number of requests by hour and source or operation.
    requests: BTreeMap<(u64, String), usize>,
    /// The shortest read interval that each source had, in seconds.
    shortest: BTreeMap<String, f64>,
    idle_wakes: BTreeMap<u64, usize>,
    last_report: Option<(Duration, Vec<(ConditionType, ConditionStatus)>)>,
    unsettled_since: Option<Duration>,
    /// The largest observed values, for choosing bounds.
    pub largest: BTreeMap<&'static str, (f64, String)>,
}

impl Watch {
    pub fn process_started(&mut self) {
        self.older_since.clear();
        self.refreshes = Refreshes::default();
        self.superseded.clear();
        self.certificates = Certificates::default();
        self.configuration_changed();
    }

    /// Another configuration becomes active: delays count from now on.
    pub fn configuration_changed(&mut self) {
        self.healthy_since.clear();
        self.mirror_healthy_since = None;
        self.report_healthy_since = None;
        self.due.clear();
        self.last_report = None;
        self.unsettled_since = None;
    }

    /// Counts a request to Vault.
    pub fn request(&mut self, flight: &Flight, now: Duration) {
        let thing = match &flight.source {
            Some(source) => source.to_string(),
            None => flight.what.split(' ').next().unwrap_or_default().to_owned(),
        };
        *self.requests.entry((now.as_secs() / 3600, thing)).or_default() += 1;
    }

    /// A report failed: the next one follows the retry schedule.
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
