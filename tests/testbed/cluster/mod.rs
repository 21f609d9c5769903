//! A real Kubernetes node, a real control plane and a real Vault on this machine, without a container daemon.
//!
//! Everything runs in separate network, mount and PID namespaces. When their first process exits, the kernel removes every
//! process, mount and network device in them. So nothing remains after the test process exits for any reason, and nothing
//! else on the machine is changed. Inside, the API server has the address that pods expect (10.96.0.1), so no proxy and no
//! NAT are needed. The watchdog cleans up the rest: cgroups, directories, and the only kernel setting that is not in a
//! namespace (`fs.protected_symlinks`, set as on real nodes). Because of that setting, one cluster runs at a time.
//!
//! With an existing cluster (`existing`), nothing is started.

pub mod cgroups;
mod existing;
pub mod images;
pub mod namespaces;
mod node;
mod relay;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::{Mutex, OnceCell};

use super::binaries::{Binaries, find_or_build};
use super::kube::{self, Cluster, Kube};
use super::vault::{self, Vault};
use super::watchdog::Watchdog;
use super::{install_tls, requirements, skipped};
use namespaces::Namespaces;
use node::Node;

/// The address of the API server for pods: the first address of the Service range.
const API_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 443);
const VAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10)), 8200);
/// The address of a second Vault, for tests that start it later or stop it.
pub const SPARE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 11);
const NODE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 2);

/// As in `OpenShift`: changing the owner of an object requires permission to delete the object.
const PLUGINS: &str = "NodeRestriction,OwnerReferencesPermissionEnforcement";

/// Programs that a node needs, with their Debian packages.
const TOOLS: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("busybox", "busybox-static"),
    ("gcc", "gcc libc6-dev"),
    ("tar", "tar"),
];

/// A running cluster of one node, and a Vault.
pub struct RealCluster {
    pub kube: Kube,
    pub vault: Vault,
    control: Option<NodeControl>,
    kubectl: PathBuf,
    // Must follow the other processes: fields are dropped in order, and the watchdog kills the remaining processes.
    pub watchdog: Watchdog,
    _lock: Option<File>,
    images: OnceCell<()>,
}

/// Control of the node; absent for an existing cluster.
struct NodeControl {
    node: Mutex<Node>,
    namespaces: Namespaces,
}

static SHARED: OnceCell<Result<RealCluster, String>> = OnceCell::const_new();

impl RealCluster {
    /// The cluster of this process, started by the first call; it stops with the process. Returns `None`, and prints that the
    /// test is skipped, if this machine cannot run a cluster.
    ///
    /// # Panics
    /// If the cluster does not start, and in CI if it cannot run.
    pub async fn shared(test: &str) -> Option<&'static Self> {
        if skipped(test) || !(existing::is_wanted() || can_run(test)) {
            return None;
        }
        let cluster = SHARED.get_or_init(|| async { Self::start().await.map_err(|e| format!("{e:#}")) }).await;
        Some(cluster.as_ref().unwrap_or_else(|e| panic!("the test cluster did not start: {e}")))
    }

    /// Finds or builds the programs, starts the cluster, and waits until the node is Ready.
    pub async fn start() -> Result<Self> {
        install_tls();
        if existing::is_wanted() {
            return existing::connect().await;
        }
        let binaries = Binaries::find_or_build()?;
        let programs = node::Programs::find_or_build()?;
        let kubectl = find_or_build("kubectl")?;
        let lock = lock()?;
        let mut watchdog = Watchdog::start_with_journal(lock.try_clone()?, Path::new(JOURNAL))?;
        let addresses = [API_SERVER.ip(), VAULT.ip(), SPARE.into(), NODE.into()];
        let namespaces = Namespaces::start(&watchdog, &addresses).await?;
        watchdog.enter(namespaces.pid());
        protect_symlinks(&watchdog)?;
        let (api, vault) = (namespaces.relay(API_SERVER)?, namespaces.relay(VAULT)?);
        let options = vault::Options { endpoint: Some(vault::Endpoint { inside: VAULT, outside: vault }), tls: false };
        let (vault, kube) = tokio::try_join!(
            Vault::start(&binaries, &watchdog, options),
            Kube::start_at(&binaries, &watchdog, kube::Options { inside: API_SERVER, outside: api, plugins: PLUGINS })
        )?;
        let node = Node::start(programs, &watchdog, &kube).await?;
        let control = Some(NodeControl { node: Mutex::new(node), namespaces });
        Ok(Self { kube, vault, control, kubectl, watchdog, _lock: Some(lock), images: OnceCell::new() })
    }

    /// Whether a test can stop and kill processes, read files of the node, and read Vault's audit log. If not, prints that the
    /// test is skipped.
    ///
    /// # Panics
    /// In CI, if not.
    pub fn require_node_control(&self, test: &str) -> bool {
        self.has_node_control()
            || requirements::skip(test, "needs control of the node, which an existing cluster does not give")
    }

    /// As `require_node_control`, without printing.
    pub fn has_node_control(&self) -> bool {
        self.control.is_some()
    }

    fn control(&self) -> Result<&NodeControl> {
        self.control.as_ref().context("an existing cluster gives no control of its node")
    }

    /// The URL of the API server in the cluster.
    pub fn api_server_inside(&self) -> String {
        if self.control.is_some() { format!("https://{API_SERVER}") } else { self.kube.url().to_owned() }
    }

    /// Helpers around a client with full permissions.
    pub async fn admin(&self) -> Result<Cluster> {
        self.kube.admin().await
    }

    /// Starts a second Vault at `SPARE`. With TLS, its CA certificate is `Vault::ca_file`.
    pub async fn spare_vault(&self, tls: bool, port: u16) -> Result<Vault> {
        let inside = SocketAddr::from((SPARE, port));
        let endpoint = vault::Endpoint { inside, outside: self.relay(inside)? };
        Vault::start(&Binaries::find_or_build()?, &self.watchdog, vault::Options { tls, endpoint: Some(endpoint) })
            .await
    }

    /// A loopback address of this machine that relays to an address in the cluster, for example to a pod.
    pub fn relay(&self, inside: SocketAddr) -> Result<SocketAddr> {
        self.control()?.namespaces.relay(inside)
    }

    /// Builds the shipped images and the toolbox and imports them into the node, once.
    pub async fn with_images(&self) -> Result<()> {
        if self.control.is_none() {
            return Ok(()); // The user has loaded them.
        }
        let import = async || {
            let shipped = tokio::task::spawn_blocking(|| images::build(images::architecture())).await??;
            let toolbox = images::toolbox(&self.watchdog.directory, &self.kubectl)?;
            for archive in [shipped.join("keyferry.tar"), shipped.join("webapp.tar"), toolbox] {
                self.import(&archive).await?;
            }
            anyhow::Ok(())
        };
        self.images.get_or_try_init(import).await.copied()
    }

    /// Imports an image into the node, from a docker-archive or an OCI archive. Into an existing cluster the user loads them.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        match &self.control {
            Some(control) => control.node.lock().await.import(&self.watchdog, archive),
            None => Ok(()),
        }
    }

    /// A command for other processes of this machine, which imports the archive named by its last argument.
    pub async fn import_command(&self) -> Result<Vec<String>> {
        Ok(self.control()?.node.lock().await.import_command(&self.watchdog))
    }

    /// Kills the kubelet with SIGKILL and restarts it; pods keep running.
    pub async fn restart_kubelet(&self) -> Result<()> {
        self.control()?.node.lock().await.restart_kubelet(&self.watchdog).await
    }

    /// `kubectl` with full permissions.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.arg(format!("--kubeconfig={}", self.kube.admin_kubeconfig().display()));
        kubectl
    }

    /// Path of `kubectl`, to copy it into an image.
    pub fn kubectl_binary(&self) -> &Path {
        &self.kubectl
    }

    /// A path of the node, including the mounts of its namespace.
    pub fn node_path(&self, path: &Path) -> PathBuf {
        // Does not exist for an existing cluster.
        let first = self.control.as_ref().map_or(0, |control| control.namespaces.pid());
        let root = PathBuf::from(format!("/proc/{first}/root"));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Path of a pod's `emptyDir` volume on the node.
    pub fn volume(&self, pod_uid: &str, volume: &str) -> PathBuf {
        let pods = self.watchdog.directory.join("node/kubelet/pods");
        self.node_path(&pods.join(pod_uid).join("volumes/kubernetes.io~empty-dir").join(volume))
    }

    /// PIDs, on this machine, of a pod's processes that run the program with this path in its image.
    #[allow(clippy::unused_self, reason = "requires a running cluster")]
    pub fn processes(&self, pod_uid: &str, program: &str) -> Vec<u32> {
        node::processes(pod_uid, program)
    }
}

/// Locked by the cluster that runs on this machine; lists its cleanup commands. Gone after a reboot, like everything that
/// it lists.
const JOURNAL: &str = "/run/lock/keyferry-test-cluster";

/// Waits until no other cluster runs on this machine, and cleans up after a killed one.
fn lock() -> Result<File> {
    let file = open_journal()?;
    if file.try_lock().is_err() {
        super::binaries::print_uncaptured(
            "waiting: another test cluster runs on this machine (from a test or from just cluster-up)",
        );
        file.lock().with_context(|| format!("failed to lock {JOURNAL}"))?;
    }
    super::watchdog::sweep(Path::new(JOURNAL))?;
    Ok(file)
}

/// Cleans up after a killed cluster. Returns `false` while a cluster runs, which has cleaned up at its start.
pub fn sweep() -> Result<bool> {
    let file = open_journal()?;
    let free = file.try_lock().is_ok();
    if free {
        super::watchdog::sweep(Path::new(JOURNAL))?;
    }
    Ok(free)
}

fn open_journal() -> Result<File> {
    File::options().create(true).append(true).open(JOURNAL).with_context(|| format!("failed to open {JOURNAL}"))
}

/// Sets `fs.protected_symlinks`, as systemd does on real nodes: in a sticky directory, only the owner can follow a symlink.
/// Restored at the end.
fn protect_symlinks(watchdog: &Watchdog) -> Result<()> {
    let setting = "/proc/sys/fs/protected_symlinks";
    let before = std::fs::read_to_string(setting).context("failed to read fs.protected_symlinks")?;
    if before.trim() != "1" {
        watchdog.undo(&format!("echo {} >{setting}", before.trim()));
        std::fs::write(setting, "1").context("failed to set fs.protected_symlinks")?;
    }
    Ok(())
}

/// Whether this machine meets the requirements of a node; if not, prints that the test is skipped.
///
/// # Panics
/// In CI, if not.
pub fn can_run(test: &str) -> bool {
    requirements::is_root(test)
        && requirements::has(test, &TOOLS)
        && requirements::has(test, &images::TOOLS)
        && (node::cni_plugins().is_some() || {
            requirements::skip(
                test,
                "needs the CNI plugin bridge (as root: apt-get install containernetworking-plugins)",
            )
        })
}

/// Timeout for operations that usually take seconds, on a machine that compiles at the same time.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to start {}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Peak memory use of the cgroup of a process, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    // Version 1 has a hierarchy for each controller; version 2 has one for all, with number 0.
    let file = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match (number, controllers) {
            ("0", "") if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                Some(format!("/sys/fs/cgroup{path}/memory.peak"))
            }
            (_, "memory") => Some(format!("/sys/fs/cgroup/memory{path}/memory.max_usage_in_bytes")),
            _ => None,
        }
    });
    let file = file.context("the process has no memory cgroup")?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {file}"))?;
    Ok(text.trim().parse()?)
}
