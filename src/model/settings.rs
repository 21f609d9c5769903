//! The parsed and validated configuration.
//!
//! `config` builds these types; it owns the names of keys and variables, and the defaults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    CertificateRequest, Mirror, Mode, Notification, NotificationName, ObjectName, Output, Parameters, RequestMethod,
    SecretBytes, SecretList, SourceName,
};

/// The active configuration.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Connection to Vault.
    pub server: VaultServer,
    /// Login method.
    pub auth: Auth,
    /// Whether to read sources when Vault reports that they have changed.
    pub events: bool,
    /// Secrets to read.
    pub sources: BTreeMap<SourceName, Source>,
    /// The settings of sources that templates add.
    pub call_defaults: Source,
    /// Files to write, in the configured order.
    pub outputs: Vec<Output>,
    /// Directory for the files.
    pub directory: Directory,
    /// Mirrored Secrets, by name of the Secret.
    pub mirrors: BTreeMap<ObjectName, Mirror>,
    /// Notifications of the application, by name.
    pub notify: BTreeMap<NotificationName, Notification>,
    /// The copy to start from if Vault is unavailable.
    pub seed: Option<Seed>,
    /// Conditions and Events to report on the Pod.
    pub status: StatusReport,
    /// Address for probes and metrics; `None` disables both.
    pub listener: Option<Listener>,
    /// Ways to request a refresh, besides signals.
    pub refresh_now: RefreshNow,
    /// Retry schedule for failures.
    pub retry: Retry,
    /// Maximum number of sources to read concurrently.
    pub concurrency: usize,
    /// Whether to revoke the token on exit. By default, only a token that a login of the agent issued.
    pub revoke_on_exit: bool,
    /// Time limit for all work after a stop signal.
    pub drain: Duration,
}

/// Connection to Vault.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultServer {
    /// `http://host:port` or `https://host:port`, without a trailing slash.
    pub address: String,
    /// Addresses that a 307 redirect of a standby is allowed to point to, besides `address`; same form.
    pub redirect_to: Vec<String>,
    /// `X-Vault-Namespace` header.
    pub namespace: Option<String>,
    /// Certificates and their verification.
    pub tls: Tls,
    /// Timeout for one request, including connection setup.
    pub timeout: Duration,
}

impl VaultServer {
    /// Identifies the server and the namespace. Contains no secret, and is stored in manifests.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}#namespace={namespace}", self.address),
            None => self.address.clone(),
        }
    }
}

/// Certificates for the connection to Vault.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file with the trusted CA certificates; no others are trusted. Reloaded on change. `None` trusts the system store.
    pub ca_file: Option<PathBuf>,
    /// Name to verify in Vault's certificate instead of the host of the address.
    pub server_name: Option<String>,
    /// PEM files of the client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Login method and its mount.
#[derive(Clone, PartialEq)]
pub struct Auth {
    /// Mount path of the auth method, without `auth/`, such as `kubernetes`. Unused for a token.
    pub mount: String,
    /// Namespace of the auth method. `None` is the namespace of the server.
    pub namespace: Option<String>,
    /// Method and credential.
    pub method: AuthMethod,
}

/// Login method. Credential files are read at each login.
#[derive(Clone, PartialEq)]
pub enum AuthMethod {
    /// <https://developer.hashicorp.com/vault/api-docs/auth/approle>
    AppRole {
        /// File with the role ID.
        role_id_file: PathBuf,
        /// File with the secret ID, or with a wrapping token for it. `None` if the role requires no secret ID.
        secret_id_file: Option<PathBuf>,
        /// If set, the file contains a wrapping token, which is used only if this is its creation path.
        wrapped_creation_path: Option<String>,
        /// Remove the secret ID file after a successful login.
        remove_secret_id: bool,
    },
    /// <https://developer.hashicorp.com/vault/api-docs/auth/jwt>
    Jwt {
        /// Vault role; `None` is the default role of the mount.
        role: Option<String>,
        /// File with the JWT.
        jwt_file: PathBuf,
    },
    /// <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes>
    Kubernetes {
        /// Vault role.
        role: String,
        /// File with the projected ServiceAccount token.
        jwt_file: PathBuf,
        /// Audience that the token must have. Checked before the token is sent, so that a wrong volume is a clear error.
        audience: Option<String>,
    },
    /// A token from the environment, without a login.
    Token {
        /// Value of `VAULT_TOKEN`.
        token: SecretBytes,
    },
    /// A token from a file, without a login.
    TokenFile {
        /// File with the token. Read again whenever a new token is required.
        file: PathBuf,
    },
}

/// Secrets engine of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvEngine {
    /// Detect the engine at the first read.
    #[default]
    Detect,
    /// KV version 1: read the path unchanged.
    V1,
    /// KV version 2: insert `/data/` after the mount path.
    V2,
    /// Any other engine: read the path unchanged.
    Other,
}

/// A secret to read, or a list of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path without a leading slash and without the `/data/` of KV version 2: `secret/webapp/config`. A list can have the path
    /// of a mount: `secret`.
    pub path: String,
    /// Read the secrets below `path` instead of the secret at `path`.
    pub list: Option<SecretList>,
    /// File with the wrapping token of the secret, which was created at `path`. Nothing is read from `path`.
    pub wrapping_token_file: Option<PathBuf>,
    /// Mount path of the secrets engine, a prefix of `path`. `None` detects the mount.
    pub mount: Option<String>,
    /// Secrets engine at the mount path.
    pub engine: KvEngine,
    /// Version of KV version 2 to read; `None` reads the latest one.
    pub version: Option<u64>,
    /// If set, the version before the latest one of KV version 2 is read too. Its keys end with this suffix.
    pub previous: Option<String>,
    /// Method of the request.
    pub method: RequestMethod,
    /// The query of a read, or the body of a write.
    pub parameters: Parameters,
    /// The certificate to request, with `parameters` in addition to its own.
    pub certificate: Option<CertificateRequest>,
    /// Interval between reads, unless the validity of the reading sets another one.
    pub refresh: Duration,
    /// Staleness tolerance: the time after the last successful read at which the source becomes stale.
    pub max_stale: Duration,
    /// How long a credential must stay valid after its successor is visible. `None` is a tenth of its TTL, and at least 30 s.
    /// At most half of the TTL.
    pub overlap: Option<Duration>,
    /// Interval between lookups of the lease, which notice that an operator revoked it. `None`: no lookups.
    pub watch_lease: Option<Duration>,
    /// Whether readiness requires this source.
    pub required: bool,
}

impl Source {
    /// Whether the request is a read without parameters. All other requests are for engines other than KV.
    #[must_use]
    pub fn is_plain_read(&self) -> bool {
        self.method == RequestMethod::Read && self.parameters.is_empty()
    }

    /// Identifies the request: equal for two sources if and only if both read the same secret, or the same list of secrets.
    /// Contains no secret, and is stored in manifests and annotations.
    #[must_use]
    pub fn request_id(&self) -> String {
        let engine = match self.engine {
            KvEngine::Detect => "detect",
            KvEngine::V1 => "kv-v1",
            KvEngine::V2 => "kv-v2",
            KvEngine::Other => "other",
        };
        let mut text = format!("{engine}:{}", self.path);
        if let Some(mount) = &self.mount {
            text.push_str("#mount=");
            text.push_str(mount);
        }
        if let Some(version) = self.version {
            text.push_str("#version=");
            text.push_str(&version.to_string());
        }
        if let Some(suffix) = &self.previous {
            // Quoted like the text of a parameter. Cannot fail: a `String` accepts every write.
            let _ = write!(text, "#previous={suffix:?}");
        }
        if let Some(file) = &self.wrapping_token_file {
            let _ = write!(text, "#wrappingTokenFile={:?}", file.display().to_string());
        }
        if let Some(list) = &self.list {
            text.push_str(&list.request_id());
        }
        text.push_str(self.method.request_id());
        for (name, value) in &self.all_parameters() {
            let _ = write!(text, "#{name}={value}");
        }
        if let Some(key) = self.certificate.as_ref().and_then(|certificate| certificate.key) {
            let _ = write!(text, "#key={key}");
        }
        text
    }

    /// `parameters` and those of the certificate.
    #[must_use]
    pub fn all_parameters(&self) -> Parameters {
        let mut all = self.parameters.clone();
        all.extend(self.certificate.iter().flat_map(CertificateRequest::parameters));
        all
    }
}

/// Directory for the published files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Path of the directory. The agent creates and owns it.
    pub path: PathBuf,
    /// Allow a directory that is not in memory.
    pub allow_disk: bool,
    /// Default mode of files. `None` is 0440 if the parent directory has the setgid bit of an `fsGroup`, else 0444.
    pub file_mode: Option<Mode>,
    /// Maximum size of one set in bytes. `None` is the limit by the capacity of the volume.
    pub max_bytes: Option<u64>,
}

/// A copy of the files of an earlier set, to start from if Vault is unavailable: the volume of a mirrored Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Directory with one file for each key of the Secret.
    pub directory: PathBuf,
    /// The mirrored Secret, whose keys are the names of the files. `None`: each file has its own path.
    pub mirror: Option<ObjectName>,
    /// Time without an answer from Vault after which the copy is used.
    pub after: Duration,
}

/// Conditions and Events to report on the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// Report conditions.
    pub conditions: bool,
    /// Record Events.
    pub events: bool,
    /// Name of the agent's Pod, from the downward API.
    pub pod_name: Option<String>,
    /// UID of the agent's Pod, from the downward API.
    pub pod_uid: Option<String>,
    /// Namespace of the agent's Pod, from the downward API or the ServiceAccount directory.
    pub pod_namespace: Option<String>,
    /// Kubeconfig file for use outside a cluster. `None` uses the in-cluster configuration.
    pub kubeconfig: Option<PathBuf>,
}

/// Listener for probes and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Address and port. Port 0 selects a free port.
    pub address: std::net::SocketAddr,
}

/// Ways to request a refresh, besides signals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefreshNow {
    /// File with the pod's annotations, of a downward API volume. `None`: annotations have no effect.
    pub annotations_file: Option<PathBuf>,
    /// File with the bearer token for `POST /refresh`, which is read for each request. `None`: no such endpoint.
    pub token_file: Option<PathBuf>,
}

/// Retry schedule: exponential backoff with full jitter. The upper limit of the delay doubles from `base` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Upper limit of the first delay.
    pub base: Duration,
    /// Maximum delay.
    pub max: Duration,
    /// Maximum delay after failures that waiting does not fix (denied, missing, invalid).
    pub slow: Duration,
}
