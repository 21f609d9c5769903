//! Steps of scenarios: outcomes of Vault, and queries of the agent's state.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, Kind, kind, subject};
use super::fixtures::{failure, reading, session};
use crate::agent::{Input, LogLevel, Op, Outcome, RefreshRequest, Ticket};
use crate::model::{
    Condition, ConditionStatus, ConditionType, EventType, Failure, FailureClass, Lease, Reading, Reason, Session,
    Settings, TokenInfo,
};

impl Driver {
    pub(super) fn is_open(&self, what: Kind) -> bool {
        self.open.iter().any(|(_, op)| kind(op) == what)
    }

    pub(super) fn is_reading(&self, source: &str) -> bool {
        self.open.iter().any(|(_, op)| kind(op) == Kind::Read && subject(op) == Some(source))
    }

    /// Number of operations of this kind that were started so far.
    pub(super) fn count(&self, what: Kind) -> usize {
        self.started.get(&what).copied().unwrap_or_default()
    }

    /// Takes an open operation of this kind, and of this source if one is given.
    #[track_caller]
    pub(super) fn take(&mut self, what: Kind, source: Option<&str>) -> (Ticket, Op) {
        let wanted = |(_, op): &(Ticket, Op)| kind(op) == what && (source.is_none() || subject(op) == source);
        let open: Vec<_> = self.open.iter().map(|(_, op)| (kind(op), subject(op))).collect();
        let index =
            self.open.iter().position(wanted).unwrap_or_else(|| panic!("no {what:?} {source:?} among {open:?}"));
        self.open.remove(index)
    }

    #[track_caller]
    pub(super) fn complete(&mut self, what: Kind, source: Option<&str>, outcome: Outcome) {
        let (ticket, _) = self.take(what, source);
        self.input(Input::Completed(ticket, outcome));
    }

    /// Completes a login. Vault issues the tokens `t1`, `t2` ...
    #[track_caller]
    pub(super) fn login_ok(&mut self, ttl: Duration) {
        self.logins += 1;
        self.login(Ok(session(&format!("t{}", self.logins), ttl)));
    }

    #[track_caller]
    pub(super) fn login(&mut self, result: Result<Session, Failure>) {
        self.complete(Kind::LogIn, None, Outcome::LoggedIn(result));
    }

    #[track_caller]
    pub(super) fn login_refused(&mut self) {
        self.login(Err(failure(FailureClass::Denied, Reason::LoginRefused)));
    }

    #[track_caller]
    pub(super) fn look_up(&mut self, result: Result<TokenInfo, Failure>) {
        self.complete(Kind::LookUp, None, Outcome::LookedUp(result));
    }

    #[track_caller]
    pub(super) fn renew_token(&mut self, result: Result<TokenInfo, Failure>) {
        self.complete(Kind::RenewToken, None, Outcome::TokenRenewed(result));
    }

    #[track_caller]
    pub(super) fn read_ok(&mut self, source: &str, version: u64, data: &[(&str, &str)]) {
        self.read(source, Ok(reading(version, data)));
    }

    #[track_caller]
    pub(super) fn read(&mut self, source: &str, result: Result<Reading, Failure>) {
        self.complete(Kind::Read, Some(source), Outcome::Read(result));
    }

    #[track_caller]
    pub(super) fn renew_lease(&mut self, source: &str, result: Result<Lease, Failure>) {
        self.complete(Kind::RenewLease, Some(source), Outcome::LeaseRenewed(result));
    }

    /// Requests a refresh, as with SIGHUP.
    pub(super) fn refresh(&mut self) {
        self.input(Input::Refresh(RefreshRequest { new_leases: false, by: "a test" }));
    }

    /// Requests a refresh with new leases.
    pub(super) fn refresh_with_new_leases(&mut self) {
        self.input(Input::Refresh(RefreshRequest { new_leases: true, by: "a test" }));
    }

    /// Delivers a valid configuration.
    pub(super) fn config(&mut self, settings: Settings) {
        self.input(Input::ConfigRead(Arc::new(settings)));
    }

    pub(super) fn condition(&self, kind: ConditionType) -> Condition {
        self.agent.conditions().iter().find(|condition| condition.kind == kind).cloned().expect("always present")
    }

    pub(super) fn ready(&self) -> (ConditionStatus, Reason) {
        let condition = self.condition(ConditionType::SecretsReady);
        (condition.status, condition.reason)
    }

    pub(super) fn fresh(&self) -> (ConditionStatus, Reason) {
        let condition = self.condition(ConditionType::SecretsFresh);
        (condition.status, condition.reason)
    }

    pub(super) fn mirrored(&self) -> (ConditionStatus, Reason) {
        let condition = self.condition(ConditionType::Mirrored);
        (condition.status, condition.reason)
    }

    pub(super) fn message(&self, kind: ConditionType) -> String {
        self.condition(kind).message
    }

    pub(super) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Log lines of this level.
    pub(super) fn lines(&self, level: LogLevel) -> Vec<&str> {
        self.log.iter().filter(|line| line.level == level).map(|line| line.message.as_str()).collect()
    }

    /// Whether a Warning Event with this reason was recorded.
    pub(super) fn has_warning_event(&self, reason: Reason) -> bool {
        self.events.iter().any(|event| event.reason == reason && event.kind == EventType::Warning)
    }
}
