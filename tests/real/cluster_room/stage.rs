//! A namespace with one Pod and our rights, and agents in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use keyferry::cluster::{Cluster, MirrorContent, digest};
use keyferry::model::{
    Condition, ConditionStatus, ConditionType, Failure, Mirror, ObjectName, Reason, SecretBytes, SecretType,
    SourceName, StatusReport, Version,
};
use serde_json::{Value, json};

use crate::testbed::Servers;

pub(super) const SECRET: &str = "top-secret-ks";
pub(super) const POD: &str = "webapp-0";
const RBAC: &str = include_str!("../../../deploy/manifests/rbac.yaml");

/// The administrator's kubeconfig. `None`, and a line that says why, where it cannot be used.
fn kubeconfig() -> Option<PathBuf> {
    static SERVERS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let start = || {
        if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
            eprintln!("skipped: cluster_room: kubectl is not on PATH");
            return None;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let servers = runtime.block_on(Servers::shared("cluster_room"))?;
        Some(servers.kube.admin_kubeconfig().to_owned())
    };
    // On a thread of its own: the tests are async, and a runtime cannot be started within one.
    SERVERS.get_or_init(|| std::thread::spawn(start).join().unwrap()).clone()
}

/// A namespace of its own with one Pod (never scheduled) and our rights.
pub(super) struct Stage {
    pub(super) admin: PathBuf,
    pub(super) namespace: String,
    pub(super) directory: tempfile::TempDir,
}

impl Stage {
    pub(super) fn new(name: &str) -> Option<Self> {
        let stage = Self::without_rights(name)?;
        stage.kubectl(&["apply", "-f", "-"], &RBAC.replace("playground", &stage.namespace));
        stage.make_token("webapp");
        Some(stage)
    }

    fn without_rights(name: &str) -> Option<Self> {
        let admin = kubeconfig()?;
        let namespace = format!("{name}-{:x}", Timestamp::now().as_nanosecond());
        let stage = Self { admin, namespace, directory: tempfile::tempdir().unwrap() };
        stage.kubectl(&["create", "namespace", &stage.namespace], "");
        for account in ["default", "nobody"] {
            let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
            stage.kubectl(&["apply", "-f", "-"], &body.to_string());
        }
        stage.kubectl(&["run", POD, "--image=none"], "");
        stage.make_token("nobody");
        Some(stage)
    }

    pub(super) fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        output.unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        use std::io::Write as _;
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.admin)
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    pub(super) fn get(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "-o", "json", "--show-managed-fields"], "");
        serde_json::from_str(&text).unwrap()
    }

    pub(super) fn secret(&self) -> Value {
        self.get("secret", SECRET)
    }

    /// A kubeconfig with a token *file*, as a Pod has it.
    fn make_token(&self, account: &str) {
        let token = self.directory.path().join(format!("{account}.token"));
        std::fs::write(&token, self.kubectl(&["create", "token", account], "").trim()).unwrap();
        let flat = self.kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"], "");
        let mut config: Value = serde_json::from_str(&flat).unwrap();
        config["users"] = json!([{"name": "u", "user": {"tokenFile": token}}]);
        let context = &mut config["contexts"][0]["context"];
        context["user"] = json!("u");
        context["namespace"] = json!(self.namespace);
        std::fs::write(self.kubeconfig_of(account), config.to_string()).unwrap();
    }

    pub(super) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        self.directory.path().join(format!("{account}.json"))
    }

    pub(super) async fn agent(&self) -> Cluster {
        self.agent_with(&self.kubeconfig_of("webapp"), self.get("pod", POD)["metadata"]["uid"].as_str().unwrap()).await
    }

    pub(super) async fn agent_with(&self, kubeconfig: &Path, uid: &str) -> Cluster {
        let status = StatusReport {
            conditions: true,
            events: true,
            pod_name: Some(POD.into()),
            pod_uid: Some(uid.into()),
            pod_namespace: None,
            kubeconfig: Some(kubeconfig.into()),
        };
        connected(Cluster::connect(&status).await)
    }

    pub(super) fn content(&self, version: u64, secret_type: &SecretType, data: &[(&str, &str)]) -> MirrorContent {
        let data: BTreeMap<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), Arc::new(SecretBytes::from(*value)))).collect();
        let created = Timestamp::from_second(i64::try_from(version).unwrap()).ok();
        let version = Version { number: Some(version), created };
        MirrorContent {
            digest: digest(&self.namespace, &name(SECRET), secret_type, &data),
            versions: [(SourceName::new("secret/webapp/config").unwrap(), version)].into(),
            data,
        }
    }

    pub(super) fn login(&self, version: u64, password: &str) -> MirrorContent {
        self.content(version, &SecretType::Opaque, &[("password", password), ("username", "Nutzername")])
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.try_kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "");
    }
}

pub(super) fn connected(cluster: Result<Cluster, Failure>) -> Cluster {
    cluster.unwrap_or_else(|failure| panic!("{failure}"))
}

pub(super) fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub(super) fn opaque() -> Mirror {
    mirror_of(SecretType::Opaque)
}

pub(super) fn mirror_of(secret_type: SecretType) -> Mirror {
    Mirror {
        secret_type,
        keys: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        owner: None,
        allow_leased: false,
    }
}

pub(super) fn condition(kind: ConditionType, status: ConditionStatus) -> Condition {
    Condition { kind, status, reason: Reason::Published, message: "a test".into() }
}

/// The failure, after a look that its words hold no value.
pub(super) fn refused<T>(result: Result<T, Failure>) -> Failure {
    let Err(failure) = result else { panic!("expected a failure") };
    eprintln!("{:?} {}: {}", failure.class, failure.reason, failure.message);
    for value in ["Losungwort", "TG9zdW5nd29ydA"] {
        assert!(!failure.message.contains(value), "{}", failure.message);
    }
    failure
}
