//! The agent as a process, watched by a test.

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

/// The agent's binary: Cargo builds it for tests and says where; the demo asks Cargo itself, once.
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
        // Together with the demo, which is built already: so dependencies have the same features, and are not built again.
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
    messages.lines().find_map(executable).context("cargo named no executable")
}

/// Takes from a command what Cargo tells about this package; ring's build script watches it, so passed on it builds the TLS
/// stack anew here, and again at the next `cargo` by hand.
pub fn unset_package_variables(command: &mut Command) {
    let is_about_package = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(is_about_package) {
        command.env_remove(name);
    }
}

/// A running agent. Dropping it kills it; where a test is failing, it first prints what the agent said and wrote.
pub struct Agent {
    process: Process,
    capture: Arc<Capture>,
    directory: PathBuf,
    pages_captured: bool,
}

impl Agent {
    /// Start it for a case, with changes to the environment: `("NAME", "")` takes a variable away.
    pub fn for_case(watchdog: &Watchdog, case: &Case, arguments: &[&str], changes: &[(&str, &str)]) -> Result<Self> {
        Self::with_wrapper(&[], watchdog, case, arguments, changes)
    }

    /// As `for_case`, started by another program, which gets the agent's command line behind its own.
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

    /// What it logged so far.
    pub fn log(&self) -> Vec<String> {
        self.capture.log()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> Vec<String> {
        self.capture.stdout()
    }

    /// Wait for a fact, which may be about anything; an agent that ended meanwhile fails at once.
    pub async fn wait_for<T, F>(&mut self, what: &str, deadline: Duration, fact: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let found = tokio::select! {
            biased;
            found = wait_until(what, deadline, fact) => found,
            Some(status) = self.process.wait(deadline * 2) => Err(anyhow!("{what}: not so, and the agent ended with {status}")),
        };
        found.map_err(|error| anyhow!("{error:#}\n{}", self.report()))
    }

    /// Wait for a line in its log that holds this text.
    pub async fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<String> {
        let capture = Arc::clone(&self.capture);
        let what = format!("the log has {text:?}");
        self.wait_for(&what, deadline, || {
            let found = capture.log().into_iter().find(|line| line.contains(text));
            async move { found }
        })
        .await
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if signal != Signal::HUP {
            self.capture_pages();
        }
        self.process.signal(signal)
    }

    /// Takes what it shows of itself, once: before it is told to end.
    pub fn capture_pages(&mut self) {
        if !std::mem::replace(&mut self.pages_captured, true) {
            self.capture.take_pages(self.process.id());
        }
    }

    /// End it as a node's power loss would.
    pub async fn kill(&mut self) -> Result<()> {
        self.capture_pages();
        self.process.kill().await
    }

    /// Wait for its end.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match self.process.wait(deadline).await {
            Some(status) => Ok(status),
            None => bail!("the agent still runs after {:.1} s\n{}", deadline.as_secs_f32(), self.report()),
        }
    }

    /// Ask it to end, as the kubelet does, and wait.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(deadline).await
    }

    /// What a person needs to see when a test fails.
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

/// What is in a directory, with modes, owners and where links lead; no contents.
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
