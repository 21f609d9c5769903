//! Mirrored Secrets and their condition.

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, leased, mirror, name, object, optional_key, reading, secs, settings,
};
use crate::agent::{Input, MirrorRequest, MirrorResult, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, Failure, FailureClass, Reason, Settings};

/// Settings with a mirrored source `cert` and another source `cfg`.
fn mirrored() -> Settings {
    let mut settings = settings(&["cert", "cfg"]);
    settings.mirrors.insert(object("tls"), mirror(&[("crt", "cert/password")]));
    settings
}

fn published() -> Driver {
    Driver::published_with(mirrored())
}

fn take(d: &mut Driver) -> (crate::agent::Ticket, Box<MirrorRequest>) {
    match d.take(Kind::Mirror, None) {
        (ticket, Op::Mirror { content, .. }) => (ticket, content),
        _ => unreachable!("the kind is Mirror"),
    }
}

fn answer(d: &mut Driver, result: Result<MirrorResult, Failure>) -> Box<MirrorRequest> {
    let (ticket, content) = take(d);
    d.input(Input::Completed(ticket, Outcome::Mirrored(result)));
    content
}

fn keep_fresh(op: &Op) -> Option<Outcome> {
    matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))))
}

#[test]
fn mirror_contains_versions_of_its_own_sources_only() {
    let mut d = published();
    d.hold(Kind::Mirror);
    d.refresh();
    answer(&mut d, Ok(MirrorResult::Unchanged));
    d.read_ok("cert", 2, &[("password", "two")]);
    let content = answer(&mut d, Ok(MirrorResult::Updated));
    assert_eq!(content.versions.keys().cloned().collect::<Vec<_>>(), [name("cert")], "cfg is not part of the mirror");
    assert_eq!(content.data["crt"].expose(), b"two");
}

#[test]
fn optional_key_leaves_the_mirror_with_the_version_that_lacks_it() {
    let mut settings = settings(&["cert", "cfg"]);
    settings.outputs.push(optional_key("cfg", "extra", "extra"));
    let mut mirror = mirror(&[("crt", "cert/password"), ("extra", "extra")]);
    mirror.keys[1].optional = Some(name("cfg"));
    settings.mirrors.insert(object("tls"), mirror);
    let mut d = Driver::with(settings, RUN, None);
    d.hold(Kind::Mirror);
    d.login_ok(HOUR);
    d.read_ok("cert", 1, &[("password", "one")]);
    d.read_ok("cfg", 1, &[("extra", "e")]);
    let content = answer(&mut d, Ok(MirrorResult::Created));
    assert!(content.data.keys().eq(["crt", "extra"]));
    d.refresh();
    answer(&mut d, Ok(MirrorResult::Unchanged));
    d.read_ok("cfg", 2, &[("password", "two")]);
    let content = answer(&mut d, Ok(MirrorResult::Updated));
    assert!(content.data.keys().eq(["crt"]));
    // A replica that still has version 1 must not add the key again.
    assert_eq!(content.versions[&name("cfg")].1.number, Some(2));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn optional_key_stays_in_the_mirror_until_its_source_is_read() {
    let mut settings = settings(&["cert", "cfg"]);
    settings.outputs[1] = optional_key("cfg", "extra", "extra");
    settings.sources.get_mut(&name("cfg")).expect("cfg").required = false;
    let mut mirror = mirror(&[("crt", "cert/password"), ("extra", "extra")]);
    mirror.keys[1].optional = Some(name("cfg"));
    settings.mirrors.insert(object("tls"), mirror);
    let mut d = Driver::with(settings, RUN, None);
    d.hold(Kind::Mirror);
    d.login_ok(HOUR);
    d.read_ok("cert", 1, &[("password", "one")]);
    d.read("cfg", Err(failure(FailureClass::Unreachable, Reason::VaultUnreachable)));
    d.serve(secs(6), |op| {
        let failed = failure(FailureClass::Unreachable, Reason::VaultUnreachable);
        matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(failed)))
    });
    assert_eq!(d.ready().0, ConditionStatus::True, "the set does not wait longer for an optional source");
    assert_eq!((d.mirrored(), d.count(Kind::Mirror)), ((ConditionStatus::False, Reason::RenderFailed), 0));
    d.serve(MINUTE, keep_fresh);
    let content = answer(&mut d, Ok(MirrorResult::Updated));
    assert!(content.data.keys().eq(["crt"]));
}

#[test]
fn mirrored_secret_is_compared_every_minute() {
    let mut d = published();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, keep_fresh);
    answer(&mut d, Ok(MirrorResult::Updated));
    d.serve(MINUTE, keep_fresh);
    answer(&mut d, Ok(MirrorResult::Unchanged));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn repaired_secret_is_reported_with_warning() {
    let mut d = published();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, keep_fresh);
    answer(&mut d, Ok(MirrorResult::Repaired("edited by \"kubectl-patch\" (keys: crt)".into())));
    let expected = "Secret tls was edited by \"kubectl-patch\" (keys: crt); keyferry restored the published set";
    assert!(d.log.iter().any(|line| line.reason == Some(Reason::Drifted) && line.message.starts_with(expected)));
    assert!(d.has_warning_event(Reason::Drifted));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn recreated_secret_is_reported_but_first_one_is_not() {
    let recreated =
        |d: &Driver| d.events.iter().any(|event| event.message.ends_with("was deleted; keyferry re-created it"));
    let mut d = Driver::with(mirrored(), RUN, None);
    d.hold(Kind::Mirror);
    d.login_ok(HOUR);
    d.read_ok("cert", 1, &[("password", "one")]);
    d.read_ok("cfg", 1, &[("password", "one")]);
    answer(&mut d, Ok(MirrorResult::Created));
    d.serve(MINUTE, keep_fresh);
    assert!(!recreated(&d));
    answer(&mut d, Ok(MirrorResult::Created));
    d.serve(secs(10), keep_fresh);
    assert!(recreated(&d));
}

#[test]
fn condition_reports_drifted_and_foreign_secret() {
    for reason in [Reason::Drifted, Reason::Foreign] {
        let mut d = published();
        d.hold(Kind::Mirror);
        d.serve(MINUTE, keep_fresh);
        answer(&mut d, Err(failure(FailureClass::Denied, reason)));
        assert_eq!(d.mirrored(), (ConditionStatus::False, reason));
        assert!(d.has_warning_event(reason));
        assert_eq!(
            (d.ready().0, d.fresh().0),
            (ConditionStatus::True, ConditionStatus::True),
            "files are not affected"
        );
        d.refresh();
        d.read_ok("cfg", 2, &[("password", "two")]);
        assert_eq!(d.file("cfg/password"), Some("two"));
        d.advance(secs(1));
        answer(&mut d, Ok(MirrorResult::Updated));
        assert_eq!(d.mirrored().0, ConditionStatus::True);
    }
}

#[test]
fn superseded_secret_is_not_reported_as_mirrored() {
    let mut d = published();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, keep_fresh);
    answer(&mut d, Ok(MirrorResult::Superseded));
    assert_eq!(d.mirrored(), (ConditionStatus::False, Reason::Superseded));
    assert!(d.is_reading("cert"), "the newer version of the other replica is read");
    d.read_ok("cert", 2, &[("password", "two")]);
    answer(&mut d, Ok(MirrorResult::Unchanged));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn superseding_version_is_overwritten_after_tolerance_if_vault_lacks_it() {
    let mut d = published();
    d.hold(Kind::Mirror);
    let mut accepted = None;
    while d.at < MINUTE * 12 && accepted.is_none() {
        d.serve(secs(10), keep_fresh);
        while d.is_open(Kind::Mirror) {
            let content = answer(&mut d, Ok(MirrorResult::Superseded));
            accepted = accepted.or(content.accept_older.then_some(d.at));
        }
    }
    let at = accepted.expect("the older version is accepted");
    assert!((MINUTE * 5..MINUTE * 8).contains(&at), "{at:?}");
}

#[test]
fn conflicting_configurations_rarely_overwrite_each_other() {
    let mut d = published();
    d.hold(Kind::Mirror);
    let conflict = || failure(FailureClass::Denied, Reason::MirrorConflict);
    d.serve(MINUTE, keep_fresh);
    let first = answer(&mut d, Err(conflict()));
    assert!(!first.claim, "this configuration wrote the Secret last");
    assert_eq!(d.mirrored(), (ConditionStatus::False, Reason::MirrorConflict));
    let mut claims = 0;
    while d.at < HOUR {
        d.serve(secs(30), keep_fresh);
        while d.is_open(Kind::Mirror) {
            let claim = take_claim(&mut d, conflict());
            claims += usize::from(claim);
        }
    }
    assert!((1..=3).contains(&claims), "{claims} times in an hour");
}

fn take_claim(d: &mut Driver, conflict: Failure) -> bool {
    let (ticket, content) = take(d);
    let result = if content.claim { Ok(MirrorResult::Updated) } else { Err(conflict) };
    d.input(Input::Completed(ticket, Outcome::Mirrored(result)));
    content.claim
}

#[test]
fn leased_value_is_mirrored_only_if_allowed() {
    let mut d = Driver::with(mirrored(), RUN, None);
    d.login_ok(HOUR);
    d.read("cert", Ok(leased("l1", HOUR)));
    d.read_ok("cfg", 1, &[("password", "one")]);
    assert_eq!(d.mirrored(), (ConditionStatus::False, Reason::RenderFailed));
    assert_eq!(d.file("cert/password"), Some("l1"));
    let mut allowed = mirrored();
    allowed.mirrors.get_mut(&object("tls")).expect("tls").allow_leased = true;
    d.config(allowed);
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn denied_mirror_is_retried_slowly_and_logged_once() {
    let mut d = published();
    let before = d.count(Kind::Mirror);
    d.hold(Kind::Mirror);
    for _ in 0..120 {
        d.serve(secs(10), keep_fresh);
        while d.is_open(Kind::Mirror) {
            answer(&mut d, Err(failure(FailureClass::Denied, Reason::Forbidden)));
        }
    }
    assert!(d.count(Kind::Mirror) - before < 45, "{} attempts in 20 minutes", d.count(Kind::Mirror) - before);
    assert_eq!(d.log.iter().filter(|line| line.reason == Some(Reason::Forbidden)).count(), 1);
    assert!(d.message(ConditionType::Mirrored).contains("Forbidden"));
}

#[test]
fn condition_reports_not_configured_without_mirrors() {
    let d = Driver::published(&["a"]);
    assert_eq!(d.mirrored(), (ConditionStatus::Unknown, Reason::NotConfigured));
}

#[test]
fn reload_waits_for_write_in_flight_to_same_secret() {
    let mut d = published();
    d.hold(Kind::Mirror);
    d.serve(MINUTE, keep_fresh);
    let (old, _) = take(&mut d);
    let mut other = mirrored();
    other.mirrors.insert(object("tls"), mirror(&[("other", "cert/password")]));
    d.config(other);
    assert!(!d.is_open(Kind::Mirror), "the write of the previous configuration is in flight");
    d.input(Input::Completed(old, Outcome::Mirrored(Ok(MirrorResult::Updated))));
    assert_ne!(d.mirrored().0, ConditionStatus::True, "the Secret holds the content of the previous configuration");
    let content = answer(&mut d, Ok(MirrorResult::Updated));
    assert!(content.data.contains_key("other"));
    assert_eq!(d.mirrored().0, ConditionStatus::True);
}
