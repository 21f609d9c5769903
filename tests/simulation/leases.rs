//! The requests for leases and child tokens of the simulated server.

use std::time::Duration;

use keyferry::model::{Failure, Lease, LeaseId, Settings, VaultToken};

use super::super::random::Random;
use super::{Role, Server, lease_lost};

/// The text of a lease ID, or of a child token.
pub fn id_of(id: &LeaseId) -> &str {
    match id {
        LeaseId::Id(id) => id,
        LeaseId::Token(token) => std::str::from_utf8(token.expose()).unwrap_or_default(),
    }
}

impl Server {
    /// Checks the token of a request for a lease. A child token permits its own requests.
    fn permitted_for(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        id: &LeaseId,
        (rule, permits): (&str, fn(&Role) -> bool),
        now: Duration,
        random: &mut Random,
    ) -> Result<(), Failure> {
        match id {
            LeaseId::Id(_) => self.permitted(settings, token, rule, permits, now, random).map(|_| ()),
            LeaseId::Token(_) => self.reach(settings, now, random).map(|_| ()),
        }
    }

    pub fn look_up_lease(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        id: &LeaseId,
        now: Duration,
        random: &mut Random,
    ) -> Result<(), Failure> {
        self.permitted_for(settings, token, id, ("sys/leases/lookup", |role| role.lease_policy), now, random)?;
        if self.lease_is_alive(id_of(id), now) { Ok(()) } else { Err(lease_lost()) }
    }

    pub fn revoke_lease(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        id: &LeaseId,
        now: Duration,
        random: &mut Random,
    ) -> Result<(), Failure> {
        self.permitted_for(settings, token, id, ("sys/leases/revoke", |role| role.lease_policy), now, random)?;
        self.leases.remove(id_of(id));
        Ok(())
    }

    pub fn renew_lease(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        id: &LeaseId,
        now: Duration,
        random: &mut Random,
    ) -> Result<Lease, Failure> {
        self.permitted_for(settings, token, id, ("sys/leases/renew", |role| role.default_policy), now, random)?;
        let alive = self.lease_is_alive(id_of(id), now);
        let lease = self.leases.get_mut(id_of(id)).filter(|_| alive).ok_or_else(lease_lost)?;
        lease.ends = lease.ends.max((now + lease.ttl).min(lease.max));
        Ok(Lease { id: id.clone(), duration: lease.ends - now, renewable: lease.renewable })
    }
}
