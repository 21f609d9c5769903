//! What to say: conditions computed from the state, sent only when they differ, Events on transitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::event::{Effect, Ticket};
use super::mirror::Mirrors;
use super::plan::Plan;
use super::publication::Publication;
use super::retry::{Backoff, Now, Tick};
use super::session::Session;
use super::sources::Sources;
use super::{State, Tickets};
use crate::model::{
    Condition, ConditionStatus, ConditionType, Failure, FailureClass, Generation, Notice, NoticeKind, Reason,
};

/// How long a refused report or Event rests: RBAC may be added later, but nobody needs to hear of it each minute.
const REFUSED_REST: Duration = Duration::from_secs(600);

/// Tries for one Event; it is a courtesy, not a duty.
const RECORD_TRIES: u32 = 3;

/// What was said and what is still to be said.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Report {
    said: Vec<Condition>,
    wanted: Vec<Condition>,
    in_flight: Option<(Ticket, Vec<Condition>)>,
    backoff: Backoff,
    /// The latest Event per condition; a newer one replaces it.
    notices: BTreeMap<NoticeKey, Notice>,
    recording: Option<(Ticket, NoticeKey, Notice)>,
    record_backoff: Backoff,
    announced: Option<Generation>,
    config_mistakes: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NoticeKey {
    Condition(ConditionType),
    Config,
}

/// What a person, a probe or a metric may know of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The conditions as they are wanted now.
    pub conditions: Vec<Condition>,
    /// The visible set.
    pub generation: Option<Generation>,
    /// Whether a token is in use.
    pub logged_in: bool,
    /// When the token in use ends.
    pub token_ends: Option<Tick>,
    /// Per source: whether it is stale, and what failed last.
    pub sources: Vec<(String, bool, Option<Failure>)>,
    /// Whether the agent is leaving.
    pub draining: bool,
}

impl Snapshot {
    /// Whether all required outputs are published.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.generation.is_some()
    }
}

pub(super) fn snapshot(state: &State, now: Tick) -> Snapshot {
    let State { plan, phase, session, sources, publication, mirrors, report, .. } = state;
    let facts = |(name, source): (&crate::model::SourceName, &super::sources::SourceState)| {
        (name.to_string(), source.is_stale(), source.failure.clone())
    };
    Snapshot {
        conditions: conditions(plan, session, sources, publication, mirrors, report),
        generation: publication.generation(),
        logged_in: session.is_live(now),
        token_ends: session.ends(),
        sources: sources.iter().map(facts).collect(),
        draining: !phase.is_working(),
    }
}

/// The wanted conditions, in the order of [`ConditionType::ALL`].
pub(super) fn conditions(
    plan: &Plan,
    session: &Session,
    sources: &Sources,
    publication: &Publication,
    mirrors: &Mirrors,
    report: &Report,
) -> Vec<Condition> {
    vec![
        ready(session, sources, publication),
        fresh(session, sources, publication, report),
        mirrored(plan, publication, mirrors),
    ]
}

fn condition(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Condition {
    Condition { kind, status, reason, message: message.into() }
}

/// Stays true once a set is published: a later failure makes it stale, and a wrong edit of the configuration must not take
/// every replica out of its Service at once.
fn ready(session: &Session, sources: &Sources, publication: &Publication) -> Condition {
    let kind = ConditionType::SecretsReady;
    if publication.generation().is_some() {
        return condition(kind, ConditionStatus::True, Reason::Published, "all required outputs are published");
    }
    let why = session.failure.as_ref().or_else(|| sources.blocking()).or(publication.failure.as_ref());
    match why {
        Some(failure) => condition(kind, ConditionStatus::False, failure.reason, &failure.message),
        None => condition(kind, ConditionStatus::False, Reason::Pending, "the first set is being fetched"),
    }
}

fn fresh(session: &Session, sources: &Sources, publication: &Publication, report: &Report) -> Condition {
    let kind = ConditionType::SecretsFresh;
    if publication.generation().is_none() {
        return condition(kind, ConditionStatus::Unknown, Reason::Pending, "nothing is published yet");
    }
    if let Some(mistakes) = &report.config_mistakes {
        let message = format!("the new configuration was refused, the old one stays in force: {mistakes}");
        return condition(kind, ConditionStatus::False, Reason::ConfigRejected, message);
    }
    if let Some(failure) = &publication.failure {
        return condition(kind, ConditionStatus::False, failure.reason, &failure.message);
    }
    let mut text = String::new();
    let mut reason = None;
    for (name, source) in sources.iter().filter(|(_, source)| source.is_stale()) {
        let why = source.failure.as_ref().or(session.failure.as_ref());
        reason = reason.or(Some(why.map_or(Reason::Stale, |failure| failure.reason)));
        let separator = if text.is_empty() { "" } else { "; " };
        let why = why.map_or("no answer within its tolerance", |failure| failure.message.as_str());
        let _ = write!(text, "{separator}source {name} is stale: {why}");
    }
    match reason {
        Some(reason) => condition(kind, ConditionStatus::False, reason, text),
        None => condition(kind, ConditionStatus::True, Reason::Fresh, "every source is within its tolerance"),
    }
}

fn mirrored(plan: &Plan, publication: &Publication, mirrors: &Mirrors) -> Condition {
    let kind = ConditionType::Mirrored;
    if plan.mirrors.is_empty() {
        return condition(kind, ConditionStatus::Unknown, Reason::NotConfigured, "no Secret is to be mirrored");
    }
    if let Some(failure) = mirrors.blocking() {
        return condition(kind, ConditionStatus::False, failure.reason, &failure.message);
    }
    if publication.generation().is_none() || mirrors.iter().any(|(_, mirror)| mirror.holds.is_none()) {
        return condition(kind, ConditionStatus::False, Reason::Pending, "the first set is not mirrored yet");
    }
    let names: Vec<_> = mirrors.iter().map(|(name, _)| name.as_str()).collect();
    if mirrors.iter().any(|(_, mirror)| mirror.superseded) {
        let message = format!("a newer version, written by another replica, is in: {}", names.join(", "));
        return condition(kind, ConditionStatus::True, Reason::Superseded, message);
    }
    // A lag of one round is not worth a word: the condition would flap at each rotation.
    condition(kind, ConditionStatus::True, Reason::Mirrored, format!("the published set is in: {}", names.join(", ")))
}

/// The last word of a running agent: what is published stays, nobody refreshes it.
pub(super) fn say_stopped(conditions: &mut [Condition]) {
    for condition in conditions.iter_mut().filter(|condition| condition.kind == ConditionType::SecretsFresh) {
        condition.status = ConditionStatus::False;
        condition.reason = Reason::AgentStopped;
        condition.message = "the agent has stopped; the files stay, nobody refreshes them".into();
    }
}

impl Report {
    pub(super) fn config_rejected(&mut self, message: String) {
        self.config_mistakes = Some(message);
    }

    pub(super) fn config_accepted(&mut self, now: &Now) {
        self.config_mistakes = None;
        // The new configuration may name another Pod or come with new rights.
        self.said.clear();
        self.backoff = Backoff { attempts: 0, not_before: now.at };
        self.record_backoff = Backoff { attempts: 0, not_before: now.at };
        let message = "a new configuration is in force".to_owned();
        let notice = Notice { kind: NoticeKind::Normal, reason: Reason::ConfigReloaded, message };
        self.notices.insert(NoticeKey::Config, notice);
    }

    pub(super) fn busy(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.in_flight.as_ref().is_some_and(|(started, _)| *started == ticket)
    }

    pub(super) fn wake(&self, plan: &Plan) -> Option<Tick> {
        let report = plan.conditions && self.in_flight.is_none() && self.wanted != self.said;
        let record = plan.events && self.recording.is_none() && !self.notices.is_empty();
        [report.then_some(self.backoff.not_before), record.then_some(self.record_backoff.not_before)]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn advance(
        &mut self,
        plan: &Plan,
        wanted: Vec<Condition>,
        generation: Option<Generation>,
        now: &Now,
        tickets: &mut Tickets,
        effects: &mut Vec<Effect>,
    ) {
        self.note_transitions(&wanted, generation);
        self.wanted = wanted;
        if plan.conditions && self.in_flight.is_none() && self.wanted != self.said && self.backoff.not_before <= now.at
        {
            self.send(tickets, effects);
        }
        if !plan.events {
            self.notices.clear();
        } else if self.recording.is_none()
            && self.record_backoff.not_before <= now.at
            && let Some((key, notice)) = self.notices.pop_first()
        {
            let ticket = tickets.next();
            self.recording = Some((ticket, key, notice.clone()));
            effects.push(Effect::Record { ticket, notice });
        }
    }

    fn send(&mut self, tickets: &mut Tickets, effects: &mut Vec<Effect>) -> Ticket {
        let ticket = tickets.next();
        self.in_flight = Some((ticket, self.wanted.clone()));
        effects.push(Effect::Report { ticket, conditions: self.wanted.clone() });
        ticket
    }

    /// An Event for each change of status or reason, and for each new set.
    fn note_transitions(&mut self, wanted: &[Condition], generation: Option<Generation>) {
        for new in wanted {
            let old = self.wanted.iter().find(|old| old.kind == new.kind);
            let same = old.is_some_and(|old| old.status == new.status && old.reason == new.reason);
            // Not worth an Event: nothing happened yet, nothing will, or the set's own Event says it.
            let silent = matches!(new.reason, Reason::Pending | Reason::NotConfigured | Reason::Published)
                || (new.reason == Reason::Fresh && old.is_none_or(|old| old.reason == Reason::Pending));
            if same || silent {
                continue;
            }
            let kind = if new.status == ConditionStatus::True { NoticeKind::Normal } else { NoticeKind::Warning };
            let notice = Notice { kind, reason: new.reason, message: new.message.clone() };
            self.notices.insert(NoticeKey::Condition(new.kind), notice);
        }
        if let Some(generation) = generation.filter(|_| generation != self.announced) {
            self.announced = Some(generation);
            let message = format!("generation {generation} of the secrets is published");
            let notice = Notice { kind: NoticeKind::Normal, reason: Reason::Published, message };
            self.notices.insert(NoticeKey::Condition(ConditionType::SecretsReady), notice);
        }
    }

    /// Sends the conditions a last time, if they differ and nothing is in flight.
    pub(super) fn last_word(
        &mut self,
        plan: &Plan,
        wanted: Vec<Condition>,
        tickets: &mut Tickets,
        effects: &mut Vec<Effect>,
    ) -> Option<Ticket> {
        self.wanted = wanted;
        let send = plan.conditions && self.in_flight.is_none() && self.wanted != self.said;
        send.then(|| self.send(tickets, effects))
    }

    pub(super) fn reported(&mut self, ticket: Ticket, result: Result<(), Failure>, plan: &Plan, now: &Now) {
        if !self.is_in_flight(ticket) {
            return;
        }
        let sent = self.in_flight.take().map(|(_, sent)| sent).unwrap_or_default();
        match result {
            Ok(()) => {
                self.said = sent;
                self.backoff.reset();
            }
            Err(failure) => rest_after(&mut self.backoff, &failure, plan, now, 51),
        }
    }

    pub(super) fn recorded(&mut self, ticket: Ticket, result: Result<(), Failure>, plan: &Plan, now: &Now) {
        let Some((_, key, notice)) = self.recording.take_if(|(started, ..)| *started == ticket) else { return };
        match result {
            Ok(()) => self.record_backoff.reset(),
            Err(failure) => {
                rest_after(&mut self.record_backoff, &failure, plan, now, 52);
                if failure.class.is_passing() && self.record_backoff.attempts < RECORD_TRIES {
                    self.notices.entry(key).or_insert(notice);
                }
            }
        }
    }
}

fn rest_after(backoff: &mut Backoff, failure: &Failure, plan: &Plan, now: &Now, salt: u64) {
    backoff.failed(failure, &plan.retry, now, salt);
    if matches!(failure.class, FailureClass::Denied | FailureClass::Missing | FailureClass::Invalid) {
        backoff.not_before = now.at + REFUSED_REST;
    }
}
