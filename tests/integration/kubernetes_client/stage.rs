//! A namespace with one Pod and the permissions of the agent, for agents under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod, Secret, ServiceAccount};
use keyferry::kubernetes::{Cluster, MirrorContent, MirrorOutcome, MirroredVersion, digest};
use keyferry::model::{
    Condition, ConditionStatus, ConditionType, Failure, FilePath, Mirror, MirrorKey, ObjectName, OnDrift, Reason,
    SecretBytes, SecretType, SourceName, StatusReport, Version,
};
use serde_json::{Value, json};

use crate::testbed::permissions::{self, Permissions};
use crate::testbed::{Servers, kube};

pub(super) const SECRET: &str = "top-secret-ks";
pub(super) const POD: &str = "webapp-0";
/// As `kubectl` names itself in managed fields when it creates, patches and labels.
pub(super) const CREATE: &str = "kubectl-create";
pub(super) const PATCH: &str = "kubectl-patch";
pub(super) const LABEL: &str = "kubectl-label";

/// A new namespace with one Pod (never run) and the permissions of the agent, and clients with administrator
/// permissions.
pub(super) struct Stage {
    pub(super) admin: PathBuf,
    pub(super) namespace: String,
    pub(super) directory: tempfile::TempDir,
    /// `ServiceAccount` with the permissions of the agent.
    pub(super) account: String,
    pub(super) secrets: Api<Secret>,
    pub(super) pods: Api<Pod>,
    pub(super) events: Api<Event>,
    /// With administrator permissions.
    pub(super) cluster: kube::Cluster,
}

impl Stage {
    /// `None` if the tests run without servers.
    pub(super) async fn new(word: &str) -> Option<Self> {
        let servers = Servers::shared(&format!("kubernetes_client: {word}")).await?;
        let cluster = servers.kube.admin().await.unwrap();
        let namespace = format!("{word}-{:06x}", fastrand::u32(..0x0100_0000));
        cluster.namespace(&namespace).await.unwrap();
        let Permissions { account, yaml } = permissions::shipped_for(&namespace).unwrap();
        cluster.apply(&namespace, &yaml).await.unwrap();
        cluster.service_account(&namespace, "no-permissions").await.unwrap();
        cluster.pod(&namespace, POD, &account).await.unwrap();
        let client = &cluster.client;
        let stage = Self {
            admin: servers.kube.admin_kubeconfig().to_owned(),
            directory: tempfile::tempdir().unwrap(),
            secrets: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            events: Api::namespaced(client.clone(), &namespace),
            account,
            namespace,
            cluster: cluster.clone(),
        };
        for account in [&stage.account, "no-permissions"] {
            // Not bound to the Pod, which some tests delete.
            let token = cluster.token(&stage.namespace, account, None, None).await.unwrap();
            stage.write_kubeconfig(account, &servers.kube.kubeconfig_for(&stage.namespace, &token), &token);
        }
        Some(stage)
    }

    /// Writes a kubeconfig with a token *file*, as in a Pod.
    fn write_kubeconfig(&self, account: &str, kubeconfig: &str, token: &str) {
        let file = self.token_of(account);
        std::fs::write(&file, token).unwrap();
        let mut config: Value = serde_json::from_str(kubeconfig).unwrap();
        config["users"][0]["user"] = json!({"tokenFile": file});
        std::fs::write(self.kubeconfig_of(account), config.to_string()).unwrap();
    }

    pub(super) async fn pod(&self) -> Value {
        json!(self.pods.get(POD).await.unwrap())
    }

    pub(super) async fn pod_uid(&self) -> String {
        self.pods.get(POD).await.unwrap().metadata.uid.unwrap()
    }

    /// UID of the `ServiceAccount` with the permissions of the agent.
    pub(super) async fn account_uid(&self) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        accounts.get(&self.account).await.unwrap().metadata.uid.unwrap()
    }

    /// The mirrored Secret.
    pub(super) async fn secret(&self) -> Value {
        json!(self.secrets.get(SECRET).await.unwrap())
    }

    /// Creates the Secret as another manager.
    pub(super) async fn create_secret(&self, manager: &str, secret: &Value) {
        let parameters = PostParams { field_manager: Some(manager.into()), ..PostParams::default() };
        self.secrets.create(&parameters, &serde_json::from_value(secret.clone()).unwrap()).await.unwrap();
    }

    /// Changes the Secret as another manager.
    pub(super) async fn change_secret(&self, manager: &str, change: &Value) {
        let parameters = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        self.secrets.patch(SECRET, &parameters, &Patch::Merge(change)).await.unwrap();
    }

    pub(super) async fn delete_secret(&self) {
        self.secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    }

    pub(super) fn token_of(&self, account: &str) -> PathBuf {
        self.directory.path().join(format!("{account}.token"))
    }

    pub(super) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        self.directory.path().join(format!("{account}.json"))
    }

    /// Mirrors `content`. Returns the outcome and then the data of the Secret in plain text.
    pub(super) async fn mirrored(
        &self,
        agent: &Cluster,
        mirror: &Mirror,
        content: &MirrorContent,
    ) -> (Result<MirrorOutcome, Failure>, BTreeMap<String, String>) {
        (agent.mirror(&name(SECRET), mirror, content).await, self.data().await)
    }

    /// Data of the Secret in plain text.
    pub(super) async fn data(&self) -> BTreeMap<String, String> {
        let data = self.secrets.get(SECRET).await.unwrap().data.unwrap_or_default();
        data.into_iter().map(|(key, bytes)| (key, String::from_utf8(bytes.0).unwrap())).collect()
    }

    pub(super) async fn agent(&self) -> Cluster {
        self.agent_with(&self.kubeconfig_of(&self.account), &self.pod_uid().await).await
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
        connected(Cluster::connect(&status, Timestamp::now()).await)
    }

    pub(super) fn content(&self, version: u64, secret_type: &SecretType, data: &[(&str, &str)]) -> MirrorContent {
        let data: BTreeMap<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), Arc::new(SecretBytes::from(*value)))).collect();
        let created = Timestamp::from_second(i64::try_from(version).unwrap()).ok();
        let version = Version { number: Some(version), created, ..Version::default() };
        let mirrored = MirroredVersion { request: "detect:secret/webapp/config".into(), version };
        MirrorContent {
            digest: digest(&self.namespace, &name(SECRET), secret_type, &data),
            versions: [(SourceName::new("secret/webapp/config").unwrap(), mirrored)].into(),
            data,
            accept_older: false,
            claim: false,
        }
    }

    pub(super) fn login(&self, version: u64, password: &str) -> MirrorContent {
        self.content(version, &SecretType::Opaque, &[("password", password), ("username", "Nutzername")])
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
        on_drift: OnDrift::Repair,
        adopt: false,
    }
}

/// A mirror of these keys only, each from the file with the same name.
pub(super) fn keyed(keys: &[&str]) -> Mirror {
    let key = |text: &&str| MirrorKey { key: (*text).into(), file: FilePath::new(text).unwrap(), optional: None };
    Mirror { keys: keys.iter().map(key).collect(), ..opaque() }
}

/// Expected data of a Secret.
pub(super) fn plain(data: &[(&str, &str)]) -> BTreeMap<String, String> {
    data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn condition(kind: ConditionType, status: ConditionStatus) -> Condition {
    Condition { kind, status, reason: Reason::Published, message: "a test".into() }
}

/// The failure, after a check that its message contains no value.
pub(super) fn expect_failure<T>(result: Result<T, Failure>) -> Failure {
    let Err(failure) = result else { panic!("expected a failure") };
    eprintln!("{:?} {}: {}", failure.class, failure.reason, failure.message);
    for value in ["Losungwort", "TG9zdW5nd29ydA"] {
        assert!(!failure.message.contains(value), "{}", failure.message);
    }
    failure
}
