//! A simulated API server: mirrored Secrets, conditions and Events of one pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyferry::agent::{MirrorRequest, MirrorResult};
use keyferry::model::{
    Condition, Failure, FailureClass, ObjectName, Order, Reason, SecretBytes, SeedData, SourceName, Version,
};

/// Data of a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

#[derive(Clone)]
pub struct SecretObject {
    pub data: Data,
    pub versions: BTreeMap<SourceName, (String, Version)>,
    /// Changed by a user since the agent's last write.
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
    /// Time until which the agent sends no report, after a denied one.
    pub reports_rest: Duration,
}

/// A write and its outcome, for the checks.
pub struct Write {
    pub result: MirrorResult,
    /// The Secret before the write.
    pub before: Option<SecretObject>,
}

fn fail(class: FailureClass, reason: Reason, text: &str) -> Failure {
    Failure::new(class, reason, format!("failed to query the simulated API server: {text}"))
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
        let newer = before.as_ref().is_some_and(|existing| {
            existing.versions.iter().any(|(source, (id, version))| {
                let new = request.versions.get(source).filter(|(new, _)| new == id);
                new.is_some_and(|(_, new)| new.order(version) == Order::Older)
            })
        });
        if newer && !request.accept_older {
            return Ok(Write { result: MirrorResult::Superseded, before });
        }
        let result = match &before {
            Some(existing) if existing.data == data && !existing.edited => MirrorResult::Unchanged,
            Some(existing) if existing.edited => MirrorResult::Repaired("edited".into()),
            _ => MirrorResult::Updated,
        };
        let object = SecretObject { data, versions: request.versions.clone(), edited: false };
        self.secrets.insert(name.clone(), object);
        Ok(Write { result, before })
    }

    /// The files of the Secret of the seed, as in its optional volume.
    pub fn seed(&self) -> SeedData {
        let secret = self.secrets.iter().find(|(name, _)| name.as_str() == "m0");
        let data = secret.into_iter().flat_map(|(_, object)| &object.data);
        data.map(|(key, bytes)| (key.clone(), Arc::new(SecretBytes::new(bytes.clone())))).collect()
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
