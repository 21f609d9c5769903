//! A refresh on request reads every source again whose read issues nothing; with new leases, all sources.

use std::time::Duration;

use super::driver::{Driver, Kind, kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, issued, lease, leased, mirror, name, object, reading, secs, settings,
    unreachable,
};
use crate::agent::{Op, Outcome};
use crate::model::{FailureClass, Reading, Reason, RequestMethod, Settings, Validity};

fn token(ttl: Duration, id: &str) -> Reading {
    issued(Validity::Expires(ttl), &[("password", id)])
}

/// An agent with one source of each kind: `kv`, `lease`, `token` (each read issues a token), `role` (a static role), and
/// `write`, each published as `one`.
fn of_each_kind() -> Driver {
    let mut settings = settings(&["kv", "lease", "role", "token", "write"]);
    for source in settings.sources.values_mut() {
        source.refresh = HOUR;
    }
    settings.sources.get_mut(&name("write")).expect("write").method = RequestMethod::Write;
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR * 9);
    d.read_ok("kv", 1, &[("password", "one")]);
    d.read("lease", Ok(leased("one", HOUR * 9)));
    d.read("role", Ok(issued(Validity::Rotates(HOUR * 9), &[("password", "one")])));
    d.read("token", Ok(token(HOUR * 9, "one")));
    d.read("write", Ok(issued(Validity::Unlimited, &[("password", "one")])));
    d
}

/// The sources that are being read.
fn reading_now(d: &Driver) -> Vec<&str> {
    let mut names: Vec<_> = d.open.iter().filter(|(_, op)| kind(op) == Kind::Read).map(|(_, op)| subject(op)).collect();
    names.sort_unstable();
    names
}

fn subject(op: &Op) -> &str {
    super::driver::subject(op).unwrap_or_default()
}

/// Answers each read with another version and another credential.
fn answer(d: &mut Driver, time: Duration) {
    d.serve(time, |op| {
        let reading = match (kind(op), subject(op)) {
            (Kind::Read, "kv") => reading(2, &[("password", "two")]),
            (Kind::Read, "lease") => leased("two", HOUR * 9),
            (Kind::Read, "role") => issued(Validity::Rotates(HOUR * 9), &[("password", "two")]),
            (Kind::Read, "token") => token(HOUR * 9, "two"),
            (Kind::Read, "write") => issued(Validity::Unlimited, &[("password", "two")]),
            _ => return None,
        };
        Some(Outcome::Read(Ok(reading)))
    });
}

fn contents(d: &Driver) -> Vec<(&str, &str)> {
    d.files.iter().map(|(path, text)| (path.trim_end_matches("/password"), text.as_str())).collect()
}

#[test]
fn refresh_reads_only_sources_whose_read_issues_nothing() {
    let mut d = of_each_kind();
    d.refresh();
    assert_eq!(reading_now(&d), ["kv", "role"]);
    answer(&mut d, MINUTE);
    let expected = [("kv", "two"), ("lease", "one"), ("role", "two"), ("token", "one"), ("write", "one")];
    assert_eq!(contents(&d), expected);
    assert_eq!(d.count(Kind::Read), 5 + 2);
    let line = d.log.iter().find(|line| line.operation == "refresh").expect("a line");
    assert_eq!(
        line.message,
        "reading all sources now, except those whose read issues a new credential; requested by a test"
    );
}

#[test]
fn refresh_with_new_leases_reads_all_sources_and_revokes_the_replaced_lease() {
    let mut d = of_each_kind();
    d.refresh_with_new_leases();
    assert_eq!(reading_now(&d), ["kv", "lease", "role", "token", "write"]);
    answer(&mut d, MINUTE);
    assert!(contents(&d).iter().all(|(_, text)| *text == "two"), "{:?}", contents(&d));
    assert_eq!(d.count(Kind::Read), 5 + 5, "each source once");
    assert!(d.revoked_leases.is_empty(), "its overlap is a tenth of the lease");
    answer(&mut d, HOUR);
    assert_eq!(d.revoked_leases, ["one"]);
}

#[test]
fn requests_in_quick_succession_become_two_refreshes() {
    let mut d = of_each_kind();
    for _ in 0..50 {
        d.refresh();
        answer(&mut d, Duration::from_millis(10));
    }
    assert_eq!(d.count(Kind::Read), 5 + 2, "the first one begins at once");
    answer(&mut d, MINUTE);
    assert_eq!(d.count(Kind::Read), 5 + 4, "the others are one, a second later");
}

#[test]
fn pending_refresh_keeps_what_each_request_asks_for() {
    let mut d = of_each_kind();
    d.refresh();
    d.refresh_with_new_leases();
    d.refresh();
    answer(&mut d, MINUTE);
    assert_eq!(contents(&d).iter().filter(|(_, text)| *text == "two").count(), 5);
    assert_eq!(d.count(Kind::Read), 5 + 2 + 5);
}

#[test]
fn refresh_during_a_read_that_issues_reads_once() {
    for first in [leased("one", HOUR), token(HOUR, "one")] {
        let mut d = Driver::run(&["a"]);
        d.login_ok(HOUR * 9);
        d.refresh();
        d.read("a", Ok(first));
        d.advance(MINUTE);
        assert_eq!(d.count(Kind::Read), 1);
        // The request is answered, and does not apply to later readings.
        d.refresh_with_new_leases();
        d.refresh();
        d.read("a", Ok(leased("two", HOUR)));
        d.advance(MINUTE);
        assert_eq!(d.count(Kind::Read), 2);
    }
}

#[test]
fn new_lease_that_cannot_be_issued_does_not_delay_the_renewal_of_the_old_one() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR * 9);
    d.read("a", Ok(leased("one", secs(100))));
    d.refresh_with_new_leases();
    let mut renewals = 0;
    d.serve(HOUR, |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(failure(FailureClass::Transient, Reason::ServerError)))),
        Op::RenewLease { .. } => {
            renewals += 1;
            Some(Outcome::LeaseRenewed(Ok(lease("one", secs(100)))))
        }
        _ => None,
    });
    assert!((40..60).contains(&renewals), "{renewals} renewals of a lease of 100 s in an hour");
    assert!(d.count(Kind::Read) > 20, "the new lease is still requested");
    d.serve(MINUTE * 3, |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(leased("two", HOUR)))),
        Op::RenewLease { .. } => Some(Outcome::LeaseRenewed(Ok(lease("one", secs(100))))),
        _ => None,
    });
    assert_eq!(d.file("a/password"), Some("two"));
}

#[test]
fn refresh_retries_failed_reads_now() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(HOUR);
    let denied = |op: &Op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Ok(super::fixtures::info(Some(HOUR), true)))),
        _ => None,
    };
    d.serve(MINUTE * 10, denied);
    assert!(!d.is_reading("a"), "it waits");
    d.refresh();
    d.read("a", Ok(leased("one", HOUR)));
    assert_eq!(d.file("a/password"), Some("one"), "the policy was repaired");
}

/// A configuration whose output needs a key that the credential does not have.
fn with_missing_key() -> Settings {
    let mut settings = settings(&["a"]);
    settings.outputs = vec![super::fixtures::key("a", "other", "file")];
    settings
}

#[test]
fn refresh_does_not_repeat_a_read_whose_credential_is_rejected() {
    for first in [leased("one", HOUR), token(HOUR, "one")] {
        let mut d = Driver::with(with_missing_key(), RUN, None);
        d.login_ok(HOUR * 9);
        d.read("a", Ok(first));
        d.refresh();
        assert!(!d.is_reading("a"), "it would issue another credential");
        d.advance(secs(1));
        d.refresh_with_new_leases();
        assert!(d.is_reading("a"));
    }
    let mut d = Driver::with(with_missing_key(), RUN, None);
    d.login_ok(HOUR * 9);
    d.read_ok("a", 1, &[("password", "one")]);
    d.refresh();
    assert!(d.is_reading("a"), "a secret of KV, which may have the key now");
}

#[test]
fn refresh_compares_the_mirrored_secrets() {
    let mut settings = settings(&["a"]);
    settings.mirrors.insert(object("copy"), mirror(&[("password", "a/password")]));
    let mut d = Driver::published_with(settings);
    let before = d.count(Kind::Mirror);
    d.refresh();
    assert_eq!(d.count(Kind::Mirror), before + 1);
}

#[test]
fn refresh_without_vault_changes_nothing() {
    let mut d = of_each_kind();
    let before = d.files.clone();
    d.refresh_with_new_leases();
    d.serve(MINUTE * 2, |op| (kind(op) == Kind::Read).then(|| Outcome::Read(Err(unreachable()))));
    assert_eq!(d.files, before);
    assert!(d.revoked_leases.is_empty() && d.revoked.is_empty());
}
