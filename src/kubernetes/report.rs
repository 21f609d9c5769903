//! Patches conditions into the status of the agent's Pod.
//!
//! A strategic merge patch merges the list by `type`, so that other conditions stay unchanged. A merge patch would
//! replace the list, and an apply would remove conditions that it omits.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::classify::{self, ApiError, RequestContext};
use super::client::{self, Api};
use super::{FIELD_MANAGER, Pod, PodState};
use crate::model::{Condition, ConditionStatus, ConditionType, Failure, FailureClass, ObjectName, Reason, lock};

/// Generation of a new Pod (<https://kubernetes.io/docs/concepts/workloads/pods/#pod-generation>).
const FIRST_GENERATION: i64 = 1;

/// State of the last report. It is lost at a restart, because the agent has no permission to read the Pod; the first
/// report then sets `lastTransitionTime` to the current time.
pub(super) struct ReportMemory {
    /// Status of each condition, and the time of its last change.
    since: BTreeMap<ConditionType, (ConditionStatus, Timestamp)>,
    /// Last known `metadata.generation` of the Pod. `None` before Kubernetes 1.33, which does not set it.
    generation: Option<i64>,
}

impl Default for ReportMemory {
    fn default() -> Self {
        Self { since: BTreeMap::new(), generation: Some(FIRST_GENERATION) }
    }
}

impl ReportMemory {
    /// Time of the last change of status, if `condition` is reported at `now`.
    fn since(&self, condition: &Condition, now: Timestamp) -> Timestamp {
        self.since
            .get(&condition.kind)
            .filter(|(status, _)| *status == condition.status)
            .map_or(now, |(_, since)| *since)
    }

    fn record(&mut self, conditions: &[Condition], now: Timestamp) {
        for condition in conditions {
            let since = self.since(condition, now);
            self.since.insert(condition.kind, (condition.status, since));
        }
    }
}

pub(super) async fn report(
    api: &Api,
    namespace: &ObjectName,
    pod: &Pod,
    memory: &Mutex<ReportMemory>,
    conditions: &[Condition],
    now: Timestamp,
) -> Result<PodState, Failure> {
    let assumed = lock(memory).generation;
    let request = patch(namespace, pod, &lock(memory), conditions, now);
    let (generation, state) = send(api, namespace, pod, request).await?;
    let resend = {
        let mut memory = lock(memory);
        memory.record(conditions, now);
        memory.generation = generation;
        // The Pod has a newer generation, for example after a resize: report again with that generation.
        (generation.is_some() && generation != assumed).then(|| patch(namespace, pod, &memory, conditions, now))
    };
    match resend {
        Some(request) => Ok(send(api, namespace, pod, request).await?.1),
        None => Ok(state),
    }
}

fn patch(
    namespace: &ObjectName,
    pod: &Pod,
    memory: &ReportMemory,
    conditions: &[Condition],
    now: Timestamp,
) -> Request<Bytes> {
    let condition = |condition: &Condition| PodCondition {
        type_: condition.kind.as_str().to_owned(),
        status: condition.status.as_str().to_owned(),
        reason: Some(condition.reason.as_str().to_owned()),
        message: Some(condition.message.clone()),
        last_transition_time: Some(Time(memory.since(condition, now))),
        observed_generation: memory.generation,
        last_probe_time: None,
    };
    let conditions: Vec<_> = conditions.iter().map(condition).collect();
    let body = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": conditions}});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}/status?fieldManager={FIELD_MANAGER}", pod.name);
    client::request(Method::PATCH, path, client::STRATEGIC_MERGE, client::to_body(&body))
}

/// Sends a patch and returns the Pod's generation and state.
async fn send(
    api: &Api,
    namespace: &ObjectName,
    pod: &Pod,
    request: Request<Bytes>,
) -> Result<(Option<i64>, PodState), Failure> {
    let context = RequestContext {
        what: format!("patch conditions of Pod {namespace}/{}", pod.name),
        rule: r#"{apiGroups: [""], resources: [pods/status], verbs: [patch]}"#.to_owned(),
    };
    let response = api.exchange(&context.what, request).await?;
    if response.code.is_success() {
        let metadata = response.metadata(&context.what)?;
        let state = PodState { deleting: metadata.deletion_timestamp.is_some() };
        return Ok((metadata.generation.filter(|generation| *generation > 0), state));
    }
    let error = ApiError::from_response(&response);
    // For another UID the server returns 422 "field is immutable".
    if error.code == 404 || error.code == 422 && error.names_field("metadata.uid") {
        let message = format!(
            "failed to {}: no Pod has this name and UID; it was deleted or re-created, or POD_NAME or POD_UID is wrong",
            context.what
        );
        return Err(Failure::new(FailureClass::Missing, Reason::ObjectNotFound, message));
    }
    Err(classify::failure(&context, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    fn ready(status: ConditionStatus) -> [Condition; 1] {
        [Condition { kind: ConditionType::SecretsReady, status, reason: Reason::Published, message: "m".into() }]
    }

    fn sent(memory: &ReportMemory, conditions: &[Condition], now: Timestamp) -> (Request<Bytes>, Value) {
        let pod = Pod { name: ObjectName::new("web-0").expect("a name"), uid: "u-1".into() };
        let request = patch(&ObjectName::new("ns").expect("a name"), &pod, memory, conditions, now);
        let body = serde_json::from_slice(request.body()).expect("JSON");
        (request, body)
    }

    #[test]
    fn patch_contains_only_conditions_and_uid() {
        let (request, body) =
            sent(&ReportMemory::default(), &ready(ConditionStatus::True), at("2026-01-01T00:00:00.5Z"));
        assert_eq!(request.uri(), "/api/v1/namespaces/ns/pods/web-0/status?fieldManager=keyferry");
        assert_eq!(request.headers()["content-type"], "application/strategic-merge-patch+json");
        let expected = json!({"metadata": {"uid": "u-1"}, "status": {"conditions": [{
            "type": "keyferry.dev/SecretsReady", "status": "True", "reason": "Published", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }]}});
        assert_eq!(body, expected);
    }

    #[test]
    fn transition_time_changes_only_with_status() {
        let mut memory = ReportMemory::default();
        let times = [
            (ConditionStatus::False, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            (ConditionStatus::False, "2026-01-01T01:00:00Z", "2026-01-01T00:00:00Z"),
            (ConditionStatus::True, "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z"),
            (ConditionStatus::True, "2026-01-01T03:00:00Z", "2026-01-01T02:00:00Z"),
            (ConditionStatus::False, "2026-01-01T04:00:00Z", "2026-01-01T04:00:00Z"),
        ];
        for (status, now, expected) in times {
            let (_, body) = sent(&memory, &ready(status), at(now));
            assert_eq!(body["status"]["conditions"][0]["lastTransitionTime"], expected, "at {now}");
            memory.record(&ready(status), at(now));
        }
    }

    #[test]
    fn observed_generation_is_omitted_if_server_sets_none() {
        let memory = ReportMemory { generation: None, ..ReportMemory::default() };
        let (_, body) = sent(&memory, &ready(ConditionStatus::True), at("2026-01-01T00:00:00Z"));
        assert_eq!(body["status"]["conditions"][0].get("observedGeneration"), None);
    }
}
