//! Requests and wake-ups.

use std::time::Duration;

use keyferry::agent::Elapsed;

use super::super::world::World;
use super::Property;

impl World {
    /// [`Property::NoStormOfWakeups`] of one wake-up.
    pub fn check_wake(&mut self, at: Elapsed, wake: Option<Elapsed>, timer: bool, operations: usize) {
        let hour = self.now.as_secs() / 3600;
        *self.watch.inputs.entry(hour).or_default() += 1;
        if wake.is_some_and(|wake| wake <= at) {
            self.violate(Property::NoStormOfWakeups, format!("wake-up at {wake:?}, now {at:?}"));
        }
        if !timer {
            return;
        }
        *self.watch.wakes.entry(hour).or_default() += 1;
        if operations == 0 {
            *self.watch.idle_wakes.entry(hour).or_default() += 1;
        }
    }

    /// The sums of a run.
    pub fn check_sums(&mut self) {
        let mut wrong = None;
        for ((_, thing), count) in self.watch.requests.clone() {
            let count = count as f64;
            let period = self.watch.shortest.get(&thing).copied();
            let bound = match period {
                // Each round takes one request, and while it fails those of the schedule.
                Some(period) => 3600.0 / period,
                None => 0.0,
            };
            let name = match (period, thing.as_str()) {
                (Some(_), _) => "reads over the interval",
                (None, "login") => "logins per hour",
                (None, "look") => "look-ups per hour",
                (None, "renew") => "token renewals per hour",
                (None, "revoke") => "revocations per hour",
                (None, _) => "others",
            };
            self.watch.measure(name, count - bound, || format!("{thing}: {count} of {bound}"));
            if count > bound + 20000.0 {
                wrong = Some(format!("{count} requests in an hour for {thing}"));
            }
        }
        for (hour, wakes) in self.watch.wakes.clone() {
            let requests: usize = self
                .watch
                .requests
                .range((hour, String::new())..(hour + 1, String::new()))
                .map(|(_, count)| *count)
                .sum();
            self.watch
                .measure("wakes over requests", wakes as f64 - requests as f64, || format!("{wakes} of {requests}"));
        }
        for (_, idle) in self.watch.idle_wakes.clone() {
            self.watch.measure("idle wakes per hour", idle as f64, String::new);
        }
        if let Some(wrong) = wrong {
            self.violate(Property::FewRequests, wrong);
        }
    }

    /// Notes the pace that the configuration and the servers set.
    pub fn note_pace(&mut self) {
        let Some(process) = &self.process else { return };
        for (name, source) in &process.agent.settings().sources {
            let life = self
                .server(process.agent.settings())
                .and_then(|server| server.secrets.get(&source.path))
                .and_then(|secret| {
                    use super::super::secrets::Kind;
                    match secret.kind {
                        Kind::Versioned => None,
                        Kind::Leased { ttl, .. } => Some(ttl.mul_f64(0.55)),
                        Kind::Expires(life) => Some(life.mul_f64(0.55)),
                        Kind::Rotates(period) => Some(period),
                    }
                });
            let period = source
                .refresh
                .mul_f64(0.8)
                .min(life.unwrap_or(Duration::MAX))
                .max(Duration::from_secs(1))
                .as_secs_f64();
            let shortest = self.watch.shortest.entry(name.to_string()).or_insert(period);
            *shortest = shortest.min(period);
        }
    }
}
