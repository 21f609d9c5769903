//! A real Kubernetes API server with etcd, RBAC and `NodeRestriction`. It has no controllers and no nodes; `cluster` adds
//! them.
//!
//! Without them nothing finalizes namespaces, creates default `ServiceAccount`s or runs Pods. A Pod here is an object that
//! tokens can be bound to and that has a status.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, PodCondition, Secret, ServiceAccount};
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::binaries::{self, Binaries};
use super::watchdog::{Process, Watchdog};
use super::{free_port, pki, wait_until};

pub use super::kubeconfig::{client_certificate, client_from, kubeconfig, path};

/// TTL of `ServiceAccount` tokens; the API server's minimum is 10 minutes.
const TOKEN_SECONDS: i64 = 3600;

/// The running servers.
pub struct Kube {
    url: String,
    directory: PathBuf,
    apiserver: PathBuf,
    arguments: Vec<String>,
    ca: String,
    admin_kubeconfig: PathBuf,
    /// CA and token signing key; `None` for an existing cluster.
    keys: Option<(pki::Authority, pki::Pair)>,
    process: Mutex<Option<Process>>,
    _etcd: Option<Process>,
}

/// Addresses and admission plugins of an API server.
pub struct Options {
    /// Listening address.
    pub inside: SocketAddr,
    /// Address at which this process reaches the server.
    pub outside: SocketAddr,
    /// Admission plugins in addition to the default ones, comma-separated.
    pub plugins: &'static str,
}

impl Kube {
    /// Creates certificates, starts both servers on free loopback ports, and waits until the API server is ready.
    pub async fn start(binaries: &Binaries, watchdog: &Watchdog) -> Result<Self> {
        let here = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        Self::start_at(binaries, watchdog, Options { inside: here, outside: here, plugins: "NodeRestriction" }).await
    }

    /// As `start`, with these options.
    pub async fn start_at(binaries: &Binaries, watchdog: &Watchdog, options: Options) -> Result<Self> {
        let Options { inside, outside, plugins } = options;
        let url = format!("https://{outside}");
        let directory = watchdog.directory.join(format!("kube-{}", outside.port()));
        let authority = pki::Authority::new("keyferry test cluster", &directory.join("pki"))?;
        let names = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];
        let server = authority.issue("apiserver", "kube-apiserver", None, &names)?;
        let admin = authority.issue("admin", "admin", Some("system:masters"), &[])?;
        let signer = authority.signing_key("service-accounts")?;
        let etcd_url = format!("http://127.0.0.1:{}", free_port()?);
        let etcd = spawn_etcd(&binaries.etcd, watchdog, &directory, &etcd_url)?;

        let user = client_certificate(&admin);
        let admin_kubeconfig = directory.join("admin.kubeconfig");
        pki::write(&admin_kubeconfig, &kubeconfig(&url, &authority.pem(), "default", &user))?;
        let (ip, port) = (inside.ip().to_string(), inside.port().to_string());
        let flags = [
            ("advertise-address", ip.as_str()),
            ("allow-privileged", "true"),
            ("authorization-mode", "Node,RBAC"),
            ("bind-address", &ip),
            ("client-ca-file", path(&authority.file)),
            ("enable-admission-plugins", plugins),
            // The Endpoints of the Service `kubernetes` would need an address that is not loopback.
            ("endpoint-reconciler-type", "none"),
            ("etcd-servers", &etcd_url),
            // For logs and exec through a kubelet. There is no DNS for node names.
            ("kubelet-client-certificate", path(&admin.certificate)),
            ("kubelet-client-key", path(&admin.key)),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("secure-port", &port),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("service-account-key-file", path(&signer.certificate)),
            ("service-account-signing-key-file", path(&signer.key)),
            ("service-cluster-ip-range", "10.96.0.0/16"),
            ("tls-cert-file", path(&server.certificate)),
            ("tls-private-key-file", path(&server.key)),
        ];
        let kube = Self {
            url,
            directory,
            apiserver: binaries.kube_apiserver.clone(),
            arguments: flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect(),
            ca: authority.pem(),
            admin_kubeconfig,
            keys: Some((authority, signer)),
            process: Mutex::new(None),
            _etcd: Some(etcd),
        };
        kube.start_again(watchdog).await?;
        Ok(kube)
    }

    /// An existing API server. `inside` is its URL for pods and Vault; default: the URL in the kubeconfig.
    pub async fn existing(kubeconfig: PathBuf, inside: Option<String>) -> Result<Self> {
        let document = Kubeconfig::read_from(&kubeconfig).context("failed to read KUBECONFIG")?;
        let config = Config::from_custom_kubeconfig(document, &KubeConfigOptions::default()).await?;
        let url = inside.unwrap_or_else(|| config.cluster_url.to_string().trim_end_matches('/').to_owned());
        let roots: Api<ConfigMap> = Api::namespaced(Client::try_from(config)?, "default");
        let roots = roots.get("kube-root-ca.crt").await.context("failed to query the API server of KUBECONFIG")?;
        let ca = roots.data.and_then(|mut data| data.remove("ca.crt")).context("kube-root-ca.crt has no ca.crt")?;
        Ok(Self {
            url,
            directory: PathBuf::new(),
            apiserver: PathBuf::new(),
            arguments: Vec::new(),
            ca,
            admin_kubeconfig: kubeconfig,
            keys: None,
            process: Mutex::new(None),
            _etcd: None,
        })
    }

    /// Starts the API server after `stop`, on the same port, with the same data and keys.
    pub async fn start_again(&self, watchdog: &Watchdog) -> Result<()> {
        let mut running = self.process.lock().await;
        ensure!(running.is_none(), "the API server is running");
        let log = self.directory.join("apiserver.log");
        let mut command = watchdog.command(&self.apiserver);
        command.args(&self.arguments);
        let mut process = watchdog.spawn(into_log(&mut command, &log)?)?;
        let client = self.client().await?;
        let ready = tokio::select! {
            ready = wait_until("the API server is ready", Duration::from_secs(60), || async {
                let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
                // A request that reaches a server in the middle of its start may never be answered.
                tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await.ok()?.ok()
            }) => ready.map(|_| ()),
            ended = process.wait(Duration::from_secs(90)) => Err(anyhow::anyhow!("kube-apiserver exited: {ended:?}")),
        };
        ready.with_context(|| {
            let etcd = binaries::tail(&self.directory.join("etcd.log"), 5);
            let apiserver = binaries::tail(&log, 15);
            format!("failed to start the API server; its log ends with:\n{apiserver}\nand etcd's with:\n{etcd}")
        })?;
        *running = Some(process);
        Ok(())
    }

    /// Stops the API server; the data stays in etcd. Uses SIGKILL, because a graceful stop can take a minute with open watches.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The cluster's CA, and the key pair that signs `ServiceAccount` tokens.
    pub fn keys(&self) -> Result<(&pki::Authority, &pki::Pair)> {
        self.keys
            .as_ref()
            .map(|(authority, signer)| (authority, signer))
            .context("an existing cluster does not expose its keys")
    }

    /// The CA certificate of the API server, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The public key that verifies `ServiceAccount` tokens, as PEM.
    pub fn service_account_public_key(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.directory.join("pki/service-accounts.pub"))?)
    }

    /// A kubeconfig with full permissions, for kubectl.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// Text of a kubeconfig with a token.
    pub fn kubeconfig_for(&self, namespace: &str, token: &str) -> String {
        kubeconfig(&self.url, &self.ca, namespace, &json!({"token": token}))
    }

    /// A client with full permissions. It is bound to the current runtime, so each test creates its own.
    pub async fn client(&self) -> Result<Client> {
        client_from(&std::fs::read_to_string(&self.admin_kubeconfig)?).await
    }

    /// A client with a token.
    pub async fn client_for(&self, namespace: &str, token: &str) -> Result<Client> {
        client_from(&self.kubeconfig_for(namespace, token)).await
    }

    /// Helpers around a client with full permissions.
    pub async fn admin(&self) -> Result<Cluster> {
        Ok(Cluster { client: self.client().await? })
    }
}

fn spawn_etcd(binary: &Path, watchdog: &Watchdog, directory: &Path, url: &str) -> Result<Process> {
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let data = directory.join("etcd");
    let mut command = watchdog.command(binary);
    command
        .args(["--data-dir", path(&data), "--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync", "--log-level", "warn"]);
    watchdog.spawn(into_log(&mut command, &directory.join("etcd.log"))?)
}

/// Redirects the output of a server to its log.
pub fn into_log<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    Ok(command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
}

/// The HTTP status of a failed request.
pub fn status_of(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The Pod that a token is bound to.
pub struct PodReference<'a> {
    pub name: &'a str,
    pub uid: &'a str,
}

/// Helpers for setup and checks, around a client.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
}

impl Cluster {
    /// Creates a namespace unless it exists.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        present(Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await)
            .with_context(|| format!("failed to create namespace {name}"))
    }

    /// Creates a `ServiceAccount` unless it exists.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<()> {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let api = Api::namespaced(self.client.clone(), namespace);
        present(api.create(&PostParams::default(), &account).await)
            .with_context(|| format!("failed to create ServiceAccount {namespace}/{name}"))
    }

    /// Applies YAML documents as `kubectl apply --server-side` does, in `namespace` unless they name another.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<()> {
        let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml).context("failed to parse the YAML")?;
        for object in objects {
            let types = object.types.clone().context("a YAML document has no kind")?;
            let gvk = GroupVersionKind::try_from(&types)?;
            let (resource, capabilities) = kube::discovery::pinned_kind(&self.client, &gvk).await?;
            let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
                (kube::discovery::Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
                (_, Some(own)) => Api::namespaced_with(self.client.clone(), &own, &resource),
                (_, None) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            };
            let name = object.name_any();
            api.patch(&name, &PatchParams::apply("keyferry-testbed").force(), &Patch::Apply(&object))
                .await
                .with_context(|| format!("failed to apply {} {name}", types.kind))?;
        }
        Ok(())
    }

    /// A token of a `ServiceAccount`. `audience: None` is the API server's own audience. With `pod`, the token is bound to a
    /// Pod, like a token that the kubelet requests.
    pub async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<PodReference<'_>>,
    ) -> Result<String> {
        self.token_for(namespace, account, audience, pod, TOKEN_SECONDS).await
    }

    /// As `token`, with a TTL in seconds.
    pub async fn token_for(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        pod: Option<PodReference<'_>>,
        seconds: i64,
    ) -> Result<String> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|audience| vec![audience.to_owned()]),
                expiration_seconds: Some(seconds),
                bound_object_ref: pod.map(|pod| BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod.name.into()),
                    uid: Some(pod.uid.into()),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("failed to get a token of {namespace}/{account}"))?;
        answer.status.and_then(|status| status.token).context("the response to a TokenRequest has no token")
    }

    /// Creates a Pod object and returns its UID. It names a node, so that it does not wait for a scheduler.
    pub async fn pod(&self, namespace: &str, name: &str, account: &str) -> Result<String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "webapp", "image": "webapp"}],
                "nodeName": "node-1",
                "readinessGates": [{"conditionType": "keyferry.dev/SecretsReady"}],
                "serviceAccountName": account,
            },
        }))?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let made = api
            .create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("failed to create Pod {namespace}/{name}"))?;
        made.uid().context("a Pod has a UID")
    }

    /// A Secret, or `None`.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>> {
        Ok(Api::namespaced(self.client.clone(), namespace).get_opt(name).await?)
    }

    /// A Pod's conditions.
    pub async fn conditions(&self, namespace: &str, pod: &str) -> Result<Vec<PodCondition>> {
        let pod: Pod = Api::namespaced(self.client.clone(), namespace).get(pod).await?;
        Ok(pod.status.and_then(|status| status.conditions).unwrap_or_default())
    }

    /// Events in a namespace.
    pub async fn events(&self, namespace: &str) -> Result<Vec<Event>> {
        Ok(Api::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await?.items)
    }
}

/// Treats "already exists" as success.
fn present<T>(made: Result<T, kube::Error>) -> Result<()> {
    match made {
        Ok(_) => Ok(()),
        Err(e) if status_of(&e) == Some(409) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
