//! Cleans up after the test process, even after SIGKILL.
//!
//! A shell, the watchdog, reads from a pipe of the test process. When that process exits for any reason, the pipe closes.
//! The watchdog then kills the registered process groups and removes the directories. It runs in its own process group, so
//! that Ctrl-C at the terminal does not kill it first. (`PR_SET_PDEATHSIG` would need unsafe code and would miss a plugin's
//! process.)
//!
//! If the watchdog can be killed as well and something would remain on the machine, use a journal (`start_with_journal`): a
//! locked file lists the cleanup commands, and the next process that locks it runs them (`sweep`).

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const SCRIPT: &str = r#"
groups= undo=:
while read -r verb what; do
  if [ "$verb" = undo ]; then undo="$what; $undo"; continue; fi
  rest=
  for g in $groups; do [ "$g" = "$what" ] || rest="$rest $g"; done
  groups=$rest
  if [ "$verb" = watch ]; then groups="$groups $what"; fi
done
for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
eval "$undo"
journal=$1 n=0
shift
until rm -rf -- "$@" 2>/dev/null; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1; done
[ -z "$journal" ] || : >"$journal"
"#;

/// From util-linux. It forks, because only the children of a process that enters a PID namespace are in it.
const NSENTER: &str = "nsenter";
/// From util-linux: creates namespaces. With `--fork` it has one child as well.
pub(super) const UNSHARE: &str = "unshare";

/// Kills processes and removes directories when it is dropped or when this process exits.
pub struct Watchdog {
    shell: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    /// Directory on disk, for files of servers.
    pub directory: PathBuf,
    /// Directory in memory, for files that must be in memory, as in an `emptyDir` of medium `Memory`.
    pub memory: PathBuf,
    /// A process in whose namespaces all programs start.
    inside: Option<u32>,
    journal: Option<File>,
}

impl Watchdog {
    /// Starts the shell and creates the two directories.
    pub fn start() -> Result<Self> {
        Self::start_holding(Stdio::null(), "")
    }

    /// As `start`. The shell keeps the journal open until its exit, so that a lock on it is held until everything is cleaned
    /// up. `path` is the path of the journal.
    pub fn start_with_journal(journal: File, path: &Path) -> Result<Self> {
        let path = path.to_str().context("the path of the journal is not UTF-8")?;
        let mut watchdog = Self::start_holding(journal.try_clone()?.into(), path)?;
        watchdog.journal = Some(journal);
        let (directory, memory) = (watchdog.directory.display(), watchdog.memory.display());
        watchdog.note(&format!("rm -rf -- '{directory}' '{memory}'"))?;
        Ok(watchdog)
    }

    /// The shell empties the journal last, after the cleanup.
    fn start_holding(lock: Stdio, journal: &str) -> Result<Self> {
        let make = |base: &Path| {
            let made = tempfile::Builder::new().prefix("keyferry-test-").tempdir_in(base);
            made.map(tempfile::TempDir::keep)
                .with_context(|| format!("failed to create a directory in {}", base.display()))
        };
        let directory = make(&std::env::temp_dir())?;
        let memory = make(Path::new("/dev/shm"))?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog", journal])
            .args([&directory, &memory])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(lock)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to start /bin/sh")?;
        let pipe = Arc::new(Mutex::new(shell.stdin.take()));
        Ok(Self { shell, pipe, directory, memory, inside: None, journal: None })
    }

    /// PID of the shell.
    pub fn pid(&self) -> u32 {
        self.shell.id()
    }

    /// Starts all further programs in the network, mount and PID namespaces of this process.
    pub fn enter(&mut self, namespaces_of: u32) {
        self.inside = Some(namespaces_of);
    }

    /// Registers a cleanup command, one line of shell. The commands run after all processes were killed, in reverse order, and
    /// can run twice.
    pub fn undo(&self, command: &str) {
        // Callers register a cleanup before the change. An error means a full disk, on which nothing else works either.
        let _ = self.note(command);
        send(&self.pipe, "undo", command);
    }

    fn note(&self, command: &str) -> Result<()> {
        self.journal
            .as_ref()
            .map_or(Ok(()), |mut journal| writeln!(journal, "{command}"))
            .context("failed to write the journal")
    }

    /// A command for `spawn`. In other namespaces its working directory is always `/`.
    pub fn command(&self, program: &Path) -> Command {
        let Some(pid) = self.inside else { return Command::new(program) };
        let mut command = Command::new(NSENTER);
        command.args(["--target", &pid.to_string(), "--net", "--mount", "--pid", "--"]).arg(program);
        command
    }

    /// Starts a program in its own process group and registers it.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let wrapped = name == NSENTER || name == UNSHARE;
        let child = command.process_group(0).spawn().with_context(|| format!("failed to start {name}"))?;
        send(&self.pipe, "watch", &child.id().to_string());
        Ok(Process { child, pipe: Arc::clone(&self.pipe), wrapped, status: None })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.shell.wait();
    }
}

/// Cleans up after a run that was killed together with its watchdog, and empties the journal. The caller holds the lock.
pub fn sweep(journal: &Path) -> Result<()> {
    let text = std::fs::read_to_string(journal).with_context(|| format!("failed to read {}", journal.display()))?;
    let commands: Vec<&str> = text.lines().rev().collect();
    if !commands.is_empty() {
        super::binaries::print_uncaptured("cleaning up after a killed test cluster");
        let script = commands.join("\n");
        let status = Command::new("/bin/sh").args(["-c", &script]).current_dir("/").stdin(Stdio::null()).status()?;
        ensure!(status.success(), "failed to clean up with {}: {status}", journal.display());
        File::create(journal)?;
    }
    Ok(())
}

fn send(pipe: &Mutex<Option<ChildStdin>>, verb: &str, what: &str) {
    if let Some(pipe) = pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = writeln!(pipe, "{verb} {what}");
    }
}

/// A registered process. Dropping it kills its process group.
pub struct Process {
    child: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    /// Whether the child is `nsenter` or `unshare`, whose only child is the program.
    wrapped: bool,
    status: Option<ExitStatus>,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status, or `None` while the process is running.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                // Kill the rest of its group, such as a plugin, before the kernel can reuse the PID.
                self.kill_group();
                send(&self.pipe, "forget", &self.child.id().to_string());
            }
        }
        self.status
    }

    /// Signals the program itself. (`nsenter` would exit on SIGTERM before its child does.)
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status().is_none() {
            let pid = self.program().context("nsenter has not started its program yet")?;
            kill_process(pid, signal).with_context(|| format!("failed to send {signal:?} to process {pid:?}"))?;
            if self.wrapped && signal == Signal::CONT {
                // `nsenter` stops with its child and must be woken too.
                kill_process(Pid::from_child(&self.child), signal).context("failed to wake nsenter")?;
            }
        }
        Ok(())
    }

    /// PID of the program, in this PID namespace.
    pub fn program(&self) -> Option<Pid> {
        if !self.wrapped {
            return Some(Pid::from_child(&self.child));
        }
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Waits for the exit; `None` if the process is still running after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.exit_status();
            if status.is_some() || start.elapsed() > deadline {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends SIGTERM, and SIGKILL after `grace`.
    pub async fn stop(&mut self, grace: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.wait(grace).await.is_none() {
            self.kill().await?;
        }
        Ok(())
    }

    /// Sends SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(5)).await.context("still running after SIGKILL").map(|_| ())
    }

    fn kill_group(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            self.kill_group();
            let _ = self.child.wait();
            send(&self.pipe, "forget", &self.child.id().to_string());
        }
    }
}
