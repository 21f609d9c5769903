//! The end: drain, and `once` with its exit codes.

use super::*;

#[test]
fn drain_finishes_the_publication_then_revokes_and_says_the_last_word() {
    let mut life = Life::up(Mode::Run);
    life.wait(seconds(70));
    life.read(Ok(facts(2, None)));
    life.step(Event::Terminate);
    assert_eq!(life.exit_code(), None);
    assert!(!life.has(|e| matches!(e, Effect::Revoke { .. })), "not before the publication ended");
    life.publish(Ok(PublishOutcome::Swapped));
    let ticket = life.take("revoke", |e| if let Effect::Revoke { ticket, .. } = e { Some(*ticket) } else { None });
    life.step(Event::Reply(ticket, Reply::Revoked));
    let last = life.report(Ok(()));
    assert!(last.iter().any(|condition| condition.reason == Reason::AgentStopped));
    assert_eq!(life.exit_code(), Some(0));
}

#[test]
fn drain_ends_in_time_though_nothing_answers() {
    let mut life = Life::up(Mode::Run);
    life.step(Event::Terminate);
    life.wait(seconds(5));
    assert_eq!(life.exit_code(), Some(0));
}

#[test]
fn once_ends_when_all_is_published_and_mirrored() {
    let mut life = Life::new(Mode::Once { deadline: seconds(30), hand_over: false });
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    assert_eq!(life.exit_code(), None, "the mirror is part of the work");
    life.mirror(Ok(false));
    life.wait(seconds(5));
    assert_eq!(life.exit_code(), Some(0));
}

#[test]
fn once_keeps_its_token_where_leases_hang_on_it() {
    let mut life = Life::new(Mode::Once { deadline: seconds(30), hand_over: false });
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, Some(lease(seconds(100), true)))));
    life.publish(Ok(PublishOutcome::Swapped));
    life.mirror(Ok(false));
    life.wait(seconds(5));
    assert!(!life.has(|e| matches!(e, Effect::Revoke { .. })));
}

#[test]
fn once_says_by_its_exit_code_what_kept_it() {
    let cases = [
        (FailureClass::Unreachable, Reason::VaultUnreachable, 69),
        (FailureClass::Transient, Reason::Sealed, 69),
        (FailureClass::Denied, Reason::Denied, 77),
        (FailureClass::Missing, Reason::SecretNotFound, 66),
        (FailureClass::Invalid, Reason::InvalidRequest, 64),
        (FailureClass::Invalid, Reason::DirectoryUnusable, 74),
        (FailureClass::Local, Reason::VaultUnreachable, 69),
    ];
    for (class, reason, code) in cases {
        let mut life = Life::new(Mode::Once { deadline: seconds(30), hand_over: false });
        life.log_in(Ok(info(TTL, true)));
        for _ in 0..40 {
            if life.has(|e| matches!(e, Effect::Read { .. })) {
                life.read(Err(failure(class, reason)));
            }
            life.wait(seconds(1));
        }
        assert_eq!(life.exit_code(), Some(code), "{reason}");
    }
}

#[test]
fn once_is_refused_early_and_waits_for_the_unreachable_until_its_deadline() {
    for (class, early) in [(FailureClass::Denied, true), (FailureClass::Unreachable, false)] {
        let mut life = Life::new(Mode::Once { deadline: seconds(30), hand_over: false });
        for _ in 0..15 {
            if life.has(|e| matches!(e, Effect::Login { .. })) {
                life.log_in(Err(failure(class, Reason::LoginRefused)));
            }
            life.wait(seconds(1));
        }
        assert_eq!(life.exit_code().is_some(), early, "{class:?}");
    }
}

#[test]
fn once_that_is_stopped_early_does_not_look_like_success() {
    let mut life = Life::new(Mode::Once { deadline: seconds(30), hand_over: false });
    life.log_in(Ok(info(TTL, true)));
    life.step(Event::Terminate);
    life.wait(seconds(5));
    assert_eq!(life.exit_code(), Some(143));
}
