//! Logs: human on a terminal, JSON otherwise. Secrets cannot get here, their type has no text form.

use thiserror::Error;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person at a terminal.
    Human,
    /// One JSON object a line, for a collector.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum Error {
    /// The filter is not of the form `level` or `target=level,...`.
    #[error(
        "failed to parse log filter \"{filter}\": write a level (error, warn, info, debug, trace) or target=level pairs: {source}"
    )]
    Filter {
        /// What was written.
        filter: String,
        /// Why not.
        source: ParseError,
    },
    /// There is a subscriber already.
    #[error("failed to set up logging: it is set up already")]
    Twice,
}

/// Sends this process's log lines to standard error. `filter` is like `RUST_LOG`: a level, or `target=level` pairs.
///
/// # Errors
/// If the filter is malformed, or logging was set up before.
pub fn init(filter: &str, format: Format) -> Result<(), Error> {
    // `Targets` rather than `EnvFilter`: the same levels per target without a regex engine in the binary.
    let targets: Targets = filter.parse().map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        Format::Human => layer.compact().with_target(false).boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer.with_filter(targets)))
        .map_err(|_| Error::Twice)
}

/// Makes the process not dumpable: no core file, no `ptrace` and no reading of `/proc/<pid>/environ` by another process
/// of the same UID (prctl(2), `PR_SET_DUMPABLE`).
pub fn harden() {
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "failed to make the process not dumpable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_told_in_words() {
        let error = init("keyferry=loud", Format::Json).expect_err("no such level");
        assert!(error.to_string().contains("keyferry=loud"), "{error}");
    }
}
