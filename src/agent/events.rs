//! The subscription to the events of Vault Enterprise. An event only means that a source is read now: reads at their interval
//! stay, and a source whose read issues something is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::io::{Action, Op, Ticket};
use super::journal::Subject;
use super::time::{Backoff, Elapsed, Now};
use super::{Agent, Parts};
use crate::model::{Failure, RequestMethod, ServerEvent, Settings, Source, SourceName};

/// Minimum interval between two reads of sources because of events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum random delay of a read, because all pods with the same secret receive the same event.
const SPREAD: Duration = Duration::from_millis(500);

/// Maximum random delay of a new subscription, because a restarted Vault loses the connections of all pods at once.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);

/// Maximum number of further reads if a read after an event returns an earlier version than the event names: a performance
/// standby can answer that does not have the new one yet.
const FURTHER_READS: u32 = 5;

/// A subscription that lasted this long has worked, so the next attempt starts with the first delay.
const WORKED: Duration = Duration::from_secs(60);

/// The subscription, and the sources that events are about.
#[derive(Clone, Default)]
pub(super) struct Subscription {
    current: Option<Current>,
    backoff: Backoff,
    /// Sources to read.
    changed: BTreeSet<SourceName>,
    /// When to read them.
    read_at: Elapsed,
    /// The version that an event named, and how many further reads wait for it.
    expected: BTreeMap<SourceName, (u64, u32)>,
}

#[derive(Clone)]
struct Current {
    ticket: Ticket,
    settings: Arc<Settings>,
    /// Number of its token.
    token: u64,
    /// When the server accepted it.
    since: Option<Elapsed>,
}

impl Subscription {
    /// The time of the next read or attempt. `wanted`: whether a subscription should exist.
    fn due(&self, wanted: bool) -> Option<Elapsed> {
        let read = (!self.changed.is_empty()).then_some(self.read_at);
        let subscribe = (wanted && self.current.is_none()).then_some(self.backoff.not_before);
        read.into_iter().chain(subscribe).min()
    }
}

/// Whether a secret at this path is (part of) what the source reads.
fn is_about(path: &str, source: &Source) -> bool {
    let own = source.path.trim_matches('/');
    let below = || path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
    path == own || ((source.list.is_some() || source.method == RequestMethod::List) && below())
}

impl Agent {
    /// Whether a subscription should exist: events are configured, and the first set is visible, which they must not delay.
    fn wants_events(&self) -> bool {
        self.parts.settings.events && !self.mode.is_once() && self.parts.publication.visible().is_some()
    }

    /// When [`Agent::advance_events`] is due next.
    pub(super) fn events_due(&self, at: Elapsed) -> Option<Elapsed> {
        self.parts.subscription.due(self.wants_events() && self.parts.sessions.live(at).is_some())
    }

    /// Subscribes, ends the subscription of another token or server, and reads the sources that events are about.
    pub(super) fn advance_events(&mut self, now: &Now) {
        let wanted = self.wants_events();
        let Parts { settings, sessions, subscription, .. } = &mut self.parts;
        let token = sessions.live(now.at).filter(|_| wanted);
        let is_outdated = |current: &Current| {
            !wanted
                || token.is_some_and(|token| token.number != current.token)
                || current.settings.server != settings.server
        };
        if let Some(old) = subscription.current.take_if(|current| is_outdated(current)) {
            self.outbox.push(Action::Cancel(old.ticket));
        }
        if let Some(token) = token
            && subscription.current.is_none()
            && subscription.backoff.not_before <= now.at
        {
            let op = Op::Subscribe { settings: Arc::clone(settings), token: token.value.clone() };
            let ticket = self.outbox.start(op);
            let settings = Arc::clone(settings);
            subscription.current = Some(Current { ticket, settings, token: token.number, since: None });
        }
        if subscription.read_at <= now.at && !subscription.changed.is_empty() {
            let changed = std::mem::take(&mut subscription.changed);
            subscription.read_at = now.at.saturating_add(INTERVAL);
            for name in changed {
                self.update(&name, |source| source.refresh(now));
            }
        }
    }

    /// Handles an event of the subscription with this ticket.
    pub(super) fn event(&mut self, ticket: Ticket, event: &ServerEvent, now: &Now) {
        let Parts { sources, subscription, .. } = &mut self.parts;
        let Some(current) = subscription.current.as_mut().filter(|current| current.ticket == ticket) else { return };
        match event {
            ServerEvent::Subscribed => {
                current.since = Some(now.at);
                self.journal.recovered(&Subject::Events);
                self.journal.info(&Subject::Events, "subscribed to the events of Vault");
            }
            ServerEvent::Changed { path, version } => {
                let was_empty = subscription.changed.is_empty();
                for (name, source) in sources.iter().filter(|(_, source)| is_about(path, &source.spec)) {
                    subscription.changed.insert(name.clone());
                    let reads_latest = source.spec.version.is_none() && source.spec.list.is_none();
                    if let Some(version) = version.filter(|_| reads_latest) {
                        subscription.expected.insert(name.clone(), (version, FURTHER_READS));
                    }
                }
                if was_empty {
                    let spread = now.at.saturating_add(now.share(SPREAD, 0.0, 1.0, 51));
                    subscription.read_at = subscription.read_at.max(spread);
                }
            }
        }
    }

    /// Requests another read of a source if the accepted reading is older than an event has said.
    pub(super) fn compare_with_event(&mut self, name: &SourceName, number: Option<u64>, now: &Now) {
        let Subscription { changed, read_at, expected, .. } = &mut self.parts.subscription;
        let Some((version, further)) = expected.get_mut(name) else { return };
        if *further == 0 || number.is_none_or(|number| number >= *version) {
            expected.remove(name);
            return;
        }
        *further -= 1;
        changed.insert(name.clone());
        *read_at = (*read_at).max(now.at.saturating_add(INTERVAL));
    }

    /// Handles the end of a subscription. Nothing depends on it, so a failure is only logged.
    pub(super) fn unsubscribed(&mut self, ticket: Ticket, result: Result<(), Failure>, now: &Now) {
        let Parts { settings, subscription, .. } = &mut self.parts;
        let Some(ended) = subscription.current.take_if(|current| current.ticket == ticket) else { return };
        if ended.since.is_some_and(|since| since + WORKED <= now.at) {
            subscription.backoff.reset();
        }
        let failure = result.err().unwrap_or_else(|| {
            let message = "failed to receive events of Vault: the server closed the connection";
            Failure::new(crate::model::FailureClass::Unreachable, crate::model::Reason::VaultUnreachable, message)
        });
        subscription.backoff.failed(&failure, &settings.retry, now, 52);
        let spread = now.at.saturating_add(now.share(RECONNECT_SPREAD, 0.2, 1.0, 53));
        subscription.backoff.not_before = subscription.backoff.not_before.max(spread);
        let rule = failure.missing_rule.as_ref().map(|rule| {
            format!(
                ": the token needs {rule}, and for each secret the capabilities \"list\" and \"subscribe\" with \
                 subscribe_event_types = [\"kv*\"]"
            )
        });
        let message = format!("{}{}", failure.message, rule.unwrap_or_default());
        self.journal.failed(&Subject::Events, &Failure { message, ..failure });
    }
}
