//! Events on our Pod.

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::FIELD_MANAGER;
use super::client::Cluster;
use crate::model::{Failure, Notice, NoticeKind};

/// Longest message that the API server takes (`core/v1` Event validation: 1024 bytes).
const LONGEST: usize = 1024;

impl Cluster {
    /// Records one Event.
    ///
    /// # Errors
    /// `Forbidden` with the missing rule, else as the answer says.
    pub async fn record(&self, notice: &Notice, now: Timestamp) -> Result<(), Failure> {
        let pod = self.pod()?;
        let what = format!("failed to record an Event on Pod {}/{}", self.namespace, pod.name);
        let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let kind = match notice.kind {
            NoticeKind::Normal => "Normal",
            NoticeKind::Warning => "Warning",
        };
        let end = (0..=notice.message.len().min(LONGEST)).rev().find(|at| notice.message.is_char_boundary(*at));
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            // The name pattern of client-go's recorder: object, dot, a number that does not repeat.
            "metadata": {"name": format!("{}.{:x}", pod.name, now.as_nanosecond()), "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name, "namespace": self.namespace, "uid": pod.uid,
            },
            "reason": notice.reason.as_str(),
            "message": &notice.message[..end.unwrap_or(0)],
            "type": kind,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": pod.name,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        });
        match self.send(&what, Method::POST, "events", "application/json", body.to_string().into_bytes()).await? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.failure(&what, "apiGroups: [\"\"], resources: [events], verbs: [create]")),
        }
    }
}
