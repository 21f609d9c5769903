//! What can happen to the brain, at random.

use super::*;
use crate::model::{HandedSource, Handover, Lease, LeaseId, TokenInfo};

/// One thing that the world does.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Time passes; the driver wakes the brain at each asked-for time.
    Pass(u64),
    /// One of the effects in flight ends.
    End {
        pick: usize,
        how: How,
    },
    /// A result of an effect that ended long ago.
    Late {
        pick: usize,
        ticket: u64,
        how: How,
    },
    Config {
        variant: u8,
        login: bool,
    },
    ConfigBad,
    Refresh,
    Terminate,
}

#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) fails: Option<FailureClass>,
    pub(super) retry_after: Option<u64>,
    pub(super) number: u64,
    pub(super) changed: bool,
    pub(super) lease: Option<(u64, bool)>,
    pub(super) ttl: Option<u64>,
    /// A login that ends with the token of an earlier process.
    pub(super) handed: bool,
}

pub(super) fn how() -> impl Strategy<Value = How> {
    use FailureClass::*;
    let class =
        prop::sample::select(vec![Conflict, Denied, Local, Invalid, Missing, TokenDead, Transient, Unreachable]);
    (
        prop::option::weighted(0.4, class),
        prop::option::weighted(0.1, 0_u64..1000),
        1_u64..6,
        any::<bool>(),
        prop::option::weighted(0.2, (1_u64..3600, any::<bool>())),
        prop::option::weighted(0.8, 1_u64..7200),
        any::<bool>(),
    )
        .prop_map(|(fails, retry_after, number, changed, lease, ttl, handed)| How {
            fails,
            retry_after,
            number,
            changed,
            lease,
            ttl,
            handed,
        })
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_u64..120_000).prop_map(Act::Pass),
        12 => (any::<usize>(), how()).prop_map(|(pick, how)| Act::End { pick, how }),
        1 => (any::<usize>(), 1_u64..200, how()).prop_map(|(pick, ticket, how)| Act::Late { pick, ticket, how }),
        1 => (0_u8..4, any::<bool>()).prop_map(|(variant, login)| Act::Config { variant, login }),
        1 => Just(Act::ConfigBad),
        1 => Just(Act::Refresh),
        1 => Just(Act::Terminate),
    ]
}

/// How an effect ends; `None` where nobody hears of it.
pub(super) fn reply(effect: &Effect, how: &How) -> Option<(Ticket, Reply)> {
    fn either<T>(failure: Option<Failure>, value: T) -> Result<T, Failure> {
        failure.map_or(Ok(value), Err)
    }
    let failure = how.fails.map(|class| Failure {
        retry_after: how.retry_after.map(Duration::from_secs),
        ..Failure::new(class, Reason::ServerError, "failed on purpose")
    });
    let lease = how.lease.map(|(seconds, renewable)| Lease {
        id: Some(LeaseId("database/creds/x/1".into())),
        duration: Duration::from_secs(seconds),
        renewable,
    });
    let info = TokenInfo { ttl: how.ttl.map(Duration::from_secs), renewable: how.changed, accessor: None };
    Some(match effect.clone() {
        Effect::Login { ticket } if how.handed => {
            let left = how.ttl.map(Duration::from_secs);
            let version = Version { number: Some(how.number), created: None };
            let lease = lease.map(|lease| (Lease { duration: lease.duration * 2, ..lease.clone() }, lease.duration));
            let sources = BTreeMap::from([(handed_source(), HandedSource { version, lease })]);
            let first_ttl = left.map(|left| left * 2);
            (ticket, Reply::TakenOver(Handover { first_ttl, left, renewable: how.changed, own: true, sources }))
        }
        Effect::HandOver { ticket, .. } => (ticket, Reply::HandedOver(either(failure, ()))),
        Effect::Login { ticket } => (ticket, Reply::LoggedIn(either(failure, (info, true)))),
        Effect::RenewToken { ticket, .. } => (ticket, Reply::TokenRenewed(either(failure, info))),
        Effect::Read { ticket, token, source } => {
            let version = Version { number: Some(how.number), created: None };
            let facts = ReadFacts { version, lease, changed: how.changed };
            (ticket, Reply::Read { source, token, result: either(failure, facts) })
        }
        Effect::RenewLease { ticket, token, source, .. } => {
            let lease = lease.unwrap_or(Lease { id: None, duration: Duration::from_secs(9), renewable: false });
            (ticket, Reply::LeaseRenewed { source, token, result: either(failure, lease) })
        }
        Effect::Publish { ticket, .. } => {
            let outcome = if how.changed { PublishOutcome::Swapped } else { PublishOutcome::Unchanged };
            (ticket, Reply::Published(either(failure, outcome)))
        }
        Effect::Mirror { ticket, name } => (ticket, Reply::Mirrored { name, result: either(failure, how.changed) }),
        Effect::Report { ticket, .. } => (ticket, Reply::Reported(either(failure, ()))),
        Effect::Record { ticket, .. } => (ticket, Reply::Recorded(either(failure, ()))),
        Effect::Revoke { ticket, .. } => (ticket, Reply::Revoked),
        Effect::Accept { .. } | Effect::Exit { .. } => return None,
    })
}

/// The source that an earlier process has read.
pub(super) fn handed_source() -> SourceName {
    SourceName::new("a").expect("a name")
}

/// What may be in flight only once.
pub(super) fn thing(effect: &Effect) -> String {
    match effect {
        Effect::HandOver { .. } => "hand over".into(),
        Effect::Login { .. } => "login".into(),
        Effect::RenewToken { .. } => "renew".into(),
        Effect::Read { source, .. } | Effect::RenewLease { source, .. } => format!("source {source}"),
        Effect::Publish { .. } => "publish".into(),
        Effect::Mirror { name, .. } => format!("mirror {name}"),
        Effect::Report { .. } => "report".into(),
        Effect::Record { .. } => "record".into(),
        Effect::Revoke { .. } => "revoke".into(),
        Effect::Accept { .. } | Effect::Exit { .. } => "at once".into(),
    }
}

/// The token that an effect uses.
pub(super) fn token_of(effect: &Effect) -> Option<u64> {
    match effect {
        Effect::HandOver { token, .. }
        | Effect::RenewToken { token, .. }
        | Effect::Read { token, .. }
        | Effect::RenewLease { token, .. }
        | Effect::Revoke { token, .. } => Some(*token),
        _ => None,
    }
}
