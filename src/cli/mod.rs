//! The command line: its arguments, one file per subcommand, and the output of results and errors in `output`.

pub(crate) mod check;
pub(crate) mod configuration;
mod output;
pub(crate) mod probe;
pub(crate) mod refresh;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod schema;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use keyferry::config::{self, Environment as _, ProcessEnvironment};
use keyferry::telemetry;

use output::Errors;

/// Delivers secrets from Vault or OpenBao to Kubernetes pods as files and keeps them up to date.
#[derive(Parser)]
#[command(name = "keyferry", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Configuration file (YAML); also `KEYFERRY_CONFIG`. Optional: environment variables can be enough.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log filter like `info` or `keyferry=debug`; also `KEYFERRY_LOG`, then `RUST_LOG`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Configured(ConfiguredCommand),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// The subcommands that use a configuration.
#[derive(Subcommand)]
pub(crate) enum ConfiguredCommand {
    /// Publish, then keep running: renew, refresh, report (the default).
    Run {
        /// Keep token, leases, and certificates in this file across restarts; also `KEYFERRY_CHECKPOINT`.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The container is an ordinary one next to the application, not a sidecar, and stops at the same time.
        #[arg(long)]
        app_container: bool,
    },
    /// Publish and mirror once, then exit.
    Once {
        /// Time limit: seconds, or with a unit (30s, 2m).
        #[arg(long, default_value = "60s", value_parser = config::parse_duration)]
        timeout: Duration,
        /// Leave token, leases, and certificates to `run` in this file; also `KEYFERRY_CHECKPOINT`.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// List the files without writing them, with masked values; logs in to Vault, reads each secret once, and revokes the token.
    Render {
        /// Use sample data from this file instead of Vault, and show the values. The file is a YAML mapping of secrets by source or path.
        #[arg(long, value_name = "FILE", conflicts_with = "show")]
        data: Option<PathBuf>,
        /// Show the values; requires a terminal and a confirmation.
        #[arg(long)]
        show: bool,
    },
    /// Check the configuration without connecting to anything, and report every error.
    Check,
    /// Query a running agent, for images without a shell; exit code 0 if the check passed.
    Probe {
        /// The check to run.
        what: ProbeType,
    },
    /// Make a running agent read its sources now, like SIGHUP; for images without a shell.
    Refresh {
        /// Also replace leases, certificates, and tokens. By default, the agent reads only sources whose read issues nothing in Vault.
        #[arg(long)]
        new_leases: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ProbeType {
    /// The first set of files is published.
    Startup,
    /// All required outputs are published.
    Ready,
    /// The agent is alive.
    Live,
}

impl Arguments {
    /// Parses the command line. The error is the exit code, also of `--help` and `--version`.
    pub(crate) fn read(environment: ProcessEnvironment) -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            // The subcommand is unknown here, so every argument that could be one counts.
            let for_person = std::env::args_os()
                .any(|argument| matches!(argument.to_str(), Some("check" | "schema" | "probe" | "refresh" | "render")));
            Errors::new(!for_person, log_format(environment).unwrap_or_default()).report_usage(&error)
        })
    }
}

impl Default for Command {
    fn default() -> Self {
        Self::Configured(ConfiguredCommand::Run { checkpoint: None, app_container: false })
    }
}

impl ConfiguredCommand {
    /// Whether the subcommand writes a log, so that its errors belong there.
    const fn is_agent(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Once { .. })
    }
}

/// Installs the one TLS provider; rustls does not choose between two. Returns whether there was none.
pub(crate) fn install_tls_provider() -> bool {
    rustls::crypto::ring::default_provider().install_default().is_ok()
}

/// Starts the log and returns the output for errors. `filter` is the value of `--log`.
pub(crate) fn start_log(
    command: &ConfiguredCommand,
    filter: Option<String>,
    environment: ProcessEnvironment,
) -> Result<Errors, ExitCode> {
    let format = log_format(environment)
        .map_err(|message| Errors::new(command.is_agent(), telemetry::Format::default()).report(&message))?;
    let errors = Errors::new(command.is_agent(), format);
    let filter = filter.or_else(|| environment.get("KEYFERRY_LOG")).or_else(|| environment.get("RUST_LOG"));
    telemetry::init(filter.as_deref().unwrap_or(telemetry::DEFAULT_FILTER), format)
        .map_err(|error| errors.report(&error.to_string()))?;
    Ok(errors)
}

fn log_format(environment: ProcessEnvironment) -> Result<telemetry::Format, String> {
    let text = environment.get("KEYFERRY_LOG_FORMAT").unwrap_or_default();
    text.parse::<telemetry::Format>().map_err(|error| format!("KEYFERRY_LOG_FORMAT: {error}"))
}
