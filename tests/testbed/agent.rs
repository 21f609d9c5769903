//! The agent as a process under test.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::capture::Capture;
use super::reference_scenario::Case;
use super::wait_until;
use super::watchdog::{Process, Watchdog};

/// Path of the agent's binary. Cargo builds it for tests and sets its path; the demo runs Cargo itself, once.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    let built = find_binary()?;
    Ok(BUILT.get_or_init(|| built).clone())
}

fn find_binary() -> Result<PathBuf> {
    if let Some(binary) = option_env!("CARGO_BIN_EXE_keyferry") {
        return Ok(binary.into());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    unset_package_variables(&mut cargo);
    let output = cargo
        // Build it with the demo, which exists already: the dependencies then have the same features and are not rebuilt.
        .args(["build", "--quiet", "--bin", "keyferry", "--example", "demo"])
        .args(["--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    ensure!(output.status.success(), "failed to build the agent");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["kind"][0] == "bin").then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages.lines().find_map(executable).context("cargo reported no executable")
}

/// Unsets the variables that Cargo sets for this package. The build script of `ring` depends on them, so a nested Cargo
/// would rebuild the TLS stack, and so would the user's next `cargo`.
pub fn unset_package_variables(command: &mut Command) {
    let is_about_package = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(is_about_package) {
        command.env_remove(name);
    }
}

/// A running agent. Dropping it kills the process; in a failing test it first prints the agent's log and files.
pub struct Agent {
    process: Process,
    capture: Arc<Capture>,
    directory: PathBuf,
    pages_captured: bool,
}

impl Agent {
    /// Starts the agent for a case, with changes to the environment: `("NAME", "")` removes a variable.
    pub fn for_case(watchdog: &Watchdog, case: &Case, arguments: &[&str], changes: &[(&str, &str)]) -> Result<Self> {
        Self::with_wrapper(&[], watchdog, case, arguments, changes)
    }

    /// As `for_case`, but started through the command `wrapper`, to which the agent's command line is appended.
    pub fn with_wrapper(
        wrapper: &[&str],
        watchdog: &Watchdog,
        case: &Case,
        arguments: &[&str],
        changes: &[(&str, &str)],
    ) -> Result<Self> {
        let mut environment = case.environment();
        environment.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let added = changes.iter().filter(|(_, value)| !value.is_empty());
        environment.extend(added.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let listen = environment.iter().find(|(name, _)| name == "KEYFERRY_LISTEN");
        let listen = listen.and_then(|(_, address)| address.parse().ok());

        let binary = binary()?;
        let line: Vec<&OsStr> = wrapper.iter().map(OsStr::new).chain([binary.as_os_str()]).collect();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(arguments)
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = watchdog.spawn(&mut command)?;
        let capture = Arc::new(Capture::new(format!("keyferry {}", arguments.join(" ")), listen));
        let child = process.child();
        capture.collect(child.stdout.take().context("a pipe")?, child.stderr.take().context("a pipe")?);
        capture.take_environ(process.id())?;
        case.leaks.add_agent(Arc::clone(&capture));
        Ok(Self { process, capture, directory: case.directory.clone(), pages_captured: false })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.capture.log()
    }

    /// Lines on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.capture.stdout()
    }

    /// Waits until `fact` returns a value. Fails immediately if the agent exits first.
    pub async fn wait_for<T, F>(&mut self, what: &str, deadline: Duration, fact: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let found = tokio::select! {
            biased;
            found = wait_until(what, deadline, fact) => found,
            Some(status) = self.process.wait(deadline * 2) => Err(anyhow!("{what}: not true, and the agent exited with {status}")),
        };
        found.map_err(|error| anyhow!("{error:#}\n{}", self.report()))
    }

    /// Waits for a log line that contains this text.
    pub async fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<String> {
        let capture = Arc::clone(&self.capture);
        let what = format!("the log contains {text:?}");
        self.wait_for(&what, deadline, || {
            let found = capture.log().into_iter().find(|line| line.contains(text));
            async move { found }
        })
        .await
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !matches!(signal, Signal::HUP | Signal::USR1) {
            self.capture_pages();
        }
        self.process.signal(signal)
    }

    /// Captures the pages of the agent's listener, once, before the agent gets a signal to stop.
    pub fn capture_pages(&mut self) {
        if !std::mem::replace(&mut self.pages_captured, true) {
            self.capture.take_pages(self.process.id());
        }
    }

    /// Sends SIGKILL and waits for the exit.
    pub async fn kill(&mut self) -> Result<()> {
        self.capture_pages();
        self.process.kill().await
    }

    /// Waits for the exit.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match self.process.wait(deadline).await {
            Some(status) => Ok(status),
            None => bail!("the agent is still running after {:.1} s\n{}", deadline.as_secs_f32(), self.report()),
        }
    }

    /// Sends SIGTERM, as the kubelet does, and waits for the exit.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(deadline).await
    }

    /// The agent's log and a listing of its directory, for a failing test.
    pub fn report(&self) -> String {
        let mut text = String::from("--- the agent's log\n");
        for line in self.log() {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "--- {}", self.directory.display());
        text + &tree(&self.directory)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        } else {
            self.capture_pages();
        }
    }
}

/// A recursive listing of a directory with modes, owners, sizes and link targets, without file contents.
pub fn tree(directory: &Path) -> String {
    let mut text = String::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) => return format!("(unreadable: {e})\n"),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            _ => '-',
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = std::fs::read_link(&path).map(|to| format!(" -> {}", to.display())).unwrap_or_default();
        let mode = metadata.permissions().mode() & 0o7777;
        let _ = writeln!(
            text,
            "{kind}{mode:04o} {}:{} {:>6}  {name}{target}",
            metadata.uid(),
            metadata.gid(),
            metadata.len()
        );
        if metadata.is_dir() {
            for line in tree(&path).lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text
}
