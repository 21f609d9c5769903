//! The numbers of requests per hour in `docs/engines`, counted over days of simulated time.

use std::path::Path;
use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, info, issued, lease, leased, name, settings};
use crate::agent::{Op, Outcome};
use crate::model::{Lease, Reading, Validity};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Long enough for an average of rare requests.
const LONG: Duration = Duration::from_secs(3 * 24 * 3600);

/// Number of requests per hour of a source with this refresh interval. `answer`: the response at a time.
fn per_hour(refresh: Duration, answer: impl FnMut(Duration) -> Reading) -> f64 {
    per_hour_of(LONG, refresh, answer)
}

fn per_hour_of(time: Duration, refresh: Duration, mut answer: impl FnMut(Duration) -> Reading) -> f64 {
    let mut settings = settings(&["a"]);
    let source = settings.sources.get_mut(&name("a")).expect("a");
    (source.refresh, source.max_stale) = (refresh, refresh * 3);
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(LONG * 2);
    let mut issued_at = Duration::ZERO;
    while d.at < time {
        let at = d.at;
        d.serve(Duration::ZERO, |op| match op {
            Op::Read { .. } => {
                issued_at = at;
                Some(Outcome::Read(Ok(answer(at))))
            }
            Op::RenewLease { lease: id, .. } => {
                let left = (issued_at + DAY).saturating_sub(at);
                Some(Outcome::LeaseRenewed(Ok(Lease { id: id.clone(), ..lease("", left.min(HOUR)) })))
            }
            Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(info(Some(LONG * 2), true)))),
            _ => None,
        });
        // To the next event, because the answers depend on the time.
        let next = d.agent.wake_at(d.at).expect("the agent waits for the next request");
        d.advance(next.saturating_sub(d.at));
    }
    let requests: usize = [Kind::Read, Kind::RenewLease, Kind::RevokeLease].map(|kind| d.count(kind)).iter().sum();
    f64::from(u32::try_from(requests).expect("few")) / (time.as_secs_f64() / 3600.0)
}

/// The last cell of the row of `page` that starts with this cell.
fn documented(page: &str, response: &str) -> f64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engines").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let row = text.lines().find(|line| line.starts_with(&format!("| {response} |")));
    let row = row.unwrap_or_else(|| panic!("{page} has no row {response:?}"));
    let cell = row.trim_end_matches(" |").rsplit("| ").next().expect("a cell");
    cell.parse().unwrap_or_else(|error| panic!("{page}, {response:?}: {cell:?}: {error}"))
}

#[test]
fn documented_numbers_of_requests_are_counted() {
    let mut number = 0;
    let mut fresh = move || {
        number += 1;
        format!("{number}")
    };
    let mut renewable = {
        let mut fresh = fresh;
        move |_| leased(&fresh(), HOUR)
    };
    let mut last = {
        let mut fresh = fresh;
        move |_| {
            let reading = leased(&fresh(), HOUR);
            let lease = reading.validity.lease().expect("a lease").clone();
            Reading { validity: Validity::Lease(Lease { renewable: false, ..lease }), ..reading }
        }
    };
    let mut expiring = move |_| issued(Validity::Expires(HOUR), &[("token", fresh().as_str())]);
    let unlimited = |_| issued(Validity::Unlimited, &[("value", "one")]);
    // A rotation each day, 3 s late.
    let late = Duration::from_secs(3);
    let role = |at: Duration| {
        let passed = Duration::from_secs((at + DAY - late).as_secs() % DAY.as_secs());
        issued(Validity::Rotates((DAY - late).saturating_sub(passed)), &[("password", "one")])
    };
    let code = |at: Duration| issued(Validity::Rotates(Duration::from_secs(30 - at.as_secs() % 30)), &[("code", "1")]);

    let renewable = per_hour(MINUTE, &mut renewable);
    let expiring = per_hour(MINUTE, &mut expiring);
    let (role, hourly) = (per_hour(HOUR, role), per_hour(HOUR, unlimited));
    let lease = "Lease of 1 hour, with a maximum TTL of 24 hours";
    let rows: [(&str, &str, f64); 13] = [
        ("databases.md", lease, renewable),
        ("databases.md", "Static role, rotated every 24 hours, `refresh: 1h`", role),
        ("transit.md", "Data key, `refresh: 24h`", per_hour(DAY, unlimited)),
        ("transit.md", "Plaintext, `refresh: 1h`", hourly),
        ("totp.md", "Code", per_hour_of(HOUR * 5, MINUTE, code)),
        ("identity.md", "Token with a TTL of 1 hour", expiring),
        ("ssh.md", "Certificate with a TTL of 1 hour", expiring),
        ("cubbyhole.md", "Secret, `refresh: 1h`", hourly),
        ("cloud.md", "AWS STS: lease of 1 hour, not renewable", per_hour(MINUTE, &mut last)),
        ("cloud.md", "AWS user, Azure, GCP key: lease of 1 hour, with a maximum TTL of 24 hours", renewable),
        ("cloud.md", "GCP token with a TTL of 1 hour", expiring),
        ("cloud.md", "AWS static role, rotated every 24 hours, `refresh: 1h`", role),
        ("nomad-and-consul.md", lease, renewable),
    ];
    let mut wrong = Vec::new();
    for (page, response, counted) in rows {
        let documented = documented(page, response);
        // The jitter depends on the number of inputs, so other changes of the agent change the count a little.
        if (counted - documented).abs() > (documented * 0.05).max(0.01) {
            wrong.push(format!("{page}, {response:?}: {documented} is documented, {counted:.2} were counted"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
