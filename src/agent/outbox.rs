//! The actions of one call of [`Agent::handle`](super::Agent::handle).

use super::io::{Action, Op, Ticket};

/// Collects actions and issues tickets.
#[derive(Default)]
pub(super) struct Outbox {
    last: u64,
    actions: Vec<Action>,
}

impl Outbox {
    /// Starts an operation and returns its ticket.
    pub(super) fn start(&mut self, op: Op) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.actions.push(Action::Start(ticket, op));
        ticket
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Takes the collected actions, followed by the log lines.
    pub(super) fn take(&mut self, lines: impl Iterator<Item = Action>) -> Vec<Action> {
        self.actions.extend(lines);
        std::mem::take(&mut self.actions)
    }
}
