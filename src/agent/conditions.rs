//! Computes the conditions from the state. Messages are bounded: they name a few subjects and count the rest.

use super::Parts;
use super::time::{Now, timestamp};
use crate::model::{Condition, ConditionStatus, ConditionType, Reason, SourceName, truncated};

/// Start of each message about a rejected configuration.
pub(super) const CONFIG_REJECTED: &str = "new configuration rejected, previous configuration stays active";

/// Maximum number of subjects that a message names.
const MAX_NAMED: usize = 3;

/// Maximum number of characters of one failure's message, in a condition about one subject and about several.
const MAX_CHARS: usize = 900;
const MAX_CHARS_EACH: usize = 280;

fn condition(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Condition {
    Condition { kind, status, reason, message: message.into() }
}

/// Returns all conditions, in the order of [`ConditionType::ALL`].
pub(super) fn conditions(parts: &Parts, now: &Now) -> Vec<Condition> {
    vec![ready(parts), fresh(parts, now), mirrored(parts), notified(parts, now)]
}

/// Returns the conditions of a stopping agent.
pub(super) fn stopped(parts: &Parts, now: &Now) -> Vec<Condition> {
    let message = if parts.publication.visible().is_some() {
        "the agent has stopped; the published files remain but are no longer refreshed"
    } else {
        "the agent has stopped before the first set was published"
    };
    let fresh = condition(ConditionType::SecretsFresh, ConditionStatus::False, Reason::AgentStopped, message);
    vec![ready(parts), fresh, mirrored(parts), notified(parts, now)]
}

/// Stays True once a set is visible. A later failure only makes the set stale: a wrong configuration must not remove
/// every replica from its Service at once.
fn ready(parts: &Parts) -> Condition {
    let kind = ConditionType::SecretsReady;
    if parts.publication.seeded().next().is_some() {
        let message = "files of the seed are in place until they are read from Vault";
        return condition(kind, ConditionStatus::True, Reason::Seeded, message);
    }
    if let Some(published) = parts.publication.adopted() {
        let message =
            format!("the set that an earlier agent process published at {} is in place", timestamp(published));
        return condition(kind, ConditionStatus::True, Reason::Adopted, message);
    }
    if parts.publication.visible().is_some() {
        let missing = |name: &&SourceName| {
            let required = parts.sources.get(name).is_some_and(|source| source.spec.required);
            required && parts.store.reading(name).is_none() && !parts.store.has_adopted(name)
        };
        let message = match parts.sources.unread().iter().find(missing) {
            // A configuration added it after the first set.
            Some(name) => format!("a set is published; source {name} is added to it as soon as it is read"),
            None => "all required outputs are published".to_owned(),
        };
        return condition(kind, ConditionStatus::True, Reason::Published, message);
    }
    match parts.blocking_failure() {
        Some(failure) => {
            let seed = parts.seed.failure().map_or(String::new(), |failure| format!("; {}", bounded(&failure.message)));
            let message =
                format!("{}{seed}", truncated(&failure.message, char_limit(1 + usize::from(!seed.is_empty()))));
            condition(kind, ConditionStatus::False, failure.reason, message)
        }
        None => condition(kind, ConditionStatus::False, Reason::Pending, "the first set is being read from Vault"),
    }
}

fn fresh(parts: &Parts, now: &Now) -> Condition {
    let kind = ConditionType::SecretsFresh;
    let not_fresh = |reason, message: String| condition(kind, ConditionStatus::False, reason, message);
    if parts.publication.visible().is_none() {
        return condition(kind, ConditionStatus::Unknown, Reason::Pending, "no set is published yet");
    }
    if let Some(why) = &parts.config_rejected {
        let message = format!("{CONFIG_REJECTED}: {}", bounded(why));
        return not_fresh(Reason::ConfigRejected, message);
    }
    if let Some(failure) = &parts.publication.sync.failure {
        return not_fresh(failure.reason, bounded(&failure.message));
    }
    if let Some(failure) = parts.store.render_failure() {
        return not_fresh(failure.reason, bounded(&failure.message));
    }
    if let Some(seeded) = seeded(parts) {
        return seeded;
    }
    if let Some(stale) = stale(parts, now) {
        return stale;
    }
    let unread = parts.sources.unread().iter().find(|name| parts.store.has_adopted(name));
    if parts.publication.adopted().is_some() || unread.is_some() {
        let failure = unread.and_then(|name| parts.sources.get(name)?.failure.as_ref()).or(parts.blocking_failure());
        let why = failure.map_or(String::new(), |failure| format!(": {}", bounded(&failure.message)));
        let what = match unread {
            Some(name) if parts.publication.adopted().is_none() => {
                format!("source {name} has not been read since an earlier agent process published its files")
            }
            _ => "the adopted set has not been compared with Vault yet".to_owned(),
        };
        return not_fresh(Reason::Adopted, format!("{what}{why}"));
    }
    if let Some(pending) = pending(parts) {
        return pending;
    }
    // The reading that resolves the failure is accepted but not published yet.
    let before =
        parts.report.desired.iter().find(|before| before.kind == kind && before.status == ConditionStatus::False);
    if let Some(before) = before.filter(|before| before.reason != Reason::ConfigRejected)
        && !parts.publication.sync.is_current()
    {
        return before.clone();
    }
    if let Some(message) = parts.sessions.live(now.at).and_then(|token| token.expiry_warning(now)) {
        return condition(kind, ConditionStatus::True, Reason::TokenExpiring, message);
    }
    // A failing source has priority over the next two reasons.
    let failing = !parts.sources.failing().is_empty();
    if let Some(failure) = parts.listen_failure.as_ref().filter(|_| !failing) {
        let message = format!("the reloaded `listen` is not used yet: {}", bounded(&failure.message));
        return condition(kind, ConditionStatus::True, failure.reason, message);
    }
    if let Some(message) = left_out(parts).filter(|_| !failing) {
        return condition(kind, ConditionStatus::True, Reason::InvalidKey, message);
    }
    condition(kind, ConditionStatus::True, Reason::Fresh, within_tolerance(parts, now))
}

/// The condition for a source that has not been read since the start, or since a reload changed its request.
fn pending(parts: &Parts) -> Option<Condition> {
    let unread = parts.sources.unread().iter().filter_map(|name| Some((name, parts.sources.get(name)?)));
    // A missing optional source is not a failure.
    let mut pending =
        unread.filter(|(_, source)| source.spec.required || source.held.is_some() || source.failure.is_none());
    let (name, source) = pending.next()?;
    let message = format!("source {name} has not been read yet");
    Some(match &source.failure {
        None => condition(ConditionType::SecretsFresh, ConditionStatus::True, Reason::Pending, message),
        Some(failure) => {
            let message = format!("{message}: {}", bounded(&failure.message));
            condition(ConditionType::SecretsFresh, ConditionStatus::False, failure.reason, message)
        }
    })
}

/// The condition for files of the seed: of which sources, and why.
fn seeded(parts: &Parts) -> Option<Condition> {
    let names: Vec<_> = parts.publication.seeded().collect();
    if names.is_empty() {
        return None;
    }
    let sources = joined(names.iter().copied(), names.len(), |name| Some(name.to_string()));
    let failure = names.iter().find_map(|name| parts.sources.get(name)?.failure.as_ref());
    let why = failure.or(parts.sessions.failure.as_ref());
    let why = why.map_or(String::new(), |failure| format!(": {}", bounded(&failure.message)));
    let message = format!("not read from Vault since the start, so the files are a copy from the seed: {sources}{why}");
    Some(condition(ConditionType::SecretsFresh, ConditionStatus::False, Reason::Seeded, message))
}

/// The condition for stale sources: which ones, since when, and why.
fn stale(parts: &Parts, now: &Now) -> Option<Condition> {
    let stale = parts.sources.stale();
    let limit = char_limit(stale.len());
    let mut reason = None;
    let text = joined(stale.iter(), stale.len(), |name| {
        let source = parts.sources.get(name)?;
        let why = source.failure.as_ref().or(parts.sessions.failure.as_ref());
        reason = reason.or(Some(why.map_or(Reason::Stale, |failure| failure.reason)));
        let since = source
            .held
            .as_ref()
            .map_or(String::new(), |held| format!(": not read since {}", timestamp(held.read_wall)));
        let why = why.map_or(String::new(), |failure| format!(": {}", truncated(&failure.message, limit)));
        let expiry = source.certificate().map_or(String::new(), |certificate| {
            let ends = certificate.expires_at_wall();
            let verb = if ends <= now.wall { "expired" } else { "expires" };
            format!(", its certificate {verb} at {}", timestamp(ends))
        });
        Some(format!("source {name} is stale{since}{expiry}{why}"))
    });
    Some(condition(ConditionType::SecretsFresh, ConditionStatus::False, reason?, text))
}

fn within_tolerance(parts: &Parts, now: &Now) -> String {
    let failing = parts.sources.failing();
    if failing.is_empty() {
        return "every source is within its staleness tolerance".into();
    }
    joined(failing.iter(), failing.len(), |name| {
        let source = parts.sources.get(name)?;
        let failure = source.failure.as_ref()?;
        let until = parts.stale_at(name).map_or(String::new(), |at| {
            format!("within its staleness tolerance until {}; ", timestamp(now.wall_at(at)))
        });
        let why = truncated(&failure.message, char_limit(failing.len()));
        Some(format!("source {name}: {until}last operation failed: {why}"))
    })
}

/// The message for keys that cannot be file names.
fn left_out(parts: &Parts) -> Option<String> {
    let (name, keys) = parts.left_out.iter().next()?;
    let named: Vec<_> = keys.iter().take(MAX_NAMED).cloned().collect();
    let more = keys.len().saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!(
        "source {name}: skipped keys that are not valid file names: {}{more}; give each another name with the \
         output's `rename`, or leave it out with `exclude`",
        bounded(&named.join(", "))
    ))
}

fn mirrored(parts: &Parts) -> Condition {
    let kind = ConditionType::Mirrored;
    if parts.mirrors.is_empty() {
        return condition(kind, ConditionStatus::Unknown, Reason::NotConfigured, "no mirror is configured");
    }
    if let Some(failure) = parts.mirrors.blocking() {
        return condition(kind, ConditionStatus::False, failure.reason, bounded(&failure.message));
    }
    let names = |wanted: &dyn Fn(&super::mirrors::MirrorState) -> bool| {
        let chosen: Vec<_> = parts.mirrors.iter().filter(|(_, mirror)| wanted(mirror)).map(|(name, _)| name).collect();
        joined(chosen.iter().copied(), chosen.len(), |name| Some(name.to_string()))
    };
    if parts.mirrors.iter().any(|(_, mirror)| mirror.superseded.is_some()) {
        let names = names(&|mirror| mirror.superseded.is_some());
        let message = format!("another replica wrote a newer version that this replica has not read yet: {names}");
        return condition(kind, ConditionStatus::False, Reason::Superseded, message);
    }
    let unconfirmed = parts.mirrors.iter().any(|(_, mirror)| mirror.confirmed.is_none());
    if unconfirmed && parts.publication.seeded().next().is_some() {
        let message = "files of the seed are not mirrored; the Secret is compared as soon as they are read from Vault";
        return condition(kind, ConditionStatus::False, Reason::Seeded, message);
    }
    if parts.publication.visible().is_none() || unconfirmed {
        return condition(kind, ConditionStatus::False, Reason::Pending, "the first set is not mirrored yet");
    }
    // Stays True while a new set is being mirrored, or the condition would flap at each rotation.
    let message = format!("the published set is mirrored to: {}", names(&|_| true));
    condition(kind, ConditionStatus::True, Reason::Mirrored, message)
}

fn notified(parts: &Parts, now: &Now) -> Condition {
    let kind = ConditionType::Notified;
    let notifications = &parts.notifications;
    if notifications.is_empty() {
        return condition(kind, ConditionStatus::Unknown, Reason::NotConfigured, "no notification is configured");
    }
    if let Some(message) = &notifications.restarting {
        return condition(kind, ConditionStatus::False, Reason::ContainersRestarting, message);
    }
    let failures: Vec<_> = notifications.failures().collect();
    if let Some((_, first)) = failures.first() {
        let limit = char_limit(failures.len());
        let text = joined(failures.iter(), failures.len(), |(name, failure)| {
            Some(format!("notification {name}: {}", truncated(&failure.message, limit)))
        });
        return condition(kind, ConditionStatus::False, first.reason, text);
    }
    if parts.publication.visible().is_none() {
        return condition(kind, ConditionStatus::False, Reason::Pending, "the first set is not published yet");
    }
    if let Some(at) = notifications.restart_at() {
        let at = timestamp(now.wall_at(at));
        let message = format!("files have changed; all containers are restarted at {at} or later");
        return condition(kind, ConditionStatus::False, Reason::Pending, message);
    }
    // Stays True while a notification is in flight, or the condition would flap at each rotation.
    condition(kind, ConditionStatus::True, Reason::Notified, "the application was notified of all changed files")
}

/// Joins the texts of the first few of `items`, and the number of the rest.
fn joined<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    count: usize,
    mut text_of: impl FnMut(&'a T) -> Option<String>,
) -> String {
    let named: Vec<_> = items.take(MAX_NAMED).filter_map(&mut text_of).collect();
    let more = count.saturating_sub(MAX_NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    named.join("; ") + &more
}

/// Truncates `text` to a length that fits into a condition.
pub(super) fn bounded(text: &str) -> String {
    truncated(text, MAX_CHARS)
}

/// Maximum number of characters for each of `subjects` subjects.
fn char_limit(subjects: usize) -> usize {
    if subjects > 1 { MAX_CHARS_EACH } else { MAX_CHARS }
}
