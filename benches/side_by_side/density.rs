//! `just density N`: N agents against one Vault on this machine, on loopback only. All processes are stopped at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::proxy::Proxy;
use super::setup::Setup;
use super::stats::{Summary, megabytes, milliseconds, table};
use super::testbed::watchdog::{Process, Watchdog};
use super::{Result, contenders, process};

/// Upper limit of N: more processes give no further insight and reach limits of the machine.
const MAX_AGENTS: usize = 5000;

/// Number of agents whose requests are counted. A proxy in front of all agents would distort the measurement.
const SAMPLE: usize = 20;

/// Timeout for all files, per agent, in addition to one minute. On two cores, 1,000 agents took 10 s.
const PER_AGENT: Duration = Duration::from_millis(100);

/// Idle time before memory is measured.
const REST: Duration = Duration::from_secs(10);

/// Timeout from SIGTERM to the last exit: the drain, and the time that Vault needs for N revocations.
const END: Duration = Duration::from_secs(60);

/// Parses the number of agents from the command line.
pub fn agents(argument: Option<&str>) -> Result<usize> {
    let number = argument.and_then(|text| text.parse().ok()).filter(|number| (1..=MAX_AGENTS).contains(number));
    number.ok_or_else(|| format!("--density needs a number of agents, 1 to {MAX_AGENTS}").into())
}

struct Agent {
    process: Process,
    files: PathBuf,
    /// Time from the start of the first agent until the files of this agent are complete.
    complete: Option<Duration>,
}

/// Starts the agents, waits for their files, measures them at rest, and stops them.
pub fn measure(setup: &Setup, number: usize) -> Result<String> {
    let loopback = ["http://127.0.0.1:", "http://[::1]:", "http://localhost:"];
    if !loopback.iter().any(|start| setup.address.starts_with(start)) {
        return Err(format!(
            "{number} agents need a Vault on this machine; {} is not a loopback address",
            setup.address
        )
        .into());
    }
    // Kills remaining processes and removes the directories after this process exits for any reason.
    let watchdog = Watchdog::start()?;
    let proxy = Proxy::start(&setup.address)?;
    let start = Instant::now();
    let mut all = Vec::with_capacity(number);
    for index in 0..number {
        let address = if index < SAMPLE { &proxy.address } else { &setup.address };
        let files = watchdog.memory.join(format!("{index}/files"));
        std::fs::create_dir_all(watchdog.memory.join(index.to_string()))?;
        let mut command = contenders::keyferry(setup, address, &files);
        command.arg("run").stderr(std::process::Stdio::null());
        all.push(Agent { process: watchdog.spawn(&mut command)?, files, complete: None });
    }
    let started = start.elapsed();
    await_all(setup, &mut all, start)?;
    let at_start = proxy.take().len();

    std::thread::sleep(REST);
    let (mut resident, mut proportional, mut anonymous) = (0, 0, 0);
    for agent in &all {
        let memory = process::memory(agent.process.id())?;
        resident += memory.resident;
        anonymous += memory.anonymous;
        proportional += process::proportional(agent.process.id())?;
    }
    let before = process::cpu_of_children()?;
    let ended = end_all(&mut all)?;
    let cpu = process::cpu_of_children()?.saturating_sub(before);

    let times: Vec<Duration> = all.iter().filter_map(|agent| agent.complete).collect();
    let summary = Summary::of(&times).ok_or("no agent has published its files")?;
    let count = u64::try_from(number)?;
    let sample = number.min(SAMPLE);
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let requests = at_start as f64 / sample as f64;
    let each = |total: u64| format!("{} ({} each)", megabytes(total), kilobytes(total / count));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("all processes started after", milliseconds(started)),
        row("files of half of the agents published after", milliseconds(summary.median)),
        row("files of all agents published after", milliseconds(summary.max)),
        row("proportional memory", each(proportional)),
        row("anonymous memory", each(anonymous)),
        row("resident memory, shared pages counted repeatedly", each(resident)),
        row("CPU time from start to exit", format!("{} each", milliseconds(cpu / u32::try_from(number)?))),
        row("requests per start", format!("{requests:.1} each (sample of {sample})")),
        row("all agents exited after SIGTERM", milliseconds(ended)),
    ];
    Ok(table(&[&format!("{number} agents, one Vault"), "on this machine"], &rows))
}

/// Records for each agent when its files are complete.
fn await_all(setup: &Setup, all: &mut [Agent], start: Instant) -> Result<()> {
    let limit = Duration::from_mins(1) + PER_AGENT * u32::try_from(all.len())?;
    loop {
        let mut missing = 0;
        for agent in all.iter_mut().filter(|agent| agent.complete.is_none()) {
            if contenders::is_complete(setup, &agent.files) {
                agent.complete = Some(start.elapsed());
            } else if let Some(status) = agent.process.exit_status() {
                return Err(format!("an agent exited before it published its files: {status}").into());
            } else {
                missing += 1;
            }
        }
        if missing == 0 {
            return Ok(());
        }
        if start.elapsed() > limit {
            return Err(
                format!("{missing} of {} agents have not published their files after {limit:?}", all.len()).into()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops all agents at the same time with SIGTERM, as the kubelet does; they revoke their tokens.
fn end_all(all: &mut [Agent]) -> Result<Duration> {
    let start = Instant::now();
    for agent in all.iter_mut() {
        agent.process.signal(Signal::TERM)?;
    }
    while all.iter_mut().any(|agent| agent.process.exit_status().is_none()) {
        if start.elapsed() > END {
            return Err(format!("some agents are still running {END:?} after SIGTERM").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_count_out_of_range_is_rejected() {
        assert_eq!(agents(Some("1000")).ok(), Some(1000));
        for wrong in [None, Some(""), Some("0"), Some("-1"), Some("5001"), Some("many")] {
            assert!(agents(wrong).is_err(), "{wrong:?}");
        }
    }
}
