//! One process of the agent: its core, its operations in flight, and the data that the checks need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::{Action, Agent, Input, Mode, Now, Op, Ticket};
use keyferry::model::{AuthMethod, Settings, SourceName};

use super::server::id_of;

/// An operation in flight.
pub struct Flight {
    pub subject: String,
    pub what: String,
    pub started: Duration,
    /// The source of a read or of a lease renewal.
    pub source: Option<SourceName>,
    /// The token of the request.
    pub token: Vec<u8>,
    /// The settings at the start.
    pub settings: Option<Arc<Settings>>,
}

pub struct Process {
    pub id: u64,
    pub agent: Agent,
    pub mode: Mode,
    pub started: Duration,
    pub in_flight: BTreeMap<Ticket, Flight>,
    /// When the timer fires, in the time of the world.
    pub wake: Option<Duration>,
    pub terminated: Option<Duration>,
    /// The configuration that was read last; `None` if it was invalid.
    pub last_read: Option<Arc<Settings>>,
    pub last_read_at: Duration,
    /// The active configuration, and since when it is active.
    pub in_force: Arc<Settings>,
    pub in_force_since: Duration,
    /// Sources that this process has read successfully.
    pub read: BTreeSet<SourceName>,
    pub generation: u64,
    /// The last successful answer of Vault, or the start.
    pub answered: Duration,
    /// Requests whose last answer was a refusal: the login, or the paths of sources.
    pub refused: BTreeSet<String>,
    pub ready: bool,
    /// The process is about to exit so that all containers restart.
    pub restarting: bool,
    /// A credential that `once` has revoked although its files are visible.
    pub revoked_in_use: Option<String>,
}

impl Process {
    pub fn new(id: u64, settings: &Arc<Settings>, mode: Mode, now: Duration, moment: &Now) -> Self {
        Self {
            id,
            agent: Agent::new(Arc::clone(settings), mode, moment),
            mode,
            started: now,
            in_flight: BTreeMap::new(),
            wake: None,
            terminated: None,
            last_read: Some(Arc::clone(settings)),
            last_read_at: now,
            in_force: Arc::clone(settings),
            in_force_since: now,
            read: BTreeSet::new(),
            generation: 0,
            answered: now,
            refused: BTreeSet::new(),
            ready: false,
            restarting: false,
            revoked_in_use: None,
        }
    }

    pub fn handle(&mut self, input: Input, moment: &Now) -> Vec<Action> {
        self.agent.handle(input, moment)
    }

    pub fn is_once(&self) -> bool {
        matches!(self.mode, Mode::Once { .. })
    }
}

/// Describes an operation. At most one operation per `subject` is allowed in flight.
pub fn flight(op: &Op, now: Duration) -> Flight {
    let login = |settings: &Settings| match &settings.auth.method {
        AuthMethod::Kubernetes { role, .. } => role.clone(),
        _ => "token file".to_owned(),
    };
    let text = |token: &keyferry::model::VaultToken| String::from_utf8_lossy(token.expose()).into_owned();
    let (subject, what, source, token, settings) = match op {
        Op::LogIn { settings, .. } => {
            let what = format!("login {} {}", settings.server.address, login(settings));
            (format!("{what} {:?}", settings.server.tls.ca_file), what, None, None, Some(settings))
        }
        // The lookup of an abandoned trial can still be in flight.
        Op::LookUp { settings, token } => (
            format!("look up {} {:?}", text(token), Arc::as_ptr(settings)),
            "look up".into(),
            None,
            Some(token),
            Some(settings),
        ),
        Op::RenewToken { settings, token } => {
            (format!("renew token {}", text(token)), "renew token".into(), None, Some(token), Some(settings))
        }
        Op::Revoke { settings, token } => {
            (format!("revoke {}", text(token)), format!("revoke {}", text(token)), None, Some(token), Some(settings))
        }
        Op::Read { settings, token, source } => (
            format!("source {source} {}", text(token)),
            format!("read {source}"),
            Some(source),
            Some(token),
            Some(settings),
        ),
        Op::RenewLease { settings, token, source, .. } => (
            format!("source {source} {}", text(token)),
            format!("renew lease of {source}"),
            Some(source),
            Some(token),
            Some(settings),
        ),
        Op::LookUpLease { settings, token, source, .. } => (
            format!("source {source} {}", text(token)),
            format!("look up lease of {source}"),
            Some(source),
            Some(token),
            Some(settings),
        ),
        Op::RevokeLease { settings, token, source, lease } => (
            format!("revoke lease {}", id_of(lease)),
            format!("revoke-lease {source}"),
            None,
            Some(token),
            Some(settings),
        ),
        Op::Subscribe { settings, token } => ("events".into(), "subscribe".into(), None, Some(token), Some(settings)),
        Op::ReadSeed { .. } => ("seed".into(), "read seed".into(), None, None, None),
        Op::Publish { directory, .. } => {
            let path = directory.path.display();
            (format!("directory {path}"), format!("publish to {path}"), None, None, None)
        }
        Op::RetireDirectory { directory } => {
            let path = directory.path.display();
            (format!("directory {path}"), format!("retire {path}"), None, None, None)
        }
        Op::Mirror { name, settings, .. } => {
            (format!("mirror {name}"), format!("mirror {name}"), None, None, Some(settings))
        }
        Op::Notify { name, .. } => (format!("notify {name}"), format!("notify {name}"), None, None, None),
        Op::PatchConditions { settings, .. } => ("report".into(), "report".into(), None, None, Some(settings)),
        Op::RecordEvent { settings, .. } => ("record".into(), "record".into(), None, None, Some(settings)),
        Op::Save { settings, .. } => ("save".into(), "save".into(), None, None, Some(settings)),
    };
    Flight {
        subject,
        what,
        started: now,
        source: source.cloned(),
        token: token.map(|token| token.expose().to_vec()).unwrap_or_default(),
        settings: settings.cloned(),
    }
}
