//! A restarted agent adopts the visible set.

use super::driver::{Driver, Kind};
use super::fixtures::{
    HOUR, MINUTE, RUN, name, not_found, reading, secs, set_of_earlier_process, settings, source, unreachable,
};
use crate::agent::{Input, Mode};
use crate::model::{AdoptedSet, ConditionStatus, ConditionType, Reason, Settings, VaultServer};

fn restarted(settings: Settings, mode: Mode) -> Driver {
    let set = set_of_earlier_process(&settings);
    let mut d = Driver::with(settings, mode, Some(set));
    d.files = ["a", "b"].iter().map(|of| (format!("{of}/password"), "old".to_owned())).collect();
    d
}

#[test]
fn restart_during_outage_keeps_pod_ready_and_reports_adopted() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login(Err(unreachable()));
    d.advance(MINUTE * 10);
    assert!(d.agent.is_ready());
    assert_eq!(d.ready(), (ConditionStatus::True, Reason::Adopted));
    assert!(d.message(ConditionType::SecretsReady).contains("1970-01-01T00:16:40Z"), "the time of publication");
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Adopted));
    assert!(d.message(ConditionType::SecretsFresh).contains("VaultUnreachable"));
    assert_eq!(d.count(Kind::Publish), 0, "without a new reading, nothing is published");
}

#[test]
fn adopted_set_becomes_fresh_after_all_sources_are_read() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "old")]);
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Adopted), "b has not been read");
    d.read_ok("b", 2, &[("password", "new")]);
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), Some("new")));
}

#[test]
fn source_is_refreshed_after_restart_while_another_fails() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login_ok(HOUR);
    d.read("b", Err(unreachable()));
    d.read_ok("a", 2, &[("password", "new")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), Some("old")));
}

fn with_optional_b() -> Settings {
    let mut settings = settings(&["a", "b"]);
    settings.sources.get_mut(&name("b")).expect("b").required = false;
    settings
}

#[test]
fn optional_source_keeps_adopted_files_during_transient_failure() {
    let mut d = restarted(with_optional_b(), RUN);
    d.login_ok(HOUR);
    d.read("b", Err(unreachable()));
    d.read_ok("a", 2, &[("password", "new")]);
    d.advance(secs(20));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), Some("old")));
}

#[test]
fn optional_source_loses_adopted_files_if_secret_not_found() {
    let mut d = restarted(with_optional_b(), RUN);
    d.login_ok(HOUR);
    d.read("b", Err(not_found()));
    d.read_ok("a", 1, &[("password", "old")]);
    assert_eq!(d.file("b/password"), None);
}

#[test]
fn optional_source_with_missing_key_keeps_adopted_files() {
    let mut settings = with_optional_b();
    settings.outputs[1] = super::fixtures::key("b", "password", "b/password");
    let mut d = restarted(settings, RUN);
    d.login_ok(HOUR);
    d.read_ok("b", 2, &[("other", "x")]);
    d.read_ok("a", 1, &[("password", "old")]);
    assert_eq!(d.file("b/password"), Some("old"), "the secret exists");
}

/// The configuration of source `a`, moved to another path.
fn moved() -> Settings {
    let mut moved = settings(&["a", "b"]);
    moved.sources.insert(name("a"), source("secret/other"));
    moved
}

#[test]
fn source_that_moved_before_restart_keeps_its_files_until_new_path_is_read() {
    let set = set_of_earlier_process(&settings(&["a", "b"]));
    let mut d = Driver::with(moved(), RUN, Some(set));
    assert!(d.agent.is_ready());
    d.login_ok(HOUR);
    d.read("a", Err(not_found()));
    d.read_ok("b", 2, &[("password", "new")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), Some("new")));
    assert_eq!((d.ready().0, d.fresh().0), (ConditionStatus::True, ConditionStatus::False));
    let manifest = &d.agent.parts.publication.visible().expect("a set is published").manifest;
    assert_eq!(manifest.sources[&name("a")].request, settings(&["a"]).sources[&name("a")].request_id());
    assert_eq!(manifest.layout, None, "the next process adopts the files as outdated");
    d.advance(MINUTE * 20);
    d.read_ok("a", 1, &[("password", "moved")]);
    assert_eq!(d.file("a/password"), Some("moved"), "versions of two paths are not compared");
}

#[test]
fn versions_of_another_server_are_not_compared_after_restart() {
    let server = settings(&["a"]).server;
    for other in [
        VaultServer { address: "https://other:8200".into(), ..server.clone() },
        VaultServer { namespace: Some("other".into()), ..server },
    ] {
        let mut set = set_of_earlier_process(&settings(&["a"]));
        set.manifest.sources.get_mut(&name("a")).expect("known").version = reading(7, &[]).version;
        let mut d = Driver::with(Settings { server: other, ..settings(&["a"]) }, RUN, Some(set));
        assert!(d.agent.is_ready());
        d.login_ok(HOUR);
        d.read_ok("a", 1, &[("password", "new")]);
        assert_eq!(d.file("a/password"), Some("new"));
        assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
    }
}

#[test]
fn source_that_was_added_before_restart_holds_up_no_other() {
    let set = set_of_earlier_process(&settings(&["a"]));
    let mut d = Driver::with(settings(&["a", "b"]), RUN, Some(set));
    assert!(d.agent.is_ready());
    d.login_ok(HOUR);
    d.read("b", Err(not_found()));
    d.read_ok("a", 2, &[("password", "new")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), None));
    assert_eq!(d.ready().0, ConditionStatus::True);
    assert!(d.message(ConditionType::SecretsReady).contains("source b"), "the missing source is named");
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::SecretNotFound));
}

#[test]
fn source_that_was_removed_before_restart_loses_its_files_with_the_first_reading() {
    let set = set_of_earlier_process(&settings(&["a", "b"]));
    let mut d = Driver::with(settings(&["a"]), RUN, Some(set));
    assert!(d.agent.is_ready());
    assert_eq!(d.count(Kind::Publish), 0);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "old")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), None));
}

#[test]
fn changed_outputs_before_two_restarts_keep_the_version() {
    let first = set_of_earlier_process(&settings(&["a", "b"]));
    let mut changed = settings(&["a", "b"]);
    changed.outputs[0].mode = crate::model::Mode::new(0o400).ok();
    let mut d = Driver::with(changed.clone(), RUN, Some(first.clone()));
    d.login_ok(HOUR);
    d.read_ok("b", 2, &[("password", "new")]);
    let visible = d.agent.parts.publication.visible().expect("a set is published");
    let second = AdoptedSet { files: visible.files.clone(), manifest: visible.manifest.clone(), ..first };
    let mut d = Driver::with(changed, RUN, Some(second));
    d.files.insert("a/password".into(), "old".into());
    d.login_ok(HOUR);
    d.read_ok("a", 0, &[("password", "older")]);
    assert_ne!(d.file("a/password"), Some("older"), "a lagging standby does not replace the adopted version");
}

#[test]
fn moved_optional_source_keeps_its_files_if_new_path_does_not_exist() {
    let set = set_of_earlier_process(&with_optional_b());
    let mut moved = with_optional_b();
    moved.sources.get_mut(&name("b")).expect("b").path = "secret/other".into();
    let mut d = Driver::with(moved, RUN, Some(set));
    d.files.insert("b/password".into(), "old".into());
    d.login_ok(HOUR);
    d.read("b", Err(not_found()));
    d.read_ok("a", 2, &[("password", "new")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("new"), Some("old")));
}

#[test]
fn adopted_files_of_other_outputs_give_way() {
    let set = set_of_earlier_process(&settings(&["a", "b"]));
    let mut swapped = settings(&["a", "b"]);
    swapped.outputs[0] = super::fixtures::key("a", "password", "b/password");
    swapped.outputs[1] = super::fixtures::key("b", "password", "a/password");
    let mut d = Driver::with(swapped, RUN, Some(set));
    assert!(d.agent.is_ready());
    d.login_ok(HOUR);
    d.read_ok("a", 2, &[("password", "of a")]);
    assert_eq!(d.file("b/password"), Some("of a"));
    d.read_ok("b", 2, &[("password", "of b")]);
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("of b"), Some("of a")));
}

#[test]
fn set_without_configured_source_is_not_adopted() {
    let set = set_of_earlier_process(&settings(&["a"]));
    let d = Driver::with(settings(&["b"]), RUN, Some(set));
    assert!(!d.agent.is_ready());
}

#[test]
fn once_does_not_adopt_set_of_another_configuration() {
    let set = set_of_earlier_process(&settings(&["a", "b"]));
    let mut d = Driver::with(moved(), Mode::Once { deadline: secs(30), checkpoint: false }, Some(set));
    assert!(!d.agent.is_ready());
    d.login_ok(HOUR);
    d.read_ok("b", 2, &[("password", "new")]);
    assert_eq!(d.count(Kind::Publish), 0, "a is required");
}

#[test]
fn once_with_adopted_set_succeeds_after_reading_every_source() {
    let mut d = restarted(settings(&["a", "b"]), Mode::Once { deadline: secs(30), checkpoint: false });
    assert_eq!(d.exit, None);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "old")]);
    d.advance(secs(1));
    assert_eq!(d.exit, None, "b has not been read");
    d.read_ok("b", 1, &[("password", "old")]);
    assert_eq!(d.exit, Some(0));
}

#[test]
fn sigterm_with_adopted_set_exits_with_zero() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login(Err(unreachable()));
    d.input(Input::Terminate);
    assert_eq!(d.exit, Some(0));
}

#[test]
fn adopted_set_stays_ready_while_reload_corrects_login() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login_refused();
    let mut corrected = settings(&["a", "b"]);
    corrected.auth.mount = "other".into();
    d.config(corrected);
    d.login_ok(HOUR);
    d.read_ok("a", 1, &[("password", "old")]);
    assert_eq!(d.ready(), (ConditionStatus::True, Reason::Adopted));
    d.read_ok("b", 2, &[("password", "new")]);
    assert_eq!((d.ready().0, d.fresh()), (ConditionStatus::True, (ConditionStatus::True, Reason::Fresh)));
    assert_eq!(d.file("b/password"), Some("new"));
}

#[test]
fn reload_removes_adopted_files_of_removed_source() {
    let mut d = restarted(settings(&["a", "b"]), RUN);
    d.login(Err(unreachable()));
    d.config(settings(&["a"]));
    assert_eq!((d.file("a/password"), d.file("b/password")), (Some("old"), None));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::Adopted), "a has not been read yet");
}
