//! Order of start and exit code; no decisions.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "the process's own environment and exit belong here")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use keyferry::config::{self, ConfigError, DocumentLocation, Environment as _, ProcessEnvironment};
use keyferry::model::Listener;
use keyferry::runtime::{self, ConfigSource, EXIT_OWN_FAULT, Work, probe};
use keyferry::telemetry;

/// Exit code for what the user wrote (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;

/// Exit code for what could not be written (`EX_IOERR`).
const EXIT_IO: u8 = 74;

/// Brings secrets from Vault into Kubernetes pods as files, and keeps them fresh.
#[derive(Parser)]
#[command(name = "keyferry", version, max_term_width = 100)]
struct Cli {
    /// Configuration file (YAML); also `KEYFERRY_CONFIG`. Without one, environment variables are enough.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log filter like `info` or `keyferry=debug`; also `KEYFERRY_LOG`, then `RUST_LOG`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Publish, then stay: renew, refresh, report (the default).
    Run {
        /// Take over token and leases that `once` left in this file; also `KEYFERRY_HANDOVER`.
        #[arg(long, value_name = "FILE")]
        handover: Option<PathBuf>,
    },
    /// Publish and mirror once, then exit.
    Once {
        /// Give up after this time: seconds, or with a unit (30s, 2m).
        #[arg(long, default_value = "60s", value_parser = config::parse_duration)]
        timeout: Duration,
        /// Leave token and leases to `run` in this file instead of revoking the token; also `KEYFERRY_HANDOVER`.
        #[arg(long, value_name = "FILE")]
        handover: Option<PathBuf>,
    },
    /// Check the configuration without reaching anything; all mistakes at once.
    Check,
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Ask a running agent, for images without a shell; exit code 0 = yes.
    Probe {
        /// What to ask.
        what: Ask,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Ask {
    /// Whether the first set is published.
    Startup,
    /// Whether all required outputs are published.
    Ready,
    /// Whether the agent itself is alive.
    Live,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
            let _ = error.print();
            return code.into();
        }
    };
    if matches!(cli.command, Some(Command::Schema)) {
        return print(&format!("{:#}", config::schema()));
    }
    let environment = ProcessEnvironment;
    let format = match environment.get("KEYFERRY_LOG_FORMAT").unwrap_or_default().parse::<telemetry::Format>() {
        Ok(format) => format,
        Err(error) => return Complaint::Text.about(&format!("KEYFERRY_LOG_FORMAT: {error}")),
    };
    let complaint = Complaint::of(cli.command.as_ref(), format);
    let filter = cli.log.or_else(|| environment.get("KEYFERRY_LOG")).or_else(|| environment.get("RUST_LOG"));
    if let Err(error) = telemetry::init(filter.as_deref().unwrap_or(telemetry::DEFAULT_FILTER), format) {
        // For the complaint itself; the first attempt has set up nothing.
        let _ = telemetry::init(telemetry::DEFAULT_FILTER, format);
        return complaint.about(&error.to_string());
    }
    let source = match find_document(cli.config, cli.command.as_ref(), environment) {
        Ok(source) => source,
        Err(message) => return complaint.about(&message),
    };
    let settings = match config::load(&environment, source.text()) {
        Ok(settings) => settings,
        Err(error) => {
            // The agent that is asked goes on with the document before, and a probe that fails would have it restarted with
            // the bad one.
            if let Some(Command::Probe { what }) = cli.command {
                return probe(what, None, &config::directory(&environment, source.text()));
            }
            return complaint.about_all(&error);
        }
    };
    let handover = match &cli.command {
        Some(Command::Run { handover } | Command::Once { handover, .. }) => handover.clone(),
        _ => None,
    };
    let handover = match config::handover_file(&environment, handover, &settings) {
        Ok(handover) => handover,
        Err(message) => return complaint.about(&message),
    };
    let work = match cli.command {
        Some(Command::Check) => return print("the configuration is good"),
        Some(Command::Probe { what }) => return probe(what, settings.listener, &settings.directory.path),
        Some(Command::Once { timeout, .. }) => Work::Once(timeout),
        Some(Command::Run { .. } | Command::Schema) | None => Work::Run,
    };
    if let Err(error) = telemetry::harden() {
        tracing::warn!(%error, "failed to make the process's memory unreadable for others");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), vault = settings.server.address, "keyferry starts");
    if let Some(warning) = config::proxy_warning(&environment) {
        tracing::warn!("{warning}");
    }
    // The one TLS provider; a second one in the binary would make rustls refuse to choose.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::error!("failed to install the TLS provider: there is one already");
        return EXIT_OWN_FAULT.into();
    }
    match runtime::run(settings, source, Box::new(environment), work, handover) {
        Ok(code) => code.into(),
        Err(failure) => {
            let exit_code = runtime::exit_code(&failure);
            tracing::error!(target: telemetry::FINAL, reason = %failure.reason, exit_code, "{failure}");
            exit_code.into()
        }
    }
}

/// Prints to stdout. A reader that has gone, as in `keyferry schema | head`, has what it wanted.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed to write to stdout: {error}"));
            EXIT_IO.into()
        }
    }
}

/// Prints to stderr; unlike `eprintln!`, it does not end the process where that is closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How the user is told that the configuration cannot work.
#[derive(Clone, Copy)]
enum Complaint {
    /// Plain lines, for a person.
    Text,
    /// JSON lines, where the agent itself would have logged so.
    Log,
}

impl Complaint {
    fn of(command: Option<&Command>, format: telemetry::Format) -> Self {
        let agent = matches!(command, None | Some(Command::Run { .. } | Command::Once { .. }));
        if agent && format.is_json() { Self::Log } else { Self::Text }
    }

    fn about(self, message: &str) -> ExitCode {
        match self {
            Self::Text => say(message),
            Self::Log => tracing::error!(target: telemetry::FINAL, exit_code = EXIT_CONFIG, "{message}"),
        }
        EXIT_CONFIG.into()
    }

    fn about_all(self, error: &ConfigError) -> ExitCode {
        match self {
            Self::Text => say(&error.to_string()),
            Self::Log => {
                for diagnostic in &error.diagnostics {
                    let key = diagnostic.path.as_str();
                    tracing::error!(target: telemetry::FINAL, key, exit_code = EXIT_CONFIG, "{diagnostic}");
                }
            }
        }
        EXIT_CONFIG.into()
    }
}

/// Asks the agent of this container.
fn probe(what: Ask, listener: Option<Listener>, directory: &Path) -> ExitCode {
    let question = match what {
        Ask::Startup => probe::Question::Startup,
        Ask::Ready => probe::Question::Ready,
        Ask::Live => probe::Question::Live,
    };
    match probe::ask(question, listener, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

/// Reads the document, if there is one.
fn find_document(
    cli: Option<PathBuf>,
    command: Option<&Command>,
    environment: ProcessEnvironment,
) -> Result<ConfigSource, String> {
    match config::document_location(&environment, cli) {
        None => Ok(ConfigSource::Fixed(None)),
        Some(DocumentLocation::Inline(text)) => Ok(ConfigSource::Fixed(Some(text))),
        // A person may pipe into it: keyferry check --config <(helm template ...).
        Some(DocumentLocation::File(path)) if matches!(command, Some(Command::Check)) => std::fs::read_to_string(&path)
            .map(|text| ConfigSource::Fixed(Some(text)))
            .map_err(|error| format!("failed to read configuration {}: {error}", path.display())),
        Some(DocumentLocation::File(path)) => ConfigSource::read(path),
    }
}
