//! Restores the token of an earlier process.

use std::sync::Arc;

use super::super::io::Ticket;
use super::super::time::Now;
use super::super::token::Token;
use super::Sessions;
use crate::model::{Failure, Retry, SavedToken, Settings};

impl Sessions {
    /// Records that the checkpoint of an earlier process could not be checked, so the next attempt tries again. Returns whether
    /// the login was in flight.
    pub(in crate::agent) fn restore_failed(
        &mut self,
        ticket: Ticket,
        failure: &Failure,
        retry: &Retry,
        now: &Now,
    ) -> bool {
        if self.login.take_if(|started| *started == ticket).is_none() {
            return false;
        }
        (self.restore, self.restoring) = (true, None);
        self.login_failed(failure, retry, now);
        true
    }

    /// Uses the token of an earlier process; logs in if it saved none. Returns the configuration of the login.
    pub(in crate::agent) fn restored(
        &mut self,
        ticket: Ticket,
        saved: Option<&SavedToken>,
        settings: &Arc<Settings>,
        now: &Now,
    ) -> Option<Arc<Settings>> {
        self.login.take_if(|started| *started == ticket)?;
        let asked = self.restoring.take();
        (self.failure, self.refused) = (None, false);
        if let Some(saved) = saved {
            let number = self.next_number();
            let token = Token::restored(number, saved, Arc::clone(settings), now);
            self.replace(token, now);
        }
        asked
    }
}
