//! Properties of tokens, and of the credentials in the visible set.

use std::rc::Rc;
use std::time::Duration;

use keyferry::agent::Mode;
use keyferry::model::{ConditionStatus, ConditionType, SourceName};

use super::super::process::Process;
use super::super::secrets::Kind;
use super::super::world::World;
use super::Property;

/// Maximum number of live tokens of one process: one in use, one that is being replaced, one of a trial, one of an
/// abandoned trial, and two whose revocation is pending.
const MAX_TOKENS: usize = 6;

impl World {
    /// When the credential of a reading was first seen expired; `None` if it is valid or not a credential.
    pub fn expired_since(&mut self, id: &Rc<str>) -> Option<Duration> {
        let now = self.now;
        let record = &self.records[id];
        let dead = match (&record.kind, &record.lease) {
            (Kind::Leased { .. }, Some(lease)) => !self.servers[record.server].lease_is_alive(lease, now),
            (Kind::Expires(life) | Kind::Certificate(life), _) => record.issued + *life <= now,
            _ => false,
        };
        if !dead {
            self.watch.expired_since.remove(id);
            return None;
        }
        Some(*self.watch.expired_since.entry(Rc::clone(id)).or_insert(now))
    }

    /// [`Property::NoExpiredCredential`], for expiry times that the agent knows.
    pub fn check_known_expiries(&mut self) {
        let Some(process) = self.process.as_ref().filter(|process| process.terminated.is_none() && !process.is_once())
        else {
            return;
        };
        let conditions = process.agent.conditions();
        let fresh = conditions.iter().any(|condition| {
            condition.kind == ConditionType::SecretsFresh && condition.status == ConditionStatus::True
        });
        let directory = process.agent.settings().directory.path.clone();
        // A publication that replaces it is in flight.
        let publishing = process.in_flight.values().any(|flight| flight.what.starts_with("publish"));
        if !fresh || publishing {
            return;
        }
        let Some(visible) = self.visible.get(&directory) else { return };
        let over = visible.iter().find_map(|(source, id)| {
            let record = &self.records[id];
            let token = record.lease.as_ref().and_then(|_| self.reported_token_end.get(&record.token));
            let end = record.reported_end?.min(token.copied().unwrap_or(Duration::MAX));
            (end < self.now).then(|| {
                format!("SecretsFresh is True, but the credential of {source} expired at {:.3}", end.as_secs_f64())
            })
        });
        if let Some(over) = over {
            self.violate(Property::NoExpiredCredential, over);
        }
    }

    /// A source whose visible credential depends on this token.
    fn in_use(&self, token: &[u8]) -> Option<SourceName> {
        let now = self.now;
        let of_token = |id: &Rc<str>| {
            let record = &self.records[id];
            let lease = record.lease.as_ref().filter(|_| record.token == token);
            lease.is_some_and(|lease| self.servers[record.server].lease_is_alive(lease, now))
        };
        self.visible.values().flatten().find(|(_, id)| of_token(id)).map(|(source, _)| source.clone())
    }

    /// [`Property::NoLiveCredentialRevoked`] when a revocation starts.
    pub fn check_revocation(&mut self, token: &[u8]) {
        if self.cluster.deleting {
            return;
        }
        let Some(source) = self.in_use(token) else { return };
        let Some(process) = &mut self.process else { return };
        let detail = format!("{} is revoked, but source {source} depends on it", String::from_utf8_lossy(token));
        if process.is_once() {
            // The exit code of `once` decides whether the application starts.
            process.revoked_in_use = Some(detail);
        } else {
            self.violate(Property::NoLiveCredentialRevoked, detail);
        }
    }

    /// [`Property::Overlap`] when the revocation of a lease starts. `configured`: the overlap of its source.
    pub fn check_lease_revocation(&mut self, source: &SourceName, lease: &str, configured: Option<Duration>) {
        let is_lease = |id: &Rc<str>| self.records[id].lease.as_deref() == Some(lease);
        if self.visible.values().flatten().any(|(_, id)| is_lease(id)) {
            let detail = format!("{lease} is revoked, but source {source} depends on it");
            return self.violate(Property::NoLiveCredentialRevoked, detail);
        }
        let ttl = self.servers.values().find_map(|server| server.leases.get(lease)).map(|lease| lease.ttl);
        let (Some(ttl), Some(left)) = (ttl, self.watch.last_visible.get(lease)) else { return };
        // A reload may have changed the overlap since the lease was read.
        let default = (ttl / 10).max(Duration::from_secs(30));
        let overlap = configured.unwrap_or(default).min(default).min(ttl / 2);
        let since = self.now.saturating_sub(*left);
        // The agent learns of the publication later than the volume.
        if since < overlap {
            let detail = format!("{lease} is revoked {since:?} after it was replaced; its overlap is {overlap:?}");
            self.violate(Property::Overlap, detail);
        }
    }

    /// [`Property::Overlap`]: the known expiry of the visible credential of a source that has been healthy for its bound.
    pub fn check_gap(&mut self, source: &SourceName, id: &Rc<str>) {
        let record = &self.records[id];
        let ttl = match record.kind {
            Kind::Leased { ttl, .. } => ttl,
            Kind::Expires(life) | Kind::Certificate(life) => life,
            Kind::Versioned | Kind::List | Kind::Rotates(_) => return,
        };
        // A shorter credential can expire during one slow answer.
        let Some(end) = record.reported_end.filter(|_| ttl >= Duration::from_secs(30)) else { return };
        let token = record.lease.as_ref().and_then(|_| self.reported_token_end.get(&record.token)).copied();
        let end = end.min(token.unwrap_or(Duration::MAX));
        if end < self.now {
            let detail = format!("the credential of {source} expired at {:.3}", end.as_secs_f64());
            self.violate(Property::Overlap, detail);
        }
    }

    /// [`Property::NoLeakedTokens`] while a process runs.
    pub fn check_tokens(&mut self) {
        let now = self.now;
        let id = self.processes;
        let mut alive = 0;
        let mut leases = 0;
        for server in self.servers.values_mut() {
            server.tidy(now);
            alive +=
                server.tokens.values().filter(|token| token.owner == id && token.delivered && !token.unrevoked).count();
            leases += server.leases.len();
        }
        self.watch.measure("tokens alive", alive as f64, || format!("at {now:?}"));
        self.watch.measure("leases alive", leases as f64, || format!("at {now:?}"));
        if alive > MAX_TOKENS {
            self.violate(Property::NoLeakedTokens, format!("{alive} tokens are alive"));
        }
    }

    /// [`Property::NoLeakedTokens`] at the end of a pod.
    pub fn check_leftovers(&mut self, process: &Process) {
        let now = self.now;
        let settings = process.agent.settings();
        let kept = match process.mode {
            Mode::Run { app_container, .. } => app_container,
            Mode::Once { .. } => true,
        };
        // Without a response to the last report, the agent does not know that the pod is being deleted.
        let unknown = process.in_flight.values().any(|flight| flight.what == "report");
        if kept || unknown || !settings.revoke_on_exit {
            return;
        }
        let mut left = Vec::new();
        for server in self.servers.values() {
            let of_process = server
                .tokens
                .iter()
                .filter(|(_, token)| token.owner == process.id && token.ends > now && token.role.default_policy);
            let left_alive = of_process.filter(|(_, token)| token.delivered && !token.unrevoked);
            // A revocation that was sent is executed even if the process has exited.
            let unsent = left_alive.filter(|(token, _)| {
                !process.in_flight.values().any(|flight| flight.what.starts_with("revoke") && flight.token == **token)
            });
            left.extend(unsent.map(|(token, _)| String::from_utf8_lossy(token).into_owned()));
        }
        if !left.is_empty() {
            self.violate(Property::NoLeakedTokens, format!("tokens {left:?} are not revoked"));
        }
    }
}
