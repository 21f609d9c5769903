//! The reference scenario: Vault holds the user name and password of `webapp`, whose Pod runs in namespace `playground`
//! and whose mirrored Secret is `top-secret-ks`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keyferry::volume::STATE_FILE;
use serde_json::{Value, json};

use super::kube::{Cluster, PodReference};
use super::leaks::{Leaks, Observed};
use super::permissions::{self, Permissions};
use super::vault::Admin;
use super::{Servers, agent, pki};

/// Audience of the token that the Pod presents to Vault. The API server rejects a token with this audience.
pub const AUDIENCE: &str = "vault";
/// Name of the mirrored Secret.
pub const SECRET: &str = "top-secret-ks";
/// Name of the application's Vault policy and role, and prefix of its Pod's name.
pub const APPLICATION: &str = "webapp";

/// Data of the secret in Vault and of the mirrored Secret.
pub fn secret_data() -> Value {
    json!({"username": "Nutzername", "password": "Losungwort"})
}

/// Permission for Vault's `ServiceAccount` to create `TokenReview`s.
const REVIEWER: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vault-token-reviewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:auth-delegator'}
subjects:
- {kind: ServiceAccount, name: vault, namespace: vault}
";

/// Lifetime of Vault's token for `TokenReview`: 30 days, because a cluster of `just cluster-up` stays up.
const REVIEWER_SECONDS: i64 = 30 * 24 * 3600;

/// Enables an auth method unless it already exists, as in a Vault that serves several runs.
async fn enable_auth(vault: &Admin, mount: &str, method: &str) -> Result<()> {
    let present = vault.get("sys/auth").await?;
    if present["data"][format!("{mount}/")].is_null() { vault.enable_auth(mount, method).await } else { Ok(()) }
}

/// Permission for anyone to read the signing keys of `ServiceAccount` tokens. They are public, but RBAC restricts them.
const KEYS_FOR_ALL: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: issuer-discovery-for-all}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:service-account-issuer-discovery'}
subjects:
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'system:unauthenticated'}
";

/// Configures the auth method `kubernetes` at this mount for the `ServiceAccount`s of a cluster. Vault reaches its API
/// server at `api_server`.
pub async fn trust(vault: &Admin, cluster: &Cluster, mount: &str, api_server: &str, ca: &str) -> Result<()> {
    enable_auth(vault, mount, "kubernetes").await?;
    cluster.namespace("vault").await?;
    cluster.service_account("vault", "vault").await?;
    cluster.apply("vault", REVIEWER).await?;
    let config = json!({
        "kubernetes_host": api_server,
        "kubernetes_ca_cert": ca,
        "token_reviewer_jwt": cluster.token_for("vault", "vault", None, None, REVIEWER_SECONDS).await?,
        "disable_local_ca_jwt": true,
    });
    vault
        .put(&format!("auth/{mount}/config"), config)
        .await
        .context("failed to configure the auth method kubernetes")?;
    Ok(())
}

/// Configures the auth method `jwt` at this mount for the `ServiceAccount`s of a cluster. Vault verifies their tokens with
/// the keys that the API server publishes, without `TokenReview`.
pub async fn trust_keys(vault: &Admin, cluster: &Cluster, mount: &str, api_server: &str, ca: &str) -> Result<()> {
    enable_auth(vault, mount, "jwt").await?;
    cluster.apply("default", KEYS_FOR_ALL).await?;
    let config = json!({"jwks_url": format!("{api_server}/openid/v1/jwks"), "jwks_ca_pem": ca});
    vault.put(&format!("auth/{mount}/config"), config).await.context("failed to configure the auth method jwt")?;
    Ok(())
}

/// One instance of the reference scenario. All names in it are unique, so that tests do not interfere.
pub struct Case {
    pub admin: Admin,
    pub cluster: Cluster,
    /// KV version 2 mount.
    pub kv_mount: String,
    /// Kubernetes auth mount.
    pub auth_mount: String,
    /// Name of the Vault role and of its policy.
    pub role: String,
    pub namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    /// `ServiceAccount` of the Pod.
    pub account: String,
    /// The secrets and the agents of this case, for the leak test.
    pub leaks: Leaks,
    /// The Pod's token for Vault.
    pub jwt_file: PathBuf,
    /// The Pod's token for the API server, in a kubeconfig.
    pub kubeconfig: PathBuf,
    /// Output directory, in memory. The agent creates it; its parent plays the volume.
    pub directory: PathBuf,
    vault_address: String,
    vault_ca: Option<PathBuf>,
}

impl Case {
    /// Sets up a case whose names consist of `name` and a random suffix.
    ///
    /// # Panics
    /// If the setup fails.
    pub async fn new(servers: &Servers, name: &str) -> Self {
        let unique = format!("{name}-{:06x}", fastrand::u32(..0x0100_0000));
        let names = Names {
            kv_mount: format!("kv-{unique}"),
            auth_mount: format!("kubernetes-{unique}"),
            role: format!("webapp-{unique}"),
            namespace: format!("playground-{unique}"),
        };
        Self::set_up(servers, names).await.unwrap_or_else(|e| panic!("failed to set up the case {unique}: {e:#}"))
    }

    /// Sets up a case with the names of the reference scenario; once per pair of servers.
    pub async fn reference(servers: &Servers) -> Result<Self> {
        let names = Names {
            kv_mount: "secret".into(),
            auth_mount: "kubernetes".into(),
            role: APPLICATION.into(),
            namespace: "playground".into(),
        };
        Self::set_up(servers, names).await
    }

    async fn set_up(servers: &Servers, names: Names) -> Result<Self> {
        let (admin, cluster) = (servers.vault.admin()?, servers.kube.admin().await?);
        let Names { kv_mount, auth_mount, role, namespace } = names;

        cluster.namespace(&namespace).await?;
        let Permissions { account, yaml } = permissions::shipped_for(&namespace)?;
        cluster.apply(&namespace, &yaml).await?;
        let pod_name = format!("{APPLICATION}-0");
        let pod_uid = cluster.pod(&namespace, &pod_name, &account).await?;
        let pod = || Some(PodReference { name: &pod_name, uid: &pod_uid });
        let for_vault = cluster.token(&namespace, &account, Some(AUDIENCE), pod()).await?;
        let for_cluster = cluster.token(&namespace, &account, None, pod()).await?;
        let leaks = Leaks::default();
        leaks.plant_data(&secret_data());
        leaks.plant_jwt(&for_vault);
        leaks.plant_jwt(&for_cluster);

        if kv_mount != "secret" {
            admin.enable_secrets(&kv_mount, "kv", json!({"version": "2"})).await?;
        }
        admin.put_kv(&kv_mount, "webapp/config", &secret_data()).await?;
        admin.policy(&role, &format!("path \"{kv_mount}/data/webapp/config\" {{ capabilities = [\"read\"] }}")).await?;
        trust(&admin, &cluster, &auth_mount, servers.kube.url(), servers.kube.ca_pem()).await?;
        let mut case = Self {
            admin,
            cluster,
            kv_mount,
            auth_mount,
            role,
            pod_uid,
            pod_name,
            account,
            leaks,
            jwt_file: PathBuf::new(),
            kubeconfig: PathBuf::new(),
            directory: servers.watchdog.memory.join(&namespace).join("sensitive"),
            vault_address: servers.vault.address().to_owned(),
            vault_ca: servers.vault.ca_file().map(Path::to_path_buf),
            namespace,
        };
        case.vault_role(json!({})).await?;

        let files = servers.watchdog.directory.join(&case.namespace);
        std::fs::create_dir_all(&files)?;
        std::fs::create_dir_all(case.directory.parent().context("the directory has a parent")?)?;
        case.jwt_file = files.join("vault-token");
        case.kubeconfig = files.join("kubeconfig");
        pki::write(&case.jwt_file, &for_vault)?;
        pki::write(&case.kubeconfig, &servers.kube.kubeconfig_for(&case.namespace, &for_cluster))?;
        Ok(case)
    }

    /// Rewrites the Vault role with changed values, for example `{"token_ttl": "4s", "token_max_ttl": "10s"}`.
    pub async fn vault_role(&self, change: Value) -> Result<()> {
        let mut role = json!({
            "audience": AUDIENCE,
            "bound_service_account_names": [self.account],
            "bound_service_account_namespaces": [self.namespace],
            "token_policies": [self.role],
            "token_ttl": "20m",
        });
        if let (Value::Object(role), Value::Object(change)) = (&mut role, change) {
            role.extend(change);
        }
        self.admin.role(&self.auth_mount, &self.role, role).await
    }

    /// Path of the secret, as in keyferry's configuration.
    pub fn secret_path(&self) -> String {
        format!("{}/webapp/config", self.kv_mount)
    }

    /// Changes the secret in Vault and plants its values for the leak test; returns the new version.
    pub async fn put(&self, data: &Value) -> Result<u64> {
        self.leaks.plant_data(data);
        self.admin.put_kv(&self.kv_mount, "webapp/config", data).await
    }

    /// Writes a credential for the agent next to the Pod's token; returns the file's path.
    pub fn credential(&self, name: &str, secret: &str) -> Result<String> {
        self.leaks.plant(secret);
        let file = self.jwt_file.with_file_name(name);
        pki::write(&file, secret)?;
        Ok(file.display().to_string())
    }

    /// The leak test at the end of each test with an agent: searches all outputs of this case's agents for its secrets. The
    /// agents must have exited.
    pub async fn check_for_leaks(&self) -> Result<()> {
        self.leaks.mark_checked();
        self.leaks.check(&self.seen().await?)
    }

    /// What `check_for_leaks` searches.
    pub async fn seen(&self) -> Result<Vec<Observed>> {
        let mut seen = self.leaks.seen()?;
        for condition in self.cluster.conditions(&self.namespace, &self.pod_name).await? {
            seen.push(Observed::new("a condition", json!(condition).to_string()));
        }
        for event in self.cluster.events(&self.namespace).await? {
            seen.push(Observed::new("an Event", json!(event).to_string()));
        }
        if let Some(secret) = self.cluster.secret(&self.namespace, SECRET).await? {
            seen.push(Observed::new("the metadata of the Secret", json!(secret.metadata).to_string()));
        }
        if let Some(state) = self.read(STATE_FILE) {
            seen.push(Observed::new("the state for probes", state));
        }
        seen.push(Observed::new("the names of the files", agent::tree(&self.directory)));
        Ok(seen)
    }

    /// Logs in to Vault with the Pod's token, without the agent; returns the Vault token.
    pub async fn login(&self, servers: &Servers) -> Result<String> {
        let jwt = std::fs::read_to_string(&self.jwt_file)?;
        let auth = servers.vault.client("")?.login(&self.auth_mount, json!({"role": self.role, "jwt": jwt})).await?;
        Ok(auth["client_token"].as_str().context("a login returns a token")?.to_owned())
    }

    /// A published file, as an application reads it.
    pub fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(file)).ok()
    }

    /// The environment that the Pod's specification gives to the agent.
    pub fn environment(&self) -> Vec<(String, String)> {
        let file = |path: &Path| path.display().to_string();
        let mut environment = vec![
            ("VAULT_ADDR", self.vault_address.clone()),
            ("KEYFERRY_ROLE", self.role.clone()),
            ("KEYFERRY_SECRETS", self.secret_path()),
            ("KEYFERRY_AUTH_MOUNT", self.auth_mount.clone()),
            ("KEYFERRY_JWT_FILE", file(&self.jwt_file)),
            ("KEYFERRY_MIRROR", SECRET.to_owned()),
            ("KEYFERRY_DIRECTORY", file(&self.directory)),
            ("POD_NAME", self.pod_name.clone()),
            ("POD_UID", self.pod_uid.clone()),
            ("POD_NAMESPACE", self.namespace.clone()),
            ("KUBECONFIG", file(&self.kubeconfig)),
        ];
        if let Some(ca) = &self.vault_ca {
            environment.push(("VAULT_CACERT", file(ca)));
        }
        environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

struct Names {
    kv_mount: String,
    auth_mount: String,
    role: String,
    namespace: String,
}
