//! When certificates are requested, and what is reported about them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, failure, issued, name, secs, settings, unreachable};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome};
use crate::model::{
    CertificateRequest, CertificateTimes, Checkpoint, ConditionStatus, ConditionType, Failure, FailureClass, Reading,
    Reason, SavedSource, Settings, Validity,
};

fn wall(at: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::try_from(at).expect("a short time")
}

fn times(from: Duration, life: Duration, ca_ends: Duration) -> CertificateTimes {
    CertificateTimes { not_before: wall(from), not_after: wall(from + life), ca_not_after: wall(ca_ends) }
}

/// A certificate issued at `from`.
fn certificate(serial: &str, from: Duration, life: Duration) -> Reading {
    issued(Validity::Certificate(times(from, life, HOUR * 100_000)), &[("password", serial)])
}

/// A certificate as the only source.
fn with_certificate(renew_before: Option<Duration>) -> Settings {
    let mut settings = settings(&["a"]);
    settings.sources.get_mut(&name("a")).expect("a").certificate = Some(CertificateRequest {
        key: None,
        common_name: Some("web.example.com".into()),
        alt_names: Vec::new(),
        ip_sans: Vec::new(),
        uri_sans: Vec::new(),
        ttl: None,
        renew_before,
    });
    settings
}

fn started(settings: Settings) -> Driver {
    let mut d = Driver::with(settings, Mode::Run { checkpoint: false, app_container: false }, None);
    d.login_ok(HOUR * 10_000);
    d
}

/// The time until the source is read next.
fn next_read(d: &mut Driver) -> Duration {
    let from = d.at;
    while !d.is_reading("a") {
        d.advance(secs(1));
        assert!(d.at < from + HOUR * 1000, "no read");
    }
    d.at - from
}

#[test]
fn certificate_is_replaced_after_two_thirds_of_its_lifetime() {
    let mut d = started(with_certificate(None));
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    for serial in ["two", "three", "four"] {
        let after = next_read(&mut d);
        assert!((HOUR * 15..=HOUR * 17).contains(&after), "{after:?}");
        let now = d.at;
        d.read("a", Ok(certificate(serial, now, HOUR * 24)));
        assert_eq!(d.file("a/password"), Some(serial));
    }
    assert_eq!(d.count(Kind::Read), 4, "one request for each certificate");
}

#[test]
fn renew_before_is_used_unless_it_exceeds_the_lifetime() {
    let mut d = started(with_certificate(Some(HOUR * 6)));
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    let after = next_read(&mut d);
    assert!((HOUR * 24 - HOUR * 6 * 11 / 10..=HOUR * 18 + secs(1)).contains(&after), "{after:?}");
    // The role issues a shorter one.
    let now = d.at;
    d.read("a", Ok(certificate("two", now, HOUR * 3)));
    let after = next_read(&mut d);
    assert!((MINUTE * 110..MINUTE * 130).contains(&after), "{after:?}");
    let noted = |d: &Driver| d.log.iter().filter(|line| line.message.contains("`renewBefore`")).count();
    assert_eq!(noted(&d), 1, "{:?}", d.log);
    let now = d.at;
    d.read("a", Ok(certificate("three", now, HOUR * 3)));
    assert_eq!(noted(&d), 1, "logged once");
    // A reload applies to the certificate in use.
    d.config(with_certificate(Some(HOUR * 2)));
    assert!(!d.is_reading("a"));
    let after = next_read(&mut d);
    assert!((MINUTE * 48..=MINUTE * 60 + secs(1)).contains(&after), "{after:?}");
}

#[test]
fn other_names_request_another_certificate_while_the_old_one_stays() {
    let mut d = started(with_certificate(None));
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    let mut renamed = with_certificate(None);
    let spec = renamed.sources.get_mut(&name("a")).and_then(|source| source.certificate.as_mut());
    spec.expect("a certificate").alt_names.push("b.example.com".into());
    d.config(renamed);
    assert_eq!(d.file("a/password"), Some("one"));
    d.read("a", Err(unreachable()));
    assert_eq!(d.file("a/password"), Some("one"));
    d.advance(secs(2));
    d.read("a", Ok(certificate("two", secs(2), HOUR * 24)));
    assert_eq!(d.file("a/password"), Some("two"));
    d.config(with_certificate(None));
    d.read("a", Ok(certificate("three", secs(2), HOUR * 24)));
    assert_eq!(d.file("a/password"), Some("three"));
}

#[test]
fn only_a_requested_refresh_issues_early() {
    let mut d = started(with_certificate(None));
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    d.advance(HOUR);
    d.config(with_certificate(None));
    assert!(!d.is_reading("a"));
    d.refresh();
    d.advance(MINUTE);
    assert!(!d.is_reading("a"), "the certificate is valid");
    d.refresh_with_new_leases();
    assert!(d.is_reading("a"), "to replace a revoked certificate");
}

#[test]
fn failed_renewal_is_retried_until_the_expiry_and_reported() {
    let mut d = started(with_certificate(None));
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR)));
    let denied = || failure(FailureClass::Denied, Reason::Denied);
    d.serve(HOUR - secs(1), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(denied()))));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Denied));
    let message = d.message(ConditionType::SecretsFresh);
    assert!(message.contains("its certificate expires at 1970-01-01T01:00:00Z: failed with Denied"), "{message}");
    assert_eq!(d.file("a/password"), Some("one"));
    let attempts = d.count(Kind::Read);
    assert!((20..60).contains(&attempts), "{attempts} requests in 20 minutes");
    d.serve(MINUTE, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(denied()))));
    let message = d.message(ConditionType::SecretsFresh);
    assert!(message.contains("its certificate expired at 1970-01-01T01:00:00Z"), "{message}");
}

fn invalid() -> Failure {
    Failure { retry_after: Some(secs(300)), ..failure(FailureClass::Invalid, Reason::CertificateInvalid) }
}

#[test]
fn unusable_certificates_are_not_requested_in_a_loop() {
    let mut d = started(with_certificate(None));
    d.serve(HOUR, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(invalid()))));
    assert!(d.count(Kind::Read) <= 13, "{} requests in an hour", d.count(Kind::Read));
    assert_eq!(d.ready(), (ConditionStatus::False, Reason::CertificateInvalid));

    // One that no output can be rendered from.
    let mut d = started(with_certificate(None));
    d.serve(HOUR, |op| {
        let reading = issued(Validity::Certificate(times(Duration::ZERO, HOUR * 24, HOUR * 99)), &[("other", "x")]);
        matches!(op, Op::Read { .. }).then_some(Outcome::Read(Ok(reading)))
    });
    assert!(d.count(Kind::Read) <= 7, "{} requests in an hour", d.count(Kind::Read));

    let mut d = Driver::with(with_certificate(None), Mode::Once { deadline: HOUR, checkpoint: false }, None);
    d.login_ok(HOUR);
    d.read("a", Err(invalid()));
    assert!(d.exit.is_some(), "`once` does not wait for a second one");
}

#[test]
fn failed_publication_requests_nothing() {
    let mut d = started(with_certificate(None));
    d.hold(Kind::Publish);
    d.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    let full = || failure(FailureClass::Local, Reason::NoSpace);
    d.serve(HOUR, |op| matches!(op, Op::Publish { .. }).then(|| Outcome::Published(Err(full()))));
    assert!(d.count(Kind::Publish) > 10);
    d.release(Kind::Publish);
    d.advance(HOUR);
    assert_eq!((d.file("a/password"), d.count(Kind::Read)), (Some("one"), 1));
}

#[test]
fn expiring_ca_is_reported_once_and_shortens_the_lifetime() {
    let mut d = started(with_certificate(None));
    let cut = |from| issued(Validity::Certificate(times(from, HOUR * 24, HOUR * 6)), &[("password", "one")]);
    d.read("a", Ok(cut(Duration::ZERO)));
    let after = next_read(&mut d);
    assert!((HOUR * 3..HOUR * 5).contains(&after), "{after:?}: two thirds of the time until the CA expires");
    let now = d.at;
    d.read("a", Ok(cut(now)));
    let warnings: Vec<_> = d.log.iter().filter(|line| line.reason == Some(Reason::CaExpiring)).collect();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].level, LogLevel::Warn);
    assert!(warnings[0].message.contains("expires with its CA at 1970-01-01T06:00:00Z"), "{}", warnings[0].message);
    let now = d.now();
    let status = d.agent.take_changed_sources(&now).pop().and_then(|(_, status)| status).expect("a status");
    assert_eq!(status.certificate_expires_at, Some(wall(HOUR * 6)));
}

#[test]
fn clock_that_is_ahead_does_not_cause_a_loop() {
    let mut d = started(with_certificate(None));
    // Vault's clock is 50 minutes behind, so that 10 of 60 minutes are left on arrival.
    d.advance(HOUR);
    for _ in 0..5 {
        let now = d.at;
        d.read("a", Ok(certificate("one", now - MINUTE * 50, HOUR)));
        let after = next_read(&mut d);
        assert!((MINUTE * 6..MINUTE * 8).contains(&after), "{after:?}: two thirds of the time that is left");
    }
}

#[test]
fn restored_certificate_keeps_its_schedule() {
    let restored = |age: Duration| {
        let settings = with_certificate(None);
        let mut d = Driver::with(settings, Mode::Run { checkpoint: true, app_container: false }, None);
        d.at = age;
        let reading = certificate("one", Duration::ZERO, HOUR * 24).into();
        let saved = SavedSource { reading, left: HOUR * 24 - age };
        let checkpoint = Checkpoint { sources: [(name("a"), saved)].into(), ..Checkpoint::default() };
        let (ticket, _) = d.take(Kind::LogIn, None);
        d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
        d.login_ok(HOUR * 100);
        assert_eq!(d.file("a/password"), Some("one"));
        d
    };
    let mut before = Driver::with(with_certificate(None), Mode::Run { checkpoint: true, app_container: false }, None);
    before.login_ok(HOUR * 100);
    before.read("a", Ok(certificate("one", Duration::ZERO, HOUR * 24)));
    let saved = before.checkpoint.as_ref().and_then(|checkpoint| checkpoint.sources.get(&name("a")));
    assert_eq!(saved.map(|saved| saved.left), Some(HOUR * 24));
    let mut d = restored(HOUR * 8);
    assert!(!d.is_reading("a"), "enough of its lifetime is left");
    let after = next_read(&mut d);
    assert!((HOUR * 7..=HOUR * 9).contains(&after), "{after:?}: at two thirds of the whole lifetime");
    assert!(next_read(&mut restored(HOUR * 20)) <= secs(2), "it is due");
}

#[test]
fn renew_before_close_to_the_lifetime_does_not_cause_a_loop() {
    let mut d = started(with_certificate(Some(HOUR * 23)));
    for _ in 0..20 {
        let now = d.at;
        d.read("a", Ok(certificate("one", now, HOUR * 24)));
        let after = next_read(&mut d);
        assert!((MINUTE * 54..=HOUR + secs(1)).contains(&after), "{after:?}");
    }
}

/// A driver whose login restores a certificate. `reload`: the configuration that is read during the login.
fn restored_from(reading: Reading, reload: Option<Settings>) -> Driver {
    let mut d = Driver::with(with_certificate(None), Mode::Run { checkpoint: true, app_container: false }, None);
    let saved = SavedSource { reading: reading.into(), left: HOUR * 24 };
    let checkpoint = Checkpoint { sources: [(name("a"), saved)].into(), ..Checkpoint::default() };
    let (ticket, _) = d.take(Kind::LogIn, None);
    if let Some(settings) = reload {
        d.config(settings);
    }
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
    d.login_ok(HOUR * 100);
    d
}

#[test]
fn certificate_of_another_request_is_not_restored() {
    let mut renamed = with_certificate(None);
    let spec = renamed.sources.get_mut(&name("a")).and_then(|source| source.certificate.as_mut());
    spec.expect("a certificate").alt_names.push("b.example.com".into());
    let mut d = restored_from(certificate("one", Duration::ZERO, HOUR * 24), Some(renamed));
    assert_eq!(d.file("a/password"), None);
    d.read("a", Ok(certificate("two", Duration::ZERO, HOUR * 24)));
    assert_eq!(d.file("a/password"), Some("two"));
}

#[test]
fn expiring_ca_of_a_restored_certificate_is_logged() {
    let cut = issued(Validity::Certificate(times(Duration::ZERO, HOUR * 24, HOUR * 24)), &[("password", "one")]);
    let d = restored_from(cut, None);
    assert_eq!(d.log.iter().filter(|line| line.reason == Some(Reason::CaExpiring)).count(), 1);
}
