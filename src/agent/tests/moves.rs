//! Another directory is filled before the old one is emptied, and no directory is used for both at once.

use super::driver::{Driver, Kind};
use super::fixtures::{failure, secs, settings};
use crate::agent::{Input, Op, Outcome};
use crate::model::{ConditionStatus, FailureClass, Reason, Settings};

fn elsewhere(sources: &[&str]) -> Settings {
    let mut settings = settings(sources);
    settings.directory.path = "/elsewhere".into();
    settings
}

#[test]
fn another_directory_is_filled_before_the_old_one_is_retired() {
    let mut d = Driver::published(&["a"]);
    d.hold(Kind::Publish);
    d.config(elsewhere(&["a"]));
    let no_space = failure(FailureClass::Local, Reason::DirectoryUnusable);
    d.complete(Kind::Publish, None, Outcome::Published(Err(no_space)));
    assert_eq!(d.fresh(), (ConditionStatus::False, Reason::ConfigRejected));
    assert!(d.retired.is_empty() && d.agent.is_ready());
    d.advance(secs(2));
    let (ticket, Op::Publish { directory, set }) = d.take(Kind::Publish, None) else { panic!("it is tried again") };
    assert_eq!((directory.path.display().to_string(), set.files.files.len()), ("/elsewhere".to_owned(), 1));
    d.input(Input::Completed(ticket, Outcome::Published(Ok(true))));
    assert_eq!((d.retired.as_slice(), d.fresh().0), (["/secrets".to_owned()].as_slice(), ConditionStatus::True));
}

#[test]
fn a_directory_is_not_retired_while_a_set_is_being_published_to_it() {
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
    let (_, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!("the latest set goes there") };
    assert_eq!(directory.path.display().to_string(), "/elsewhere");
}

#[test]
fn the_directory_of_an_abandoned_trial_is_retired_after_what_is_under_way_there() {
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
fn a_directory_that_is_wanted_again_is_used_after_it_was_retired() {
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
fn a_directory_that_moves_before_the_first_set_is_visible_gets_that_set_first() {
    let mut d = Driver::run(&["a"]);
    d.hold(Kind::Publish);
    d.login_ok(secs(60));
    d.read_ok("a", 1, &[("password", "one")]);
    let mut other = settings(&["a"]);
    other.directory.path = "/elsewhere".into();
    d.config(other);
    assert!(d.retired.is_empty(), "a publication to the old directory is under way");
    d.complete(Kind::Publish, None, Outcome::Published(Ok(true)));
    let (ticket, Op::Publish { directory, .. }) = d.take(Kind::Publish, None) else { panic!() };
    assert_eq!(directory.path.display().to_string(), "/elsewhere");
    d.input(Input::Completed(ticket, Outcome::Published(Ok(true))));
    assert_eq!(d.retired, ["/secrets"]);
}
