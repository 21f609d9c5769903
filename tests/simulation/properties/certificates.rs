//! Properties of certificates.
//!
//! Each request issues a certificate, so a request is allowed only if a generation of the certificate begins:
//!
//! - The process has started, and the checkpoint has no certificate of this request.
//! - The configuration requests another certificate, or a trial of another login or server requests its own.
//! - The renewal of the last one is due: after 64 percent of its lifetime, or before `renewBefore` by at most a tenth.
//! - The last request failed, or its answer was lost. Without another configuration, the next one follows 5 minutes after a
//!   certificate that does not verify, and half a lifetime after one that no output can be rendered from.
//! - A user requested a refresh with new leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::LogEntry;
use keyferry::model::{CertificateTimes, Checkpoint, Failure, Reading, Reason, Settings, SourceName, Validity};
use keyferry::render::render_output;

use super::super::pki::{UNUSABLE_CERTIFICATE_RETRY, left};
use super::super::process::Flight;
use super::super::world::World;
use super::Property;

/// The agent limits how long a failure delays the next request.
const MAX_RETRY: Duration = Duration::from_secs(600);

/// Fraction of the lifetime before the expiry at which a certificate is renewed at the earliest.
const EARLIEST: f64 = 0.36;

enum State {
    InFlight,
    /// The next request is allowed at this time.
    Failed(Duration),
    Issued {
        ends: Duration,
        life: Duration,
        ca_expires: bool,
    },
}

/// The last request for a certificate.
struct Request {
    server: &'static str,
    /// [`keyferry::model::Source::request_id`]
    id: String,
    token: Vec<u8>,
    started: Duration,
    state: State,
}

impl Request {
    /// Why another request with this ID is too early at `now`.
    fn forbids(&self, server: &str, id: &str, renew_before: Option<Duration>, now: Duration) -> Option<String> {
        if self.server != server || self.id != id {
            return None;
        }
        match self.state {
            State::InFlight => Some(format!("the request of {:?} is in flight", self.started)),
            State::Failed(retry) => (now < retry).then(|| format!("the last one failed; the next is due at {retry:?}")),
            State::Issued { ends, life, .. } => {
                let lead = match renew_before.filter(|before| *before < life) {
                    Some(before) => before + before.min(life - before) / 10,
                    None => life.mul_f64(EARLIEST),
                };
                let due = ends.saturating_sub(lead);
                (now + Duration::from_millis(1) < due).then(|| format!("the last certificate is due at {due:?}"))
            }
        }
    }
}

type Requests = BTreeMap<SourceName, Request>;

/// The certificates of one process.
#[derive(Default)]
pub struct Certificates {
    /// The active configuration, and its requests.
    settings: Option<Arc<Settings>>,
    active: Requests,
    /// A configuration on trial, its token, and its requests.
    trial: Option<(Arc<Settings>, Vec<u8>)>,
    tried: Requests,
    /// Sources with a logged [`Reason::CaExpiring`].
    logged: BTreeSet<SourceName>,
}

impl Certificates {
    /// Another configuration is active.
    fn activate(&mut self, new: &Arc<Settings>) {
        let Some(old) = self.settings.replace(Arc::clone(new)) else { return };
        let login = old.server.address != new.server.address || old.auth != new.auth;
        let same = |name: &SourceName, id: &str| new.sources.get(name).is_some_and(|source| source.request_id() == id);
        self.active.retain(|name, request| {
            if let State::Failed(retry) = &mut request.state {
                *retry = Duration::ZERO;
            }
            // The outcome of a request of another login is ignored.
            same(name, &request.id) && !(login && matches!(request.state, State::InFlight))
        });
        let tried = std::mem::take(&mut self.tried);
        if self.trial.take().is_some_and(|(settings, _)| Arc::ptr_eq(&settings, new)) {
            self.active.extend(tried.into_iter().filter(|(_, request)| matches!(request.state, State::Issued { .. })));
        }
    }

    /// The requests of the active configuration, or of the one on trial.
    fn requests_of(&mut self, settings: &Arc<Settings>, token: &[u8]) -> &mut Requests {
        if self.settings.as_ref().is_some_and(|active| Arc::ptr_eq(active, settings)) {
            return &mut self.active;
        }
        let same = |(on_trial, with): &(Arc<Settings>, Vec<u8>)| Arc::ptr_eq(on_trial, settings) && with == token;
        if !self.trial.as_ref().is_some_and(same) {
            self.trial = Some((Arc::clone(settings), token.to_vec()));
            self.tried.clear();
        }
        &mut self.tried
    }
}

pub(super) fn renders(settings: &Settings, source: &SourceName, reading: &Reading) -> bool {
    let readings = BTreeMap::from([(source.clone(), Arc::new(reading.clone()))]);
    let outputs = settings.outputs.iter().filter(|output| output.source == *source);
    outputs.into_iter().all(|output| render_output(output, &readings).is_ok())
}

impl World {
    /// The lifetime of a certificate that arrives now, on the clock of the node.
    pub fn life(&self, times: &CertificateTimes) -> Duration {
        left(self.wall(), times.ends()).min(left(times.not_before, times.ends()))
    }

    fn activate_certificates(&mut self) {
        let Some(process) = &self.process else { return };
        let active = process.agent.settings();
        if self.watch.certificates.settings.as_ref().is_none_or(|known| !Arc::ptr_eq(known, active)) {
            self.watch.certificates.activate(active);
        }
    }

    /// [`Property::OneIssuePerGeneration`] when a request starts.
    pub fn check_certificate_request(&mut self, settings: &Arc<Settings>, token: &[u8], source: &SourceName) {
        let spec = &settings.sources[source];
        let Some(wanted) = &spec.certificate else { return };
        self.activate_certificates();
        let (now, server, id) = (self.now, Self::server_of(settings), spec.request_id());
        let asked = self.watch.refreshes.is_new_lease_asked(source);
        let requests = self.watch.certificates.requests_of(settings, token);
        let last = requests.get(source).filter(|_| !asked);
        let why = last.and_then(|last| last.forbids(server, &id, wanted.renew_before, now));
        let request = Request { server, id, token: token.to_vec(), started: now, state: State::InFlight };
        requests.insert(source.clone(), request);
        if let Some(why) = why {
            self.violate(Property::OneIssuePerGeneration, format!("a certificate of {source} is requested: {why}"));
        }
    }

    /// Records the outcome of a request.
    pub fn record_certificate(&mut self, flight: &Flight, result: &Result<Reading, Failure>) {
        let Some((source, settings)) = flight.source.as_ref().zip(flight.settings.as_ref()) else { return };
        if settings.sources.get(source).is_none_or(|source| source.certificate.is_none()) {
            return;
        }
        self.activate_certificates();
        let now = self.now;
        let is_active = self.watch.certificates.settings.as_ref().is_some_and(|active| Arc::ptr_eq(active, settings));
        let in_force = self.watch.certificates.settings.clone();
        let state = match result {
            Err(failure) if failure.reason == Reason::CertificateInvalid => {
                State::Failed(now + UNUSABLE_CERTIFICATE_RETRY)
            }
            Err(_) => State::Failed(now),
            Ok(reading) => {
                let Validity::Certificate(times) = &reading.validity else { return };
                let life = self.life(times);
                if renders(in_force.as_ref().filter(|_| is_active).unwrap_or(settings), source, reading) {
                    State::Issued { ends: now + life, life, ca_expires: times.is_cut_by_ca() }
                } else {
                    State::Failed(if is_active { now + (life / 2).min(MAX_RETRY) } else { now })
                }
            }
        };
        let certificates = &mut self.watch.certificates;
        if let State::Issued { ca_expires: false, .. } = state {
            certificates.logged.remove(source);
        }
        let is_same = |request: &&mut Request| request.started == flight.started && request.token == flight.token;
        let mut found = [&mut certificates.active, &mut certificates.tried].into_iter();
        if let Some(request) = found.find_map(|requests| requests.get_mut(source).filter(is_same)) {
            request.state = state;
        }
    }

    /// Records the certificates of a checkpoint, which are not requested again.
    pub fn record_restored_certificates(&mut self, flight: &Flight, checkpoint: &Checkpoint) {
        self.activate_certificates();
        let now = self.now;
        let Some(settings) = &flight.settings else { return };
        let certificates = &mut self.watch.certificates;
        if certificates.settings.as_ref().is_none_or(|active| !Arc::ptr_eq(active, settings)) {
            return;
        }
        for (name, saved) in &checkpoint.sources {
            let (Validity::Certificate(times), Some(source)) = (&saved.reading.validity, settings.sources.get(name))
            else {
                continue;
            };
            let state = State::Issued {
                ends: now + saved.left,
                life: left(times.not_before, times.ends()),
                ca_expires: times.is_cut_by_ca(),
            };
            let (server, id) = (Self::server_of(settings), source.request_id());
            let request = Request { server, id, token: Vec::new(), started: now, state };
            certificates.active.insert(name.clone(), request);
        }
    }

    pub fn record_log(&mut self, entry: &LogEntry) {
        if entry.reason == Some(Reason::CaExpiring) {
            self.watch.certificates.logged.extend(entry.source.clone());
        }
    }

    /// [`Property::CaExpiryIsLogged`]
    pub fn check_certificates(&mut self) {
        if self.process.as_ref().is_none_or(|process| process.terminated.is_some()) {
            return;
        }
        self.activate_certificates();
        let Certificates { active, logged, .. } = &self.watch.certificates;
        let expires = |request: &Request| matches!(request.state, State::Issued { ca_expires: true, .. });
        let silent = active.iter().find(|(name, request)| expires(request) && !logged.contains(*name));
        if let Some((name, _)) = silent {
            let detail = format!("the CA of source {name} expires before its certificate, which is not logged");
            self.violate(Property::CaExpiryIsLogged, detail);
        }
    }
}
