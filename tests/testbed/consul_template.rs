//! The template engine of the Vault Agent, consul-template, as a process that answers one request per line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::binaries::find_or_build;
use super::watchdog::{Process, Watchdog};

/// Responses of Vault as JSON text, so that a number keeps its digits. The key is the request as in the template: the path,
/// then each argument after a newline.
pub type Responses = BTreeMap<String, Box<RawValue>>;

/// A template and everything that its output depends on.
pub struct Job<'a> {
    pub template: &'a str,
    /// `error_on_missing_key` of the Vault Agent.
    pub missing_error: bool,
    pub secrets: &'a Responses,
    pub env: &'a [(&'a str, &'a str)],
    /// Time of the function `timestamp`, in RFC 3339; empty: now.
    pub now: &'a str,
}

/// The running process.
pub struct ConsulTemplate {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    // Dropped before the watchdog, which removes its directories.
    _process: Process,
    _watchdog: Watchdog,
}

impl ConsulTemplate {
    /// Finds or builds the program, and starts it.
    pub fn start() -> Result<Self> {
        let program = find_or_build("consul-template-oracle")?;
        let watchdog = Watchdog::start()?;
        let mut command = watchdog.command(&program);
        command.env("TMPDIR", &watchdog.directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = watchdog.spawn(&mut command)?;
        let child = process.child();
        let (input, output) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        Ok(Self { input, output: BufReader::new(output), _process: process, _watchdog: watchdog })
    }

    /// The output, or the message of the error with which consul-template refuses the template.
    pub fn render(&mut self, job: &Job<'_>) -> Result<Result<Vec<u8>, String>> {
        let request = serde_json::to_string(&Request {
            template: job.template,
            missing_error: job.missing_error,
            secrets: job.secrets,
            env: job.env.iter().copied().collect(),
            now: job.now,
        })?;
        // Raw JSON text can contain newlines between tokens.
        let line = request.replace(['\n', '\r'], " ");
        writeln!(self.input, "{line}").context("consul-template-oracle has exited")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("consul-template-oracle has exited at the template {:?}", job.template);
        }
        let answer: Value = serde_json::from_str(&line)?;
        match (answer["output_base64"].as_str(), answer["error"].as_str()) {
            (Some(output), None) => Ok(Ok(BASE64_STANDARD.decode(output)?)),
            (None, Some(error)) => Ok(Err(error.to_owned())),
            _ => bail!("unexpected answer: {line}"),
        }
    }
}

#[derive(serde::Serialize)]
struct Request<'a> {
    template: &'a str,
    missing_error: bool,
    secrets: &'a Responses,
    env: BTreeMap<&'a str, &'a str>,
    now: &'a str,
}

/// The response of a KV version 2 mount to a read, with this data (JSON text) in this version.
pub fn kv2_response(data: &str, version: u64) -> Result<Box<RawValue>> {
    let metadata = json!({
        "created_time": "2026-01-01T00:00:00.123456789Z",
        "custom_metadata": null,
        "deletion_time": "",
        "destroyed": false,
        "version": version,
    });
    response(&format!("{{\"data\":{data},\"metadata\":{metadata}}}"), "", 0)
}

/// A response with this data (JSON text) and lease.
pub fn response(data: &str, lease_id: &str, lease_duration: u64) -> Result<Box<RawValue>> {
    let renewable = !lease_id.is_empty();
    let text = format!(
        "{{\"request_id\":\"6e0a3d3a-5b86-4d1b-9b5c-0d5f4c1f4a11\",\"lease_id\":\"{lease_id}\",\"renewable\":{renewable},\
         \"lease_duration\":{lease_duration},\"data\":{data},\"wrap_info\":null,\"warnings\":null,\"auth\":null}}"
    );
    RawValue::from_string(text).context("the data is not JSON")
}
