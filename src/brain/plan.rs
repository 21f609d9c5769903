//! What the brain needs to know of the configuration: names and times, no secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Tick;
use crate::model::{Mirror, ObjectName, Output, Retry, Settings, Source, SourceName};

/// How long the agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until it is told to stop.
    Run,
    /// Until everything required is published and mirrored, or the deadline.
    Once {
        /// When to give up.
        deadline: Tick,
        /// Whether to leave token and leases to the next process instead of revoking the token.
        hand_over: bool,
    },
}

/// The configuration as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(super) mode: Mode,
    pub(super) sources: BTreeMap<SourceName, Source>,
    pub(super) layout: Vec<Output>,
    pub(super) mirrors: BTreeMap<ObjectName, Mirror>,
    pub(super) retry: Retry,
    pub(super) concurrency: usize,
    pub(super) revoke_on_exit: bool,
    pub(super) conditions: bool,
    pub(super) events: bool,
    pub(super) drain: Duration,
}

impl Plan {
    /// Takes what the brain needs out of the settings.
    #[must_use]
    pub fn new(settings: &Settings, mode: Mode) -> Self {
        Self {
            mode,
            sources: settings.sources.clone(),
            layout: settings.outputs.clone(),
            mirrors: settings.mirrors.clone(),
            retry: settings.retry,
            concurrency: settings.concurrency.max(1),
            revoke_on_exit: settings.revoke_on_exit,
            conditions: settings.status.conditions,
            events: settings.status.events,
            drain: settings.drain,
        }
    }

    pub(super) fn is_once(&self) -> bool {
        matches!(self.mode, Mode::Once { .. })
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.mode {
            Mode::Run => None,
            Mode::Once { deadline, .. } => Some(deadline),
        }
    }

    pub(super) fn hands_over(&self) -> bool {
        matches!(self.mode, Mode::Once { hand_over: true, .. })
    }
}
