//! Namespaces under the shipped policies, and requests to the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::testbed::kube::{Cluster, PodReference};
use crate::testbed::{Servers, wait_until};

pub const STATUS: &str = "own-pod-status";
pub const WRITERS: &str = "secret-writers";
pub const MOUNTS: &str = "no-secret-mounts";

/// A new policy, or a new label on a namespace, takes effect after some seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A ServiceAccount that no namespace lists, with permission for everything that the policies restrict.
const PROBE: &str = "policy-probe";

pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// RBAC rules that are broader than the policies, so that a denial comes from a policy.
const WIDE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: wide}
rules:
- {apiGroups: [""], resources: [pods/status], verbs: [patch]}
- {apiGroups: [""], resources: [secrets], verbs: [get, create, patch, update]}
"#;

/// The API server's response to a failed request.
#[derive(Debug)]
pub struct ApiError {
    pub code: u16,
    pub message: String,
}

pub type ApiResult = Result<Value, ApiError>;

/// The namespace of one test.
pub struct PolicySetup {
    pub servers: &'static Servers,
    pub admin: Cluster,
    pub namespace: String,
}

impl PolicySetup {
    /// Creates a namespace that opts in to these policies, and waits until they are enforced. `None` if the test is skipped.
    pub async fn new(test: &str, policies: &[&str], annotations: Value) -> Result<Option<Self>> {
        let Some(servers) = Servers::shared(test).await else { return Ok(None) };
        let admin = servers.kube.admin().await?;
        let namespace = format!("policies-{:06x}", fastrand::u32(..0x0100_0000));
        let labels: BTreeMap<_, _> = policies.iter().map(|policy| (format!("keyferry.dev/{policy}"), "true")).collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels, "annotations": annotations},
        });
        admin.apply("", &object.to_string()).await?;
        let setup = Self { servers, admin, namespace };
        // No controller creates it here.
        setup.account("default").await?;
        wait_until_enforced(servers, &setup.admin, &setup.namespace, policies).await?;
        Ok(Some(setup))
    }

    /// Creates a `ServiceAccount` with broad permissions in the namespace.
    pub async fn account(&self, name: &str) -> Result<()> {
        account(&self.admin, &self.namespace, name).await
    }

    /// A client with a token of a `ServiceAccount`, optionally bound to a Pod.
    pub async fn client(&self, account: &str, pod: Option<(&str, &str)>) -> Result<Client> {
        let pod = pod.map(|(name, uid)| PodReference { name, uid });
        let token = self.admin.token(&self.namespace, account, None, pod).await?;
        self.servers.kube.client_for(&self.namespace, &token).await
    }

    /// API path of a resource of the core group in the namespace.
    pub fn core(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }
}

async fn account(admin: &Cluster, namespace: &str, name: &str) -> Result<()> {
    admin.service_account(namespace, name).await?;
    admin.apply(namespace, WIDE).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("wide-{name}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "wide"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    });
    admin.apply(namespace, &binding.to_string()).await
}

/// Applies all policies, once, and waits until these are enforced in the namespace. Probes with dry-run requests.
pub async fn wait_until_enforced(servers: &Servers, admin: &Cluster, namespace: &str, policies: &[&str]) -> Result<()> {
    static APPLIED: OnceCell<()> = OnceCell::const_new();
    APPLIED
        .get_or_try_init(async || {
            for policy in [STATUS, WRITERS, MOUNTS] {
                let path = format!("{}/deploy/policies/{policy}.yaml", env!("CARGO_MANIFEST_DIR"));
                let yaml = std::fs::read_to_string(&path).with_context(|| path.clone())?;
                admin.apply("", &yaml).await.with_context(|| path)?;
            }
            anyhow::Ok(())
        })
        .await?;
    account(admin, namespace, PROBE).await?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let made = send(&admin.client, &Method::POST, &pods, "", &pod(PROBE)).await;
    ensure!(made.as_ref().err().is_none_or(|error| error.code == 409), "failed to create Pod {PROBE}: {made:?}");
    let token = admin.token(namespace, PROBE, None, None).await?;
    let probe = servers.kube.client_for(namespace, &token).await?;
    for policy in policies {
        let (client, method, path, body, words) = match *policy {
            STATUS => (
                &probe,
                Method::PATCH,
                format!("pods/{PROBE}/status"),
                condition("keyferry.dev/Probe"),
                "may only write",
            ),
            WRITERS => (&probe, Method::POST, "secrets".into(), json!({"metadata": {"name": PROBE}}), "may not write"),
            _ => (
                &admin.client,
                Method::POST,
                "pods".into(),
                consumer(PROBE, "volumes", json!([{"name": "s", "secret": {"secretName": "s"}}])),
                "may not consume",
            ),
        };
        let path = format!("/api/v1/namespaces/{namespace}/{path}?dryRun=All");
        wait_until(&format!("policy {policy} is enforced in {namespace}"), TIMEOUT, || async {
            let answer = send(client, &method, &path, STRATEGIC, &body).await;
            answer.is_err_and(|error| error.message.contains(words)).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Sends a request. `kind` is the content type of a PATCH; other bodies are JSON.
pub async fn send(client: &Client, method: &Method, path: &str, kind: &str, body: &Value) -> ApiResult {
    let content = if *method == Method::PATCH { kind } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", content);
    let request = request.body(body.to_string().into_bytes()).expect("method and path are plain");
    client.request::<Value>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => ApiError { code: status.code, message: status.message },
        error => ApiError { code: 0, message: error.to_string() },
    })
}

/// Checks that a policy denied the request with a message that contains `words`.
pub fn denied(what: &str, answer: ApiResult, words: &str) -> Result<()> {
    let error = answer.err().with_context(|| format!("{what}: was accepted"))?;
    ensure!(error.code == 403 && error.message.contains("ValidatingAdmissionPolicy"), "{what}: {error:?}");
    ensure!(error.message.contains(words), "{what}: expected {words:?}, found {}", error.message);
    Ok(())
}

pub fn accepted(what: &str, answer: ApiResult) -> Result<Value> {
    answer.map_err(|error| anyhow::anyhow!("{what}: was denied: {error:?}"))
}

/// A patch of a Pod's status: one condition.
pub fn condition(kind: &str) -> Value {
    json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "Tried"}]}})
}

/// A Pod that Pod Security `restricted` accepts.
pub fn pod(account: &str) -> Value {
    json!({
        "metadata": {"name": account},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "nodeName": "node-1",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "app",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// A Pod named `consumer`, with an additional field: in the container if `key` is `env` or `envFrom`, else in the
/// specification.
pub fn consumer(account: &str, key: &str, value: Value) -> Value {
    let mut pod = pod(account);
    pod["metadata"]["name"] = json!("consumer");
    let in_container = matches!(key, "env" | "envFrom");
    let place = if in_container { &mut pod["spec"]["containers"][0] } else { &mut pod["spec"] };
    place[key] = value;
    pod
}
