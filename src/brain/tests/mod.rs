//! Each transition told as a small story.

mod ends;
mod handover;

use std::time::Duration;

use super::laws::plan;
use super::*;
use crate::model::{
    Condition, ConditionStatus, ConditionType, Failure, FailureClass, Lease, LeaseId, NoticeKind, Reason, TokenInfo,
    Version,
};

const TTL: Duration = Duration::from_secs(1000);

/// A brain with a clock in hand and its effects in flight.
struct Life {
    state: State,
    now: Tick,
    open: Vec<Effect>,
    accepted: usize,
}

fn failure(class: FailureClass, reason: Reason) -> Failure {
    Failure::new(class, reason, format!("failed with {reason}"))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Life {
    fn new(mode: Mode) -> Self {
        Self::with(plan(0, mode))
    }

    fn with(mut plan: Plan) -> Self {
        // One source and no optional one, unless a story needs more.
        plan.sources.retain(|name, _| name.as_str() == "a");
        let mut life = Self { state: State::new(plan), now: Duration::ZERO, open: Vec::new(), accepted: 0 };
        life.step(Event::Woke);
        life
    }

    fn step(&mut self, event: Event) {
        for effect in step(&mut self.state, event, &Now { at: self.now, dice: 42 }) {
            match effect {
                Effect::Accept { .. } => self.accepted += 1,
                effect => self.open.push(effect),
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(wake) = self.state.wake_at(self.now).filter(|wake| *wake <= until) {
            self.now = wake;
            self.step(Event::Woke);
        }
        self.now = until;
        self.step(Event::Woke);
    }

    /// Takes the one open effect that `pick` knows.
    #[track_caller]
    fn take<T>(&mut self, what: &str, pick: impl Fn(&Effect) -> Option<T>) -> T {
        let found = self.open.iter().position(|effect| pick(effect).is_some());
        let at = found.unwrap_or_else(|| panic!("no {what} among {:?}", self.open));
        pick(&self.open.remove(at)).expect("it was found by this")
    }

    fn has(&self, pick: impl Fn(&Effect) -> bool) -> bool {
        self.open.iter().any(pick)
    }

    #[track_caller]
    fn log_in(&mut self, result: Result<TokenInfo, Failure>) {
        let ticket = self.take("login", |e| if let Effect::Login { ticket } = e { Some(*ticket) } else { None });
        self.step(Event::Reply(ticket, Reply::LoggedIn(result.map(|info| (info, true)))));
    }

    #[track_caller]
    fn renew(&mut self, result: Result<TokenInfo, Failure>) {
        let ticket =
            self.take("renewal", |e| if let Effect::RenewToken { ticket, .. } = e { Some(*ticket) } else { None });
        self.step(Event::Reply(ticket, Reply::TokenRenewed(result)));
    }

    #[track_caller]
    fn read(&mut self, result: Result<ReadFacts, Failure>) {
        let (ticket, token, source) = self.take("read", |e| match e {
            Effect::Read { ticket, token, source } => Some((*ticket, *token, source.clone())),
            _ => None,
        });
        self.step(Event::Reply(ticket, Reply::Read { source, token, result }));
    }

    #[track_caller]
    fn publish(&mut self, result: Result<PublishOutcome, Failure>) {
        let ticket =
            self.take("publish", |e| if let Effect::Publish { ticket, .. } = e { Some(*ticket) } else { None });
        self.step(Event::Reply(ticket, Reply::Published(result)));
    }

    #[track_caller]
    fn mirror(&mut self, result: Result<bool, Failure>) {
        let (ticket, name) = self.take("mirror", |e| match e {
            Effect::Mirror { ticket, name } => Some((*ticket, name.clone())),
            _ => None,
        });
        self.step(Event::Reply(ticket, Reply::Mirrored { name, result }));
    }

    #[track_caller]
    fn report(&mut self, result: Result<(), Failure>) -> Vec<Condition> {
        let (ticket, conditions) = self.take("report", |e| match e {
            Effect::Report { ticket, conditions } => Some((*ticket, conditions.clone())),
            _ => None,
        });
        self.step(Event::Reply(ticket, Reply::Reported(result)));
        conditions
    }

    fn up(mode: Mode) -> Self {
        let mut life = Self::new(mode);
        life.log_in(Ok(info(TTL, true)));
        life.read(Ok(facts(1, None)));
        life.publish(Ok(PublishOutcome::Swapped));
        life.mirror(Ok(false));
        while life.has(|e| matches!(e, Effect::Report { .. })) {
            life.report(Ok(()));
        }
        while life.has(|e| matches!(e, Effect::Record { .. })) {
            let ticket =
                life.take("event", |e| if let Effect::Record { ticket, .. } = e { Some(*ticket) } else { None });
            life.step(Event::Reply(ticket, Reply::Recorded(Ok(()))));
        }
        life
    }

    fn condition(&self, kind: ConditionType) -> Condition {
        let snapshot = self.state.snapshot(self.now);
        snapshot.conditions.into_iter().find(|condition| condition.kind == kind).expect("all are always there")
    }

    fn exit_code(&self) -> Option<u8> {
        self.open.iter().find_map(|effect| if let Effect::Exit { code } = effect { Some(*code) } else { None })
    }
}

fn info(ttl: Duration, renewable: bool) -> TokenInfo {
    TokenInfo { ttl: Some(ttl), renewable, accessor: None }
}

fn facts(number: u64, lease: Option<Lease>) -> ReadFacts {
    ReadFacts { version: Version { number: Some(number), created: None }, lease, changed: true }
}

fn lease(duration: Duration, renewable: bool) -> Lease {
    Lease { id: Some(LeaseId("pki/issue/x/1".into())), duration, renewable }
}

#[test]
fn from_nothing_to_a_published_and_mirrored_set() {
    let mut life = Life::new(Mode::Run);
    assert_eq!(life.condition(ConditionType::SecretsReady).status, ConditionStatus::False);
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, None)));
    assert_eq!(life.accepted, 1);
    assert!(!life.has(|e| matches!(e, Effect::Mirror { .. })), "the mirror is made after the publication");
    life.publish(Ok(PublishOutcome::Swapped));
    life.mirror(Ok(false));
    for kind in ConditionType::ALL {
        assert_eq!(life.condition(kind).status, ConditionStatus::True, "{kind:?}");
    }
}

#[test]
fn nothing_is_reported_when_nothing_changed() {
    let mut life = Life::up(Mode::Run);
    life.wait(seconds(70));
    life.read(Ok(ReadFacts { changed: false, ..facts(1, None) }));
    assert_eq!(life.open, [], "neither a publication nor a report nor an Event");
}

#[test]
fn a_changed_secret_is_published_and_mirrored_once() {
    let mut life = Life::up(Mode::Run);
    life.wait(seconds(70));
    life.read(Ok(facts(2, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.mirror(Ok(false));
    assert_eq!(life.state.snapshot(life.now).generation, Some(crate::model::Generation(2)));
    let news = life.take("event", |e| if let Effect::Record { notice, .. } = e { Some(notice.clone()) } else { None });
    assert_eq!((news.kind, news.reason), (NoticeKind::Normal, Reason::Published));
}

#[test]
fn an_answer_of_a_lagging_standby_changes_nothing() {
    let mut life = Life::up(Mode::Run);
    life.wait(seconds(70));
    life.read(Ok(facts(2, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.wait(seconds(70));
    let accepted = life.accepted;
    life.read(Ok(facts(1, None)));
    assert_eq!(life.accepted, accepted);
    assert!(!life.has(|e| matches!(e, Effect::Publish { .. })));
}

#[test]
fn a_token_is_renewed_in_time_and_replaced_before_its_maximum() {
    let mut life = Life::up(Mode::Run);
    life.wait(TTL.mul_f64(0.71));
    life.renew(Ok(info(TTL, true)));
    life.wait(TTL.mul_f64(0.71));
    // The maximum is near: the answer is shorter than the first time to live.
    life.renew(Ok(info(seconds(100), true)));
    life.wait(seconds(71));
    assert!(life.has(|e| matches!(e, Effect::Login { .. })), "logs in again before the end");
    life.log_in(Ok(info(TTL, true)));
}

#[test]
fn a_failing_renewal_is_tried_again_and_never_past_the_end() {
    let mut life = Life::up(Mode::Run);
    life.wait(TTL.mul_f64(0.71));
    let mut tries = 0;
    while life.state.session.is_live(life.now) {
        if life.has(|e| matches!(e, Effect::RenewToken { .. })) {
            life.renew(Err(failure(FailureClass::Unreachable, Reason::VaultUnreachable)));
            tries += 1;
        }
        life.wait(seconds(1));
    }
    assert!(tries >= 3, "{tries} tries");
    assert!(life.has(|e| matches!(e, Effect::Login { .. })), "a dead token is replaced");
}

#[test]
fn a_revoked_token_is_replaced_at_once_and_a_dying_one_not_in_a_loop() {
    let mut life = Life::up(Mode::Run);
    life.wait(seconds(70));
    life.read(Err(failure(FailureClass::TokenDead, Reason::TokenExpired)));
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(2, None)));
    // From here each token is dead on arrival.
    let mut logins = 0;
    life.wait(seconds(70));
    for _ in 0..60 {
        if life.has(|e| matches!(e, Effect::Read { .. })) {
            life.read(Err(failure(FailureClass::TokenDead, Reason::TokenExpired)));
        }
        if life.has(|e| matches!(e, Effect::Login { .. })) {
            life.log_in(Ok(info(TTL, true)));
            logins += 1;
        }
        life.wait(seconds(1));
    }
    assert!((2..15).contains(&logins), "{logins} logins in a minute");
}

#[test]
fn an_outage_makes_the_set_stale_after_its_tolerance_and_fresh_again() {
    let mut life = Life::up(Mode::Run);
    let outage = || Err(failure(FailureClass::Unreachable, Reason::VaultUnreachable));
    for _ in 0..200 {
        if life.has(|e| matches!(e, Effect::Read { .. })) {
            life.read(outage());
        }
        life.wait(seconds(1));
    }
    let fresh = life.condition(ConditionType::SecretsFresh);
    assert_eq!((fresh.status, fresh.reason), (ConditionStatus::False, Reason::VaultUnreachable));
    assert_eq!(life.condition(ConditionType::SecretsReady).status, ConditionStatus::True, "the files stay");
    while !life.has(|e| matches!(e, Effect::Read { .. })) {
        life.wait(seconds(1));
    }
    life.read(Ok(ReadFacts { changed: false, ..facts(1, None) }));
    assert_eq!(life.condition(ConditionType::SecretsFresh).status, ConditionStatus::True);
}

#[test]
fn a_renewable_lease_is_renewed_and_a_fixed_one_read_again() {
    let mut life = Life::new(Mode::Run);
    life.log_in(Ok(info(seconds(100_000), true)));
    life.read(Ok(facts(1, Some(lease(seconds(1000), true)))));
    life.wait(seconds(710));
    let (ticket, token, source) = life.take("lease renewal", |e| match e {
        Effect::RenewLease { ticket, token, source, .. } => Some((*ticket, *token, source.clone())),
        _ => None,
    });
    // Near its maximum: the next step is a new read.
    let result = Ok(lease(seconds(100), true));
    life.step(Event::Reply(ticket, Reply::LeaseRenewed { source, token, result }));
    life.wait(seconds(71));
    life.read(Ok(facts(1, Some(lease(seconds(1000), false)))));
    life.wait(seconds(710));
    assert!(life.has(|e| matches!(e, Effect::Read { .. })));
}

#[test]
fn leases_are_read_anew_with_a_new_token() {
    let mut life = Life::new(Mode::Run);
    life.log_in(Ok(info(TTL, false)));
    life.read(Ok(facts(1, Some(lease(seconds(100_000), true)))));
    life.wait(TTL.mul_f64(0.71));
    life.log_in(Ok(info(TTL, false)));
    assert!(life.has(|e| matches!(e, Effect::Read { .. })), "they end with the token that asked for them");
}

#[test]
fn a_refused_report_is_not_repeated_and_stops_nothing() {
    let mut life = Life::new(Mode::Run);
    life.report(Err(failure(FailureClass::Denied, Reason::Forbidden)));
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.wait(seconds(500));
    assert!(!life.has(|e| matches!(e, Effect::Report { .. })));
    life.wait(seconds(200));
    assert!(life.has(|e| matches!(e, Effect::Report { .. })), "RBAC may have come meanwhile");
}

#[test]
fn a_rejected_configuration_is_reported_and_an_accepted_one_heals_it() {
    let mut life = Life::up(Mode::Run);
    life.step(Event::ConfigRejected { message: "sources.a.pth: unknown key".into() });
    let fresh = life.condition(ConditionType::SecretsFresh);
    assert_eq!((fresh.status, fresh.reason), (ConditionStatus::False, Reason::ConfigRejected));
    let plan = Box::new(life.state.plan.clone());
    life.step(Event::ConfigChanged { plan, login_changed: false });
    assert_eq!(life.condition(ConditionType::SecretsFresh).reason, Reason::Fresh);
}

#[test]
fn a_source_added_by_a_reload_does_not_take_readiness_away() {
    let mut life = Life::up(Mode::Run);
    let mut new = plan(1, Mode::Run);
    new.sources.retain(|name, _| name.as_str() != "b");
    life.step(Event::ConfigChanged { plan: Box::new(new), login_changed: false });
    assert_eq!(life.condition(ConditionType::SecretsReady).status, ConditionStatus::True);
    assert_eq!(life.condition(ConditionType::SecretsFresh).status, ConditionStatus::False);
}

#[test]
fn a_foreign_secret_is_reported_and_files_go_on() {
    let mut life = Life::new(Mode::Run);
    life.log_in(Ok(info(TTL, true)));
    life.read(Ok(facts(1, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    life.mirror(Err(failure(FailureClass::Invalid, Reason::Foreign)));
    let mirrored = life.condition(ConditionType::Mirrored);
    assert_eq!((mirrored.status, mirrored.reason), (ConditionStatus::False, Reason::Foreign));
    life.wait(seconds(70));
    life.read(Ok(facts(2, None)));
    life.publish(Ok(PublishOutcome::Swapped));
    assert_eq!(life.state.snapshot(life.now).generation, Some(crate::model::Generation(2)));
}

#[test]
fn sighup_reads_every_source_now() {
    let mut life = Life::up(Mode::Run);
    life.step(Event::RefreshNow);
    assert!(life.has(|e| matches!(e, Effect::Read { .. })));
}
