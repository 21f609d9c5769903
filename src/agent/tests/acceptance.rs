//! A reading is accepted only if every output that depends on it can be rendered. No source delays another.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, key, leased, not_found, optional_key, reading, secs, settings, unreachable,
};
use crate::agent::{Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, FailureClass, Reading, Reason, Settings};

/// Outputs: all keys of `a`, and one key of `b`.
fn one_key_of_b() -> Settings {
    let mut settings = settings(&["a", "b"]);
    settings.outputs[1] = key("b", "password", "b/password");
    settings
}

#[test]
fn source_with_missing_key_keeps_files_and_delays_no_other() {
    let mut d = Driver::published_with(one_key_of_b());
    d.advance(MINUTE);
    d.read_ok("b", 2, &[("other", "x")]);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("two"), Some("one")));
    let line = d.log.iter().find(|line| line.reason == Some(Reason::RenderFailed)).expect("the failure is logged");
    assert_eq!(line.source.as_ref().map(crate::model::SourceName::as_str), Some("b"));
    assert!(line.message.contains("password") && line.message.contains("b/password"), "{}", line.message);
    // The condition turns False only after the tolerance.
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    assert!(d.message(ConditionType::SecretsFresh).contains("source b: within its staleness tolerance until"));
    d.serve(MINUTE * 5, |_| None);
    assert_eq!(d.fresh().0, ConditionStatus::False);
    d.read_ok("b", 3, &[("password", "three")]);
    assert_eq!(d.file("b/password"), Some("three"), "the source recovers");
}

#[test]
fn file_of_optional_output_comes_and_goes_with_its_key() {
    let mut settings = settings(&["a"]);
    settings.outputs = vec![key("a", "password", "password"), optional_key("a", "password.previous", "previous")];
    let mut d = Driver::published_with(settings);
    assert_eq!((d.file("password"), d.file("previous")), (Some("one"), None));
    assert_eq!((d.ready().0, d.fresh()), (ConditionStatus::True, (ConditionStatus::True, Reason::Fresh)));
    d.advance(MINUTE);
    d.read_ok("a", 2, &[("password", "two"), ("password.previous", "one")]);
    assert_eq!((d.file("password"), d.file("previous")), (Some("two"), Some("one")));
    // The previous version was deleted, and the present one is the same.
    d.advance(MINUTE);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("password"), d.file("previous")), (Some("two"), None));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn new_lease_is_published_while_another_source_cannot_be_rendered() {
    let mut d = Driver::with(one_key_of_b(), RUN, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", secs(30))));
    d.read_ok("b", 1, &[("password", "one")]);
    d.advance(secs(22));
    d.renew_lease("a", Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    d.refresh();
    d.read_ok("b", 2, &[]);
    d.advance(secs(1));
    d.read("a", Ok(leased("l2", secs(30))));
    assert_eq!(d.file("a/password"), Some("l2"));
}

#[test]
fn key_with_invalid_file_name_is_skipped_and_reported() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read_ok("b", 1, &[("..x", "secret-value"), ("password", "one")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("one"), Some("one")));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::InvalidKey));
    let message = d.message(ConditionType::SecretsFresh);
    assert!(message.contains("..x") && !message.contains("secret-value"), "{message}");
    assert!(d.log.iter().any(|line| line.reason == Some(Reason::InvalidKey) && line.message.contains("..x")));
}

#[test]
fn first_set_waits_for_every_required_source() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read("b", Err(unreachable()));
    assert!(d.files.is_empty());
    assert_eq!(d.ready(), (ConditionStatus::False, Reason::VaultUnreachable));
    d.advance(secs(1));
    d.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(d.files.len(), 2);
    assert_eq!(d.ready(), (ConditionStatus::True, Reason::Published));
}

fn optional_b() -> Driver {
    let mut settings = one_key_of_b();
    settings.sources.get_mut(&super::fixtures::name("b")).expect("b").required = false;
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    assert!(d.files.is_empty(), "it is not known yet whether b exists");
    d
}

#[test]
fn missing_optional_source_does_not_block_first_set() {
    let mut d = optional_b();
    d.read("b", Err(not_found()));
    assert_eq!(d.files.len(), 1);
    assert_eq!((d.ready().0, d.fresh().0), (ConditionStatus::True, ConditionStatus::True));
    d.advance(secs(1));
    d.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(d.files.len(), 2, "b is published once it exists");
}

#[test]
fn optional_source_with_missing_key_does_not_block_first_set() {
    let mut d = optional_b();
    d.read_ok("b", 1, &[("other", "x")]);
    assert_eq!(d.files.len(), 1);
}

#[test]
fn first_set_waits_briefly_for_unreachable_optional_source() {
    let mut d = optional_b();
    d.read("b", Err(unreachable()));
    assert!(d.files.is_empty());
    d.serve(secs(6), |_| None);
    assert_eq!(d.files.len(), 1);
}

#[test]
fn first_set_waits_for_lookup_after_denied_optional_read() {
    let mut d = optional_b();
    d.read("b", Err(forbidden()));
    assert!(d.files.is_empty());
    d.look_up(Ok(super::fixtures::info(Some(HOUR), true)));
    assert_eq!(d.files.len(), 1);
}

/// Advances the clock. Each read of `b` returns a lease of `ttl` without the key `password`. Returns the number of
/// these leases.
fn leases_that_cannot_be_used(d: &mut Driver, ttl: Duration, time: Duration) -> usize {
    let before = d.count(Kind::Read);
    d.serve(time, |op| match op {
        Op::RenewLease { .. } => Some(Outcome::LeaseRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        Op::Read { source, .. } if source.as_str() == "a" => {
            Some(Outcome::Read(Ok(reading(1, &[("password", "one")]))))
        }
        Op::Read { .. } => Some(Outcome::Read(Ok(Reading { data: reading(1, &[]).data, ..leased("l", ttl) }))),
        _ => None,
    });
    let of_a = usize::try_from(time.as_secs() / 48).expect("a short time") + 1;
    (d.count(Kind::Read) - before).saturating_sub(of_a)
}

#[test]
fn rejected_readings_create_few_leases() {
    let mut d = Driver::with(one_key_of_b(), RUN, None);
    d.login_ok(HOUR * 9);
    let leases = leases_that_cannot_be_used(&mut d, HOUR, HOUR);
    assert!(leases <= 8, "{leases} leases in an hour");

    // The expiry of an accepted lease does not increase the rate either.
    let mut d = Driver::with(one_key_of_b(), RUN, None);
    d.login_ok(HOUR * 9);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read("b", Ok(leased("l1", MINUTE)));
    let leases = leases_that_cannot_be_used(&mut d, MINUTE, MINUTE * 2);
    assert!(leases <= 4, "{leases} leases in two minutes");
}

#[test]
fn corrected_output_is_retried_immediately_after_reload() {
    let mut d = Driver::published_with(one_key_of_b());
    for _ in 0..4 {
        d.advance(MINUTE);
        d.read_ok("b", 2, &[("secret", "two")]);
    }
    assert!(!d.is_reading("b"));
    let mut corrected = one_key_of_b();
    corrected.outputs[1] = key("b", "secret", "b/password");
    d.config(corrected);
    d.read_ok("b", 2, &[("secret", "two")]);
    assert_eq!(d.file("b/password"), Some("two"));
}
