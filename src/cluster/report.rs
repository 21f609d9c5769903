//! Our conditions on our Pod.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{Cluster, PodIdentity, STRATEGIC_MERGE};
use crate::model::{Condition, ConditionStatus, ConditionType, Failure, FailureClass, Reason};

/// What was said last: a condition keeps its time as long as its status stays.
#[derive(Default)]
pub(super) struct Memory {
    since: BTreeMap<ConditionType, (ConditionStatus, Timestamp)>,
    /// `metadata.generation` of our Pod as last seen; `None` = not seen yet.
    generation: Option<Option<i64>>,
}

/// A Pod's first generation (KEP-5067).
const FIRST_GENERATION: i64 = 1;

impl Cluster {
    /// Patches the conditions: a strategic merge, which keeps those of others, guarded by our Pod's uid. Never an apply
    /// (it fails on pods with duplicate env names, kubernetes#113482) and never a merge patch (it replaces the list).
    ///
    /// # Errors
    /// `Forbidden` with the missing rule; `Missing` where our Pod is gone or replaced.
    pub async fn report(&self, conditions: &[Condition], now: Timestamp) -> Result<(), Failure> {
        let pod = self.pod()?;
        let sent = self.generation().unwrap_or(Some(FIRST_GENERATION));
        let seen = self.patch(pod, conditions, sent, now).await?;
        // The first patch assumes the generation; a resize may have raised it. Servers before 1.33 have none.
        if seen != sent && seen.is_some() {
            self.patch(pod, conditions, seen, now).await?;
        }
        Ok(())
    }

    fn generation(&self) -> Option<Option<i64>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    async fn patch(
        &self,
        pod: &PodIdentity,
        conditions: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<i64>, Failure> {
        let what = format!("failed to report on Pod {}/{}", self.namespace, pod.name);
        let body = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            body(pod, conditions, generation, &memory, now)
        };
        let path = format!("pods/{}/status", pod.name);
        match self.send(&what, Method::PATCH, &path, STRATEGIC_MERGE, body.to_string().into_bytes()).await? {
            Ok(accepted) => {
                let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                for condition in conditions {
                    let since = memory.since.entry(condition.kind).or_insert((condition.status, now));
                    if since.0 != condition.status {
                        *since = (condition.status, now);
                    }
                }
                memory.generation = Some(accepted.metadata.generation.filter(|generation| *generation > 0));
                Ok(memory.generation.flatten())
            }
            Err(refusal) if refusal.code == 404 || (refusal.code == 422 && refusal.is_about("metadata.uid")) => {
                let message = format!("{what}: the Pod is gone, or another one has its name");
                Err(Failure::new(FailureClass::Missing, Reason::ApiUnavailable, message))
            }
            Err(refusal) => Err(refusal.failure(&what, "apiGroups: [\"\"], resources: [pods/status], verbs: [patch]")),
        }
    }
}

fn body(
    pod: &PodIdentity,
    conditions: &[Condition],
    generation: Option<i64>,
    memory: &Memory,
    now: Timestamp,
) -> Value {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|condition| {
            let since = match memory.since.get(&condition.kind) {
                Some((status, since)) if *status == condition.status => *since,
                _ => now,
            };
            let mut value = json!({
                "type": condition.kind.as_str(),
                "status": condition.status.as_str(),
                "reason": condition.reason.as_str(),
                "message": condition.message,
                "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            });
            if let Some(generation) = generation {
                value["observedGeneration"] = generation.into();
            }
            value
        })
        .collect();
    json!({"metadata": {"uid": pod.uid}, "status": {"conditions": conditions}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let pod = PodIdentity { name: "webapp-0".into(), uid: "u-1".into() };
        let (then, now): (Timestamp, Timestamp) =
            ("2026-01-01T00:00:00Z".parse().expect("a time"), "2026-01-02T00:00:00.5Z".parse().expect("a time"));
        let mut memory = Memory::default();
        memory.since.insert(ConditionType::SecretsReady, (ConditionStatus::True, then));
        let say = |status, memory: &Memory| {
            let kind = ConditionType::SecretsReady;
            let condition = Condition { kind, status, reason: Reason::Published, message: "m".into() };
            body(&pod, &[condition], Some(1), memory, now)
        };
        let same = say(ConditionStatus::True, &memory);
        assert_eq!(same["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(same["metadata"]["uid"], "u-1");
        assert_eq!(same["status"]["conditions"][0]["observedGeneration"], 1);
        let other = say(ConditionStatus::False, &memory);
        assert_eq!(other["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T00:00:00Z");
    }
}
