//! `once`: success after everything is published and mirrored, or an exit code and one log line with the cause.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, failure, forbidden, info, issued, key, leased, mirror, not_found, object, reading, secs, session, settings,
    unreachable,
};
use crate::agent::{Input, LogLevel, MirrorResult, Mode, Op, Outcome};
use crate::model::{Failure, FailureClass, Reason, Session, Validity};

const ONCE: Mode = Mode::Once { deadline: Duration::from_secs(30), checkpoint: false };

#[track_caller]
fn failed(d: &Driver, code: u8, words: &str) {
    assert_eq!(d.exit, Some(code));
    let errors = d.lines(LogLevel::Error);
    let [line] = errors.as_slice() else { panic!("one ERROR line: {errors:?}") };
    assert!(line.contains(words) && line.contains(&format!("exit code {code}")), "{line}");
}

#[test]
fn once_exits_when_everything_is_published_and_mirrored() {
    let mut settings = settings(&["a", "b"]);
    settings.mirrors.insert(object("copy"), mirror(&[("password", "a/password")]));
    let mut d = Driver::with(settings, ONCE, None);
    d.hold(Kind::Mirror);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(d.exit, None, "the Secret is not written yet");
    d.complete(Kind::Mirror, None, Outcome::Mirrored(Ok(MirrorResult::Updated)));
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(0), ["t1".to_owned()].as_slice()));
    assert!(d.lines(LogLevel::Error).is_empty());
}

#[test]
fn once_keeps_token_with_leases_and_warns_about_early_expiry() {
    let mut d = Driver::once(&["a"]);
    d.login_ok(secs(60));
    d.read("a", Ok(leased("l1", HOUR)));
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
    let warnings = d.lines(LogLevel::Warn);
    assert!(warnings.iter().any(|line| line.contains("in 60s, before their lease of 3600s")), "{warnings:?}");
}

#[test]
fn failed_once_revokes_token_and_leases() {
    let mut d = Driver::once(&["a", "b"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l1", HOUR)));
    d.serve(secs(5), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(not_found()))));
    failed(&d, 66, "failed with SecretNotFound");
    assert_eq!(d.revoked, ["t1"]);
}

#[test]
fn once_gives_up_early_on_permanent_failure() {
    let refusals: [(fn() -> Failure, u8); 2] = [
        (|| failure(FailureClass::Denied, Reason::LoginRefused), 77),
        (|| failure(FailureClass::Invalid, Reason::InvalidRequest), 64),
    ];
    for (refusal, code) in refusals {
        let mut d = Driver::once(&["a"]);
        d.serve(secs(5), |op| matches!(op, Op::LogIn { .. }).then(|| Outcome::LoggedIn(Err(refusal()))));
        failed(&d, code, "gave up: failed with");
    }
}

#[test]
fn once_retries_unreachable_vault_until_deadline() {
    let mut d = Driver::once(&["a"]);
    d.serve(secs(29), |op| matches!(op, Op::LogIn { .. }).then(|| Outcome::LoggedIn(Err(unreachable()))));
    assert_eq!(d.exit, None);
    d.serve(secs(1), |_| None);
    d.advance(secs(8));
    failed(&d, 69, "gave up after 30s: failed with VaultUnreachable");
}

#[test]
fn once_reports_that_vault_never_answered() {
    let mut d = Driver::once(&["a"]);
    d.advance(secs(38));
    failed(&d, 69, "gave up after 30s: no answer");
}

#[test]
fn once_retries_credential_that_is_not_valid_yet() {
    let mut d = Driver::once(&["a"]);
    d.serve(secs(12), |op| {
        // The clock of Vault is behind the clock of the issuer.
        matches!(op, Op::LogIn { .. })
            .then(|| Outcome::LoggedIn(Err(failure(FailureClass::Transient, Reason::LoginRefused))))
    });
    assert_eq!(d.exit, None);
    d.serve(secs(10), |op| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("t1", HOUR)))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        _ => None,
    });
    assert_eq!(d.exit, Some(0));
}

#[test]
fn once_retries_standby_that_does_not_know_token() {
    let mut d = Driver::once(&["a"]);
    d.login_ok(HOUR);
    d.serve(secs(3), |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Err(forbidden()))),
        _ => None,
    });
    assert_eq!(d.exit, None);
    d.serve(secs(5), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")])))));
    assert_eq!((d.exit, d.count(Kind::LogIn)), (Some(0), 1));
}

#[test]
fn once_names_missing_policy() {
    let mut d = Driver::once(&["a"]);
    d.login_ok(HOUR);
    d.serve(secs(10), |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Err(forbidden()))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Ok(info(Some(HOUR), true)))),
        _ => None,
    });
    failed(&d, 77, "the path is wrong, or this policy rule is missing: path \"secret/data/b\"");
}

#[test]
fn once_names_missing_key() {
    let mut settings = settings(&["a"]);
    settings.outputs = vec![key("a", "password", "password")];
    let mut d = Driver::with(settings, ONCE, None);
    d.login_ok(HOUR);
    d.serve(secs(10), |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("other", "x")])))));
    failed(&d, 66, "password");
}

#[test]
fn once_names_foreign_secret_and_full_volume() {
    let mut settings = settings(&["a"]);
    settings.mirrors.insert(object("copy"), mirror(&[("password", "a/password")]));
    let mut d = Driver::with(settings, ONCE, None);
    d.hold(Kind::Mirror);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    while d.is_open(Kind::Mirror) {
        d.complete(Kind::Mirror, None, Outcome::Mirrored(Err(failure(FailureClass::Denied, Reason::Foreign))));
        d.advance(secs(2));
    }
    failed(&d, 73, "failed with Foreign");

    let mut d = Driver::once(&["a"]);
    d.hold(Kind::Publish);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    while d.exit.is_none() {
        if d.is_open(Kind::Publish) {
            d.complete(Kind::Publish, None, Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace))));
        }
        d.advance(secs(1));
    }
    failed(&d, 74, "gave up after 30s: failed with NoSpace");
}

#[test]
fn once_gives_up_at_first_lease_that_cannot_be_rendered() {
    let mut settings = settings(&["a"]);
    settings.outputs = vec![key("a", "absent", "file")];
    let mut d = Driver::with(settings, ONCE, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l", HOUR)));
    d.advance(secs(2));
    failed(&d, 66, "has no key \"absent\"");
    assert_eq!((d.revoked.as_slice(), d.count(Kind::Read)), (["t1".to_owned()].as_slice(), 1));
}

/// The log lines about the expiry of credentials.
fn expiry(d: &Driver) -> Vec<&str> {
    d.log.iter().map(|entry| entry.message.as_str()).filter(|message| message.contains("credentials of")).collect()
}

#[test]
fn once_logs_when_its_credentials_expire() {
    let mut d = Driver::once(&["a"]);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l", secs(600))));
    assert_eq!(
        expiry(&d),
        ["the credentials of source a expire in 600s, because no process replaces them after `once`"]
    );
    let mut d = Driver::once(&["a"]);
    d.login_ok(secs(60));
    d.read("a", Ok(leased("l", secs(600))));
    let lines = expiry(&d);
    let [line] = lines[..] else { panic!("{lines:?}") };
    assert!(line.starts_with("the credentials of source a expire with the Vault token in 60s, before their lease"));

    // A token without leases is revoked, and its certificates and identity tokens stay valid.
    let mut d = Driver::once(&["a"]);
    d.login_ok(secs(60));
    d.read("a", Ok(issued(Validity::Expires(secs(600)), &[("token", "x")])));
    assert_eq!(expiry(&d).len(), 1);
    assert!(expiry(&d)[0].contains("in 600s"), "{:?}", expiry(&d));

    let mut d = Driver::once(&["a"]);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "one")]);
    assert!(expiry(&d).is_empty());
    let mut d = Driver::with(settings(&["a"]), Mode::Once { deadline: secs(30), checkpoint: true }, None);
    d.login_ok(HOUR);
    d.read("a", Ok(leased("l", secs(600))));
    assert!(expiry(&d).is_empty(), "the next process renews the lease");
}

#[test]
fn stopped_once_exits_with_143() {
    let mut d = Driver::once(&["a"]);
    d.login_ok(HOUR);
    d.input(Input::Terminate);
    assert_eq!((d.exit, d.revoked.as_slice()), (Some(143), ["t1".to_owned()].as_slice()));
}

#[test]
fn once_does_not_revoke_supplied_token() {
    let mut d = Driver::once(&["a"]);
    d.login(Ok(Session { self_issued: false, ..session("supplied", HOUR) }));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!((d.exit, d.revoked.len()), (Some(0), 0));
}
