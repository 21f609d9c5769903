//! Refreshes on request: a signal, an annotation, or `POST /refresh`.
//!
//! A refresh reads every source again whose read issues nothing in Vault. With `new_leases` it also replaces leases,
//! certificates, and tokens. Requests in quick succession become one refresh, so the load on Vault is bounded whoever
//! requests them.

use std::time::Duration;

use super::io::RefreshRequest;
use super::journal::Subject;
use super::lifetime::TokenView;
use super::time::{Elapsed, Now};
use super::{Agent, Parts};

/// Minimum interval between two refreshes. A request that arrives earlier waits, together with all that follow it.
const INTERVAL: Duration = Duration::from_secs(1);

/// The requested refresh that has not begun.
#[derive(Debug, Clone, Default)]
pub(super) struct RefreshQueue {
    pending: Option<RefreshRequest>,
    /// When the next refresh can begin.
    earliest: Elapsed,
}

impl RefreshQueue {
    /// Adds a request. At most one is pending, which reads what any of the requests asked for.
    fn add(&mut self, request: RefreshRequest) {
        let new_leases = request.new_leases || self.pending.is_some_and(|pending| pending.new_leases);
        self.pending = Some(RefreshRequest { new_leases, ..request });
    }

    /// When the pending refresh can begin; `None` without one.
    pub(super) fn wake(&self) -> Option<Elapsed> {
        self.pending.map(|_| self.earliest)
    }

    /// Takes the pending refresh if it can begin.
    fn take(&mut self, now: &Now) -> Option<RefreshRequest> {
        let pending = self.pending.take_if(|_| self.earliest <= now.at)?;
        self.earliest = now.at.saturating_add(INTERVAL);
        Some(pending)
    }
}

impl Agent {
    /// Handles a request to read all sources now.
    pub(super) fn refresh(&mut self, request: RefreshRequest, now: &Now) {
        self.parts.refreshes.add(request);
        self.advance_refresh(now);
    }

    /// Begins the requested refresh when it is time.
    pub(super) fn advance_refresh(&mut self, now: &Now) {
        let Parts { sessions, sources, mirrors, refreshes, .. } = &mut self.parts;
        let Some(RefreshRequest { new_leases, by }) = refreshes.take(now) else { return };
        let what = if new_leases {
            "reading all sources now, and replacing leases, certificates, and tokens"
        } else {
            "reading all sources now, except those whose read issues a new credential"
        };
        self.journal.info(&Subject::Refresh, format!("{what}; requested by {by}"));
        let token_expiry = |number| sessions.expiry_of(number);
        let tokens = TokenView { token: sessions.number(), token_expiry: &token_expiry };
        sources.update_all(&tokens, |_, source| source.refresh_for_user(new_leases, now));
        mirrors.request();
    }
}
