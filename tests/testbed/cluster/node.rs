//! The node: controller manager, scheduler, containerd with runc, kubelet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::Api;
use serde_json::{Value, json};

use super::super::binaries::{self, find_or_build};
use super::super::kube::{Kube, client_certificate, into_log, kubeconfig, path};
use super::super::watchdog::{Process, Watchdog};
use super::super::{pki, wait_until};
use super::{API_SERVER, NODE, cgroups, images, output};

/// Name of the node.
const NAME: &str = "node-1";

/// Directories in which distributions install the CNI plugins.
const CNI: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The directory with the CNI plugins.
pub fn cni_plugins() -> Option<&'static str> {
    CNI.into_iter().find(|directory| Path::new(directory).join("bridge").is_file())
}

/// The programs of a node.
pub struct Programs {
    controller_manager: PathBuf,
    scheduler: PathBuf,
    kubelet: PathBuf,
    containerd: PathBuf,
    shim: PathBuf,
    ctr: PathBuf,
}

impl Programs {
    pub fn find_or_build() -> Result<Self> {
        Ok(Self {
            kubelet: find_or_build("kubelet")?,
            controller_manager: find_or_build("kube-controller-manager")?,
            scheduler: find_or_build("kube-scheduler")?,
            containerd: find_or_build("containerd")?,
            shim: find_or_build("containerd-shim-runc-v2")?,
            ctr: find_or_build("ctr")?,
        })
    }
}

/// A running node.
pub struct Node {
    programs: Programs,
    directory: PathBuf,
    kubelet: Option<Process>,
    others: Vec<Process>,
}

impl Node {
    /// Starts all programs and waits until the node is Ready.
    pub async fn start(programs: Programs, watchdog: &Watchdog, kube: &Kube) -> Result<Self> {
        let directory = watchdog.directory.join("node");
        for part in ["cni", "containerd", "images", "kubelet", "opt", "pods"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        let mut node = Self { programs, directory, kubelet: None, others: Vec::new() };
        node.write_files(kube)?;
        cgroups::make(watchdog, &node.cgroup())?;
        let (authority, signer) = kube.keys()?;
        let (ca, key) = (format!("--root-ca-file={}", path(&authority.file)), path(&signer.key));
        let own_key = format!("--service-account-private-key-file={key}");
        let manager = [ca.as_str(), &own_key, "--use-service-account-credentials", "--leader-elect=false"];
        let control = [
            (node.programs.controller_manager.clone(), "controller-manager", manager.as_slice()),
            (node.programs.scheduler.clone(), "scheduler", &["--leader-elect=false"]),
        ];
        for (program, name, arguments) in control {
            let mut command = watchdog.command(&program);
            command.arg(format!("--kubeconfig={}", node.file(&format!("{name}.kubeconfig")).display()));
            // Nothing queries their own ports.
            command.args(["--bind-address=127.0.0.1"]).args(arguments);
            node.others.push(watchdog.spawn(into_log(&mut command, &node.file(&format!("{name}.log")))?)?);
        }
        node.start_containerd(watchdog).await?;
        node.import(watchdog, &images::pause(&node.file("images"))?)?;
        node.start_kubelet(watchdog)?;
        let nodes: Api<NodeObject> = Api::all(kube.client().await?);
        wait_until("the node is Ready and accepts pods", Duration::from_secs(90), || async {
            let found = nodes.get_opt(NAME).await.ok()??;
            let ready = |c: &k8s_openapi::api::core::v1::NodeCondition| c.type_ == "Ready" && c.status == "True";
            let open = found.spec.is_none_or(|spec| spec.taints.is_none_or(|taints| taints.is_empty()));
            (open && found.status?.conditions?.iter().any(ready)).then_some(())
        })
        .await
        .with_context(|| format!("the kubelet's log ends with:\n{}", binaries::tail(&node.file("kubelet.log"), 15)))?;
        Ok(node)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write_files(&self, kube: &Kube) -> Result<()> {
        let (authority, _) = kube.keys()?;
        let (api, kubelet) = (format!("https://{API_SERVER}"), format!("system:node:{NAME}"));
        for (name, user, group) in [
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kubelet", &kubelet, Some("system:nodes")),
        ] {
            let pair = authority.issue(name, user, group, &["127.0.0.1", &NODE.to_string(), NAME])?;
            let user = client_certificate(&pair);
            pki::write(&self.file(&format!("{name}.kubeconfig")), &kubeconfig(&api, kube.ca_pem(), "default", &user))?;
            if name == "kubelet" {
                let config = self.kubelet_config(&authority.file, &pair);
                pki::write(&self.file("kubelet.json"), &config.to_string())?;
            }
        }
        pki::write(&self.file("containerd.toml"), &self.containerd_config())?;
        pki::write(&self.file("resolv.conf"), "")?;
        let network = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {
                "type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "loopback"},
        ]});
        pki::write(&self.file("cni/10-pods.conflist"), &network.to_string())
    }

    /// <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>
    fn kubelet_config(&self, ca: &Path, pair: &pki::Pair) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": ca}},
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup()),
            "clusterDNS": ["10.96.0.53"],
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "enforceNodeAllocatable": [],
            "evictionHard": {"imagefs.available": "1%", "memory.available": "100Mi", "nodefs.available": "1%",
                "nodefs.inodesFree": "1%"},
            "failCgroupV1": false,
            "failSwapOn": false,
            "podLogsDir": self.file("pods"),
            "resolvConf": self.file("resolv.conf"),
            "syncFrequency": "10s",
            "tlsCertFile": pair.certificate,
            "tlsPrivateKeyFile": pair.key,
        })
    }

    /// <https://github.com/containerd/containerd/blob/main/docs/cri/config.md>
    fn containerd_config(&self) -> String {
        let part = |name: &str| path(&self.file(name)).to_owned();
        format!(
            r#"version = 3
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/keyferry-pause:0.1.0"
[plugins."io.containerd.cri.v1.runtime"]
  # Root in a container or a small virtual machine can lack CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  # A profile would be loaded into this machine's kernel and stay there.
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{shim}"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
            root = part("containerd/root"),
            state = part("containerd/state"),
            socket = path(&self.socket()),
            opt = part("opt"),
            cni = part("cni"),
            // overlayfs does not work on overlayfs, which is the root file system of a container.
            snapshotter = if self.on_overlay() { "native" } else { "overlayfs" },
            plugins = cni_plugins().unwrap_or(CNI[0]),
            shim = path(&self.programs.shim),
        )
    }

    /// Whether the directory is on overlayfs, by the magic number of statfs(2).
    fn on_overlay(&self) -> bool {
        rustix::fs::statfs(&self.directory).is_ok_and(|file_system| file_system.f_type == 0x794c_7630)
    }

    fn socket(&self) -> PathBuf {
        self.file("containerd/containerd.sock")
    }

    /// Name of the cgroup: that of the watchdog's directory, which is unique on this machine.
    fn cgroup(&self) -> String {
        let run = self.directory.parent().and_then(Path::file_name).unwrap_or_default();
        run.to_string_lossy().into_owned()
    }

    async fn start_containerd(&mut self, watchdog: &Watchdog) -> Result<()> {
        let mut command = watchdog.command(&self.programs.containerd);
        command.arg("--config").arg(self.file("containerd.toml"));
        self.others.push(watchdog.spawn(into_log(&mut command, &self.file("containerd.log"))?)?);
        wait_until("containerd responds", Duration::from_secs(30), || async {
            output(self.ctr(watchdog).arg("version")).ok().map(|_| ())
        })
        .await
        .with_context(|| format!("containerd's log ends with:\n{}", binaries::tail(&self.file("containerd.log"), 15)))
    }

    fn ctr(&self, watchdog: &Watchdog) -> Command {
        let mut ctr = watchdog.command(&self.programs.ctr);
        ctr.args(["--address", path(&self.socket()), "--namespace", "k8s.io"]);
        ctr
    }

    pub fn import(&self, watchdog: &Watchdog, archive: &Path) -> Result<()> {
        let archive = std::fs::canonicalize(archive).with_context(|| format!("no image at {}", archive.display()))?;
        output(self.ctr(watchdog).args(["images", "import"]).arg(archive)).map(|_| ())
    }

    pub fn import_command(&self, watchdog: &Watchdog) -> Vec<String> {
        let mut ctr = self.ctr(watchdog);
        ctr.args(["images", "import"]);
        [ctr.get_program()].into_iter().chain(ctr.get_args()).map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn start_kubelet(&mut self, watchdog: &Watchdog) -> Result<()> {
        let mut command = watchdog.command(&self.programs.kubelet);
        command
            .arg(format!("--config={}", self.file("kubelet.json").display()))
            .arg(format!("--kubeconfig={}", self.file("kubelet.kubeconfig").display()))
            .arg(format!("--root-dir={}", self.file("kubelet").display()))
            .args([format!("--hostname-override={NAME}"), format!("--node-ip={NODE}")]);
        self.kubelet = Some(watchdog.spawn(into_log(&mut command, &self.file("kubelet.log"))?)?);
        Ok(())
    }

    pub async fn restart_kubelet(&mut self, watchdog: &Watchdog) -> Result<()> {
        if let Some(mut kubelet) = self.kubelet.take() {
            kubelet.kill().await?;
        }
        self.start_kubelet(watchdog)
    }
}

/// PIDs, on this machine, of the processes in a pod's cgroup that run this program.
pub fn processes(pod_uid: &str, program: &str) -> Vec<u32> {
    let is_match = |pid: &u32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        read("cgroup").contains(pod_uid) && read("cmdline").split('\0').next() == Some(program)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_match).collect()
}
