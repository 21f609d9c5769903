//! A changed directory: the new one is published before the old one is emptied.

use super::driver::{Driver, Kind};
use super::fixtures::{MINUTE, failure, reading, secs, settings};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, FailureClass, Reason, Settings};

fn elsewhere(sources: &[&str]) -> Settings {
    let mut settings = settings(sources);
    settings.directory.path = "/elsewhere".into();
    settings
}

#[test]
fn new_directory_is_published_before_old_one_is_retired() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    d.config(elsewhere(&["a"]));
    let no_space = failure(FailureClass::Local, Reason::DirectoryUnusable);
    d.complete(Kind::Publish, None, Outcome::Published(Err(no_space)));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    assert!(d.retired.is_empty() && d.agent.is_ready());
    d.advance(secs(2));
    let (ticket, Op::Publish { directory, set }) = d.take(Kind::Publish, None) else { panic!("it is retried") };
    assert_eq!((directory.path.display().to_string(), set.files.files.len()), ("/elsewhere".to_owned(), 1));
    d.input(Input::Completed(ticket, Outcome::Published(Ok(true))));
    assert_eq!((d.retired.as_slice(), d.fresh().0), (["/secrets".to_owned()].as_slice(), ConditionStatus::True));
}

#[test]
fn directory_is_retired_after_publication_in_flight_ends() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    d.refresh();
    d.read_ok("a", 2, &[("password", "two")]);
    let (old, _) = d.take(Kind::Publish, None);
    d.config(elsewhere(&["a"]));
    d.complete(Kind::Publish, None, Outcome::Published(Ok(true)));
    assert!(d.retired.is_empty());
    d.input(Input::Completed(old, Outcome::Published(Ok(true))));
    assert_eq!(d.retired, ["/secrets"]);
    assert!(d.agent.is_ready());
    let (_, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!("the set is published") };
    assert_eq!(directory.path.display().to_string(), "/elsewhere");
}

#[test]
fn directory_of_abandoned_trial_is_retired_after_publication_in_flight() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    d.config(elsewhere(&["a"]));
    let (ticket, _) = d.take(Kind::Publish, None);
    d.config(settings(&["a"]));
    assert!(d.retired.is_empty());
    d.input(Input::Completed(ticket, Outcome::Published(Ok(true))));
    assert_eq!(d.retired, ["/elsewhere"]);
}

#[test]
fn retiring_directory_is_reused_after_it_is_empty() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Retire);
    d.config(elsewhere(&["a"]));
    d.hold(Kind::Publish);
    d.config(settings(&["a"]));
    assert!(!d.is_open(Kind::Publish), "/secrets is being retired");
    d.release(Kind::Retire);
    let (_, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!() };
    assert_eq!(directory.path.display().to_string(), "/secrets");
}

#[test]
fn first_set_in_flight_completes_before_directory_changes() {
    let mut d = Driver::run(&["a"]);
    d.hold(Kind::Publish);
    d.login_ok(secs(60));
    d.read_ok("a", 1, &[("password", "one")]);
    let mut other = settings(&["a"]);
    other.directory.path = "/elsewhere".into();
    d.config(other);
    assert!(d.retired.is_empty(), "a publication to the old directory is in flight");
    d.complete(Kind::Publish, None, Outcome::Published(Ok(true)));
    let (ticket, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!() };
    assert_eq!(directory.path.display().to_string(), "/elsewhere");
    d.input(Input::Completed(ticket, Outcome::Published(Ok(true))));
    assert_eq!(d.retired, ["/secrets"]);
}

/// The agent gets no notification when its directory is removed, so it compares the directory once a minute.
#[test]
fn visible_set_is_published_again_once_a_minute() {
    let mut d = Driver::published(&["a"]);
    let before = (d.count(Kind::Publish), d.agent.generation());
    d.hold(Kind::Publish);
    d.serve(MINUTE * 5, |op| match op {
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        Op::Publish { .. } => Some(Outcome::Published(Ok(false))),
        _ => None,
    });
    let publications = d.count(Kind::Publish) - before.0;
    assert!((4..=7).contains(&publications), "{publications} publications in 5 minutes");
    assert_eq!(d.agent.generation(), before.1, "an unchanged directory is no new generation");
    d.serve(MINUTE, |op| match op {
        Op::Publish { .. } => Some(Outcome::Published(Ok(true))),
        _ => None,
    });
    assert!(d.agent.generation() > before.1, "a re-created directory is a new generation");
}
