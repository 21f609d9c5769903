//! Properties of the number of requests and wake-ups.

use std::time::Duration;

use keyferry::agent::Elapsed;
use keyferry::model::Source;

use super::super::world::World;
use super::Property;

/// Additional requests per hour because of outages, refreshes and new configurations.
const OUTAGES: f64 = 200.0;

/// The shortest time between the requests for a certificate.
fn certificate_interval(source: &Source, life: Duration) -> Duration {
    let before = source.certificate.as_ref().and_then(|wanted| wanted.renew_before).unwrap_or_default();
    // With a clock that is ahead of the server's, the lifetime is shorter.
    life.mul_f64(0.6).min(life.saturating_sub(before).mul_f64(0.9).max(Duration::from_secs(1)))
}

impl World {
    /// [`Property::BoundedWakeups`], for one wake-up.
    pub fn check_wake(&mut self, at: Elapsed, wake: Option<Elapsed>, timer: bool, operations: usize) {
        let hour = self.now.as_secs() / 3600;
        if wake.is_some_and(|wake| wake <= at) {
            self.violate(Property::BoundedWakeups, format!("wake-up at {wake:?}, now {at:?}"));
        }
        if !timer {
            return;
        }
        if operations == 0 {
            *self.watch.idle_wakes.entry(hour).or_default() += 1;
        }
    }

    /// [`Property::BoundedRequests`] and the rest of [`Property::BoundedWakeups`], over each hour of a run.
    pub fn check_sums(&mut self) {
        let (_, max, slow) = self.config.retry;
        // On average, retries come at half of `max`, or at three quarters of `slow`.
        let failing = 3600.0 / (0.5 * max as f64).min(0.75 * slow as f64);
        let ttl = self
            .servers
            .values()
            .flat_map(|server| server.roles.values())
            .map(|role| role.ttl.as_secs_f64())
            .fold(60.0, f64::min);
        let replacing = 3600.0 / (0.39 * ttl);
        let reading: f64 = self.watch.shortest.values().map(|period| 3600.0 / period).sum();
        let mut wrong = None;
        for ((_, thing), count) in self.watch.requests.clone() {
            let (name, pace) = match (self.watch.shortest.get(&thing), thing.as_str()) {
                (Some(period), _) => ("requests for a source above the expected rate", 3600.0 / period),
                (None, "login") => ("logins above the expected rate", replacing),
                (None, "renew") => ("renewals above the expected rate", replacing),
                (None, "look") => ("lookups above the expected rate", 3600.0 / 30.0),
                // One for each replaced lease.
                (None, "revoke-lease") => ("revocations of leases above the expected rate", reading),
                (None, _) => ("revocations above the expected rate", replacing),
            };
            let over = count as f64 - pace.max(failing);
            self.watch.measure(name, over, || format!("{thing}: {count}, expected {pace:.0}, failing {failing:.0}"));
            // Outages begin with fast retries, and a success in between restarts the schedule.
            let bound = pace.max(failing) + 0.5 * pace.min(failing) + OUTAGES;
            self.watch.measure("requests relative to the bound", count as f64 / bound, || {
                format!("{thing}: {count} of {bound:.0}")
            });
            if count as f64 > bound {
                wrong = Some(format!("{count} requests in an hour for {thing}; the bound is {bound:.0}"));
            }
        }
        if let Some(wrong) = wrong {
            self.violate(Property::BoundedRequests, wrong);
        }
        for (hour, idle) in self.watch.idle_wakes.clone() {
            let requests: usize = self
                .watch
                .requests
                .range((hour, String::new())..(hour + 1, String::new()))
                .map(|(_, count)| *count)
                .sum();
            let bound = requests as f64 * 0.5 + OUTAGES;
            self.watch.measure("idle wake-ups relative to the bound", idle as f64 / bound, || {
                format!("{idle} for {requests} requests")
            });
            if idle as f64 > bound {
                self.violate(
                    Property::BoundedWakeups,
                    format!("{idle} idle wake-ups in an hour for {requests} requests"),
                );
            }
        }
    }

    /// Records the shortest read interval that configuration and servers imply for each source.
    pub fn record_pace(&mut self) {
        let Some(process) = &self.process else { return };
        for (name, source) in &process.agent.settings().sources {
            let life = self
                .server(process.agent.settings())
                .and_then(|server| server.secrets.get(&source.path))
                .and_then(|secret| {
                    use super::super::secrets::Kind;
                    match secret.kind {
                        Kind::Versioned | Kind::List => None,
                        // Renewals close to the maximum TTL extend the lease less and less.
                        Kind::Leased { ttl, .. } => Some(ttl.mul_f64(0.39 * 0.6)),
                        Kind::Expires(life) => Some(life.mul_f64(0.39)),
                        Kind::Rotates(period) => Some(period),
                        Kind::Certificate(life) => Some(certificate_interval(source, life)),
                    }
                });
            let period = source
                .refresh
                .mul_f64(0.8)
                .min(life.unwrap_or(Duration::MAX))
                // A read follows a renewal that has reached the maximum TTL without delay.
                .max(Duration::from_millis(750))
                .as_secs_f64();
            let lookups = source.watch_lease.map_or(0.0, |interval| interval.as_secs_f64().recip());
            let period = (period.recip() + lookups).recip();
            let shortest = self.watch.shortest.entry(name.to_string()).or_insert(period);
            *shortest = shortest.min(period);
        }
    }
}
