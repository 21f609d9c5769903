//! A run leaves nothing on the machine, however it ends. Uses namespaces like those of the cluster, with a small workload.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::testbed::cluster::cgroups;
use crate::testbed::cluster::namespaces::Namespaces;
use crate::testbed::watchdog::{self, Watchdog};
use crate::testbed::{requirements, wait_until};

/// Variable with the path of the journal for `child_process`.
const JOURNAL: &str = "KEYFERRY_TEST_JOURNAL";
const SOON: Duration = Duration::from_secs(20);

/// A run that never ends by itself: namespaces with a process, a mount and a control group. Not a test.
#[tokio::test]
#[ignore = "started by the other tests in this module"]
async fn child_process() -> Result<()> {
    let journal = PathBuf::from(std::env::var_os(JOURNAL).context("started by another test")?);
    let file = std::fs::File::options().create(true).append(true).open(&journal)?;
    file.lock()?;
    let mut watchdog = Watchdog::start_with_journal(file, &journal)?;
    let namespaces = Namespaces::start(&watchdog, &["10.96.0.1".parse()?]).await?;
    watchdog.enter(namespaces.pid());
    let group = watchdog.directory.file_name().context("a name")?.to_string_lossy().into_owned();
    cgroups::make(&watchdog, &group)?;
    let tenant = "mkdir $1/mount && mount -t tmpfs tmpfs $1/mount && ip link add left type bridge && \
                  mkdir $2/deeper && echo $$ >$2/deeper/cgroup.procs && echo ready && sleep 600";
    let any = group_paths(&group).first().context("a hierarchy")?.clone();
    let mut command = watchdog.command(Path::new("/bin/sh"));
    command.args(["-c", tenant, "tenant"]).args([&watchdog.directory, &any]).stdout(Stdio::piped());
    let mut tenant = watchdog.spawn(&mut command)?;
    let mut line = String::new();
    BufReader::new(tenant.child().stdout.take().context("a pipe")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "{line}");
    let first = namespaces.pid();
    println!("up {group} {first} {} {}", tenant.program().context("it runs")?.as_raw_nonzero(), watchdog.pid());
    // Wait until the test that started this process exits, for any reason.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A started run, and what must be cleaned up after it.
struct Run {
    child: std::process::Child,
    group: String,
    processes: Vec<u32>,
    watchdog: u32,
}

impl Run {
    fn start(journal: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", "teardown::child_process", "--nocapture"])
            .env(JOURNAL, journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines().map_while(Result::ok);
        let up = lines.into_iter().find_map(|line| Some(line.split_once("up keyferry-")?.1.to_owned()));
        let up = up.context("the child did not start")?;
        let words: Vec<&str> = up.split_whitespace().collect();
        let [group, first, tenant, watchdog] = words[..] else { anyhow::bail!("unexpected output of the child: {up}") };
        Ok(Self {
            child,
            group: format!("keyferry-{group}"),
            processes: vec![first.parse()?, tenant.parse()?],
            watchdog: watchdog.parse()?,
        })
    }

    /// Sends SIGKILL, as the kernel does when memory is short.
    fn kill(&mut self, also_watchdog: bool) -> Result<()> {
        if also_watchdog {
            let watchdog = rustix::process::Pid::from_raw(self.watchdog.try_into()?).context("a pid")?;
            rustix::process::kill_process(watchdog, rustix::process::Signal::KILL)?;
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Directories and control groups that still exist.
    fn leftovers(&self) -> Vec<PathBuf> {
        let directories = [std::env::temp_dir().join(&self.group), Path::new("/dev/shm").join(&self.group)];
        directories.into_iter().filter(|path| path.exists()).chain(group_paths(&self.group)).collect()
    }

    async fn processes_are_gone(&self) -> Result<()> {
        let gone = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        wait_until("its processes are gone", SOON, || async { self.processes.iter().all(gone).then_some(()) }).await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn group_paths(group: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let all = [top.to_owned()].into_iter().chain(hierarchies).map(|hierarchy| hierarchy.join(group));
    all.filter(|path| path.exists()).collect()
}

fn can_run(test: &str) -> bool {
    requirements::is_root(test)
        && requirements::has(test, &[("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")])
}

#[tokio::test]
async fn killed_run_leaves_nothing() -> Result<()> {
    if !can_run("killed_run_leaves_nothing") {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let journal = directory.path().join("journal");
    let mut run = Run::start(&journal)?;
    ensure!(run.leftovers().len() > 2, "directories and control groups: {:?}", run.leftovers());
    run.kill(false)?;
    run.processes_are_gone().await?;
    wait_until("directories and control groups are gone", SOON, || async { run.leftovers().is_empty().then_some(()) })
        .await
        .with_context(|| format!("left: {:?}", run.leftovers()))?;
    wait_until("the journal is empty", SOON, || async {
        std::fs::read_to_string(&journal).ok()?.is_empty().then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn next_run_cleans_up_after_run_killed_with_watchdog() -> Result<()> {
    if !can_run("next_run_cleans_up_after_run_killed_with_watchdog") {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let journal = directory.path().join("journal");
    let mut run = Run::start(&journal)?;
    run.kill(true)?;
    // The kernel kills them: the first process of the namespaces exits when its pipe closes.
    run.processes_are_gone().await?;
    ensure!(!run.leftovers().is_empty(), "something is left to clean up");
    watchdog::sweep(&journal)?;
    ensure!(run.leftovers().is_empty(), "left: {:?}", run.leftovers());
    ensure!(std::fs::read_to_string(&journal)?.is_empty(), "the journal is empty after the cleanup");
    Ok(())
}
