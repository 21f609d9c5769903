//! The wanted conditions, computed from the state. Bounded: a few subjects by name, the others by number.

use super::Parts;
use super::time::{Now, clock};
use crate::model::{Condition, ConditionStatus, ConditionType, Reason};

/// Subjects that a message names.
const NAMED: usize = 3;

/// Most characters of one failure's words in a message.
const MAX_WORDS: usize = 300;

fn condition(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Condition {
    Condition { kind, status, reason, message: message.into() }
}

/// All conditions, in the order of [`ConditionType::ALL`].
pub(super) fn conditions(parts: &Parts, now: &Now) -> Vec<Condition> {
    vec![ready(parts), fresh(parts, now), mirrored(parts)]
}

/// The conditions of an agent that has stopped.
pub(super) fn stopped(parts: &Parts) -> Vec<Condition> {
    let message = if parts.publication.visible().is_some() {
        "the agent has stopped; the files stay and are not refreshed"
    } else {
        "the agent has stopped before the first set was published"
    };
    let fresh = condition(ConditionType::SecretsFresh, ConditionStatus::False, Reason::AgentStopped, message);
    vec![ready(parts), fresh, mirrored(parts)]
}

/// Stays true once a set is visible: a later failure makes it stale, and a wrong edit of the configuration must not take
/// every replica out of its Service at once.
fn ready(parts: &Parts) -> Condition {
    let kind = ConditionType::SecretsReady;
    if let Some(published) = parts.publication.adopted() {
        let of = published.map_or(String::new(), |time| format!(" of {}", clock(time)));
        let message = format!("the set{of}, published by an earlier process of this pod, is in place");
        return condition(kind, ConditionStatus::True, Reason::Adopted, message);
    }
    if parts.publication.visible().is_some() {
        return condition(kind, ConditionStatus::True, Reason::Published, "all required outputs are published");
    }
    match parts.first_failure() {
        Some(failure) => condition(kind, ConditionStatus::False, failure.reason, bounded(&failure.message)),
        None => condition(kind, ConditionStatus::False, Reason::Pending, "the first set is being fetched"),
    }
}

fn fresh(parts: &Parts, now: &Now) -> Condition {
    let kind = ConditionType::SecretsFresh;
    let no = |reason, message: String| condition(kind, ConditionStatus::False, reason, message);
    if parts.publication.visible().is_none() {
        return condition(kind, ConditionStatus::Unknown, Reason::Pending, "nothing is published yet");
    }
    if let Some(why) = &parts.config_rejected {
        let message = format!("the new configuration is rejected and the old one stays in force: {}", bounded(why));
        return no(Reason::ConfigRejected, message);
    }
    if let Some(failure) = &parts.publication.follower.failure {
        return no(failure.reason, bounded(&failure.message));
    }
    if let Some(failure) = parts.store.unmade() {
        return no(failure.reason, bounded(&failure.message));
    }
    if let Some(stale) = stale(parts) {
        return stale;
    }
    let unread = parts.sources.unread();
    if let Some(name) = unread.iter().find(|name| parts.store.has_adopted(name)).filter(|_| parts.publication.adopted().is_none()) {
        let failure = parts.sources.get(name).and_then(|source| source.failure.as_ref());
        let why = failure.map_or(String::new(), |failure| format!(": {}", bounded(&failure.message)));
        let message = format!("the files of source {name} are of an earlier process and have not been compared with Vault yet{why}");
        return no(Reason::Adopted, message);
    }
    if let Some(pending) = unread.first().filter(|_| parts.publication.adopted().is_none()) {
        let failure = parts.sources.get(pending).and_then(|source| source.failure.as_ref());
        let (reason, why) = failure.map_or((Reason::Pending, String::new()), |failure| {
            (failure.reason, format!(": {}", bounded(&failure.message)))
        });
        let status = if failure.is_some() { ConditionStatus::False } else { ConditionStatus::True };
        return condition(kind, status, reason, format!("source {pending} has not been read yet{why}"));
    }
    if parts.publication.adopted().is_some() {
        let why = parts.first_failure().map_or(String::new(), |failure| format!(": {}", bounded(&failure.message)));
        return no(Reason::Adopted, format!("the adopted set has not been compared with Vault yet{why}"));
    }
    // What makes it true again has been read but is not visible yet.
    let before = parts.report.desired.iter().find(|before| before.kind == kind && before.status == ConditionStatus::False);
    if let Some(before) = before.filter(|before| before.reason != Reason::ConfigRejected)
        && !parts.publication.follower.is_current()
    {
        return before.clone();
    }
    if let Some(token) = parts.sessions.live(now.at).filter(|token| token.is_expiring())
        && let Some(ends) = token.ends()
    {
        let message = format!(
            "the given Vault token ends at {} and cannot be renewed; put a new one in its place",
            clock(now.wall_at(ends))
        );
        return condition(kind, ConditionStatus::True, Reason::TokenExpiring, message);
    }
    if parts.sources.failing().is_empty()
        && let Some(message) = left_out(parts)
    {
        return condition(kind, ConditionStatus::True, Reason::InvalidKey, message);
    }
    condition(kind, ConditionStatus::True, Reason::Fresh, within_tolerance(parts, now))
}

/// What is stale, with since when and why.
fn stale(parts: &Parts) -> Option<Condition> {
    let stale = parts.sources.stale();
    let mut reason = None;
    let text = listed(stale.iter(), stale.len(), |name| {
        let source = parts.sources.get(name)?;
        let why = source.failure.as_ref().or(parts.sessions.failure.as_ref());
        reason = reason.or(Some(why.map_or(Reason::Stale, |failure| failure.reason)));
        let since = source.held.as_ref().map_or(String::new(), |held| format!(": not read since {}", clock(held.read_wall)));
        let why = why.map_or(String::new(), |failure| format!(": {}", bounded(&failure.message)));
        Some(format!("source {name} is stale{since}{why}"))
    });
    Some(condition(ConditionType::SecretsFresh, ConditionStatus::False, reason?, text))
}

fn within_tolerance(parts: &Parts, now: &Now) -> String {
    let failing = parts.sources.failing();
    if failing.is_empty() {
        return "every source is within its tolerance".into();
    }
    listed(failing.iter(), failing.len(), |name| {
        let source = parts.sources.get(name)?;
        let failure = source.failure.as_ref()?;
        let until = parts.stale_at(name).map_or(String::new(), |at| {
            format!("within tolerance until {}; ", clock(now.wall_at(at)))
        });
        Some(format!("source {name}: {until}last operation failed: {}", bounded(&failure.message)))
    })
}

/// Keys that have no file because of their names.
fn left_out(parts: &Parts) -> Option<String> {
    let (name, keys) = parts.left_out.iter().next()?;
    let named: Vec<_> = keys.iter().take(NAMED).cloned().collect();
    let more = keys.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!(
        "keys of source {name} that cannot be file names are left out: {}{more}; the other keys are published",
        named.join(", ")
    ))
}

fn mirrored(parts: &Parts) -> Condition {
    let kind = ConditionType::Mirrored;
    if parts.mirrors.is_empty() {
        return condition(kind, ConditionStatus::Unknown, Reason::NotConfigured, "no Secret is to be mirrored");
    }
    if let Some(failure) = parts.mirrors.blocking() {
        return condition(kind, ConditionStatus::False, failure.reason, bounded(&failure.message));
    }
    let names = |wanted: &dyn Fn(&super::mirrors::MirrorState) -> bool| {
        let chosen: Vec<_> = parts.mirrors.iter().filter(|(_, mirror)| wanted(mirror)).map(|(name, _)| name).collect();
        listed(chosen.iter().copied(), chosen.len(), |name| Some(name.to_string()))
    };
    if parts.mirrors.iter().any(|(_, mirror)| mirror.superseded.is_some()) {
        let names = names(&|mirror| mirror.superseded.is_some());
        let message = format!("another replica has written a newer version, which this one has not read yet: {names}");
        return condition(kind, ConditionStatus::False, Reason::Superseded, message);
    }
    if parts.publication.visible().is_none() || parts.mirrors.iter().any(|(_, mirror)| mirror.confirmed.is_none()) {
        return condition(kind, ConditionStatus::False, Reason::Pending, "the first set is not mirrored yet");
    }
    // A lag of one round is not worth a transition: the condition would flap at each rotation.
    condition(kind, ConditionStatus::True, Reason::Mirrored, format!("the published set is in: {}", names(&|_| true)))
}

/// The first few of `items` in words, and how many more there are.
fn listed<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    count: usize,
    mut words: impl FnMut(&'a T) -> Option<String>,
) -> String {
    let named: Vec<_> = items.take(NAMED).filter_map(&mut words).collect();
    let more = count.saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    named.join("; ") + &more
}

/// Words cut to a length that fits a condition.
pub(super) fn bounded(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_WORDS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
