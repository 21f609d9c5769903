//! Reloads: activation, rejection, and withdrawal of a configuration.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, each_key, failure, forbidden, info, key, name, not_found, secs, settings, source};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, ConditionType, EventType, FailureClass, Reason};

#[test]
fn withdrawn_invalid_configuration_clears_config_rejected() {
    let mut d = Driver::published(&["a"]);
    d.input(Input::ConfigInvalid("sources.a.path: is missing".into()));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    assert!(d.message(ConditionType::SecretsFresh).contains("sources.a.path: is missing"));
    assert!(d.has_warning_event(Reason::ConfigRejected) && d.agent.is_config_rejected());
    d.config(settings(&["a"]));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    assert!(!d.agent.is_config_rejected());
}

#[test]
fn valid_configuration_clears_config_rejected() {
    let mut d = Driver::published(&["a"]);
    d.input(Input::ConfigInvalid("nonsense".into()));
    let mut other = settings(&["a"]);
    other.drain = secs(3);
    d.config(other);
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    assert!(d.events.iter().any(|event| event.reason == Reason::ConfigReloaded && event.kind == EventType::Normal));
}

#[test]
fn repeated_invalid_configuration_is_logged_once() {
    let mut d = Driver::published(&["a"]);
    for _ in 0..5 {
        d.input(Input::ConfigInvalid("nonsense".into()));
    }
    assert_eq!(d.log.iter().filter(|line| line.reason == Some(Reason::ConfigRejected)).count(), 1);
}

#[test]
fn added_source_is_pending_and_delays_no_other() {
    let mut d = Driver::published(&["a"]);
    d.config(settings(&["a", "new"]));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Pending));
    assert_eq!(d.ready().0, ConditionStatus::True);
    d.read("new", Err(forbidden()));
    d.look_up(Ok(info(Some(MINUTE), true)));
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!(d.file("a/password"), Some("two"), "the failure of the new source does not affect a");
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Denied));
    d.read_ok("new", 1, &[("password", "one")]);
    assert_eq!((d.file("new/password"), d.fresh().0), (Some("one"), ConditionStatus::True));
}

#[test]
fn adding_valid_source_emits_no_warning() {
    let mut d = Driver::published(&["a"]);
    d.config(settings(&["a", "new"]));
    d.read_ok("new", 1, &[("password", "one")]);
    assert!(d.events.iter().all(|event| event.kind == EventType::Normal), "{:?}", d.events);
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}

#[test]
fn added_missing_optional_source_keeps_condition_true() {
    let mut d = Driver::published(&["a"]);
    let mut more = settings(&["a", "new"]);
    more.sources.get_mut(&name("new")).expect("new").required = false;
    d.config(more);
    d.read("new", Err(not_found()));
    assert_eq!(d.fresh().0, ConditionStatus::True);
}

#[test]
fn moved_source_keeps_files_until_new_path_is_read() {
    let mut d = Driver::published(&["a", "b"]);
    let mut moved = settings(&["a", "b"]);
    moved.sources.insert(name("b"), source("secret/other"));
    d.config(moved);
    d.read("b", Err(not_found()));
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("two"), Some("one")));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::SecretNotFound), "the new path has not been read");
    d.read_ok("b", 1, &[("password", "moved")]);
    assert_eq!((d.file("b/password"), d.fresh().0), (Some("moved"), ConditionStatus::True));
}

#[test]
fn added_output_that_cannot_be_rendered_affects_no_other() {
    let mut d = Driver::published(&["a", "b"]);
    let mut more = settings(&["a", "b"]);
    more.outputs.push(key("b", "absent", "extra"));
    d.config(more);
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::RenderFailed));
    assert!(d.message(ConditionType::SecretsFresh).contains("absent"));
    d.refresh();
    d.read_ok("b", 2, &[("password", "two")]);
    d.read_ok("a", 2, &[("password", "two")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("two"), Some("two")));
    d.advance(secs(1));
    d.refresh();
    d.read_ok("b", 3, &[("password", "two"), ("absent", "here")]);
    assert_eq!((d.file("extra"), d.fresh().0), (Some("here"), ConditionStatus::True));
}

#[test]
fn reload_removes_files_of_removed_source() {
    let mut d = Driver::published(&["a", "b"]);
    d.config(settings(&["a"]));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("one"), None));
}

#[test]
fn changed_outputs_are_published_without_read() {
    let mut d = Driver::published(&["a"]);
    let reads = d.count(Kind::Read);
    let mut other = settings(&["a"]);
    other.outputs = vec![key("a", "password", "secret.txt"), each_key("a")];
    d.config(other);
    assert_eq!((d.file("secret.txt"), d.count(Kind::Read)), (Some("one"), reads));
}

#[test]
fn changed_timeout_keeps_session() {
    let mut d = Driver::published(&["a"]);
    let mut other = settings(&["a"]);
    other.server.timeout = secs(20);
    d.config(other);
    d.refresh();
    let (ticket, op) = d.take(Kind::Read, Some("a"));
    let Op::Read { settings, token, .. } = op else { panic!() };
    assert_eq!(
        (settings.server.timeout, token.expose()),
        (secs(20), b"t1".as_slice()),
        "the old token, the new timeout"
    );
    d.input(Input::Completed(ticket, Outcome::Read(Err(failure(FailureClass::Transient, Reason::ServerError)))));
    assert_eq!((d.count(Kind::LogIn), d.revoked.len()), (1, 0));
}

#[test]
fn token_lookup_uses_active_connection_settings() {
    let mut d = Driver::published(&["a"]);
    let mut other = settings(&["a"]);
    other.server.timeout = secs(20);
    d.config(other);
    d.refresh();
    d.read("a", Err(forbidden()));
    let (_, op) = d.take(Kind::LookUp, None);
    let Op::LookUp { settings, .. } = op else { panic!() };
    assert_eq!(settings.server.timeout, secs(20), "the active settings, not those of the login");
}

#[test]
fn changed_file_mode_and_size_limit_apply_immediately() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    let mut other = settings(&["a"]);
    other.directory.file_mode = crate::model::Mode::new(0o400).ok();
    other.directory.max_bytes = Some(1000);
    d.config(other.clone());
    let (_, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!("the set is published again") };
    assert_eq!(directory, other.directory);
}

#[test]
fn changed_login_before_first_set_applies_immediately() {
    let mut d = Driver::run(&["a"]);
    d.login_ok(MINUTE);
    let mut other = settings(&["a"]);
    other.auth.mount = "other".into();
    d.config(other);
    assert_eq!(d.revoked, ["t1"], "no set is visible yet");
    d.login_ok(MINUTE);
    let late = d.take(Kind::Read, Some("a"));
    d.input(Input::Completed(late.0, Outcome::Read(Err(forbidden()))));
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!(d.file("a/password"), Some("one"));
}

#[test]
fn session_of_superseded_login_is_revoked_on_arrival() {
    let mut d = Driver::run(&["a"]);
    let (ticket, _) = d.take(Kind::LogIn, None);
    let mut other = settings(&["a"]);
    other.auth.mount = "other".into();
    d.config(other);
    d.input(Input::Completed(ticket, Outcome::LoggedIn(Ok(super::fixtures::session("old", MINUTE)))));
    assert_eq!(d.revoked, ["old"]);
    d.login_ok(MINUTE);
    d.read_ok("a", 1, &[("password", "one")]);
    assert_eq!(d.file("a/password"), Some("one"));
}

#[test]
fn first_set_does_not_mix_two_servers() {
    let mut d = Driver::run(&["a", "b"]);
    d.login_ok(MINUTE);
    d.read_ok("a", 7, &[("password", "of the first")]);
    let late = d.take(Kind::Read, Some("b"));
    let mut other = settings(&["a", "b"]);
    other.server.address = "https://other:8200".into();
    d.config(other);
    d.login_ok(MINUTE);
    d.input(Input::Completed(late.0, Outcome::Read(Ok(super::fixtures::reading(1, &[("password", "of the first")])))));
    d.read_ok("b", 1, &[("password", "of the second")]);
    assert!(d.files.is_empty());
    d.read_ok("a", 2, &[("password", "of the second")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("of the second"), Some("of the second")));
}

#[test]
fn late_reading_of_old_path_is_ignored_after_source_moves() {
    let mut d = Driver::published(&["a"]);
    d.refresh();
    let (old, _) = d.take(Kind::Read, Some("a"));
    let mut moved = settings(&["a"]);
    moved.sources.insert(name("a"), source("secret/other"));
    d.config(moved);
    assert!(!d.is_reading("a"));
    d.input(Input::Completed(old, Outcome::Read(Ok(super::fixtures::reading(9, &[("password", "old place")])))));
    d.read_ok("a", 1, &[("password", "new place")]);
    assert_eq!(d.file("a/password"), Some("new place"));
}
