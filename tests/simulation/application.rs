//! The application of the pod: the target of notifications. It restarts with all containers.

use std::collections::BTreeMap;
use std::time::Duration;

use keyferry::agent::{Op, Outcome, Ticket};
use keyferry::model::{Failure, FailureClass, Reason};

use super::world::{Event, Note, World};

/// What the application was notified of, by notification.
#[derive(Default)]
pub struct Application {
    /// Until when notifications fail, and until when they get no response.
    pub fails: Duration,
    pub hangs: Duration,
    /// Since when there is a visible change that it was not notified of.
    pub owed: BTreeMap<String, Duration>,
    /// When selected files last changed visibly.
    pub changed: BTreeMap<String, Duration>,
    /// Process and start of the last notification that succeeded.
    pub notified: BTreeMap<String, (u64, Duration)>,
    /// Exit of the process that last restarted all containers, and how far the wall clock was ahead.
    pub restarted: Option<(Duration, jiff::SignedDuration)>,
}

impl World {
    /// Makes notifications fail, or get no response.
    pub fn disturb_application(&mut self, until: Duration) {
        self.note(|| "the application cannot be notified".into());
        let hangs = self.random.chance(50);
        *(if hangs { &mut self.application.hangs } else { &mut self.application.fails }) = until;
    }

    /// Executes a notification.
    pub fn serve_notification(&mut self, process: u64, ticket: Ticket, op: &Op, started: Duration) {
        let Op::Notify { name, .. } = op else { unreachable!("only notifications") };
        let timeout = Duration::from_secs(10);
        if self.application.hangs > self.now {
            let like = Outcome::Notified(Ok(()));
            return self.no_answer(process, ticket, started, timeout, &like);
        }
        let result = if self.application.fails > self.now {
            Err(Failure::new(FailureClass::Transient, Reason::NotifyFailed, "failed to notify the application"))
        } else {
            self.record_notification(process, name.as_str(), started);
            Ok(())
        };
        let delay = self.random.millis(0, 100);
        let event = Event::Deliver(process, ticket, Box::new(Outcome::Notified(result)), Note::default());
        self.schedule(self.now + delay, event);
    }

    /// The kubelet restarts all containers.
    pub fn restart_containers(&mut self) -> Duration {
        self.check_restart();
        self.application.restarted = Some((self.now, self.wall_shift));
        self.application.owed.clear();
        self.crashes = 0;
        self.random.millis(1000, 6000)
    }
}
