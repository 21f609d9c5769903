//! How long a reading is valid, and when to replace it. A lease ends with its token at the latest.

use std::time::Duration;

use super::certificate::CertificateTerm;
use super::grant::{Grant, Renewal};
use super::time::{Elapsed, Now};
use crate::model::{Lease, LeaseId, Validity};

/// How much earlier than its token a lease may seem to expire because Vault truncates TTLs to seconds.
const MAX_TRUNCATION: Duration = Duration::from_secs(2);

/// When the token of a given number expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenExpiry {
    Never,
    At(Elapsed),
}

/// The state of the tokens, on which the schedule of a source depends.
pub(super) struct TokenView<'a> {
    /// Number of the active token; 0 without one.
    pub(super) token: u64,
    /// When the token of a number expires, expired, or was discarded.
    pub(super) token_expiry: &'a dyn Fn(u64) -> TokenExpiry,
}

/// How long a reading is valid.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lifetime {
    /// Until the secret changes in Vault.
    Unlimited,
    /// Until Vault rotates the credential, this long after the read.
    Rotates(Duration),
    /// Until the TTL with which the credential was issued.
    Expires(Grant),
    /// Until the certificate expires.
    Certificate(CertificateTerm),
    /// Until the lease expires, or the token of that number if it expires earlier.
    Lease { id: LeaseId, grant: Grant, token: u64 },
}

/// How long to wait after a reading that cannot be used. Its lease or certificate stays valid until it expires, so this limits how
/// many are created. `None` for a reading that costs nothing.
pub(super) fn wait_after_unusable(validity: &Validity, now: &Now) -> Option<Duration> {
    let life: Option<Duration> = match validity {
        Validity::Lease(lease) => Some(lease.duration),
        Validity::Certificate(times) => times.ends().duration_since(now.wall).try_into().ok(),
        Validity::Unlimited | Validity::Expires(_) | Validity::Rotates(_) => None,
    };
    life.map(|life| life / 2)
}

impl Lifetime {
    /// The lifetime of a reading that arrives now. `overlap`: the configured one. `token`: number of the token that owns its
    /// lease.
    pub(super) fn new(validity: &Validity, overlap: Option<Duration>, token: u64, now: &Now) -> Self {
        match validity {
            Validity::Unlimited => Self::Unlimited,
            Validity::Rotates(after) => Self::Rotates(*after),
            Validity::Expires(after) => Self::Expires(Grant::new(*after, overlap, false, now, 21)),
            Validity::Certificate(times) => Self::Certificate(CertificateTerm::new(*times, now)),
            Validity::Lease(Lease { id, duration, renewable }) => {
                Self::Lease { id: id.clone(), grant: Grant::new(*duration, overlap, *renewable, now, 21), token }
            }
        }
    }

    pub(super) fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Expires(grant) | Self::Lease { grant, .. } => Some(grant),
            Self::Unlimited | Self::Rotates(_) | Self::Certificate(_) => None,
        }
    }

    pub(super) fn certificate(&self) -> Option<&CertificateTerm> {
        match self {
            Self::Certificate(term) => Some(term),
            _ => None,
        }
    }

    /// Sets the configured time before the expiry at which to renew a certificate.
    pub(super) fn set_renew_before(&mut self, renew_before: Option<Duration>) {
        if let Self::Certificate(term) = self {
            term.set_renew_before(renew_before);
        }
    }

    /// When the credential expires with its lease, its token, or its own TTL, whatever the staleness tolerance.
    pub(super) fn expires_at(&self, tokens: &TokenView<'_>) -> Option<Elapsed> {
        match self {
            Self::Unlimited | Self::Rotates(_) => None,
            Self::Expires(grant) => Some(grant.expires_at()),
            Self::Certificate(term) => Some(term.expires_at()),
            Self::Lease { grant, token, .. } => Some(match (tokens.token_expiry)(*token) {
                TokenExpiry::Never => grant.expires_at(),
                TokenExpiry::At(end) => grant.expires_at().min(end),
            }),
        }
    }

    /// When to renew or replace the credential; `None` for a reading without a TTL.
    pub(super) fn due(&self, tokens: &TokenView<'_>) -> Option<Elapsed> {
        match self {
            Self::Unlimited | Self::Rotates(_) => None,
            Self::Lease { grant, token, .. } if grant.renewal() == Renewal::Replace => {
                Some(match (tokens.token_expiry)(*token) {
                    // A new lease of the same token would not last longer. Wait for the next token.
                    TokenExpiry::At(end) if end <= grant.expires_at().saturating_add(MAX_TRUNCATION) => end,
                    _ => grant.due(),
                })
            }
            Self::Expires(grant) | Self::Lease { grant, .. } => Some(grant.due()),
            Self::Certificate(term) => Some(term.due()),
        }
    }

    /// Whether the next reading must wait for the minimum interval.
    pub(super) fn is_short(&self) -> bool {
        match self {
            Self::Rotates(after) => after.is_zero(),
            Self::Certificate(term) => term.is_short(),
            lifetime => lifetime.grant().is_some_and(Grant::is_short),
        }
    }
}
