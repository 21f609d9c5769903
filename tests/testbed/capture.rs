//! Captures everything that one agent exposes: its output, its environment in `/proc`, the pages of its listener.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::leaks::Observed;

/// Log message of an agent whose listener accepts requests.
const SERVES: &str = "serving probes and metrics";

/// Everything captured from one agent. It remains available after the exit.
pub struct Capture {
    /// The command line, which identifies the agent in reports.
    name: String,
    address: Option<SocketAddr>,
    log: Mutex<Vec<String>>,
    stdout: Mutex<Vec<String>>,
    taken: Mutex<Vec<Observed>>,
    pages_taken: AtomicBool,
    /// Pages that could not be fetched, with the error.
    failed_pages: Mutex<Vec<String>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Capture {
    pub(super) fn new(name: String, address: Option<SocketAddr>) -> Self {
        let (log, stdout, taken, pages_taken, failed_pages, readers) = Default::default();
        Self { name, address, log, stdout, taken, pages_taken, failed_pages, readers }
    }

    /// Log lines so far.
    pub fn log(&self) -> Vec<String> {
        locked(&self.log).clone()
    }

    /// Lines on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        locked(&self.stdout).clone()
    }

    /// Reads both pipes to the end, each on its own thread.
    pub(super) fn collect(self: &Arc<Self>, stdout: impl Read + Send + 'static, stderr: impl Read + Send + 'static) {
        let (out, err) = (Arc::clone(self), Arc::clone(self));
        locked(&self.readers).extend([
            std::thread::spawn(move || read_lines(stdout, &out.stdout)),
            std::thread::spawn(move || read_lines(stderr, &err.log)),
        ]);
    }

    /// Captures the environment from `/proc`. Only root can read that of an agent, which is not dumpable.
    ///
    /// # Errors
    /// If it cannot be read while the process is running.
    pub(super) fn take_environ(&self, pid: u32) -> Result<()> {
        let file = format!("/proc/{pid}/environ");
        let (since, is_root) = (Instant::now(), rustix::process::geteuid().is_root());
        loop {
            match std::fs::read(&file) {
                Ok(bytes) if !bytes.is_empty() => {
                    self.take("environ", &String::from_utf8_lossy(&bytes));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_root => return Ok(()),
                // Empty while the kernel creates the process, and after its exit.
                _ if has_ended(pid) => return Ok(()),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
            ensure!(since.elapsed() < Duration::from_secs(5), "failed to read {file}");
        }
    }

    /// Captures the pages of the listener. Call it before the agent gets a signal to stop.
    pub(super) fn take_pages(&self, pid: u32) {
        self.pages_taken.store(true, Ordering::Relaxed);
        // An agent that does not listen yet has no pages.
        let serves = self.log().iter().any(|line| line.contains(SERVES));
        let Some(address) = self.address.filter(|_| serves) else { return };
        for path in ["/metrics", "/readyz", "/livez"] {
            match page(address, path) {
                Ok(text) => self.take(path, &text),
                Err(_) if has_ended(pid) => {}
                Err(error) => locked(&self.failed_pages).push(format!("{path}: {error}")),
            }
        }
    }

    fn take(&self, what: &str, text: &str) {
        locked(&self.taken).push(Observed::new(format!("{}: {what}", self.name), text));
    }

    /// Everything captured, and all output. Waits until both pipes are closed, so the agent must have exited.
    pub(super) fn seen(&self) -> Result<Vec<Observed>> {
        for reader in locked(&self.readers).drain(..) {
            reader.join().ok().context("a reader of the agent's output panicked")?;
        }
        let mut seen = locked(&self.taken).clone();
        for (what, lines) in [("log", self.log()), ("stdout", self.stdout())] {
            seen.extend(lines.into_iter().map(|line| Observed::new(format!("{}: {what}", self.name), line)));
        }
        let serves = seen.iter().any(|seen| seen.text.contains(SERVES));
        ensure!(!serves || self.pages_taken.load(Ordering::Relaxed), "{}: its pages were not captured", self.name);
        let failed_pages = locked(&self.failed_pages);
        ensure!(failed_pages.is_empty(), "{}: failed to fetch {failed_pages:?}", self.name);
        Ok(seen)
    }
}

/// Whether the process has exited; a zombie counts.
fn has_ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn page(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn read_lines(pipe: impl Read, into: &Mutex<Vec<String>>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    // Read bytes, not text: invalid UTF-8 must not end the capture.
    while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        locked(into).push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
        line.clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
