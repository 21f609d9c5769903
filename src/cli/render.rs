//! `keyferry render`: lists the files without writing them.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use keyferry::config::sample_data;
use keyferry::model::{Settings, SourceName};
use keyferry::runtime::{self, ListedFile, exit};

use super::output;

/// What a user types to see the values.
const ANSWER: &str = "show";

/// Lists the files, from Vault or from the sample `data`.
pub(crate) fn run(settings: Settings, data: Option<&Path>, show: bool) -> ExitCode {
    let listed = if let Some(file) = data {
        read(file).and_then(|text| {
            let data = sample_data(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            runtime::preview_sample(settings, &data).map_err(|failure| failure.to_string())
        })
    } else {
        if show && let Err(message) = confirm() {
            output::print_error(&message);
            return exit::CONFIG.into();
        }
        super::install_tls_provider();
        runtime::preview(settings, !show).map_err(|failure| failure.to_string())
    };
    match listed {
        Ok(files) => output::print_bytes(&text(&files)),
        Err(message) => {
            output::print_error(&message);
            ExitCode::FAILURE
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("failed to read sample data {}: {error}", file.display()))
}

/// Asks for a confirmation. Values are shown only on a terminal, so that no pipe or log collects them by accident.
fn confirm() -> Result<(), String> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err("--show requires a terminal, because it prints secrets; remove it to mask the values".into());
    }
    let _ = write!(std::io::stderr(), "`--show` prints secrets to the terminal. Type `{ANSWER}` to continue: ");
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if answer.trim() == ANSWER { Ok(()) } else { Err("not confirmed".into()) }
}

/// A header for each file, followed by its content.
fn text(files: &[ListedFile]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in files {
        let mut header = format!("=== {}", file.path);
        if let Some(mode) = &file.mode {
            let _ = write!(header, " (mode {:04o})", mode.bits());
        }
        let sources: Vec<_> = file.sources.iter().map(SourceName::as_str).collect();
        let _ = writeln!(header, ", from {}", sources.join(", "));
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(file.content.expose());
        if !file.content.expose().ends_with(b"\n") {
            bytes.push(b'\n');
        }
    }
    bytes
}
