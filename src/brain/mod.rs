//! What to do next and when, and what to say about it.
//!
//! `step(state, event, now)` is the only door. It sees names, versions, leases and generation numbers; never a socket, a
//! file, a clock, randomness or secret bytes. The driver (`runtime`) runs the effects, turns their results into events and
//! sleeps until [`State::wake_at`].
//!
//! Laws, each checked by `laws.rs` over random sequences of events:
//! at most one effect of a kind in flight for one thing; a published set is never replaced by an older one; one failing source
//! never delays another; after drain has begun nothing new but hand-over, revoke, report and exit.

mod drain;
mod event;
mod mirror;
mod plan;
mod publication;
mod report;
mod retry;
mod session;
mod sources;

pub use drain::exit_code;
pub use event::{Effect, Event, PublishOutcome, ReadFacts, Reply, Ticket};
pub use plan::{Mode, Plan};
pub use report::Snapshot;
pub use retry::{Now, Tick};

use crate::model::{Failure, FailureClass};
use drain::Phase;
use mirror::Mirrors;
use publication::Publication;
use report::Report;
use session::Session;
use sources::Sources;

/// Everything the brain remembers. Comparable, so that a test can say "nothing changed".
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    plan: Plan,
    phase: Phase,
    session: Session,
    sources: Sources,
    publication: Publication,
    mirrors: Mirrors,
    report: Report,
    tickets: Tickets,
}

/// Source of tickets. A result whose ticket is not the one in flight is late and is ignored.
#[derive(Debug, Clone, PartialEq, Default)]
struct Tickets(u64);

impl Tickets {
    fn next(&mut self) -> Ticket {
        self.0 += 1;
        Ticket(self.0)
    }
}

impl State {
    /// The state at start, before the first [`step`].
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            session: Session::default(),
            sources: Sources::new(&plan),
            publication: Publication::default(),
            mirrors: Mirrors::new(&plan),
            report: Report::default(),
            phase: Phase::Working,
            tickets: Tickets::default(),
            plan,
        }
    }

    /// When to call [`step`] with [`Event::Woke`] if nothing else happens before; always after `now`.
    #[must_use]
    pub fn wake_at(&self, now: Tick) -> Option<Tick> {
        // A leaving agent has nothing else to wait for.
        if !self.phase.is_working() {
            return self.phase.wake().filter(|at| *at > now);
        }
        let idle = self.sources.slots_free(&self.plan);
        [
            self.session.wake(),
            if self.session.is_live(now) && idle { self.sources.wake(&self.plan, now) } else { None },
            self.sources.next_stale(),
            self.publication.wake(self.sources.complete()),
            self.mirrors.wake(self.publication.generation()),
            self.report.wake(&self.plan),
            self.plan.deadline(),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    /// What a person, a probe or a metric may know of the state.
    #[must_use]
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        report::snapshot(self, now)
    }
}

/// Takes in one event and says what to start. Effects carry the latest wanted value; there is no queue.
pub fn step(state: &mut State, event: Event, now: &Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    take_in(state, event, now, &mut effects);
    if state.phase.is_working() {
        state.sources.grow_stale(now);
        drain::finish_once(state, now);
    }
    if state.phase.is_working() {
        let State { plan, session, sources, publication, mirrors, report, tickets, .. } = state;
        session.advance(plan, now, tickets, &mut effects);
        if session.is_live(now.at) {
            sources.advance(plan, session.number(), now, tickets, &mut effects);
        }
        publication.advance(sources.complete(), now, tickets, &mut effects);
        mirrors.advance(publication.generation(), now, tickets, &mut effects);
        let wanted = report::conditions(plan, session, sources, publication, mirrors, report);
        report.advance(plan, wanted, publication.generation(), now, tickets, &mut effects);
    } else {
        drain::advance(state, now, &mut effects);
    }
    effects
}

fn take_in(state: &mut State, event: Event, now: &Now, effects: &mut Vec<Effect>) {
    let State { plan, phase, session, sources, publication, mirrors, report, tickets } = state;
    match event {
        Event::Woke => {}
        Event::ConfigChanged { plan: new, login_changed } => {
            if phase.is_working() {
                let layout_changed = new.layout != plan.layout;
                *plan = *new;
                let sources_changed = sources.reconcile(plan, now);
                if layout_changed || sources_changed {
                    publication.want_again(now);
                }
                if login_changed {
                    session.start_over(now);
                }
                mirrors.reconcile(plan, now);
                report.config_accepted(now);
            }
        }
        Event::ConfigRejected { message } => report.config_rejected(message),
        Event::RefreshNow => {
            sources.refresh_now(now);
            mirrors.look_again(now);
        }
        Event::Terminate => phase.begin_drain(plan, now),
        Event::Reply(ticket, reply) => match reply {
            Reply::LoggedIn(result) => {
                if session.logged_in(ticket, result, plan, now) {
                    sources.new_token(now);
                }
            }
            Reply::TakenOver(left) => {
                if session.taken_over(ticket, &left, now) {
                    sources.new_token(now);
                    if phase.is_working() && sources.taken_over(left.sources, now, effects) {
                        publication.want_again(now);
                    }
                }
            }
            Reply::TokenRenewed(result) => session.renewed(ticket, result, plan, now),
            // A reading that comes while we leave is not used: nothing new is published any more.
            Reply::Read { .. } | Reply::LeaseRenewed { .. } if !phase.is_working() => {}
            Reply::Read { source, token, result } => {
                let alive = !is_token_dead(&result);
                if sources.read(ticket, &source, result, plan, now, effects) {
                    publication.want_again(now);
                }
                if alive { session.proven(token) } else { session.dead(token, plan, now) }
            }
            Reply::LeaseRenewed { source, token, result } => {
                if is_token_dead(&result) {
                    session.dead(token, plan, now);
                }
                sources.lease_renewed(ticket, &source, result, plan, now);
            }
            Reply::Published(result) => {
                if publication.published(ticket, result, plan, now) {
                    mirrors.look_again(now);
                }
            }
            Reply::Mirrored { name, result } => mirrors.mirrored(ticket, &name, result, plan, now),
            Reply::Reported(result) => report.reported(ticket, result, plan, now),
            Reply::Recorded(result) => report.recorded(ticket, result, plan, now),
            Reply::HandedOver(result) => {
                phase.handed_over(ticket, result, session.to_revoke(plan, now.at), tickets, effects);
            }
            Reply::Revoked => phase.revoked(ticket),
        },
    }
}

fn is_token_dead<T>(result: &Result<T, Failure>) -> bool {
    result.as_ref().err().is_some_and(|failure| failure.class == FailureClass::TokenDead)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
