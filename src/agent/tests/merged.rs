//! A file that is merged from two sources.

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, key, name, path, settings, unreachable};
use crate::agent::LogLevel;
use crate::model::{
    AdoptedSet, ConditionStatus, FileFormat, KeySelection, MergeItem, Output, OutputKind, Reason, Settings,
};

const FILE: &str = "app.env";

/// The sources `app`, with its own file, and `db`, and the merged file.
fn with_merged() -> Settings {
    let item = |of, under: &[&str]| MergeItem {
        source: name(of),
        under: under.iter().map(ToString::to_string).collect(),
        keys: KeySelection::default(),
    };
    let items = vec![item("app", &[]), item("db", &["db"])];
    let kind = OutputKind::Merged { path: path(FILE), format: FileFormat::EnvFile, items };
    let mut settings = settings(&["app", "db"]);
    settings.outputs = vec![key("app", "pw", "password"), Output { source: name("app"), kind, mode: None }];
    settings
}

fn published() -> Driver {
    let mut d = Driver::with(with_merged(), RUN, None);
    d.login_ok(HOUR);
    d.read_ok("app", 1, &[("pw", "one")]);
    assert!(d.count(Kind::Publish) == 0, "the file waits for both sources");
    d.read_ok("db", 1, &[("user", "u")]);
    assert_eq!(d.file(FILE), Some("DB_USER='u'\npw='one'\n"));
    d
}

#[test]
fn each_source_changes_the_file() {
    let mut d = published();
    d.advance(MINUTE * 2);
    d.read_ok("app", 2, &[("pw", "two")]);
    assert_eq!((d.file(FILE), d.file("password")), (Some("DB_USER='u'\npw='two'\n"), Some("two")));
    d.read_ok("db", 2, &[("user", "v"), ("port", "5")]);
    assert_eq!(d.file(FILE), Some("DB_PORT='5'\nDB_USER='v'\npw='two'\n"));
    let set = d.agent.parts.publication.visible().expect("a set");
    assert_eq!(set.manifest.files[&path(FILE)], [name("app"), name("db")].into());
}

#[test]
fn only_the_source_with_the_unusable_value_fails() {
    let mut d = published();
    d.advance(MINUTE * 2);
    d.read_ok("db", 2, &[("user", "it's")]);
    assert_eq!(d.file(FILE), Some("DB_USER='u'\npw='one'\n"), "the last good set stays");
    let warnings = d.lines(LogLevel::Warn);
    let named = |line: &str| line.contains("source db: the value of key \"user\" contains a single quote");
    assert!(warnings.iter().any(|line| named(line) && !line.contains("it's")), "{warnings:?}");
    d.read_ok("app", 2, &[("pw", "two")]);
    assert_eq!(d.file(FILE), Some("DB_USER='u'\npw='two'\n"), "with the accepted reading of the other source");
    d.advance(MINUTE * 2);
    d.read_ok("db", 3, &[("user", "w")]);
    assert_eq!(d.file(FILE), Some("DB_USER='w'\npw='two'\n"));
}

#[test]
fn names_that_collide_fail_the_source_that_is_read_last() {
    let mut d = published();
    d.advance(MINUTE * 2);
    d.read_ok("app", 2, &[("pw", "two"), ("DB_USER", "x")]);
    assert_eq!((d.file(FILE), d.file("password")), (Some("DB_USER='u'\npw='one'\n"), Some("one")));
    let warnings = d.lines(LogLevel::Warn);
    assert!(warnings.iter().any(|line| line.contains("both have a value with the name \"DB_USER\"")), "{warnings:?}");
}

#[test]
fn adopted_file_stays_until_both_sources_are_read() {
    let before = published();
    let visible = before.agent.parts.publication.visible().expect("a set is published");
    let (files, manifest) = (visible.files.clone(), visible.manifest.clone());
    let published = jiff::Timestamp::from_second(1000).expect("a time");
    let mut d = Driver::with(with_merged(), RUN, Some(AdoptedSet { files, manifest, published }));
    d.files.clone_from(&before.files);
    d.login_ok(HOUR);
    d.read("db", Err(unreachable()));
    d.read_ok("app", 2, &[("pw", "two")]);
    assert_eq!(d.file(FILE), Some("DB_USER='u'\npw='one'\n"), "the file cannot be rendered yet");
    assert_eq!(d.ready().0, ConditionStatus::True);
    d.advance(MINUTE * 2);
    d.read_ok("db", 1, &[("user", "u")]);
    assert_eq!(d.file(FILE), Some("DB_USER='u'\npw='two'\n"));
    assert_eq!(d.fresh(), (ConditionStatus::True, Reason::Fresh));
}
