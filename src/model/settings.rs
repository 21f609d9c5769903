//! What the user asked for, parsed: every value here is already known to be good.
//!
//! Made by the `config` room, which owns the names users write and the defaults. Nothing downstream sees raw text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{FilePath, Mirror, Mode, ObjectName, SecretBytes, SourceName};

/// The whole configuration in force.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// How to reach Vault.
    pub server: VaultServer,
    /// How to log in.
    pub auth: Auth,
    /// What to read, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// What to write. Order is the user's.
    pub outputs: Vec<Output>,
    /// Where files go.
    pub directory: Directory,
    /// Secrets to keep as copies, by name of the Secret.
    pub mirrors: BTreeMap<ObjectName, Mirror>,
    /// What to report on the Pod.
    pub status: StatusReport,
    /// Probes and metrics; `None` = off.
    pub listener: Option<Listener>,
    /// How failures are retried.
    pub retry: Retry,
    /// Sources read at the same time at most.
    pub concurrency: usize,
    /// Whether the token is revoked at the end. By default only one that the agent got itself by a login.
    pub revoke_on_exit: bool,
    /// How long the work at the end may take, all in all.
    pub drain: Duration,
}

/// How to reach Vault.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultServer {
    /// `http://host:port` or `https://host:port`, without a trailing slash.
    pub address: String,
    /// Further addresses to which a standby's 307 may point (same form).
    pub redirect_to: Vec<String>,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// TLS.
    pub tls: Tls,
    /// For one request, connect included.
    pub timeout: Duration,
}

/// TLS towards Vault.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file with the only trusted authorities; read again when it changes. `None` = the system's.
    pub ca_file: Option<PathBuf>,
    /// Name to check in the certificate instead of the address's host.
    pub server_name: Option<String>,
    /// PEM files of the client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How to log in.
#[derive(Clone, PartialEq)]
pub struct Auth {
    /// Mount of the auth method, without `auth/` (e.g. `kubernetes`). Unused for a token.
    pub mount: String,
    /// Namespace of the auth mount where it differs from the secrets' one.
    pub namespace: Option<String>,
    /// The method and its credential.
    pub method: AuthMethod,
}

/// The login method. Credentials are read from their files at each login.
#[derive(Clone, PartialEq)]
pub enum AuthMethod {
    /// <https://developer.hashicorp.com/vault/api-docs/auth/approle>
    AppRole {
        /// File with the role id.
        role_id_file: PathBuf,
        /// File with the secret id, or with a wrapping token for it. `None` where the role needs none.
        secret_id_file: Option<PathBuf>,
        /// The file holds a response-wrapping token, accepted only if its creation path is this one.
        wrapped_creation_path: Option<String>,
        /// Remove the secret id's file once it was used.
        remove_secret_id: bool,
    },
    /// <https://developer.hashicorp.com/vault/api-docs/auth/jwt>
    Jwt {
        /// Role; `None` takes the mount's default role.
        role: Option<String>,
        /// File with the JWT.
        jwt_file: PathBuf,
    },
    /// <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes>
    Kubernetes {
        /// Role.
        role: String,
        /// File with the projected ServiceAccount token.
        jwt_file: PathBuf,
        /// Audience that the projected token must have; checked before it is sent, so that a wrong volume is a clear error.
        audience: Option<String>,
    },
    /// A token that somebody gave us, from the environment.
    Token {
        /// The token.
        token: SecretBytes,
    },
    /// A token that somebody gave us, from a file.
    TokenFile {
        /// File with the token; read at each "login".
        file: PathBuf,
    },
}

/// Which KV engine a source's mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvEngine {
    /// Find out, insert `/data/` for version 2.
    #[default]
    Detect,
    /// KV version 1: read the path as it is.
    V1,
    /// KV version 2: insert `/data/`.
    V2,
    /// Not KV: a plain read of the path.
    Other,
}

/// One place to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path as a user writes it: `secret/webapp/config`, without a leading slash.
    pub path: String,
    /// Where the mount ends, if the user said so (for mounts with slashes).
    pub mount: Option<String>,
    /// Engine.
    pub engine: KvEngine,
    /// KV v2 version pin.
    pub version: Option<u64>,
    /// Time between reads where no lease says otherwise.
    pub refresh: Duration,
    /// How long the last good reading may be used without a successful read before it counts as stale.
    pub max_stale: Duration,
    /// Whether readiness waits for it.
    pub required: bool,
}

impl Source {
    /// What is asked for, as text: equal for two sources exactly if a reading of one is a reading of the other. Holds no
    /// secret; it is written into manifests and annotations.
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
        text
    }
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where it comes from.
    pub source: SourceName,
    /// What to make.
    pub kind: OutputKind,
    /// Permission bits; `None` takes the directory's default.
    pub mode: Option<Mode>,
}

/// What an output makes of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// One file per key of the secret, below `prefix`.
    EachKey {
        /// Directory for the files; `None` = the top.
        prefix: Option<FilePath>,
        /// Decode every value from base64.
        base64: bool,
    },
    /// One key to one file.
    Key {
        /// Key of the secret.
        key: String,
        /// File.
        path: FilePath,
        /// Decode the value from base64.
        base64: bool,
    },
    /// All keys in one file.
    Whole {
        /// File.
        path: FilePath,
        /// Format.
        format: FileFormat,
    },
}

/// Format of a file with all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// `KEY='value'` lines that a POSIX shell sources to exactly the bytes.
    Dotenv,
    /// A JSON object.
    Json,
    /// Java properties.
    Properties,
    /// A YAML mapping.
    Yaml,
}

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The directory that the agent makes and owns.
    pub path: PathBuf,
    /// Publish also where the directory is not in memory.
    pub allow_disk: bool,
    /// Mode of files without a mode of their own; `None` = 0440 where the directory's parent has the setgid bit of an
    /// `fsGroup`, else 0444.
    pub file_mode: Option<Mode>,
    /// Most bytes that one set may have; `None` = what the volume holds.
    pub max_bytes: Option<u64>,
}

/// What to report on the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// Write pod conditions.
    pub conditions: bool,
    /// Record Events.
    pub events: bool,
    /// Our Pod's name, from the downward API.
    pub pod_name: Option<String>,
    /// Our Pod's UID, from the downward API.
    pub pod_uid: Option<String>,
    /// Our Pod's namespace, from the downward API or the ServiceAccount's directory.
    pub pod_namespace: Option<String>,
    /// Kubeconfig file for use outside a cluster; `None` = in-cluster.
    pub kubeconfig: Option<PathBuf>,
}

/// Probes and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub address: std::net::SocketAddr,
}

/// The one retry schedule: full jitter between `base` and a ceiling that doubles up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// First ceiling.
    pub base: Duration,
    /// Highest ceiling.
    pub max: Duration,
    /// Ceiling for failures that waiting does not heal (denied, missing, invalid).
    pub slow: Duration,
}
