//! One process leaves its token and leases, the next goes on with them.

use super::*;
use crate::model::{HandedSource, Handover, SourceName};

const HANDING: Mode = Mode::Once { deadline: Duration::from_secs(30), hand_over: true };

fn name() -> SourceName {
    SourceName::new("a").expect("a name")
}

fn left(seconds_left: u64, lease_left: Option<u64>) -> Handover {
    let version = Version { number: Some(3), created: None };
    let lease = lease_left.map(|left| (lease(seconds(1000), true), seconds(left)));
    let sources = [(name(), HandedSource { version, lease })].into();
    Handover { first_ttl: Some(TTL), left: Some(seconds(seconds_left)), renewable: true, own: true, sources }
}

fn take_over(life: &mut Life, left: Handover) {
    let ticket = life.take("login", |e| if let Effect::Login { ticket } = e { Some(*ticket) } else { None });
    life.step(Event::Reply(ticket, Reply::TakenOver(left)));
}

/// A `once` whose work is done, up to what it does with its token.
fn done(life: &mut Life, lease: Option<Lease>) {
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(3, lease)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.wait(seconds(10));
    life.mirror(Ok(false));
    while life.has(|e| matches!(e, Effect::Report { .. })) {
        life.report(Ok(()));
    }
}

fn hand_over(life: &mut Life, result: Result<(), Failure>) -> Handover {
    let (ticket, facts) = life.take("hand-over", |e| match e {
        Effect::HandOver { ticket, facts, .. } => Some((*ticket, facts.clone())),
        _ => None,
    });
    life.step(Event::Reply(ticket, Reply::HandedOver(result)));
    facts
}

#[test]
fn once_leaves_its_token_when_everything_is_published_and_mirrored() {
    let mut life = Life::new(HANDING);
    done(&mut life, Some(lease(seconds(1000), true)));
    let facts = hand_over(&mut life, Ok(()));
    assert_eq!((facts.first_ttl, facts.left, facts.renewable), (Some(TTL), Some(TTL - seconds(10)), true));
    let lease = facts.sources[&name()].lease.clone();
    assert_eq!(lease, Some((super::lease(seconds(1000), true), seconds(990))));
    while life.has(|e| matches!(e, Effect::Report { .. })) {
        life.report(Ok(()));
    }
    assert_eq!(life.exit_code(), Some(0));
    assert!(!life.has(|e| matches!(e, Effect::Revoke { .. })), "the token lives on");
}

#[test]
fn what_cannot_be_left_is_revoked_and_told() {
    let mut life = Life::new(HANDING);
    done(&mut life, Some(lease(seconds(1000), true)));
    hand_over(&mut life, Err(failure(FailureClass::Local, Reason::NoSpace)));
    let ticket = life.take("revoke", |e| if let Effect::Revoke { ticket, .. } = e { Some(*ticket) } else { None });
    life.step(Event::Reply(ticket, Reply::Revoked));
    life.wait(seconds(5));
    assert_eq!(life.exit_code(), Some(74));
}

#[test]
fn a_hand_over_that_does_not_end_is_no_success() {
    let mut life = Life::new(HANDING);
    done(&mut life, None);
    life.wait(seconds(5));
    assert_eq!(life.exit_code(), Some(74));
}

#[test]
fn once_that_is_stopped_leaves_nothing() {
    let mut life = Life::new(HANDING);
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, Some(lease(seconds(100), true)))));
    life.step(Event::Terminate);
    life.wait(seconds(3));
    assert!(!life.has(|e| matches!(e, Effect::HandOver { .. })));
    assert!(life.has(|e| matches!(e, Effect::Revoke { .. })), "the next try reads its leases anew");
}

#[test]
fn the_next_process_publishes_without_a_login_and_renews_what_it_took_over() {
    let mut life = Life::new(Mode::Run);
    take_over(&mut life, left(500, Some(400)));
    assert_eq!(life.accepted, 1);
    life.publish(Ok(PublishOutcome::Unchanged));
    assert_eq!(life.condition(ConditionType::SecretsReady).status, ConditionStatus::True);
    assert!(!life.has(|e| matches!(e, Effect::Read { .. })), "a read would give another lease");
    life.wait(seconds(400 * 71 / 100));
    let increment = life.take("lease renewal", |e| match e {
        Effect::RenewLease { increment, .. } => Some(*increment),
        _ => None,
    });
    assert_eq!(increment, seconds(1000), "the first duration, not what was left");
    life.wait(seconds(70));
    life.renew(Ok(info(TTL, true)));
    assert!(!life.has(|e| matches!(e, Effect::Login { .. })));
    life.wait(TTL.mul_f64(0.5));
    assert!(!life.has(|e| matches!(e, Effect::Login { .. })), "the renewal gave the whole time again");
}

#[test]
fn without_a_lease_the_source_is_read_again_at_once() {
    let mut life = Life::new(Mode::Run);
    take_over(&mut life, left(500, None));
    life.publish(Ok(PublishOutcome::Unchanged));
    life.read(Ok(facts(4, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    assert_eq!(life.condition(ConditionType::SecretsFresh).status, ConditionStatus::True);
}

#[test]
fn an_older_version_than_the_one_taken_over_is_refused() {
    let mut life = Life::new(Mode::Run);
    take_over(&mut life, left(500, None));
    life.publish(Ok(PublishOutcome::Unchanged));
    life.read(Ok(facts(2, None)));
    assert!(!life.has(|e| matches!(e, Effect::Publish { .. })));
}

#[test]
fn a_dead_token_or_lease_costs_a_login_or_a_read() {
    let mut life = Life::new(Mode::Run);
    take_over(&mut life, left(500, None));
    life.read(Err(failure(FailureClass::TokenDead, Reason::TokenExpired)));
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(3, None)));

    let mut life = Life::new(Mode::Run);
    take_over(&mut life, left(500, Some(0)));
    assert_eq!(life.accepted, 0, "a lease that is over gives nothing");
    life.read(Ok(facts(1, None)));
}

#[test]
fn a_taken_token_is_revoked_at_the_end_as_an_own_one() {
    for own in [true, false] {
        let mut life = Life::new(Mode::Run);
        take_over(&mut life, Handover { own, ..left(500, Some(400)) });
        life.publish(Ok(PublishOutcome::Unchanged));
        while life.has(|e| matches!(e, Effect::Mirror { .. })) {
            life.mirror(Ok(false));
        }
        life.step(Event::Terminate);
        life.wait(seconds(3));
        assert_eq!(life.has(|e| matches!(e, Effect::Revoke { .. })), own);
    }
}

#[test]
fn a_given_token_is_not_handed_over() {
    let mut life = Life::new(HANDING);
    let ticket = life.take("login", |e| if let Effect::Login { ticket } = e { Some(*ticket) } else { None });
    life.step(Event::Reply(ticket, Reply::LoggedIn(Ok((info(TTL, true), false)))));
    life.read(Ok(facts(3, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.mirror(Ok(false));
    life.wait(seconds(5));
    assert!(
        !life.has(|e| matches!(e, Effect::HandOver { .. } | Effect::Revoke { .. })),
        "the next process is given it, too"
    );
    assert_eq!(life.exit_code(), Some(0));
}
