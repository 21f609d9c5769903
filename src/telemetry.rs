//! Logging to stderr, as text on a terminal and as one JSON object per line otherwise, and hardening of the process.
//!
//! Events have the path of their module as target (`keyferry::vault`), or [`TARGET`]. The field `reason` has the reason
//! code, `source` the source, `output` the mirrored Secret, and `notification` the notification. Secret values cannot be logged, because their type
//! implements neither `Debug` nor `Display`. An HTTP library may log headers with a token at `debug`, so only targets
//! of keyferry can be logged below `info`, whatever the filter is.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::model::Failure;

/// Target of log lines about the whole agent.
pub const TARGET: &str = "keyferry";

/// Target of log lines that are written whatever the filter is: why the process exits with a failure. Otherwise, the
/// exit code would be the only trace of a failed run with the filter `off`.
pub const FINAL: &str = "keyferry::exit";

/// Default log filter.
pub const DEFAULT_FILTER: &str = "info";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `Human` if stderr is a terminal, otherwise `Json`.
    #[default]
    Auto,
    /// Text, one line per event.
    Human,
    /// One JSON object per line: `ts` (RFC 3339, UTC), `level`, `target`, `message`, and the fields of the event.
    Json,
}

impl Format {
    /// Whether this process logs JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        match self {
            Self::Auto => !io::stderr().is_terminal(),
            Self::Human => false,
            Self::Json => true,
        }
    }
}

impl FromStr for Format {
    type Err = TelemetryError;

    /// Parses a value of `KEYFERRY_LOG_FORMAT`. An empty value means `Auto`.
    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text.trim() {
            "" | "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format { format: text.into() }),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is invalid.
    #[error(
        "failed to parse log filter {filter:?}: {why}; write a level (error, warn, info, debug, off) or target=level, separated by commas, like \"info,keyferry::vault=debug\""
    )]
    Filter {
        /// The filter as the user wrote it.
        filter: String,
        /// The error in it.
        why: String,
    },
    /// The format is unknown.
    #[error("must be one of text, json, auto (found {format:?})")]
    Format {
        /// The format as the user wrote it.
        format: String,
    },
    /// Logging is already set up in this process.
    #[error("failed to set up logging: logging is already set up")]
    Twice,
}

/// Sets up logging for the process. `filter` has the syntax of `RUST_LOG`, without spans and regular expressions.
///
/// # Errors
/// If the filter is invalid, or logging is already set up.
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let layer = layer(parse_filter(filter)?, !format.is_json(), io::stderr);
    tracing_subscriber::registry().with(layer).try_init().map_err(|_| TelemetryError::Twice)
}

/// Logs a failure with its reason and class as fields. `source` and `output` name the source or Secret in question.
pub fn log_failure(failure: &Failure, source: Option<&str>, output: Option<&str>) {
    tracing::warn!(
        target: TARGET,
        source,
        output,
        reason = failure.reason.as_str(),
        class = ?failure.class,
        "{failure}"
    );
}

/// Protects the memory of the process from other processes of the same user and from core dumps.
///
/// # Errors
/// If a system call fails. The caller may continue without the protection.
pub fn harden() -> io::Result<()> {
    // No ptrace and no /proc/<pid>/mem for processes with the same UID (prctl(2), PR_SET_DUMPABLE).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // On some nodes, a core pattern that pipes to a program ignores the flag.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

fn layer<S, W>(filter: Targets, human: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = if human {
        let ansi = io::stderr().is_terminal();
        tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(OneLine(writer)).boxed()
    } else {
        tracing_subscriber::fmt::layer().with_writer(writer).event_format(JsonLine).boxed()
    };
    let always = filter_fn(|metadata| metadata.target() == FINAL).with_max_level_hint(Level::ERROR);
    layer.with_filter(filter.or(always)).with_filter(filter_fn(may_be_logged)).boxed()
}

/// Writes each event as one line, for `grep` and log collectors. The message of a rejected configuration has one line
/// per error.
struct OneLine<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for OneLine<W> {
    /// `event` is one complete event with a final line break.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = event.split_at(event.len() - usize::from(event.ends_with(b"\n")));
        let mut parts = text.split(|byte| *byte == b'\n');
        let mut line = parts.next().unwrap_or_default().to_vec();
        for part in parts {
            line.extend_from_slice(b"; ");
            line.extend_from_slice(part);
        }
        line.extend_from_slice(end);
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether an event may be logged at all; see the module documentation.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let own = metadata.target() == TARGET || metadata.target().starts_with("keyferry::");
    // kube logs each failed request as an error. The agent logs a failure of the API server once, with its cause.
    let repeated = metadata.target().starts_with("kube_client::");
    own || (*metadata.level() <= Level::INFO && !repeated)
}

/// Parses a filter. [`Targets`] treats an unknown word as a target, so a misspelled level such as `inof` would turn
/// logging off.
fn parse_filter(filter: &str) -> Result<Targets, TelemetryError> {
    let invalid = |why: String| TelemetryError::Filter { filter: filter.into(), why };
    let text = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !["off", "error", "warn", "info", "debug", "trace"].iter().any(|known| level.eq_ignore_ascii_case(known)) {
            return Err(invalid(format!("unknown level {level:?}")));
        }
    }
    let text: String = text.split_whitespace().collect();
    Targets::from_str(&text).map_err(|error| invalid(error.to_string()))
}

/// Formats each event as one flat JSON object. Ignores spans: an event has its source or output as a field.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut ts = String::new();
        SystemTime.format_time(&mut Writer::new(&mut ts))?;
        let mut line = Map::new();
        line.insert("ts".into(), ts.into());
        line.insert("level".into(), event.metadata().level().as_str().to_ascii_lowercase().into());
        line.insert("target".into(), event.metadata().target().into());
        // Reserve the position before the fields.
        line.insert("message".into(), Value::Null);
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().into(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::{FailureClass, Reason};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(filter: &str, human: bool, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let filter = parse_filter(filter).expect("filter");
        let subscriber = tracing_subscriber::registry().with(layer(filter, human, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn failure_is_one_flat_json_line() {
        let text = captured("info", false, || {
            let failure = Failure::new(FailureClass::Denied, Reason::Denied, "failed to read secret \"a\"\nnext");
            log_failure(&failure, Some("secret/a"), None);
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["target"], "keyferry");
        assert_eq!(line["reason"], "Denied");
        assert_eq!(line["class"], "Denied");
        assert_eq!(line["source"], "secret/a");
        assert_eq!(line["message"], "failed to read secret \"a\"\nnext");
        assert!(line.get("output").is_none(), "an absent field is omitted: {line}");
        assert!(line["ts"].as_str().expect("ts").parse::<jiff::Timestamp>().is_ok(), "{line}");
    }

    #[test]
    fn multi_line_event_is_one_text_line() {
        let text = captured("info", true, || tracing::warn!(target: TARGET, "refused: a: is wrong\nb: is missing"));
        assert!(text.ends_with("WARN keyferry: refused: a: is wrong; b: is missing\n"), "{text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }

    #[test]
    fn final_message_ignores_filter() {
        for human in [true, false] {
            let text = captured("off", human, || {
                tracing::error!(target: FINAL, "gave up");
                tracing::error!(target: TARGET, "silenced");
            });
            assert!(text.contains("gave up") && !text.contains("silenced"), "{text}");
        }
    }

    #[test]
    fn unknown_format_is_rejected() {
        for (text, format) in
            [("", Format::Auto), ("auto", Format::Auto), ("text", Format::Human), ("json", Format::Json)]
        {
            assert_eq!(text.parse::<Format>().ok(), Some(format), "{text:?}");
        }
        let error = "pretty".parse::<Format>().expect_err("no format");
        assert_eq!(error.to_string(), "must be one of text, json, auto (found \"pretty\")");
    }

    #[test]
    fn text_line_contains_reason() {
        let text = captured("info", true, || tracing::info!(target: TARGET, reason = "Published", "published"));
        assert!(text.contains("INFO keyferry: published reason=\"Published\""), "{text}");
    }

    #[test]
    fn libraries_do_not_log_below_info() {
        let text = captured("trace", false, || {
            tracing::debug!(target: "h2::codec", "header x-vault-token");
            tracing::debug!(target: "keyferry_lookalike", "no");
            tracing::info!(target: "hyper", "library");
            tracing::trace!(target: "keyferry::vault", "own event");
        });
        assert!(text.contains("library") && text.contains("own event"), "{text}");
        assert!(!text.contains("x-vault-token") && !text.contains("lookalike"), "{text}");
    }

    #[test]
    fn each_part_of_filter_is_checked() {
        for good in ["", "info", "WARN", "off", "info,keyferry=debug", "warn, keyferry::vault=trace"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "keyferry=loud", "keyferry", "info,keyferry="] {
            let error = parse_filter(bad).expect_err(bad).to_string();
            assert!(error.contains("unknown level") && error.contains("keyferry::vault=debug"), "{error}");
        }
    }
}
