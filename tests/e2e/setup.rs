//! The setup of a test: its own namespace and Vault configuration, with the reference scenario in both.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod, Secret};
use kube::api::{Api, ListParams};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::manifest::{self, Object};
use crate::testbed::cluster::{RealCluster, TIMEOUT, output};
use crate::testbed::kube::Cluster;
use crate::testbed::leaks::{Leaks, Observed};
use crate::testbed::reference_scenario::{AUDIENCE, SECRET, secret_data, trust};
use crate::testbed::vault::Admin;
use crate::testbed::wait_until;

/// The agent's ServiceAccount in the manifests.
pub const ACCOUNT: &str = "secret-privileged-sa";

/// Locked for reading by all tests, and for writing by a test that stops a shared component.
static ACCESS: RwLock<()> = RwLock::const_new(());

enum Access {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Exclusive { _guard: RwLockWriteGuard<'static, ()> },
}

/// The part of the cluster that belongs to one test.
pub struct Setup {
    pub cluster: &'static RealCluster,
    pub admin: Cluster,
    pub vault: Admin,
    pub namespace: String,
    /// Name of the Vault role and policy, and suffix of the auth mount.
    pub unique: String,
    pub leaks: Leaks,
    _access: Access,
}

impl Setup {
    /// Runs a test in a namespace created from the shipped manifests, then the leak test. Prints that the test is skipped if no
    /// cluster can run.
    pub async fn shared(test: &str, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(cluster) = RealCluster::shared(test).await else { return Ok(()) };
        let access = Access::Shared { _guard: ACCESS.read().await };
        Self::set_up(cluster, test, access).await?.run(body).await
    }

    /// As `shared`, for a test that kills processes of the node, reads its files, or starts further servers.
    pub async fn with_node_control(test: &str, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(cluster) = RealCluster::shared(test).await.filter(|cluster| cluster.require_node_control(test)) else {
            return Ok(());
        };
        let access = Access::Shared { _guard: ACCESS.read().await };
        Self::set_up(cluster, test, access).await?.run(body).await
    }

    /// As `with_node_control`, while no other test runs.
    pub async fn exclusive(test: &str, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(cluster) = RealCluster::shared(test).await.filter(|cluster| cluster.require_node_control(test)) else {
            return Ok(());
        };
        let access = Access::Exclusive { _guard: ACCESS.write().await };
        Self::set_up(cluster, test, access).await?.run(body).await
    }

    /// As `shared`, under the names of the reference scenario.
    pub async fn reference(test: &str, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(cluster) = RealCluster::shared(test).await else { return Ok(()) };
        let access = Access::Shared { _guard: ACCESS.read().await };
        Self::with_names(cluster, "playground", "webapp", access).await?.run(body).await
    }

    async fn run(self, body: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        match body(&self).await {
            Ok(()) => self.finish().await,
            Err(error) => Err(anyhow::anyhow!("{error:#}\n{}", self.report())),
        }
    }

    async fn set_up(cluster: &'static RealCluster, test: &str, access: Access) -> Result<Self> {
        let short: String = test.chars().take(24).collect::<String>().replace('_', "-");
        let unique = format!("{}-{:04x}", short.trim_end_matches('-'), fastrand::u16(..));
        Self::with_names(cluster, &unique, &unique, access).await
    }

    async fn with_names(cluster: &'static RealCluster, namespace: &str, role: &str, access: Access) -> Result<Self> {
        cluster.with_images().await?;
        let (admin, vault) = (cluster.admin().await?, cluster.vault.admin()?);
        for policy in ["own-pod-status", "secret-writers", "no-secret-mounts"] {
            for object in manifest::read(&format!("policies/{policy}.yaml"))? {
                admin.apply("", &object.0.to_string()).await?;
            }
        }
        let setup = Self {
            cluster,
            admin,
            vault,
            namespace: namespace.to_owned(),
            unique: role.to_owned(),
            leaks: Leaks::default(),
            _access: access,
        };
        setup.seed_vault(&setup.vault).await?;
        let namespaces: Api<Namespace> = Api::all(setup.admin.client.clone());
        wait_until("an earlier namespace of this name is gone", TIMEOUT, || async {
            let old = namespaces.get_opt(namespace).await.ok()?;
            old.is_none_or(|old| old.metadata.deletion_timestamp.is_none()).then_some(())
        })
        .await?;
        for file in ["manifests/namespace.yaml", "manifests/rbac.yaml", "manifests/viewer.yaml"] {
            for object in manifest::read(file)? {
                setup.apply(&object.namespace(namespace)).await?;
            }
        }
        Ok(setup)
    }

    /// Path of the secret below the mount `secret`.
    pub fn path(&self) -> String {
        format!("{}/config", self.unique)
    }

    /// Writes this test's secret, policy and auth mount to a Vault.
    pub async fn seed_vault(&self, vault: &Admin) -> Result<()> {
        let (api, ca) = (self.cluster.api_server_inside(), self.cluster.kube.ca_pem());
        trust(vault, &self.admin, &self.mount(), &api, ca).await?;
        let policy = format!("path \"secret/data/{}\" {{ capabilities = [\"read\"] }}", self.path());
        vault.policy(&self.unique, &policy).await?;
        let bound = json!({
            "audience": AUDIENCE,
            "bound_service_account_names": [ACCOUNT],
            "bound_service_account_namespaces": [self.namespace],
            "token_policies": [self.unique],
            "token_ttl": "20m",
        });
        vault.role(&self.mount(), &self.unique, bound).await?;
        self.leaks.plant_data(&secret_data());
        vault.put_kv("secret", &self.path(), &secret_data()).await.map(|_| ())
    }

    /// The auth mount. The reference scenario uses the default; every other test has its own, to count logins.
    pub fn mount(&self) -> String {
        if self.unique == "webapp" { "kubernetes".to_owned() } else { format!("kubernetes-{}", self.unique) }
    }

    /// Changes the secret in Vault.
    pub async fn put(&self, username: &str, password: &str) -> Result<u64> {
        self.put_to(&self.vault, username, password).await
    }

    /// Changes the secret in another Vault.
    pub async fn put_to(&self, vault: &Admin, username: &str, password: &str) -> Result<u64> {
        let data = json!({"username": username, "password": password});
        self.leaks.plant_data(&data);
        vault.put_kv("secret", &self.path(), &data).await
    }

    /// Configures the agent of a shipped workload for this test's Vault, role and secret, with a short refresh interval.
    pub fn configure(&self, object: Object) -> Object {
        object
            .namespace(&self.namespace)
            .env("VAULT_ADDR", self.cluster.vault.address_inside())
            .env("KEYFERRY_ROLE", &self.unique)
            .env("KEYFERRY_AUTH_MOUNT", &self.mount())
            .env("KEYFERRY_SECRETS", &format!("secret/{}", self.path()))
            .env("KEYFERRY_REFRESH", "1s")
    }

    /// The shipped Deployment, configured for this test.
    pub fn demo(&self) -> Result<Object> {
        Ok(self.configure(manifest::one("manifests/demo.yaml", "Deployment")?))
    }

    pub async fn apply(&self, object: &Object) -> Result<()> {
        self.admin.apply(&self.namespace, &object.0.to_string()).await
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.client.clone(), &self.namespace)
    }

    /// The pods with this label `app` that are not being deleted.
    pub async fn pods_of(&self, app: &str) -> Result<Vec<Pod>> {
        let all = self.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?;
        Ok(all.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    pub async fn pod(&self, name: &str) -> Result<Option<Pod>> {
        Ok(self.pods().get_opt(name).await?)
    }

    /// Waits until `fact` returns a value for the only pod of `app`.
    pub async fn pod_where<T>(&self, app: &str, what: &str, fact: impl Fn(&Pod) -> Option<T>) -> Result<(Pod, T)> {
        let found = wait_until(what, TIMEOUT, || async {
            let pods = self.pods_of(app).await.ok()?;
            let [pod] = pods.as_slice() else { return None };
            fact(pod).map(|found| (pod.clone(), found))
        });
        found.await
    }

    /// Waits until the only pod of `app` is Ready; returns its name.
    pub async fn ready(&self, app: &str) -> Result<String> {
        let (pod, ()) = self.pod_where(app, "the pod is Ready", |pod| is_ready(pod).then_some(())).await?;
        Ok(name(&pod))
    }

    /// Waits until `fact` returns a value, with a timeout for a slow machine.
    pub async fn wait_for<T, F: Future<Output = Option<T>>>(&self, what: &str, fact: impl FnMut() -> F) -> Result<T> {
        wait_until(what, TIMEOUT, fact).await
    }

    /// `kubectl` in this namespace, with a timeout.
    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let kubectl = self.cluster.kubectl();
        let mut bounded = Command::new("timeout");
        bounded.arg("60").arg(kubectl.get_program()).args(kubectl.get_args());
        bounded.arg(format!("--namespace={}", self.namespace)).args(arguments);
        bounded
    }

    /// Runs `kubectl`; returns its output, or an error if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.kubectl_command(arguments))
    }

    /// Runs a shell script in a container with `kubectl exec`.
    pub fn exec(&self, pod: &str, container: &str, script: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--container", container, "--", "sh", "-c", script])
    }

    /// Content of a file, read by the application's container.
    pub fn file(&self, pod: &str, file: &str) -> Option<String> {
        self.exec(pod, "webapp", &format!("cat /etc/sensitive/{file}")).ok()
    }

    /// Waits until the application reads this in a file.
    pub async fn file_is(&self, pod: &str, file: &str, wanted: &str) -> Result<()> {
        self.wait_for(&format!("the application reads {wanted} in {file}"), || async {
            (self.file(pod, file)? == wanted).then_some(())
        })
        .await
    }

    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl(&["logs", pod, "--container", container])
    }

    /// The mirrored Secret.
    pub async fn secret(&self) -> Result<Option<Secret>> {
        self.admin.secret(&self.namespace, SECRET).await
    }

    /// Waits until a key of the mirrored Secret has this value.
    pub async fn secret_is(&self, key: &str, wanted: &str) -> Result<()> {
        self.wait_for(&format!("the Secret contains {wanted}"), || async {
            let data = self.secret().await.ok()??.data?;
            (data.get(key)?.0 == wanted.as_bytes()).then_some(())
        })
        .await
    }

    /// Sends SIGKILL to a program in a pod, from the node.
    pub fn kill(&self, pod: &Pod, program: &str) -> Result<()> {
        self.signal(pod, program, Signal::KILL)
    }

    /// Sends a signal to a program in a pod, from the node.
    pub fn signal(&self, pod: &Pod, program: &str, signal: Signal) -> Result<()> {
        let uid = pod.metadata.uid.as_deref().context("a pod has a UID")?;
        let found = self.cluster.processes(uid, program);
        ensure!(!found.is_empty(), "{program} does not run in pod {}", name(pod));
        for pid in found {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
            match rustix::process::kill_process(pid, signal) {
                // A child that has exited in the meantime.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Number of logins at this test's mount, from Vault's audit log; `None` without access to the log.
    pub fn logins(&self) -> Option<usize> {
        let audit = self.cluster.has_node_control().then_some(&self.cluster.vault)?;
        let logins = audit.audited_requests(&format!("auth/{}/login", self.mount()));
        Some(logins.len())
    }

    /// The leak test: apart from the Secret's data, nothing that can be read in this namespace contains a value or a token.
    /// Deleted pods are not searched.
    async fn finish(self) -> Result<()> {
        let mut failed = String::new();
        let described = self
            .wait_for("kubectl describes the namespace", || {
                // Fails if an object is deleted after `kubectl` lists it, for example in a rolling update.
                let described = self.kubectl(&["describe", "pods,deployments,replicasets,jobs"]);
                std::future::ready(described.map_err(|error| failed = format!("{error:#}")).ok())
            })
            .await;
        let mut seen = vec![
            Observed::new("describe", described.with_context(|| failed)?),
            Observed::new("get", self.kubectl(&["get", "pods,events", "--output=yaml"])?),
        ];
        for pod in self.pods().list(&ListParams::default()).await?.items {
            let agents = containers(&pod).into_iter().filter(|container| container.name.starts_with("keyferry"));
            for agent in agents {
                let state = agent.state.unwrap_or_default();
                let started = state.running.is_some() || state.terminated.is_some();
                let logs = [("--previous=false", started), ("--previous=true", agent.restart_count > 0)];
                for (which, _) in logs.into_iter().filter(|(_, exists)| *exists) {
                    match self.kubectl(&["logs", &name(&pod), "--container", &agent.name, which]) {
                        Ok(log) => seen.push(Observed::new(format!("log of {}/{}", name(&pod), agent.name), log)),
                        // The kubelet removes the containers that it restarts by the action RestartAllContainers.
                        Err(error) if format!("{error:#}").contains("previous terminated container") => {}
                        Err(error) => {
                            // The pod can have been deleted since it was listed.
                            let now = self.pod(&name(&pod)).await?;
                            ensure!(now.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()), "{error:#}");
                        }
                    }
                }
            }
        }
        if let Some(secret) = self.secret().await? {
            seen.push(Observed::new("the Secret's metadata", serde_json::to_string(&secret.metadata)?));
        }
        self.leaks.check(&seen)?;
        // Free the node for the pods of other tests.
        self.kubectl(&["delete", &format!("namespace/{}", self.namespace), "--wait=false"]).map(|_| ())
    }

    /// Descriptions, logs and volumes, for a failing test. Uses `kubectl` only, so that it works during a panic.
    pub fn report(&self) -> String {
        let read = |arguments: &[&str]| self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
        let mut parts = vec![format!("--- describe\n{}", read(&["describe", "pods,replicasets,jobs"]))];
        let list = self.kubectl(&["get", "pods", "--output=json"]).unwrap_or_default();
        let pods = serde_json::from_str::<k8s_openapi::List<Pod>>(&list).map(|list| list.items).unwrap_or_default();
        for pod in pods {
            let pod_name = name(&pod);
            for container in containers(&pod) {
                let log = read(&["logs", &pod_name, "--container", &container.name]);
                parts.push(format!("--- log of {pod_name}/{}\n{log}", container.name));
            }
            let volume = self.cluster.volume(pod.metadata.uid.as_deref().unwrap_or_default(), "keyferry");
            parts.push(format!("--- {}\n{}", volume.display(), crate::testbed::agent::tree(&volume)));
        }
        parts.join("\n")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

pub fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// Statuses of all containers of a pod, init containers included.
pub fn containers(pod: &Pod) -> Vec<ContainerStatus> {
    let status = pod.status.clone().unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    init.into_iter().chain(status.container_statuses.unwrap_or_default()).collect()
}

/// The status of one container.
pub fn container(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    containers(pod).into_iter().find(|status| status.name == name)
}

/// Status and reason of a condition.
pub fn condition(pod: &Pod, kind: &str) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

/// Message of a condition.
pub fn message(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)?.message.clone()
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}
