//! The token for the application: a child token of the agent's token, which is kept like a lease.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, Kind, token_of};
use super::fixtures::{
    HOUR, MINUTE, RUN, failure, forbidden, info, issued, key, leased, mirror, name, object, secs, session, settings,
    unreachable,
};
use crate::agent::{Input, LogLevel, Mode, Op, Outcome};
use crate::model::{
    ConditionStatus, FailureClass, Lease, LeaseId, Reading, Reason, RequestMethod, Seed, Session, Settings, Source,
    SourceName, Validity, VaultToken,
};

const TOKEN_FILE: &str = "tokenFile";

/// Settings with these sources and a token file.
fn with_token_file(sources: &[&str]) -> Settings {
    let mut settings = settings(sources);
    let source = Source { method: RequestMethod::CreateToken, ..super::fixtures::source("auth/token/create") };
    settings.sources.insert(SourceName::token_file(), source);
    settings.outputs.push(key(TOKEN_FILE, "token", "vault-token"));
    settings
}

/// A child token.
fn child(token: &str, ttl: Duration) -> Reading {
    let lease = Lease { id: LeaseId::Token(VaultToken::new(token)), duration: ttl, renewable: true };
    issued(Validity::Lease(lease), &[("token", token)])
}

fn renewal(token: &str, ttl: Duration) -> Outcome {
    let id = LeaseId::Token(VaultToken::new(token));
    Outcome::LeaseRenewed(Ok(Lease { id, duration: ttl, renewable: true }))
}

/// An agent with the token `t1` for a day, whose token file contains `c1` for 100 s.
fn running(mode: Mode) -> Driver {
    let mut d = Driver::with(with_token_file(&[]), mode, None);
    d.login_ok(HOUR * 24);
    d.read(TOKEN_FILE, Ok(child("c1", secs(100))));
    assert_eq!(d.file("vault-token"), Some("c1"));
    d
}

/// The outcome of a renewal of the child token `c1`; `None` for another operation.
fn renews(op: &Op) -> Option<Outcome> {
    match op {
        Op::RenewLease { lease: LeaseId::Token(token), .. } => {
            assert_eq!(token.expose(), b"c1");
            Some(renewal("c1", secs(100)))
        }
        _ => None,
    }
}

#[test]
fn child_token_is_renewed_and_replaced_at_its_maximum() {
    let mut d = running(RUN);
    let mut renewals = 0;
    d.serve(MINUTE * 10, |op| match renews(op) {
        None if matches!(op, Op::LookUp { .. }) => Some(Outcome::LookedUp(Ok(info(Some(HOUR), true)))),
        renewed => {
            renewals += usize::from(renewed.is_some());
            renewed
        }
    });
    assert!((8..=12).contains(&renewals), "{renewals}");
    assert_eq!((d.count(Kind::Read), d.fresh().0), (1, ConditionStatus::True));
    // The maximum TTL.
    d.serve(secs(100), |op| renews(op).map(|_| renewal("c1", secs(40))));
    d.read(TOKEN_FILE, Ok(child("c2", secs(100))));
    assert_eq!((d.file("vault-token"), d.revoked_leases.len()), (Some("c2"), 0), "c1 is still valid");
    d.advance(secs(31));
    assert_eq!(d.revoked_leases, ["c1"]);
    assert!(d.revoked.is_empty(), "the parent is still in use");
}

#[test]
fn renewal_of_child_does_not_confirm_token_of_agent() {
    let mut d = running(RUN);
    d.serve(MINUTE * 5, renews);
    assert!(d.is_open(Kind::LookUp), "the agent's own token was not used for minutes");
    let mut d = Driver::with(settings(&["a"]), RUN, None);
    d.login_ok(HOUR * 24);
    d.read("a", Ok(leased("l1", secs(100))));
    d.serve(MINUTE * 5, |op| match op {
        Op::RenewLease { .. } => Some(Outcome::LeaseRenewed(Ok(super::fixtures::lease("l1", secs(100))))),
        _ => None,
    });
    assert!(!d.is_open(Kind::LookUp), "it renews the lease");
}

#[test]
fn lost_child_token_is_replaced_without_login() {
    let mut d = running(RUN);
    d.advance(secs(71));
    d.renew_lease(TOKEN_FILE, Err(failure(FailureClass::Missing, Reason::LeaseLost)));
    assert_eq!(d.fresh().0, ConditionStatus::False);
    d.advance(secs(1));
    d.read(TOKEN_FILE, Ok(child("c2", secs(100))));
    assert_eq!((d.file("vault-token"), d.count(Kind::LogIn)), (Some("c2"), 1));
}

#[test]
fn child_of_next_token_is_visible_before_its_parent_is_revoked() {
    let mut d = running(RUN);
    let denied = || failure(FailureClass::Denied, Reason::Denied);
    let mut revoked_too_early = false;
    let mut children = 1;
    d.serve(HOUR * 24, |op| match op {
        Op::RenewToken { .. } => Some(Outcome::TokenRenewed(Err(denied()))),
        Op::LogIn { .. } => Some(Outcome::LoggedIn(Ok(session("t2", HOUR * 24)))),
        Op::LookUp { .. } => Some(Outcome::LookedUp(Ok(info(Some(HOUR), true)))),
        Op::Read { token, .. } => {
            children += 1;
            assert_eq!(token.expose(), b"t2");
            Some(Outcome::Read(Ok(child("c2", HOUR))))
        }
        Op::RenewLease { lease: LeaseId::Token(token), .. } => {
            let token = String::from_utf8_lossy(token.expose()).into_owned();
            Some(renewal(&token, if token == "c1" { secs(100) } else { HOUR }))
        }
        op @ Op::Revoke { .. } => {
            revoked_too_early |= token_of(op) != "t1";
            None
        }
        _ => None,
    });
    assert_eq!((d.file("vault-token"), children), (Some("c2"), 2));
    assert_eq!((d.revoked.as_slice(), revoked_too_early), (["t1".to_owned()].as_slice(), false));
    assert!(d.revoked_leases.is_empty(), "c1 ended with t1");
}

#[test]
fn denied_revocation_of_child_does_not_stop_revocation_of_leases() {
    let mut d = Driver::with(with_token_file(&["a"]), RUN, None);
    d.login_ok(HOUR * 24);
    let fixed = |reading: Reading| {
        let lease = reading.validity.lease().cloned().expect("a lease");
        Reading { validity: Validity::Lease(Lease { renewable: false, ..lease }), ..reading }
    };
    d.read("a", Ok(fixed(leased("l1", secs(200)))));
    d.read(TOKEN_FILE, Ok(fixed(child("c1", secs(100)))));
    d.hold(Kind::RevokeLease);
    let (mut denials, mut leases, mut number) = (0, 0, 1);
    d.serve(MINUTE * 20, |op| match op {
        Op::RevokeLease { lease: LeaseId::Token(_), .. } => {
            denials += 1;
            Some(Outcome::LeaseRevoked(Err(forbidden())))
        }
        Op::RevokeLease { .. } => {
            leases += 1;
            Some(Outcome::LeaseRevoked(Ok(())))
        }
        Op::Read { source, .. } => {
            number += 1;
            let (lease, child) = (leased(&format!("l{number}"), secs(200)), child(&format!("c{number}"), secs(100)));
            Some(Outcome::Read(Ok(fixed(if source.is_token_file() { child } else { lease }))))
        }
        _ => None,
    });
    assert!(leases > 3 && denials > 3, "{leases} {denials}");
    let logged = d.lines(LogLevel::Info).iter().filter(|line| line.contains("stay valid until they expire")).count();
    assert_eq!((logged, d.lines(LogLevel::Warn).len()), (1, 0));
}

#[test]
fn child_token_survives_restart_of_agent() {
    const RUN: Mode = Mode::Run { checkpoint: true, app_container: false };
    let checkpoint = running(RUN).checkpoint.expect("saved");
    let mut d = Driver::with(with_token_file(&[]), RUN, None);
    let (ticket, _) = d.take(Kind::LogIn, None);
    d.input(Input::Completed(ticket, Outcome::Restored(Ok(Box::new(checkpoint)))));
    assert_eq!((d.file("vault-token"), d.count(Kind::Read)), (Some("c1"), 0));
    d.serve(secs(71), renews);
    assert_eq!(d.count(Kind::RenewLease), 1);
}

#[test]
fn shutdown_ends_child_with_parent_or_by_itself() {
    for (self_issued, deleting, revoked) in
        [(true, false, &[][..]), (true, true, &["t1"]), (false, false, &[]), (false, true, &["c1"])]
    {
        let settings = Settings { revoke_on_exit: self_issued, ..with_token_file(&[]) };
        let mut d = Driver::with(settings, RUN, None);
        d.login(Ok(Session { self_issued, ..session("t1", HOUR) }));
        d.read(TOKEN_FILE, Ok(child("c1", HOUR)));
        d.hold(Kind::PatchConditions);
        d.input(Input::Terminate);
        d.complete(Kind::PatchConditions, None, Outcome::ConditionsPatched(Ok(deleting)));
        assert_eq!(
            (d.exit, d.revoked.as_slice()),
            (Some(0), revoked.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice())
        );
    }
}

#[test]
fn once_keeps_child_for_the_application_and_leaves_none_after_a_failure() {
    let start = |sources: &[&str], self_issued| {
        let settings = Settings { revoke_on_exit: self_issued, ..with_token_file(sources) };
        let mut d = Driver::with(settings, Mode::Once { deadline: secs(30), checkpoint: false }, None);
        d.login(Ok(Session { self_issued, ..session("t1", HOUR) }));
        d.read(TOKEN_FILE, Ok(child("c1", HOUR)));
        d
    };
    let d = start(&[], true);
    assert_eq!((d.exit, d.revoked.len(), d.file("vault-token")), (Some(0), 0, Some("c1")));
    assert!(
        d.lines(LogLevel::Info).iter().any(|line| line.contains("source tokenFile expire in 3600s")),
        "{:?}",
        d.log
    );
    for (self_issued, revoked) in [(true, "t1"), (false, "c1")] {
        let mut d = start(&["a"], self_issued);
        d.serve(MINUTE, |op| matches!(op, Op::Read { .. }).then(|| Outcome::Read(Err(unreachable()))));
        assert_eq!(
            (d.exit.is_some_and(|code| code != 0), d.revoked.as_slice()),
            (true, [revoked.to_owned()].as_slice())
        );
    }
}

#[test]
fn token_is_never_mirrored() {
    for allow_leased in [false, true] {
        let mut settings = with_token_file(&["a"]);
        let all = crate::model::Mirror { allow_leased, ..mirror(&[]) };
        settings.sources.get_mut(&name("a")).expect("a").path = "secret/a".into();
        settings.outputs[0] = key("a", "password", "password");
        settings.mirrors.insert(object("copy"), all);
        let mut d = Driver::with(settings, RUN, None);
        d.hold(Kind::Mirror);
        d.login_ok(HOUR);
        d.read(TOKEN_FILE, Ok(child("c1", HOUR)));
        d.read("a", Ok(leased("l1", HOUR)));
        let (_, Op::Mirror { content, .. }) = d.take(Kind::Mirror, None) else { panic!("the set is mirrored") };
        let keys: Vec<_> = content.data.keys().map(String::as_str).collect();
        assert_eq!(keys, if allow_leased { vec!["password"] } else { vec![] });
        assert!(!content.versions.contains_key(&SourceName::token_file()), "replicas have different tokens");
    }
}

#[test]
fn seed_has_no_token() {
    let mut settings = with_token_file(&["a"]);
    settings.sources.get_mut(&SourceName::token_file()).expect("the token").required = false;
    settings.seed = Some(Seed { directory: "/seed".into(), mirror: None, after: secs(10) });
    let mut d = Driver::with(settings, RUN, None);
    d.serve(secs(10), |op| matches!(op, Op::LogIn { .. }).then(|| Outcome::LoggedIn(Err(unreachable()))));
    let files = ["a/password", "vault-token"].map(|file| (file.to_owned(), Arc::new("old".into())));
    d.complete(Kind::ReadSeed, None, Outcome::SeedRead(Ok(files.into())));
    assert_eq!((d.file("a/password"), d.file("vault-token")), (Some("old"), None));
}
