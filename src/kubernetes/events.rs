//! Events on the agent's Pod, which `kubectl describe pod` shows.

use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::classify::{self, ApiError, RequestContext};
use super::client::{self, Api};
use super::{FIELD_MANAGER, Pod};
use crate::model::{EventType, Failure, ObjectName, PodEvent};

/// Maximum message size in bytes, from `events.k8s.io` (`core/validation/events.go`).
const MAX_MESSAGE: usize = 1024;

/// Maximum length of an object name in bytes.
const MAX_NAME: usize = 253;

pub(super) async fn record(
    api: &Api,
    namespace: &ObjectName,
    pod: &Pod,
    event: &PodEvent,
    now: Timestamp,
) -> Result<(), Failure> {
    let context = RequestContext {
        what: format!("record an Event on Pod {namespace}/{}", pod.name),
        rule: r#"{apiGroups: [""], resources: [events], verbs: [create]}"#.to_owned(),
    };
    let response = api.exchange(&context.what, post(namespace, pod, event, now)).await?;
    if response.code.is_success() {
        Ok(())
    } else {
        Err(classify::failure(&context, &ApiError::from_response(&response)))
    }
}

fn post(namespace: &ObjectName, pod: &Pod, event: &PodEvent, now: Timestamp) -> Request<Bytes> {
    let kind = match event.kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name(pod, now)),
            namespace: Some(namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.to_string()),
            namespace: Some(namespace.to_string()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(kind.to_owned()),
        reason: Some(event.reason.as_str().to_owned()),
        message: Some(clip(&event.message, MAX_MESSAGE).to_owned()),
        source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), host: None }),
        reporting_component: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(pod.name.to_string()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    };
    let path = format!("/api/v1/namespaces/{namespace}/events?fieldManager={FIELD_MANAGER}");
    client::request(Method::POST, path, client::JSON, client::to_body(&event))
}

/// Event name in the form of client-go's recorder: the name of the object and the time in hexadecimal nanoseconds.
fn name(pod: &Pod, now: Timestamp) -> String {
    let time = format!("{:x}", now.as_nanosecond());
    // A part of an object name must not end with '.' or '-'.
    let stem = clip(pod.name.as_str(), MAX_NAME - 1 - time.len()).trim_end_matches(['.', '-']);
    format!("{stem}.{time}")
}

fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;
    use serde_json::{Value, json};

    fn sent(pod: &str, message: &str) -> Value {
        let pod = Pod { name: ObjectName::new(pod).expect(pod), uid: "u-1".into() };
        let event = PodEvent { kind: EventType::Warning, reason: Reason::Stale, message: message.into() };
        let now = "2026-01-01T00:00:00.000000001Z".parse().expect("a time");
        let request = post(&ObjectName::new("ns").expect("a name"), &pod, &event, now);
        assert_eq!(request.uri(), "/api/v1/namespaces/ns/events?fieldManager=keyferry");
        serde_json::from_slice(request.body()).expect("JSON")
    }

    #[test]
    fn event_has_pod_as_involved_object_and_keyferry_as_reporter() {
        let expected = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "web-0.18867251edfa0001", "namespace": "ns"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": "ns", "uid": "u-1"},
            "type": "Warning", "reason": "Stale", "message": "m", "count": 1,
            "source": {"component": "keyferry"}, "reportingComponent": "keyferry", "reportingInstance": "web-0",
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(sent("web-0", "m"), expected);
    }

    #[test]
    fn long_name_and_message_are_truncated_to_api_limits() {
        let pod = format!("{}-{}", "a".repeat(235), "b".repeat(17));
        let event = sent(&pod, &"ü".repeat(600));
        let name = event["metadata"]["name"].as_str().expect("a name");
        assert!(name.len() <= MAX_NAME && ObjectName::new(name).is_ok(), "{name}");
        assert_eq!(event["message"].as_str().map(str::len), Some(1024));
    }
}
