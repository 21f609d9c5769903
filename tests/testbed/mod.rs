//! The testbed: a real Vault and a real Kubernetes API server on this machine, the reference scenario in them, and the agent
//! as a process. The integration tests and `cargo demo` use it.
//!
//! Tests that only use the servers share one pair per process (`Servers::shared`). Each has its own `Case`, with its own
//! namespace, mounts and policy. A test that stops or seals a server starts its own pair (`Servers::own`).

// Every test crate includes the whole testbed and uses a part of it; nothing here is visible outside of that crate.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
// The rules for `src/` (no sleeping, no files, no environment) do not apply to tests.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod admin;
pub mod agent;
pub mod binaries;
pub mod capture;
pub mod cluster;
pub mod consul_template;
pub mod kube;
pub mod kubeconfig;
pub mod leaks;
pub mod openbao;
pub mod permissions;
pub mod pki;
pub mod postgres;
mod programs;
pub mod reference_scenario;
pub mod requirements;
#[path = "../support/skip.rs"]
mod skip;
pub mod template_agent;
pub mod vault;
pub mod watchdog;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;

use binaries::Binaries;
use kube::Kube;
use vault::Vault;
use watchdog::Watchdog;

pub use agent::Agent;
pub use reference_scenario::Case;
pub(crate) use skip::skip_test;

/// If set to any value, tests that need real servers are skipped.
pub const SKIP: &str = "KEYFERRY_SKIP_SERVERS";

/// A running Vault and a running API server. Dropping this value stops both and removes their files.
pub struct Servers {
    pub vault: Vault,
    pub kube: Kube,
    // Must be the last field: fields are dropped in order, and the watchdog kills the remaining processes.
    pub watchdog: Watchdog,
}

static SHARED: OnceCell<Result<Servers, String>> = OnceCell::const_new();

impl Servers {
    /// The servers of this process, started by the first call. They stop with the process.
    ///
    /// Returns `None`, and prints that the test is skipped, if `KEYFERRY_SKIP_SERVERS` is set.
    ///
    /// # Panics
    /// If the servers can be neither found nor built, or do not start: missing servers must not look like a passed test.
    pub async fn shared(test: &str) -> Option<&'static Self> {
        if skipped(test) {
            return None;
        }
        let servers = SHARED.get_or_init(|| async { Self::start().await.map_err(|e| format!("{e:#}")) }).await;
        Some(servers.as_ref().unwrap_or_else(|e| panic!("the test servers did not start: {e}")))
    }

    /// Servers for one test, which can stop, seal or break them. `None` as in `shared`.
    ///
    /// # Panics
    /// As `shared`.
    pub async fn own(test: &str) -> Option<Self> {
        if skipped(test) {
            return None;
        }
        Some(Self::start().await.unwrap_or_else(|e| panic!("the test servers did not start: {e:#}")))
    }

    /// Finds or builds the servers, and starts them.
    pub async fn start() -> Result<Self> {
        Self::start_from(&Binaries::find_or_build()?).await
    }

    /// Starts these servers.
    pub async fn start_from(binaries: &Binaries) -> Result<Self> {
        Self::start_with(binaries, vault::Options::default()).await
    }

    /// Starts these servers, Vault with these options.
    pub async fn start_with(binaries: &Binaries, options: vault::Options) -> Result<Self> {
        install_tls();
        let watchdog = Watchdog::start()?;
        let (vault, kube) =
            tokio::try_join!(Vault::start(binaries, &watchdog, options), Kube::start(binaries, &watchdog))?;
        Ok(Self { vault, kube, watchdog })
    }
}

/// Whether `KEYFERRY_SKIP_SERVERS` is set; if so, prints a line that names the test.
pub fn skipped(test: &str) -> bool {
    let skip = std::env::var_os(SKIP).is_some();
    if skip {
        skip_test(test, &format!("{SKIP} is set"));
    }
    skip
}

/// Installs the process's TLS provider, as the agent's `main` does. Repeated calls have no effect.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Calls `fact` until it returns a value. After `deadline`, fails with an error that contains `what`.
pub async fn wait_until<T, F>(what: &str, deadline: Duration, mut fact: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        // A question without an answer must not outlast the deadline either.
        let left = deadline.saturating_sub(start.elapsed()).max(Duration::from_millis(20));
        if let Ok(Some(value)) = tokio::time::timeout(left, fact()).await {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            return Err(anyhow!("{what}: not true after {:.1} s", deadline.as_secs_f32()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A free loopback port, returned once per process. It is below Linux's range for outgoing connections, so that it stays
/// free while a server restarts.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let port = fastrand::u16(20_000..32_000);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(anyhow!("no free loopback port between 20000 and 32000"))
}
