//! A start without Vault: the seed is used while Vault is away, and only then.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, failure, forbidden, mirror, name, not_found, object, secs, settings, source, unreachable,
};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome};
use crate::model::{
    AdoptedSet, ConditionStatus, ConditionType, Failure, FailureClass, Reason, Seed, SeedData, Settings,
};

const RUN: Mode = Mode::Run { checkpoint: false, app_container: false };
const ONCE: Mode = Mode::Once { deadline: Duration::from_secs(30), checkpoint: false };

/// The settings with a seed that holds each file under its own path.
fn with_seed(settings: Settings) -> Settings {
    Settings { seed: Some(Seed { directory: "/seed".into(), mirror: None, after: secs(10) }), ..settings }
}

fn seed_of(files: &[&str]) -> SeedData {
    files.iter().map(|file| ((*file).to_owned(), Arc::new("old".into()))).collect()
}

const COMPLETE: [&str; 2] = ["a/password", "b/password"];

/// A start with sources `a` and `b` at which Vault is away for 10 s.
fn away(mode: Mode) -> Driver {
    let mut d = Driver::with(with_seed(settings(&["a", "b"])), mode, None);
    d.serve(secs(10), outage);
    d
}

/// The answers of a Vault that is away.
fn outage(op: &Op) -> Option<Outcome> {
    match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(unreachable()))),
        Op::Read { .. } => Some(Outcome::Read(Err(failure(FailureClass::Transient, Reason::Sealed)))),
        _ => None,
    }
}

#[track_caller]
fn seed_read(d: &mut Driver, result: Result<SeedData, Failure>) {
    d.complete(Kind::ReadSeed, None, Outcome::SeedRead(result));
}

fn seeded(mode: Mode) -> Driver {
    let mut d = away(mode);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d
}

/// A restart of the agent with the visible set of this process.
fn restarted(d: &Driver, settings: Settings, mode: Mode) -> Driver {
    let visible = d.agent.parts.publication.visible().expect("a set is published");
    let (files, manifest) = (visible.files.clone(), visible.manifest.clone());
    let published = jiff::Timestamp::from_second(1000).expect("a time");
    let mut next = Driver::with(settings, mode, Some(AdoptedSet { files, manifest, published }));
    next.files = d.files.clone();
    next
}

#[test]
fn pod_starts_from_seed_while_vault_is_away() {
    let d = seeded(RUN);
    assert!(d.agent.is_ready() && d.agent.is_seeded());
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), Some("old")));
    assert_eq!(d.ready(), (ConditionStatus::True, Reason::Seeded));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Seeded));
    let message = d.message(ConditionType::SecretsFresh);
    assert!(message.contains("a; b") && message.contains("VaultUnreachable"), "{message}");
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.starts_with("no answer from Vault for 10s: failed")));
    assert!(d.has_warning_event(Reason::Seeded));
}

#[test]
fn seed_is_not_read_before_its_time() {
    let mut d = Driver::with(with_seed(settings(&["a"])), RUN, None);
    d.serve(secs(9), outage);
    assert_eq!(d.count(Kind::ReadSeed), 0);
    d.serve(secs(1), outage);
    assert_eq!(d.count(Kind::ReadSeed), 1);
}

#[test]
fn seed_is_read_while_first_request_has_no_answer() {
    let mut d = Driver::with(with_seed(settings(&["a"])), RUN, None);
    d.advance(secs(10));
    assert!(d.is_open(Kind::ReadSeed) && d.is_open(Kind::LogIn), "a frozen server");
}

#[test]
fn vault_that_freezes_after_login_is_away() {
    let mut d = Driver::with(with_seed(settings(&["a", "b"])), RUN, None);
    d.advance(secs(5));
    d.login_ok(HOUR);
    d.advance(secs(9));
    assert_eq!(d.count(Kind::ReadSeed), 0, "the last answer is 9 s old");
    d.read_ok("a", 1, &[("password", "new")]);
    d.advance(secs(10));
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), Some("old")), "a has been read");
    assert!(d.message(ConditionType::SecretsFresh).contains("a copy from the seed: b"));
}

#[test]
fn seed_is_never_used_if_vault_refuses() {
    for refusal in [
        failure(FailureClass::Denied, Reason::LoginRefused),
        failure(FailureClass::Invalid, Reason::InvalidRequest),
        failure(FailureClass::Transient, Reason::LoginRefused),
    ] {
        let mut d = Driver::with(with_seed(settings(&["a"])), RUN, None);
        d.login(Err(refusal));
        // Even if Vault is away after that.
        d.serve(MINUTE * 30, outage);
        assert_eq!(d.count(Kind::ReadSeed), 0);
    }
    let refusals = [not_found(), forbidden(), failure(FailureClass::Invalid, Reason::InvalidRequest)];
    for refusal in refusals {
        let mut d = Driver::with(with_seed(settings(&["a", "b"])), RUN, None);
        d.login_ok(HOUR);
        d.read("a", Err(refusal));
        d.serve(MINUTE * 30, outage);
        assert_eq!(d.count(Kind::ReadSeed), 0);
    }
}

#[test]
fn success_ends_refusal() {
    let mut d = Driver::with(with_seed(settings(&["a"])), RUN, None);
    d.login_refused();
    d.serve(secs(5), |op| {
        matches!(op, Op::LogIn { .. }).then(|| Outcome::LoggedIn(Ok(super::fixtures::session("t1", HOUR))))
    });
    d.serve(MINUTE, outage);
    assert_eq!(d.count(Kind::ReadSeed), 1);
}

#[test]
fn seed_is_not_used_because_of_local_failure() {
    let mut d = Driver::with(with_seed(settings(&["a"])), RUN, None);
    d.serve(MINUTE, |op| {
        let local = failure(FailureClass::Local, Reason::CredentialUnreadable);
        matches!(op, Op::LogIn { .. }).then_some(Outcome::LoggedIn(Err(local)))
    });
    assert_eq!(d.count(Kind::ReadSeed), 0);
}

#[test]
fn answer_during_read_of_seed_has_priority() {
    let mut d = away(RUN);
    d.advance(MINUTE);
    d.login_ok(HOUR);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert_eq!(d.count(Kind::Publish), 0);
    d.read("a", Err(not_found()));
    d.serve(MINUTE, outage);
    assert_eq!((d.count(Kind::Publish), d.count(Kind::ReadSeed)), (0, 1));
}

#[test]
fn refusal_before_publication_drops_seed() {
    let full = |op: &Op, login: Failure| match op {
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Err(login))),
        Op::Publish { .. } => Some(Outcome::Published(Err(failure(FailureClass::Local, Reason::NoSpace)))),
        _ => None,
    };
    let mut d = away(RUN);
    d.hold(Kind::Publish);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d.serve(MINUTE, |op| full(op, unreachable()));
    assert!(d.count(Kind::Publish) > 1, "the volume is full");
    d.serve(MINUTE * 2, |op| full(op, failure(FailureClass::Denied, Reason::LoginRefused)));
    d.release(Kind::Publish);
    let before = d.count(Kind::Publish);
    d.serve(MINUTE * 10, outage);
    assert_eq!((d.count(Kind::Publish), d.agent.is_ready()), (before, false));
}

#[test]
fn incomplete_seed_is_read_again_until_it_is_complete() {
    let mut d = away(RUN);
    seed_read(&mut d, Ok(SeedData::new()));
    assert_eq!((d.count(Kind::Publish), d.ready().0), (0, ConditionStatus::False));
    assert_eq!(d.ready().1, Reason::VaultUnreachable);
    let message = d.message(ConditionType::SecretsReady);
    assert!(message.contains("VaultUnreachable; failed to use seed /seed: the directory is empty"), "{message}");
    d.serve(MINUTE, outage);
    seed_read(&mut d, Ok(seed_of(&["a/password"])));
    assert_eq!(d.count(Kind::Publish), 0);
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.contains("source b is required, but")));
    d.serve(MINUTE, outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert!(d.agent.is_seeded());
}

#[test]
fn each_source_replaces_its_files_of_the_seed() {
    let mut d = seeded(RUN);
    d.advance(MINUTE);
    d.login_ok(HOUR);
    d.read_ok("a", 7, &[("password", "new")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), Some("old")));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Seeded));
    d.read("b", Err(forbidden()));
    assert_eq!(d.file("b/password"), Some("old"), "a refusal removes nothing from a running pod");
    d.look_up(Ok(super::fixtures::info(None, false)));
    d.advance(MINUTE);
    d.read_ok("b", 7, &[("password", "new")]);
    assert_eq!((d.ready().1, d.fresh().1), (Reason::Published, Reason::Fresh));
    assert!(!d.agent.is_seeded());
}

#[test]
fn files_of_seed_are_not_mirrored() {
    let mut settings = with_seed(settings(&["a", "b"]));
    settings.mirrors.insert(object("all"), mirror(&[("a", "a/password"), ("b", "b/password")]));
    settings.mirrors.insert(object("of-a"), mirror(&[("a", "a/password")]));
    let mut d = Driver::with(settings, RUN, None);
    d.serve(secs(10), outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d.refresh();
    d.advance(MINUTE * 5);
    assert_eq!(d.count(Kind::Mirror), 0);
    assert_eq!(d.mirrored(), (ConditionStatus::False, Reason::Seeded));
    d.login_ok(HOUR);
    d.read_ok("a", 7, &[("password", "new")]);
    assert_eq!(d.count(Kind::Mirror), 1, "the Secret that has only files of a");
    d.read_ok("b", 7, &[("password", "new")]);
    d.advance(secs(1));
    assert_eq!(d.mirrored(), (ConditionStatus::True, Reason::Mirrored));
}

#[test]
fn seed_with_equal_content_is_mirrored_after_it_is_read() {
    let mut settings = with_seed(settings(&["a"]));
    settings.mirrors.insert(object("all"), mirror(&[("a", "a/password")]));
    let mut d = Driver::with(settings, RUN, None);
    d.serve(secs(10), outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d.advance(MINUTE);
    d.login_ok(HOUR);
    d.read_ok("a", 7, &[("password", "old")]);
    assert_eq!((d.count(Kind::Mirror), d.mirrored().0), (1, ConditionStatus::True));
}

#[test]
fn restarted_agent_knows_that_files_are_of_the_seed() {
    let mut settings = with_seed(settings(&["a", "b"]));
    settings.mirrors.insert(object("all"), mirror(&[("a", "a/password"), ("b", "b/password")]));
    let mut d = restarted(&seeded(RUN), settings.clone(), RUN);
    d.serve(MINUTE * 5, outage);
    assert_eq!((d.ready().1, d.fresh().1, d.mirrored().1), (Reason::Seeded, Reason::Seeded, Reason::Seeded));
    assert_eq!((d.count(Kind::Mirror), d.count(Kind::ReadSeed)), (0, 0));
    d.advance(MINUTE);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "new")]);
    let mut d = restarted(&d, settings, RUN);
    assert_eq!(d.fresh().1, Reason::Seeded, "b is still of the seed");
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "new")]);
    d.read_ok("b", 1, &[("password", "new")]);
    d.advance(secs(1));
    assert_eq!((d.fresh().1, d.mirrored().1), (Reason::Fresh, Reason::Mirrored));
}

#[test]
fn once_succeeds_with_seed_and_warns() {
    let mut d = seeded(ONCE);
    d.advance(secs(1));
    assert_eq!(d.exit, Some(0));
    assert!(d.lines(LogLevel::Warn).iter().any(|line| line.contains("files of seed /seed, which can be outdated")));
    let mut d = restarted(&d, with_seed(settings(&["a", "b"])), ONCE);
    d.serve(secs(10), outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d.advance(secs(1));
    assert_eq!(d.exit, Some(0), "a restarted init container uses the seed again");
}

#[test]
fn optional_source_of_seed_does_not_delay_the_start() {
    let mut optional = with_seed(settings(&["a", "b"]));
    optional.sources.get_mut(&name("b")).expect("b").required = false;
    let mut d = Driver::with(optional.clone(), RUN, None);
    d.serve(secs(10), outage);
    seed_read(&mut d, Ok(seed_of(&["a/password"])));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), None));

    let mut d = Driver::with(optional, RUN, None);
    d.login_ok(HOUR);
    d.read("b", Err(not_found()));
    d.serve(MINUTE, outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), None), "Vault has no such secret");
}

#[test]
fn optional_source_loses_files_of_seed_if_secret_not_found() {
    let mut optional = with_seed(settings(&["a", "b"]));
    optional.sources.get_mut(&name("b")).expect("b").required = false;
    let mut d = Driver::with(optional, RUN, None);
    d.serve(secs(10), outage);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    d.advance(MINUTE);
    d.login_ok(HOUR);
    d.read("b", Err(not_found()));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), None));
}

#[test]
fn reload_before_publication_reads_seed_again() {
    let mut d = away(RUN);
    let mut other = with_seed(settings(&["a", "b"]));
    other.seed.as_mut().expect("a seed").directory = "/other".into();
    d.config(other);
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert_eq!(d.count(Kind::Publish), 0, "the result is of the previous seed");
    d.advance(secs(1));
    seed_read(&mut d, Ok(seed_of(&COMPLETE)));
    assert!(d.agent.is_seeded());
}

#[test]
fn reload_keeps_files_of_seed_until_source_is_read() {
    let mut d = seeded(RUN);
    let mut moved = with_seed(settings(&["a", "b"]));
    moved.sources.insert(name("a"), source("secret/other"));
    moved.directory.path = "/elsewhere".into();
    d.config(moved);
    d.serve(MINUTE, outage);
    assert_eq!(d.retired, ["/secrets"], "the files are in the new directory");
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), Some("old")));
    assert_eq!((d.ready(), d.fresh().1), ((ConditionStatus::True, Reason::Seeded), Reason::Seeded));
}

#[test]
fn sigterm_with_seed_exits_with_zero() {
    let mut d = seeded(RUN);
    d.input(Input::Terminate);
    d.advance(secs(8));
    assert_eq!(d.exit, Some(0));
}
