//! Leaves nothing behind, however this process ends.
//!
//! A shell waits on a pipe that we hold. When we end, for any reason and also by SIGKILL, the pipe closes; the shell then kills
//! the process groups that were registered and removes our directories. It has a process group of its own, so that a Ctrl-C
//! at the terminal does not end it first. (`PR_SET_PDEATHSIG` would need unsafe code, and would miss a plugin's process.)
//!
//! Where the shell can be killed too and something would stay on the machine, there is a journal (`start_with_journal`): what is
//! to be undone stands in a locked file, and who locks it next does it (`sweep`).

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

/// From util-linux. It forks, since a process that enters a PID namespace is not in it, only its children are.
const NSENTER: &str = "nsenter";
/// Its counterpart, which makes the namespaces; with `--fork` it has one child as well.
pub(super) const UNSHARE: &str = "unshare";

/// Ends processes and removes directories when dropped, or when this process ends.
pub struct Watchdog {
    shell: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    /// For servers' files: on disk.
    pub directory: PathBuf,
    /// For what must be in memory, as a memory emptyDir is.
    pub memory: PathBuf,
    /// A process in whose namespaces all others start.
    inside: Option<u32>,
    journal: Option<File>,
}

impl Watchdog {
    /// Start the watch and make the two directories.
    pub fn start() -> Result<Self> {
        Self::start_holding(Stdio::null(), "")
    }

    /// As `start`; the watch holds this file open to its end, so that a lock on it outlives this process until all is undone.
    /// `path` is the file's own name.
    pub fn start_with_journal(journal: File, path: &Path) -> Result<Self> {
        let path = path.to_str().context("the journal has a plain name")?;
        let mut watchdog = Self::start_holding(journal.try_clone()?.into(), path)?;
        watchdog.journal = Some(journal);
        let (directory, memory) = (watchdog.directory.display(), watchdog.memory.display());
        watchdog.note(&format!("rm -rf -- '{directory}' '{memory}'"))?;
        Ok(watchdog)
    }

    /// The watch empties the journal as its last act, when all is undone.
    fn start_holding(lock: Stdio, journal: &str) -> Result<Self> {
        let make = |base: &Path| {
            let made = tempfile::Builder::new().prefix("keyferry-test-").tempdir_in(base);
            made.map(tempfile::TempDir::keep)
                .with_context(|| format!("failed to make a directory in {}", base.display()))
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

    /// The process of the watch.
    pub fn pid(&self) -> u32 {
        self.shell.id()
    }

    /// Start all further programs in the network, mount and PID namespaces of this process.
    pub fn enter(&mut self, namespaces_of: u32) {
        self.inside = Some(namespaces_of);
    }

    /// Have a shell command of one line run at the end, after all processes were killed; the last one first. It may run twice.
    pub fn undo(&self, command: &str) {
        // Before what it undoes is done; a journal that cannot be written is a full disk, on which nothing else works either.
        let _ = self.note(command);
        send(&self.pipe, "undo", command);
    }

    fn note(&self, command: &str) -> Result<()> {
        self.journal
            .as_ref()
            .map_or(Ok(()), |mut journal| writeln!(journal, "{command}"))
            .context("failed to write the journal")
    }

    /// A program to start with `spawn`. In other namespaces its directory is `/`, whatever `current_dir` says.
    pub fn command(&self, program: &Path) -> Command {
        let Some(pid) = self.inside else { return Command::new(program) };
        let mut command = Command::new(NSENTER);
        command.args(["--target", &pid.to_string(), "--net", "--mount", "--pid", "--"]).arg(program);
        command
    }

    /// Start a program in a process group of its own and watch it.
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

/// Undo what a run left that was killed together with its watch. The journal is locked by the caller, and empty afterwards.
pub fn sweep(journal: &Path) -> Result<()> {
    let text = std::fs::read_to_string(journal).with_context(|| format!("failed to read {}", journal.display()))?;
    let commands: Vec<&str> = text.lines().rev().collect();
    if !commands.is_empty() {
        super::binaries::print_uncaptured("sweeping what a killed test cluster left");
        let script = commands.join("\n");
        let status = Command::new("/bin/sh").args(["-c", &script]).current_dir("/").stdin(Stdio::null()).status()?;
        ensure!(status.success(), "failed to sweep by {}: {status}", journal.display());
        File::create(journal)?;
    }
    Ok(())
}

fn send(pipe: &Mutex<Option<ChildStdin>>, verb: &str, what: &str) {
    if let Some(pipe) = pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = writeln!(pipe, "{verb} {what}");
    }
}

/// A watched process. Dropping it kills its whole group.
pub struct Process {
    child: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    /// Whether the child is `nsenter` or `unshare`, and the program its only child.
    wrapped: bool,
    status: Option<ExitStatus>,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The pipes of the child, to take.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                // What it left in its group (a plugin) ends too; only then may the number be used again.
                self.kill_group();
                send(&self.pipe, "forget", &self.child.id().to_string());
            }
        }
        self.status
    }

    /// To the program itself. (`nsenter` would end by SIGTERM before its child, which then counts as ended.)
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status().is_none() {
            let pid = self.program().context("nsenter has not started its program yet")?;
            kill_process(pid, signal).with_context(|| format!("failed to send {signal:?} to process {pid:?}"))?;
            if self.wrapped && signal == Signal::CONT {
                // `nsenter` stops when its child stops, and nobody else wakes it.
                kill_process(Pid::from_child(&self.child), signal).context("failed to wake nsenter")?;
            }
        }
        Ok(())
    }

    /// The program's process, as this PID namespace numbers it.
    pub fn program(&self) -> Option<Pid> {
        if !self.wrapped {
            return Some(Pid::from_child(&self.child));
        }
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Wait for its end; `None` if it still runs after `deadline`.
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

    /// End it: SIGTERM, and SIGKILL after `grace`.
    pub async fn stop(&mut self, grace: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.wait(grace).await.is_none() {
            self.kill().await?;
        }
        Ok(())
    }

    /// End it by SIGKILL at once.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(5)).await.context("still there after SIGKILL").map(|_| ())
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
