//! A real Kubernetes node beside a real control plane and a real Vault, on this machine, without a container daemon.
//!
//! All of it runs in network, mount and PID namespaces of its own: when their first process ends, every process, mount and
//! network device goes with it, so nothing is left however this process ends, and nothing is touched that was not made
//! here. In there the API server has the address that pods are told (10.96.0.1), so that no proxy and no NAT is needed.
//! What stays for the watchdog: our cgroups, our directories, and the one setting of the kernel that is not in a
//! namespace (`fs.protected_symlinks`, which real nodes have). For its sake there is one cluster at a time.
//!
//! Or a cluster that is there already (`existing`): then nothing is started.

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

/// The address of the API server for pods: the first of the range of Services.
const API_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 443);
const VAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10)), 8200);
/// A second Vault, for tests that have it come late.
pub const SPARE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 11);
const NODE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 2);

/// As in `OpenShift`: who changes the owner of an object must have the right to delete it.
const PLUGINS: &str = "NodeRestriction,OwnerReferencesPermissionEnforcement";

/// What a node needs of the machine, with the Debian packages that bring it.
const TOOLS: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("busybox", "busybox-static"),
    ("gcc", "gcc libc6-dev"),
    ("tar", "tar"),
];

/// A running cluster of one node, and a Vault that trusts it.
pub struct RealCluster {
    pub kube: Kube,
    pub vault: Vault,
    control: Option<NodeControl>,
    kubectl: PathBuf,
    // Last: fields are dropped in this order, and the watchdog ends what is left.
    pub watchdog: Watchdog,
    _lock: Option<File>,
    images: OnceCell<()>,
}

/// What gives power over the cluster.
struct NodeControl {
    node: Mutex<Node>,
    namespaces: Namespaces,
}

static SHARED: OnceCell<Result<RealCluster, String>> = OnceCell::const_new();

impl RealCluster {
    /// The cluster of this process, started by whoever asks first; it ends with the process. `None` where it cannot run: the
    /// test then returns, and has said so.
    ///
    /// # Panics
    /// If it does not start, and in CI if it cannot run.
    pub async fn shared(test: &str) -> Option<&'static Self> {
        if skipped(test) || !(existing::is_wanted() || can_run(test)) {
            return None;
        }
        let cluster = SHARED.get_or_init(|| async { Self::start().await.map_err(|e| format!("{e:#}")) }).await;
        Some(cluster.as_ref().unwrap_or_else(|e| panic!("the test cluster did not start: {e}")))
    }

    /// Find or build what it needs, and start it; ready when the node is.
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

    /// Whether a test may stop and kill things, look at files of the node and read Vault's audit log. If not, it is skipped.
    ///
    /// # Panics
    /// In CI, if not.
    pub fn require_node_control(&self, test: &str) -> bool {
        self.has_node_control()
            || requirements::skip(test, "needs power over the node, and this cluster was there already")
    }

    /// As `require_node_control`, without a word.
    pub fn has_node_control(&self) -> bool {
        self.control.is_some()
    }

    fn control(&self) -> Result<&NodeControl> {
        self.control.as_ref().context("this cluster was there already: no power over it")
    }

    /// The URL of the API server in the cluster.
    pub fn api_server_inside(&self) -> String {
        if self.control.is_some() { format!("https://{API_SERVER}") } else { self.kube.url().to_owned() }
    }

    /// Helpers around an admin client.
    pub async fn admin(&self) -> Result<Cluster> {
        self.kube.admin().await
    }

    /// A second Vault at `SPARE`, not started before; with TLS, whose authority is `Vault::ca_file`.
    pub async fn spare_vault(&self, tls: bool, port: u16) -> Result<Vault> {
        let inside = SocketAddr::from((SPARE, port));
        let endpoint = vault::Endpoint { inside, outside: self.relay(inside)? };
        Vault::start(&Binaries::find_or_build()?, &self.watchdog, vault::Options { tls, endpoint: Some(endpoint) })
            .await
    }

    /// A loopback address of this machine that leads to an address in the cluster, a pod's for example.
    pub fn relay(&self, inside: SocketAddr) -> Result<SocketAddr> {
        self.control()?.namespaces.relay(inside)
    }

    /// Give the node the shipped images, built now, and the toolbox; once.
    pub async fn with_images(&self) -> Result<()> {
        if self.control.is_none() {
            return Ok(()); // Its user has loaded them.
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

    /// Give the node an image, from a docker-archive or an OCI archive. To a cluster that was there already its user gives them.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        match &self.control {
            Some(control) => control.node.lock().await.import(&self.watchdog, archive),
            None => Ok(()),
        }
    }

    /// A command that imports the archive that is given as its last argument, for other processes of this machine.
    pub async fn import_command(&self) -> Result<Vec<String>> {
        Ok(self.control()?.node.lock().await.import_command(&self.watchdog))
    }

    /// End the kubelet by SIGKILL and start it again; pods go on meanwhile.
    pub async fn restart_kubelet(&self) -> Result<()> {
        self.control()?.node.lock().await.restart_kubelet(&self.watchdog).await
    }

    /// `kubectl` with the rights of an administrator.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.arg(format!("--kubeconfig={}", self.kube.admin_kubeconfig().display()));
        kubectl
    }

    /// The program itself, to be put into an image.
    pub fn kubectl_binary(&self) -> &Path {
        &self.kubectl
    }

    /// A path of the node, with the mounts that only its namespace has.
    pub fn node_path(&self, path: &Path) -> PathBuf {
        // A cluster that is not ours has nothing there.
        let first = self.control.as_ref().map_or(0, |control| control.namespaces.pid());
        let root = PathBuf::from(format!("/proc/{first}/root"));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where the kubelet keeps a pod's volume of kind `emptyDir`.
    pub fn volume(&self, pod_uid: &str, volume: &str) -> PathBuf {
        let pods = self.watchdog.directory.join("node/kubelet/pods");
        self.node_path(&pods.join(pod_uid).join("volumes/kubernetes.io~empty-dir").join(volume))
    }

    /// The processes of a pod, as this machine numbers them, whose program has this path in its image.
    #[allow(clippy::unused_self, reason = "asked of the cluster, which must run")]
    pub fn processes(&self, pod_uid: &str, program: &str) -> Vec<u32> {
        node::processes(pod_uid, program)
    }
}

/// Locked by the one cluster of this machine; holds what is to be undone after it. Gone after a reboot, as all of that is.
const JOURNAL: &str = "/run/lock/keyferry-test-cluster";

/// One at a time on this machine. What one left that was killed is swept.
fn lock() -> Result<File> {
    let file = open_journal()?;
    if file.try_lock().is_err() {
        super::binaries::print_uncaptured(
            "waiting: another test cluster runs on this machine (a test, or one of just cluster-up)",
        );
        file.lock().with_context(|| format!("failed to lock {JOURNAL}"))?;
    }
    super::watchdog::sweep(Path::new(JOURNAL))?;
    Ok(file)
}

/// Take back what a killed cluster left. `false` while one runs; what was left before it, its start has swept.
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

/// As on real nodes (systemd sets it): a link in a sticky directory is followed only for its owner. Put back at the end.
fn protect_symlinks(watchdog: &Watchdog) -> Result<()> {
    let setting = "/proc/sys/fs/protected_symlinks";
    let before = std::fs::read_to_string(setting).context("failed to read fs.protected_symlinks")?;
    if before.trim() != "1" {
        watchdog.undo(&format!("echo {} >{setting}", before.trim()));
        std::fs::write(setting, "1").context("failed to set fs.protected_symlinks")?;
    }
    Ok(())
}

/// Whether this machine has what a node needs; if not, that is said.
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

/// How long a pod may take for what usually takes seconds, on a machine that compiles beside it.
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

/// Most memory that the cgroup of a process has used so far, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    // Version 1 has a hierarchy for each controller, version 2 has one for all, with number 0.
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
