//! What the log says: each failure once, and when it is over how often it was repeated.

use std::collections::BTreeMap;

use super::io::{Action, LogEntry, LogLevel};
use crate::model::{Failure, ObjectName, Reason, SourceName};

/// What a line is about; failures of one thing are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Config,
    Directory,
    Event,
    Lease(SourceName),
    Login,
    Mirror(ObjectName),
    Publication,
    Report,
    Revocation,
    Save,
    Source(SourceName),
    Token,
}

impl Subject {
    fn operation(&self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Directory => "retire_directory",
            Self::Event => "record",
            Self::Lease(_) => "renew_lease",
            Self::Login => "login",
            Self::Mirror(_) => "mirror",
            Self::Publication => "publish",
            Self::Report => "report",
            Self::Revocation => "revoke",
            Self::Save => "save",
            Self::Source(_) => "read",
            Self::Token => "renew_token",
        }
    }

    fn entry(&self, level: LogLevel, reason: Option<Reason>, message: String) -> LogEntry {
        let source = match self {
            Self::Source(name) | Self::Lease(name) => Some(name.clone()),
            _ => None,
        };
        let output = match self {
            Self::Mirror(name) => Some(name.clone()),
            _ => None,
        };
        LogEntry { level, operation: self.operation(), reason, source, output, message }
    }
}

/// Lines to write, and what has been written of each lasting failure.
#[derive(Default)]
pub(super) struct Journal {
    failing: BTreeMap<Subject, (Reason, u32)>,
    lines: Vec<LogEntry>,
}

impl Journal {
    /// Notes a failure. It is written once for each subject and reason, until that subject succeeds.
    pub(super) fn failed(&mut self, subject: Subject, failure: &Failure) {
        let lasting = self.failing.get(&subject).filter(|(reason, _)| *reason == failure.reason);
        let count = lasting.map_or(1, |(_, count)| count.saturating_add(1));
        if count == 1 {
            self.lines.push(subject.entry(LogLevel::Warn, Some(failure.reason), failure.message.clone()));
        }
        self.failing.insert(subject, (failure.reason, count));
    }

    /// Notes that `subject` works (again).
    pub(super) fn recovered(&mut self, subject: Subject) {
        if let Some((reason, count)) = self.failing.remove(&subject).filter(|(_, count)| *count > 1) {
            let message = format!("recovered after {count} failures with reason {reason}");
            self.lines.push(subject.entry(LogLevel::Info, None, message));
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

    /// Forgets a subject that no longer exists.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.failing.remove(subject);
    }

    /// Moves the lines into `actions`.
    pub(super) fn flush(&mut self, actions: &mut Vec<Action>) {
        actions.extend(self.lines.drain(..).map(Action::Log));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureClass;

    #[test]
    fn a_lasting_failure_is_written_once_and_counted() {
        let mut journal = Journal::default();
        let failure = |reason| Failure::new(FailureClass::Transient, reason, "failed to log in");
        for _ in 0..5 {
            journal.failed(Subject::Login, &failure(Reason::Sealed));
        }
        journal.failed(Subject::Login, &failure(Reason::RateLimited));
        journal.failed(Subject::Login, &failure(Reason::RateLimited));
        journal.recovered(Subject::Login);
        journal.recovered(Subject::Login);
        let lines: Vec<_> = journal.lines.iter().map(|line| (line.level, line.message.as_str())).collect();
        assert_eq!(
            lines,
            [
                (LogLevel::Warn, "failed to log in"),
                (LogLevel::Warn, "failed to log in"),
                (LogLevel::Info, "recovered after 2 failures with reason RateLimited"),
            ]
        );
    }
}
