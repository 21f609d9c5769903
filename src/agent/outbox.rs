//! What one call of [`Agent::handle`](super::Agent::handle) asks for.

use super::io::{Action, Op, Ticket};

/// Collects actions and gives tickets. An outcome whose ticket is not one in flight is late and is ignored.
#[derive(Default)]
pub(super) struct Outbox {
    last: u64,
    actions: Vec<Action>,
}

impl Outbox {
    /// Starts an operation.
    pub(super) fn start(&mut self, op: Op) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.actions.push(Action::Start(ticket, op));
        ticket
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// The actions so far, with the lines for the log at the end.
    pub(super) fn take(&mut self, lines: impl Iterator<Item = Action>) -> Vec<Action> {
        self.actions.extend(lines);
        std::mem::take(&mut self.actions)
    }
}
