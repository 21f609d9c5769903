//! Events of Vault only make the agent read now.

use std::time::Duration;

use super::driver::{Driver, Kind};
use super::fixtures::{HOUR, MINUTE, RUN, failure, forbidden, leased, name, reading, secs, settings, unreachable};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome, Ticket};
use crate::model::{FailureClass, Reason, SecretList, ServerEvent, Settings};

/// Sources `a` and `b` at `secret/a` and `secret/b`, read every hour, with events.
fn with_events() -> Settings {
    let mut settings = settings(&["a", "b"]);
    settings.events = true;
    for source in settings.sources.values_mut() {
        (source.refresh, source.max_stale) = (HOUR, HOUR * 3);
    }
    settings
}

/// The ticket of the subscription.
fn subscription(d: &Driver) -> Option<Ticket> {
    d.open.iter().find(|(_, op)| matches!(op, Op::Subscribe { .. })).map(|(ticket, _)| *ticket)
}

fn subscribed(settings: Settings) -> Driver {
    let mut d = Driver::published_with(settings);
    let ticket = subscription(&d).expect("a subscription after the first set");
    d.input(Input::Event(ticket, ServerEvent::Subscribed));
    d
}

fn changed(d: &mut Driver, path: &str) {
    let ticket = subscription(d).expect("a subscription");
    d.input(Input::Event(ticket, ServerEvent::Changed { path: path.into(), version: None }));
}

fn lost(d: &mut Driver) {
    d.complete(Kind::Subscribe, None, Outcome::Unsubscribed(Err(unreachable())));
}

#[test]
fn subscription_follows_the_first_set() {
    let mut d = Driver::with(with_events(), RUN, None);
    d.login_ok(HOUR);
    assert_eq!(subscription(&d), None);
    d.read_ok("a", 1, &[("password", "one")]);
    d.read_ok("b", 1, &[("password", "one")]);
    assert!(subscription(&d).is_some());
    assert!(subscription(&Driver::published(&["a"])).is_none(), "events are off by default");
    let mut once = Driver::with(with_events(), Mode::Once { deadline: secs(30), checkpoint: false }, None);
    once.login_ok(HOUR);
    once.read_ok("a", 1, &[("password", "one")]);
    once.read_ok("b", 1, &[("password", "one")]);
    assert_eq!(once.count(Kind::Subscribe), 0);
}

#[test]
fn event_reads_the_source_of_its_path_once() {
    let mut d = subscribed(with_events());
    for path in ["secret/other", "secret/ab", "secret/a/below", "secret"] {
        changed(&mut d, path);
    }
    d.advance(secs(2));
    assert!(!d.is_reading("a") && !d.is_reading("b"));
    for _ in 0..20 {
        changed(&mut d, "secret/a");
    }
    d.advance(secs(1));
    assert!(d.is_reading("a") && !d.is_reading("b"), "within half a second");
    d.read_ok("a", 2, &[("password", "two")]);
    d.advance(MINUTE);
    assert_eq!((d.file("a/password"), d.count(Kind::Read)), (Some("two"), 3));
}

#[test]
fn many_events_cause_one_read_per_second() {
    let mut d = subscribed(with_events());
    let before = d.count(Kind::Read);
    for _ in 0..1000 {
        changed(&mut d, "secret/a");
        d.serve(Duration::from_millis(10), |op| {
            matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(1, &[("password", "one")]))))
        });
    }
    let reads = d.count(Kind::Read) - before;
    assert!((7..=11).contains(&reads), "{reads} reads in ten seconds");
}

#[test]
fn event_issues_nothing_and_accepts_no_older_version() {
    let mut settings = with_events();
    settings.sources.get_mut(&name("b")).expect("b").path = "database/creds/b".into();
    let mut d = Driver::with(settings, RUN, None);
    d.login_ok(HOUR * 9);
    d.read_ok("a", 7, &[("password", "seven")]);
    d.read("b", Ok(leased("one", HOUR * 9)));
    changed(&mut d, "database/creds/b");
    changed(&mut d, "secret/a");
    d.advance(secs(1));
    assert!(!d.is_reading("b"));
    d.read_ok("a", 6, &[("password", "six")]);
    assert_eq!(d.file("a/password"), Some("seven"), "the answer of a standby that lags");
}

#[test]
fn earlier_version_than_that_of_the_event_is_read_again_a_few_times() {
    let written = |d: &mut Driver, version| {
        let ticket = subscription(d).expect("a subscription");
        d.input(Input::Event(ticket, ServerEvent::Changed { path: "secret/a".into(), version: Some(version) }));
    };
    let mut d = subscribed(with_events());
    written(&mut d, 2);
    let mut lag = 2_u32;
    d.serve(MINUTE, |op| {
        let Op::Read { .. } = op else { return None };
        let number = if lag == 0 { 2 } else { 1 };
        lag = lag.saturating_sub(1);
        Some(Outcome::Read(Ok(reading(number, &[("password", &format!("v{number}"))]))))
    });
    assert_eq!((d.file("a/password"), d.count(Kind::Read)), (Some("v2"), 2 + 3));
    // A version that never comes.
    written(&mut d, 9);
    d.serve(MINUTE, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Ok(reading(2, &[("password", "v2")])))));
    assert_eq!(d.count(Kind::Read), 5 + 6);
}

#[test]
fn event_below_a_list_reads_the_list() {
    let mut settings = with_events();
    let list = SecretList { recursive: true, include: Vec::new(), exclude: Vec::new(), max_count: 100, max_depth: 5 };
    settings.sources.get_mut(&name("a")).expect("a").list = Some(list);
    let mut d = subscribed(settings);
    changed(&mut d, "secret/a/web/db");
    d.advance(secs(1));
    assert!(d.is_reading("a"));
}

#[test]
fn lost_connection_is_subscribed_again_with_backoff() {
    let mut d = subscribed(with_events());
    let (mut attempts, from) = (0, d.at);
    while d.at < from + HOUR / 2 {
        if subscription(&d).is_some() {
            attempts += 1;
            lost(&mut d);
            assert_eq!(subscription(&d), None, "not at once: all pods lose the connection to a restarted Vault");
        }
        d.advance(secs(1));
        while let Some(name) = ["a", "b"].into_iter().find(|name| d.is_reading(name)) {
            d.read_ok(name, 1, &[("password", "one")]);
        }
    }
    assert!((30..100).contains(&attempts), "{attempts} attempts in half an hour");
    let warnings = d.lines(LogLevel::Warn).len();
    assert_eq!(warnings, 1, "logged once: {:?}", d.lines(LogLevel::Warn));
    assert!(d.fresh().0 == crate::model::ConditionStatus::True, "polling stays");
    d.advance(MINUTE * 2);
    let ticket = subscription(&d).expect("another attempt");
    d.input(Input::Event(ticket, ServerEvent::Subscribed));
    changed(&mut d, "secret/a");
    d.advance(secs(1));
    assert!(d.is_reading("a"));
}

#[test]
fn server_without_events_is_asked_rarely_and_nothing_else_suffers() {
    let mut d = Driver::published_with(with_events());
    let none = || failure(FailureClass::Invalid, Reason::InvalidRequest);
    d.serve(HOUR, |op| match op {
        Op::Subscribe { .. } => Some(Outcome::Unsubscribed(Err(none()))),
        Op::Read { .. } => Some(Outcome::Read(Ok(reading(1, &[("password", "one")])))),
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Ok(super::fixtures::info(Some(HOUR), true)))),
        _ => None,
    });
    assert!((50..140).contains(&d.count(Kind::Subscribe)), "{}", d.count(Kind::Subscribe));
    assert_eq!(d.fresh().0, crate::model::ConditionStatus::True);
    let mut d = Driver::published_with(with_events());
    d.complete(Kind::Subscribe, None, Outcome::Unsubscribed(Err(forbidden())));
    let line = d.log.iter().find(|line| line.operation == "subscribe").expect("a line");
    assert!(line.message.contains("the token needs path") && line.message.contains("subscribe_event_types"));
    assert_eq!(d.count(Kind::LookUp), 0, "it says nothing about the token");
}

#[test]
fn another_token_or_configuration_replaces_the_subscription() {
    let mut d = subscribed(with_events());
    let first = subscription(&d).expect("a subscription");
    d.serve(HOUR.mul_f64(0.71), |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(failure(FailureClass::Denied, Reason::Denied)))),
        _ => None,
    });
    d.login_ok(HOUR);
    assert_eq!(d.cancelled, [first]);
    let second = subscription(&d).expect("with the new token");
    assert_ne!(first, second);
    // A late event of the old one.
    d.input(Input::Event(first, ServerEvent::Changed { path: "secret/a".into(), version: None }));
    d.advance(secs(1));
    assert!(!d.is_reading("a"));
    let mut off = with_events();
    off.events = false;
    d.config(off);
    assert_eq!(d.cancelled, [first, second]);
    assert_eq!(subscription(&d), None);
}
