//! A simulated API server: mirrored Secrets, conditions and Events of one pod.

use std::collections::BTreeMap;
use std::time::Duration;

use keyferry::agent::{MirrorRequest, MirrorResult};
use keyferry::model::{Condition, Failure, FailureClass, ObjectName, Order, Reason, SourceName, Version};

/// Data of a Secret: texts, for comparing.
pub type Data = BTreeMap<String, Vec<u8>>;

#[derive(Clone)]
pub struct SecretObject {
    pub data: Data,
    pub versions: BTreeMap<SourceName, (String, Version)>,
    /// Written by a person since our last write.
    pub edited: bool,
}

#[derive(Default, Clone, Copy)]
pub struct ClusterFaults {
    pub down: Duration,
    pub mirrors_denied: Duration,
    pub mirrors_hang: Duration,
    pub conflicts: Duration,
    pub reports_denied: Duration,
    pub reports_hang: Duration,
}

#[derive(Default)]
pub struct Cluster {
    pub secrets: BTreeMap<ObjectName, SecretObject>,
    pub conditions: Vec<Condition>,
    pub deleting: bool,
    pub faults: ClusterFaults,
    /// Until when a client that was refused rests.
    pub reports_rest: Duration,
}

/// What a write did, for the checks.
pub struct Write {
    pub result: MirrorResult,
    /// What was in the Secret before.
    pub before: Option<SecretObject>,
}

fn fail(class: FailureClass, reason: Reason, text: &str) -> Failure {
    Failure::new(class, reason, format!("failed to ask the simulated API server: {text}"))
}

impl Cluster {
    fn reach(&self, denied: Duration, now: Duration) -> Result<(), Failure> {
        if self.faults.down > now {
            return Err(fail(FailureClass::Unreachable, Reason::ApiUnavailable, "connection refused"));
        }
        if denied > now {
            return Err(fail(FailureClass::Denied, Reason::Forbidden, "RBAC"));
        }
        Ok(())
    }

    pub fn mirror(&mut self, name: &ObjectName, request: &MirrorRequest, now: Duration) -> Result<Write, Failure> {
        self.reach(self.faults.mirrors_denied, now)?;
        if self.faults.conflicts > now {
            return Err(fail(FailureClass::Conflict, Reason::Conflict, "the object has been modified"));
        }
        let data: Data = request.data.iter().map(|(key, bytes)| (key.clone(), bytes.expose().to_vec())).collect();
        let before = self.secrets.get(name).cloned();
        let newer = before.as_ref().is_some_and(|there| {
            there.versions.iter().any(|(source, (id, version))| {
                let ours = request.versions.get(source).filter(|(ours, _)| ours == id);
                ours.is_some_and(|(_, ours)| ours.order(version) == Order::Older)
            })
        });
        if newer && !request.accept_older {
            return Ok(Write { result: MirrorResult::Superseded, before });
        }
        let result = match &before {
            Some(there) if there.data == data && !there.edited => MirrorResult::Unchanged,
            Some(there) if there.edited => MirrorResult::Repaired,
            _ => MirrorResult::Updated,
        };
        let object = SecretObject { data, versions: request.versions.clone(), edited: false };
        self.secrets.insert(name.clone(), object);
        Ok(Write { result, before })
    }

    pub fn report(&mut self, conditions: &[Condition], now: Duration) -> Result<bool, Failure> {
        let result = self.reach(self.faults.reports_denied, now);
        if result.as_ref().is_err_and(|failure| failure.class == FailureClass::Denied) {
            self.reports_rest = now + Duration::from_secs(600);
        }
        result?;
        self.conditions = conditions.to_vec();
        Ok(self.deleting)
    }

    pub fn record(&self, now: Duration) -> Result<(), Failure> {
        self.reach(self.faults.reports_denied, now)
    }
}
