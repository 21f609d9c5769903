//! Reads that are requested before they are due.

use super::super::time::{Elapsed, Now};
use super::{SourceState, Step};
use crate::model::{RequestMethod, Validity};

/// A requested read, until it succeeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RequestedRead {
    pub(super) at: Elapsed,
    /// Read even if that issues a new credential.
    new_credential: bool,
}

impl SourceState {
    /// Whether each read issues something new: a lease, a certificate, a token, or the response of a write.
    pub(in crate::agent) fn issues(&self) -> bool {
        self.issued
            || self.spec.certificate.is_some()
            || matches!(self.spec.method, RequestMethod::Write | RequestMethod::CreateToken)
    }

    /// Records a reading that cannot be used. Vault may have issued a credential for it.
    pub(in crate::agent) fn rejected(&mut self, validity: &Validity) {
        self.issued = validity.is_issued();
    }

    /// Records a reading that waits for other secrets until `until`, when the source is read again.
    pub(in crate::agent) fn waits(&mut self, validity: &Validity, until: Elapsed) {
        (self.issued, self.is_waiting) = (validity.is_issued(), true);
        self.backoff.not_before = until;
    }

    /// Reads the source again, because the reading that waits cannot be used.
    pub(in crate::agent) fn stop_waiting(&mut self) {
        self.is_waiting = false;
        self.backoff.reset();
    }

    /// Requests a read now, unless it would issue a new credential.
    pub(in crate::agent) fn refresh(&mut self, now: &Now) {
        if !self.issues() {
            self.request_read(false, now);
        }
    }

    /// Requests a read now that may return an older version, because a user requests it. A source whose read issues a
    /// credential is read only with `new_credentials`. Without, only its failed operations are retried now.
    pub(in crate::agent) fn refresh_for_user(&mut self, new_credentials: bool, now: &Now) {
        self.any_version_requested = Some(now.at);
        if new_credentials || !self.issues() {
            self.request_read(new_credentials, now);
        } else if !self.is_rejected() {
            // Another attempt for a rejected credential would leave another credential in Vault.
            self.backoff.not_before = self.backoff.not_before.min(now.at);
        }
    }

    /// Requests a read now that may return any version and any credential, because the current ones are of another server.
    pub(in crate::agent) fn refresh_from_other_server(&mut self, now: &Now) {
        self.refresh_for_user(true, now);
    }

    fn request_read(&mut self, new_credential: bool, now: &Now) {
        let new_credential = new_credential || self.requested.is_some_and(|read| read.new_credential);
        self.requested = Some(RequestedRead { at: now.at, new_credential });
        self.backoff.not_before = self.backoff.not_before.min(now.at);
    }

    /// Whether a read that started at `started` may return an older version.
    pub(in crate::agent) fn accepts_older(&self, started: Elapsed) -> bool {
        self.any_version_requested.is_some_and(|asked| asked <= started)
    }

    /// Ends the requests that a successful read answers. A read that issues a credential also answers a later request that
    /// does not ask for one.
    pub(super) fn answer_requests(&mut self, started: Elapsed) {
        let issues = self.issues();
        self.requested.take_if(|read| read.at <= started || (issues && !read.new_credential));
        self.any_version_requested.take_if(|asked| *asked <= started);
    }

    /// Whether a requested read takes the place of the step that is planned next. While the read fails, a lease that is due is
    /// renewed first, so that the request does not let it expire.
    pub(super) fn is_requested_before(&self, (at, step): &(Elapsed, Step)) -> bool {
        let renews_first =
            self.backoff.attempts > 0 && matches!(step, Step::RenewLease { .. }) && *at <= self.backoff.not_before;
        self.requested.is_some_and(|read| read.new_credential || !self.issues()) && !renews_first
    }
}
