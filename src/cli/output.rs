//! What the command line prints: results on stdout, errors on stderr.

use std::io::Write as _;
use std::process::ExitCode;

use keyferry::config::ConfigError;
use keyferry::model::Reason;
use keyferry::runtime::exit;
use keyferry::telemetry::{self, Format};

/// Reason of every error in the configuration or the command line.
const REASON: &str = Reason::ConfigRejected.as_str();

/// Prints to stdout. A closed pipe is no error: the reader of `keyferry schema | head` has all it needs.
pub(super) fn print(text: &str) -> ExitCode {
    print_bytes(format!("{text}\n").as_bytes())
}

/// [`print`] for any bytes.
pub(super) fn print_bytes(bytes: &[u8]) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("failed to write to stdout: {error}"));
            exit::IO.into()
        }
    }
}

/// Exit code of a command that queries or signals the running agent. Prints why it failed.
pub(super) fn exit_code(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            print_error(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Prints to stderr. Unlike `eprintln!`, does not panic if stderr is closed.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How errors are reported until the agent runs.
#[derive(Clone, Copy)]
pub(crate) enum Errors {
    /// One line per fact, for a person.
    Text,
    /// One JSON object per line, like the log of the agent.
    Json,
}

impl Errors {
    /// JSON for the agent's subcommands if their log is JSON; text otherwise.
    pub(super) fn new(is_agent: bool, format: Format) -> Self {
        if is_agent && format.is_json() { Self::Json } else { Self::Text }
    }

    /// Reports an error in the command line or the environment; returns its exit code.
    pub(crate) fn report(self, message: &str) -> ExitCode {
        match self {
            Self::Text => print_error(message),
            Self::Json => {
                ensure_log();
                tracing::error!(target: telemetry::FINAL, reason = REASON, exit_code = exit::CONFIG, "{message}");
            }
        }
        exit::CONFIG.into()
    }

    /// Reports every error of a configuration; returns their exit code.
    pub(crate) fn report_all(self, error: &ConfigError) -> ExitCode {
        match self {
            Self::Text => print_error(&error.to_string()),
            Self::Json => {
                for diagnostic in &error.diagnostics {
                    let key = diagnostic.path.as_str();
                    tracing::error!(target: telemetry::FINAL, reason = REASON, key, exit_code = exit::CONFIG, "{diagnostic}");
                }
            }
        }
        exit::CONFIG.into()
    }

    /// Reports a command line that cannot be parsed; returns its exit code.
    pub(super) fn report_usage(self, error: &clap::Error) -> ExitCode {
        match self {
            Self::Text => {
                let _ = error.print();
            }
            Self::Json => {
                let text = error.to_string();
                let facts = text.lines().map(str::trim).filter(|line| !line.is_empty());
                self.report(facts.collect::<Vec<_>>().join("; ").trim_start_matches("error: "));
            }
        }
        exit::CONFIG.into()
    }
}

/// Starts the log for an error that comes before it. Without effect if the log has started.
fn ensure_log() {
    let _ = telemetry::init(telemetry::DEFAULT_FILTER, Format::Json);
}
