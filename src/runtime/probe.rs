//! `keyferry probe`: checks the agent in the same container, for images without a shell.
//!
//! With a listener, the probe sends an HTTP request. Without one, it reads the state file that the agent writes to its
//! output directory. The directory outlives a container restart, so the file names its writer, and the agent removes it
//! at start.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::health::{HealthStatus, started};
use crate::model::Listener;
use crate::volume::{self, STATE_FILE};

/// Timeout of a probe, below the kubelet's default of one second.
const TIMEOUT: Duration = Duration::from_millis(900);

/// What a probe checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Whether the first set is published.
    Startup,
    /// Whether all required outputs are published.
    Ready,
    /// Whether the agent is running.
    Live,
}

/// Runs a check. `directory`: the agent's output directory, which is used without a listener.
///
/// # Errors
/// Why the check did not pass, as a message.
pub fn run(check: Check, listener: Option<Listener>, directory: &Path) -> Result<(), String> {
    match listener {
        Some(listener) if listener.address.port() != 0 => check_listener(check, listener.address),
        _ => check_state_file(check, directory),
    }
}

fn check_listener(check: Check, address: SocketAddr) -> Result<(), String> {
    let path = if check == Check::Live { "/livez" } else { "/readyz" };
    let query = || -> std::io::Result<String> {
        let mut stream = connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = query()
        .map_err(|error| format!("failed to query the agent at {address}: {error}; check that it is running"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(body.trim().to_owned()) }
}

/// Connects to the listener, via loopback for an unspecified address. A pod may lack the loopback of IPv4 or of IPv6.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), TIMEOUT)
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            TcpStream::connect_timeout(&(Ipv6Addr::LOCALHOST, port).into(), TIMEOUT)
                .or_else(|_| TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), TIMEOUT))
        }
        _ => TcpStream::connect_timeout(&address, TIMEOUT),
    }
}

fn check_state_file(check: Check, directory: &Path) -> Result<(), String> {
    let status = running_agent(directory)?;
    if check == Check::Live || status.ready { Ok(()) } else { Err(status.reasons.join("\n")) }
}

/// The status of the running agent, from its state file.
///
/// # Errors
/// If there is no state file, or its writer is not running.
pub(super) fn running_agent(directory: &Path) -> Result<HealthStatus, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("failed to read {STATE_FILE} in {}: {error}", directory.display());
    let text = volume::read_small_file(directory, STATE_FILE).map_err(|error| failed(&error))?;
    let missing = || format!("the agent has not written {STATE_FILE} to {} yet; check its log", directory.display());
    let text = text.ok_or_else(missing)?;
    let status: HealthStatus = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    if started(status.pid) != Some(status.started) {
        return Err("the agent is not running; its state file is from an earlier process".into());
    }
    Ok(status)
}

/// The state file of the running agent. Written only if the status changed or the last write failed.
pub(super) struct StateFile {
    directory: PathBuf,
    written: Option<HealthStatus>,
}

impl StateFile {
    /// Creates the handle. The file of an earlier process is ignored.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), written: None }
    }

    /// Writes `status` to the file if it changed.
    ///
    /// # Errors
    /// If the file cannot be written. The next call retries.
    pub(super) fn update(&mut self, status: &HealthStatus) -> std::io::Result<()> {
        if self.written.as_ref() != Some(status) {
            write_state(&self.directory, status)?;
            self.written = Some(status.clone());
        }
        Ok(())
    }

    /// Makes the next update write the file, because its directory may have been re-created.
    pub(super) fn invalidate(&mut self) {
        self.written = None;
    }

    /// Removes the file, at exit or before the directory changes.
    pub(super) fn remove(&mut self) {
        self.written = None;
        remove_state(&self.directory);
    }
}

/// Removes the state file.
pub(super) fn remove_state(directory: &Path) {
    if let Err(error) = volume::remove_small_file(directory, STATE_FILE) {
        tracing::warn!(%error, "failed to remove the state file of an earlier process");
    }
}

/// Replaces the state file atomically.
pub(super) fn write_state(directory: &Path, status: &HealthStatus) -> std::io::Result<()> {
    volume::replace_small_file(directory, STATE_FILE, &serde_json::to_vec(status)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_probed_via_loopback() {
        for bound in ["127.0.0.1:0", "[::]:0"] {
            // Skip IPv6 on a machine without it.
            let Ok(listener) = std::net::TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().expect("bound").port();
            let agent = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a probe");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    head.push(byte[0]);
                }
                stream.write_all(b"HTTP/1.1 503 \r\n\r\nPending: soon\n").expect("it reads");
                head
            });
            let address = (Ipv6Addr::UNSPECIFIED, port).into();
            assert_eq!(run(Check::Ready, Some(Listener { address }), Path::new("/")), Err("Pending: soon".into()));
            assert!(agent.join().expect("the agent").starts_with(b"GET /readyz"), "{bound}");
        }
    }

    #[test]
    fn state_file_is_written_again_after_failure() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("later");
        let mut file = StateFile::new(&directory);
        let status = HealthStatus { ready: true, ..HealthStatus::default() };
        assert!(file.update(&status).is_err(), "the directory does not exist");
        std::fs::create_dir(&directory).expect("mkdir");
        assert!(file.update(&status).is_ok());
        let written = || volume::read_small_file(&directory, STATE_FILE).expect("readable");
        assert!(written().is_some(), "the status is written once the directory exists");
        volume::remove_small_file(&directory, STATE_FILE).expect("removable");
        assert!(file.update(&status).is_ok());
        assert!(written().is_none(), "an unchanged status is not written again");
        file.remove();
        assert!(file.update(&status).is_ok());
        assert!(written().is_some(), "the status is written after a removal");
    }

    #[test]
    fn probe_reads_state_file_without_listener() {
        let directory = tempfile::tempdir().expect("a directory");
        let run = |check| run(check, None, directory.path());
        assert!(run(Check::Live).is_err(), "no state file exists");
        let pid = std::process::id();
        let since = started(pid).expect("this process runs");
        let mut status = HealthStatus { pid, started: since, ready: false, reasons: vec!["Pending: soon".into()] };
        write_state(directory.path(), &status).expect("it can be written");
        assert_eq!(run(Check::Live), Ok(()));
        assert_eq!(run(Check::Startup), Err("Pending: soon".into()));
        status.ready = true;
        write_state(directory.path(), &status).expect("it can be written");
        assert_eq!(run(Check::Ready), Ok(()));
        // The writer has exited and another process has its PID, so its status is invalid.
        status.started += 1;
        write_state(directory.path(), &status).expect("it can be written");
        assert!(run(Check::Ready).is_err());
        remove_state(directory.path());
        assert!(run(Check::Live).is_err());
    }
}
