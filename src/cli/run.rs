//! `keyferry run` and `keyferry once`: run the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use keyferry::config::{self, ProcessEnvironment};
use keyferry::model::{Reason, Settings};
use keyferry::runtime::{self, ConfigSource, Work, exit};
use keyferry::telemetry;

/// Runs the agent to its end and returns its exit code.
pub(crate) fn run(
    settings: Settings,
    source: ConfigSource,
    environment: ProcessEnvironment,
    work: Work,
    checkpoint: Option<PathBuf>,
) -> ExitCode {
    if let Err(error) = telemetry::harden() {
        tracing::warn!(%error, "failed to protect the memory of the process from other processes");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), vault = settings.server.address, "keyferry starts");
    if settings.status.pod_name.is_none() || settings.status.pod_uid.is_none() {
        tracing::info!("pod conditions and Events are off, because POD_NAME or POD_UID is not set");
    }
    if let Some(warning) = config::proxy_warning(&environment) {
        tracing::warn!("{warning}");
    }
    if !super::install_tls_provider() {
        tracing::error!(
            target: telemetry::FINAL, reason = %Reason::Internal, exit_code = exit::INTERNAL,
            "failed to install the TLS provider: one is already installed; report this bug"
        );
        return exit::INTERNAL.into();
    }
    match runtime::run(settings, source, Box::new(environment), work, checkpoint) {
        Ok(code) => code.into(),
        Err(failure) => {
            let exit_code = runtime::exit_code(&failure);
            tracing::error!(target: telemetry::FINAL, reason = %failure.reason, exit_code, "{failure}");
            exit_code.into()
        }
    }
}
