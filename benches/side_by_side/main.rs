//! `just bench`: compares keyferry with plain requests and with `vault agent`, in one run on one machine, and prints tables.
//!
//! The reference scenario: login with the auth method `kubernetes`, one KV secret, two files. Runs alternate, so that a slow
//! phase of the machine affects all programs. Every run starts with an empty directory in memory, and its result is checked.
//! `--quick` is a short trial with few runs. `--density N` (`just density N`) starts N agents against one Vault instead.
#![allow(unreachable_pub, missing_docs, reason = "a program for developers")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks; the rules apply to src/ only")]

mod contenders;
mod density;
mod process;
mod proxy;
mod setup;
mod stats;
#[path = "../../tests/testbed/mod.rs"]
mod testbed;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contenders::{Running, Scratch};
use proxy::Proxy;
use setup::Setup;
use stats::{Summary, megabytes, milliseconds, table};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Delivers the two files into a directory.
type Contender = fn(&Setup, &Path) -> Result<()>;

/// Starts a long-running program with Vault at an address and a refresh interval.
type Start = fn(&Setup, &str, &Path, Duration) -> Result<Running>;

/// Extent of the measurement.
struct Effort {
    runs: usize,
    /// Idle time of the long-running programs.
    rest: Duration,
    /// Refresh interval while requests are counted, and the number of refreshes.
    refresh: Duration,
    refreshes: u32,
}

const FULL: Effort = Effort { runs: 15, rest: Duration::from_mins(1), refresh: Duration::from_secs(5), refreshes: 6 };
const QUICK: Effort = Effort { runs: 3, rest: Duration::from_secs(3), refresh: Duration::from_secs(1), refreshes: 3 };

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let many = arguments.iter().position(|argument| argument == "--density");
    let many = many.map(|place| density::agents(arguments.get(place + 1).map(String::as_str))).transpose()?;
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let effort = if quick { QUICK } else { FULL };
    // The measurement uses plain HTTP, but the HTTP client requires a TLS provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (setup, _started) = if std::env::var_os("KEYFERRY_BENCH_ADDR").is_some() {
        (Setup::from_environment()?, None)
    } else {
        Setup::start().map(|(setup, started)| (setup, Some(started)))?
    };

    println!("{}", setup.versions());
    if let Some(agents) = many {
        println!("{}", density::measure(&setup, agents)?);
        return Ok(());
    }
    println!(
        "{} cores, {} alternating runs each, warm{}\n",
        cores(),
        effort.runs,
        if quick { " (short trial)" } else { "" }
    );
    println!("{}", times(&setup, &effort)?);
    println!("{}", long_running(&setup, &effort)?);
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Interval at which the files are looked for.
const POLL: Duration = Duration::from_micros(100);

/// Runs a contender. Returns the time until the files are complete, and until it has ended. Then, `keyferry once` has also
/// revoked its token.
fn measure(contender: Contender, setup: &Setup, files: &Path) -> Result<(Duration, Duration)> {
    let ended = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !contenders::is_complete(setup, files) && !ended.load(Ordering::Relaxed) {
                std::thread::sleep(POLL);
            }
            start.elapsed()
        });
        let result = contender(setup, files);
        let end = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        let complete = watcher.join().map_err(|_| "the watcher panicked")?;
        result.map(|()| (complete.min(end), end))
    })
}

/// Times from the start of the process or client to two complete files.
fn times(setup: &Setup, effort: &Effort) -> Result<String> {
    let contenders: [(&str, Contender); 4] = [
        ("two requests, HTTP client in process", contenders::client),
        ("two requests, curl", contenders::curl),
        ("keyferry once", contenders::keyferry_once),
        ("vault agent -exit-after-auth", contenders::agent_once),
    ];
    let mut samples = vec![Vec::new(); contenders.len()];
    // Run 0 warms up binaries and caches and is discarded.
    for run in 0..=effort.runs {
        for ((name, contender), samples) in contenders.iter().zip(&mut samples) {
            let scratch = Scratch::new("once")?;
            let files = scratch.join("files");
            let time = measure(*contender, setup, &files).map_err(|error| format!("{name}: {error}"))?;
            if !contenders::is_complete(setup, &files) {
                return Err(format!("{name}: files are missing or wrong").into());
            }
            if run > 0 {
                samples.push(time);
            }
        }
    }
    let row = |(name, samples): (&str, &Vec<(Duration, Duration)>)| {
        let (complete, ended): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        let (summary, end) = (Summary::of(&complete)?, Summary::of(&ended)?);
        let cells = [summary.min, summary.median, summary.max, end.median].map(milliseconds);
        Some([&[name.to_owned()], cells.as_slice()].concat())
    };
    let rows: Vec<_> = contenders.iter().map(|(name, _)| *name).zip(&samples).filter_map(row).collect();
    Ok(table(&["start to two files", "min", "median", "max", "median until exit"], &rows))
}

/// Cost of the long-running programs.
fn long_running(setup: &Setup, effort: &Effort) -> Result<String> {
    let starts: [(&str, &Path, Start); 2] = [
        ("keyferry run", &setup.keyferry, contenders::keyferry_run),
        ("vault agent", &setup.vault, contenders::agent_run),
    ];
    let (mut columns, mut requests) = (Vec::new(), String::new());
    for (name, binary, start) in starts {
        let mut column = vec![megabytes(std::fs::metadata(binary)?.len())];
        column.extend(rest(setup, effort, start)?);
        let (numbers, listed) = count(setup, effort, start)?;
        column.extend(numbers);
        let _ = writeln!(requests, "- {name}: {listed}");
        columns.push(column);
    }
    let names = [
        "binary".to_owned(),
        format!("resident after {} s", effort.rest.as_secs()),
        "anonymous part".to_owned(),
        "threads".to_owned(),
        format!("CPU time in {} s at rest", effort.rest.as_secs()),
        "requests per start".to_owned(),
        "requests per refresh".to_owned(),
    ];
    let rows: Vec<_> = names
        .into_iter()
        .enumerate()
        .map(|(i, name)| vec![name, columns[0][i].clone(), columns[1][i].clone()])
        .collect();
    Ok(format!("{}\nRequests of a start:\n{requests}", table(&["long-running", "keyferry run", "vault agent"], &rows)))
}

/// Memory and CPU time of an idle long-running program with its default refresh interval.
fn rest(setup: &Setup, effort: &Effort, start: Start) -> Result<Vec<String>> {
    let scratch = Scratch::new("rest")?;
    let files = scratch.join("files");
    let mut process = start(setup, &setup.address, &files, Duration::from_mins(1))?;
    contenders::await_files(setup, &files, &mut process)?;
    let before = process::cpu(process.id())?;
    std::thread::sleep(effort.rest);
    let used = process::cpu(process.id())?.saturating_sub(before);
    let memory = process::memory(process.id())?;
    Ok(vec![megabytes(memory.resident), megabytes(memory.anonymous), memory.threads.to_string(), milliseconds(used)])
}

/// Requests to Vault, counted by a proxy: until the files are complete, and on average per refresh.
fn count(setup: &Setup, effort: &Effort, start: Start) -> Result<(Vec<String>, String)> {
    let proxy = Proxy::start(&setup.address)?;
    let scratch = Scratch::new("count")?;
    let files = scratch.join("files");
    let mut process = start(setup, &proxy.address, &files, effort.refresh)?;
    contenders::await_files(setup, &files, &mut process)?;
    // Requests right after the files belong to the start too.
    std::thread::sleep(effort.refresh / 3);
    let at_start = proxy.take();
    std::thread::sleep(effort.refresh * effort.refreshes);
    let later = proxy.take();
    // Intervals have jitter, so count the refreshes as well: the reads of the secret.
    let path = format!("/v1/{}", setup.api_path());
    let reads = later.iter().filter(|request| request.ends_with(&path)).count();
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let per_read = later.len() as f64 / reads.max(1) as f64;
    let window = (effort.refresh * effort.refreshes).as_secs();
    let numbers = vec![at_start.len().to_string(), format!("{per_read:.1} ({} in {window} s)", later.len())];
    Ok((numbers, at_start.join(", ")))
}
