//! The agent's log lines. A repeated failure is logged once, and its count is logged when the operation succeeds again.

use std::collections::BTreeMap;

use super::io::{Action, LogEntry, LogLevel};
use crate::model::{Failure, NotificationName, ObjectName, Reason, SourceName};

/// What a log line is about. Failures are counted per subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Config,
    Directory,
    Event,
    Events,
    Exit,
    Lease(SourceName),
    LeaseLookUp(SourceName),
    LeaseRevocation(SourceName),
    Listener,
    Login,
    Mirror(ObjectName),
    Notification(NotificationName),
    Publication,
    Refresh,
    Report,
    Revocation,
    Save,
    Seed,
    Source(SourceName),
    Token,
}

impl Subject {
    fn operation(&self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Directory => "retire_directory",
            Self::Event => "record",
            Self::Events => "subscribe",
            Self::Exit => "exit",
            Self::Lease(_) => "renew_lease",
            Self::LeaseLookUp(_) => "look_up_lease",
            Self::LeaseRevocation(_) => "revoke_lease",
            Self::Listener => "listen",
            Self::Login => "login",
            Self::Mirror(_) => "mirror",
            Self::Notification(_) => "notify",
            Self::Publication => "publish",
            Self::Refresh => "refresh",
            Self::Report => "report",
            Self::Revocation => "revoke",
            Self::Save => "save",
            Self::Seed => "read_seed",
            Self::Source(_) => "read",
            Self::Token => "renew_token",
        }
    }

    fn entry(&self, level: LogLevel, reason: Option<Reason>, message: String) -> LogEntry {
        let source = match self {
            Self::Source(name) | Self::Lease(name) | Self::LeaseLookUp(name) | Self::LeaseRevocation(name) => {
                Some(name.clone())
            }
            _ => None,
        };
        let output = match self {
            Self::Mirror(name) => Some(name.clone()),
            _ => None,
        };
        let notification = match self {
            Self::Notification(name) => Some(name.clone()),
            _ => None,
        };
        LogEntry { level, operation: self.operation(), reason, source, output, notification, message }
    }
}

/// Maximum number of different failures to log for one subject until it succeeds. Further ones are only counted.
const MAX_DIFFERENT: usize = 4;

/// Pending log lines, and what was already logged about each ongoing failure.
#[derive(Default)]
pub(super) struct Journal {
    failing: BTreeMap<Subject, OngoingFailure>,
    lines: Vec<LogEntry>,
}

/// The failures of one subject since its last success.
#[derive(Default)]
struct OngoingFailure {
    count: u32,
    /// Logged reasons and messages, without digits: ports and times differ in each attempt.
    written: Vec<(Reason, String)>,
}

impl Journal {
    /// Logs a failure, once until its subject succeeds.
    pub(super) fn failed(&mut self, subject: &Subject, failure: &Failure) {
        let what: (Reason, String) =
            (failure.reason, failure.message.chars().filter(|c| !c.is_ascii_digit()).collect());
        // Without API credentials, conditions and Events fail with the same message.
        let twin = match subject {
            Subject::Event => self.failing.get(&Subject::Report),
            Subject::Report => self.failing.get(&Subject::Event),
            _ => None,
        };
        let is_known = twin.is_some_and(|twin| twin.written.contains(&what));
        let ongoing = self.failing.entry(subject.clone()).or_default();
        ongoing.count = ongoing.count.saturating_add(1);
        if ongoing.written.len() < MAX_DIFFERENT && !ongoing.written.contains(&what) {
            ongoing.written.push(what);
            if is_known {
                return;
            }
            self.lines.push(subject.entry(LogLevel::Warn, Some(failure.reason), failure.message.clone()));
        }
    }

    /// Records a success of `subject`, and logs the end of repeated failures.
    pub(super) fn recovered(&mut self, subject: &Subject) {
        if let Some(OngoingFailure { count, .. }) = self.failing.remove(subject).filter(|ongoing| ongoing.count > 1) {
            self.lines.push(subject.entry(LogLevel::Info, None, format!("recovered after {count} failures")));
        }
    }

    pub(super) fn info(&mut self, subject: &Subject, message: impl Into<String>) {
        self.lines.push(subject.entry(LogLevel::Info, None, message.into()));
    }

    pub(super) fn warn(&mut self, subject: &Subject, reason: Reason, message: impl Into<String>) {
        self.lines.push(subject.entry(LogLevel::Warn, Some(reason), message.into()));
    }

    pub(super) fn error(&mut self, subject: &Subject, reason: Reason, message: impl Into<String>) {
        self.lines.push(subject.entry(LogLevel::Error, Some(reason), message.into()));
    }

    /// Removes a subject that no longer exists.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.failing.remove(subject);
    }

    /// Takes the pending lines.
    pub(super) fn lines(&mut self) -> impl Iterator<Item = Action> {
        self.lines.drain(..).map(Action::Log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureClass;

    #[test]
    fn repeated_failure_is_logged_once_and_counted() {
        let mut journal = Journal::default();
        let failure = |message: &str| Failure::new(FailureClass::Transient, Reason::Sealed, message);
        for port in 1..=5 {
            journal.failed(&Subject::Login, &failure(&format!("failed to log in from port {port}")));
        }
        journal.failed(&Subject::Login, &failure("failed to log in: sealed"));
        journal.recovered(&Subject::Login);
        journal.recovered(&Subject::Login);
        let lines: Vec<_> = journal.lines.iter().map(|line| (line.level, line.message.as_str())).collect();
        assert_eq!(
            lines,
            [
                (LogLevel::Warn, "failed to log in from port 1"),
                (LogLevel::Warn, "failed to log in: sealed"),
                (LogLevel::Info, "recovered after 6 failures"),
            ]
        );
    }

    #[test]
    fn alternating_failures_are_logged_a_few_times() {
        let mut journal = Journal::default();
        for letter in ('a'..='z').cycle().take(1000) {
            let failure = Failure::new(FailureClass::Transient, Reason::Sealed, letter.to_string());
            journal.failed(&Subject::Login, &failure);
        }
        assert_eq!(journal.lines.len(), MAX_DIFFERENT);
    }
}
