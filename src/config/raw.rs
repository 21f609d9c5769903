//! The document as its author writes it. The comments here are the text of the JSON Schema and of `docs/config.md`.
//!
//! Everything is optional here, so that all that is missing can be told at once; what must be there is said by
//! `required` (checked against the schema) or by the sections' parsers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;
use super::owner::RawOwner;
use super::quantity::{RawDuration, RawSize, duration_as_text};

/// Configuration of keyferry.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDocument {
    /// How to reach Vault or OpenBao.
    pub(super) vault: Option<RawVault>,
    /// How to log in.
    pub(super) auth: Option<RawAuth>,
    /// Secrets to read, by a name of your choice.
    pub(super) sources: Option<BTreeMap<String, RawSource>>,
    /// Files to write. Left out: every key of every source becomes a file of that name.
    pub(super) outputs: Option<Vec<RawOutput>>,
    /// Where files go.
    pub(super) directory: Option<RawDirectory>,
    /// Kubernetes Secrets to keep as copies of the published files, by name of the Secret.
    pub(super) mirrors: Option<BTreeMap<String, RawMirror>>,
    /// What to report on the Pod.
    pub(super) status: Option<RawStatus>,
    /// IP address and port for probes and metrics; without an address (":8250") all addresses of the Pod, IPv6 and IPv4. Left out: no listener.
    #[schemars(extend("examples" = [":8250", "127.0.0.1:8250", "[::]:8250"]))]
    pub(super) listen: Option<String>,
    /// How failures are retried: full jitter below a ceiling that doubles from `base` to `max`.
    pub(super) retry: Option<RawRetry>,
    /// Sources that are read at the same time at most.
    #[schemars(range(min = 1, max = defaults::MAX_CONCURRENCY), extend("default" = defaults::CONCURRENCY))]
    pub(super) concurrency: Option<u32>,
    /// Whether the token is revoked at the end. Left out: yes for a token that the agent got by its own login, no for one that it was given.
    pub(super) revoke_on_exit: Option<bool>,
    /// How long the work at the end (revoking the token, last reports) may take, all in all. At most 5m.
    #[schemars(extend("default" = duration_as_text(defaults::DRAIN)))]
    pub(super) drain: Option<RawDuration>,
}

/// How to reach Vault.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawVault {
    /// Address of the server, without a path.
    #[schemars(extend("examples" = ["https://vault.example.com:8200"]))]
    pub(super) address: Option<String>,
    /// Vault Enterprise or OpenBao namespace of the secrets.
    #[schemars(extend("examples" = ["team-a"]))]
    pub(super) namespace: Option<String>,
    /// Further addresses to which a standby node may redirect. A redirect to any other is refused, because the token travels with the request.
    #[schemars(extend("examples" = [["https://vault-0.vault-internal:8200"]]))]
    pub(super) redirect_to: Option<Vec<String>>,
    /// For one request, connecting included.
    #[schemars(extend("default" = duration_as_text(defaults::TIMEOUT)))]
    pub(super) timeout: Option<RawDuration>,
    /// TLS towards Vault. The certificate is always verified.
    pub(super) tls: Option<RawTls>,
}

/// TLS towards Vault.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTls {
    /// PEM file with the only trusted authorities; read again when it changes. Left out: the system's, of which our image has none.
    pub(super) ca_file: Option<String>,
    /// DNS name to check in the certificate instead of the address's host.
    pub(super) server_name: Option<String>,
    /// PEM file with the client's certificate; with `clientKeyFile`.
    pub(super) client_cert_file: Option<String>,
    /// PEM file with the client's private key; with `clientCertFile`.
    pub(super) client_key_file: Option<String>,
}

/// How to log in. Credentials are read from their files at each login.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAuth {
    /// The login method. Left out: `token` if only VAULT_TOKEN is set, else `kubernetes`.
    pub(super) method: Option<RawAuthMethod>,
    /// Mount of the auth method, without `auth/`. Left out: the method's name.
    pub(super) mount: Option<String>,
    /// Namespace of the auth mount where it differs from `vault.namespace`.
    pub(super) namespace: Option<String>,
    /// Role; `kubernetes` needs it, `jwt` without it takes the mount's default role.
    pub(super) role: Option<String>,
    /// `kubernetes`: audience that the token in `jwtFile` must have; checked before it is sent.
    pub(super) audience: Option<String>,
    /// `kubernetes`, `jwt`: file with the JWT. Left out for `kubernetes`: `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub(super) jwt_file: Option<String>,
    /// `approle`: file with the role id.
    pub(super) role_id_file: Option<String>,
    /// `approle`: file with the secret id, or with a wrapping token for it.
    pub(super) secret_id_file: Option<String>,
    /// `approle`: the secret id is response-wrapped, and accepted only if it was wrapped at this path.
    #[schemars(extend("examples" = ["auth/approle/role/webapp/secret-id"]))]
    pub(super) wrapped_creation_path: Option<String>,
    /// `approle`: remove the secret id's file once it was used.
    #[schemars(extend("default" = false))]
    pub(super) remove_secret_id: Option<bool>,
    /// `token`: file with the token. Left out: VAULT_TOKEN.
    pub(super) token_file: Option<String>,
}

/// The login method.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAuthMethod {
    /// A ServiceAccount's token, checked by the cluster.
    Kubernetes,
    /// A JWT, checked by its signature.
    Jwt,
    /// Role id and secret id.
    Approle,
    /// A token that somebody made for us.
    Token,
}

impl RawAuthMethod {
    /// As written in the document; the mount's default too.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
            Self::Approle => "approle",
            Self::Token => "token",
        }
    }
}

/// One place to read.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(super) struct RawSource {
    /// Path of the secret as `vault kv get` and `vault read` take it, without `data/`.
    #[schemars(extend("examples" = ["secret/webapp/config", "database/creds/webapp"]))]
    pub(super) path: Option<String>,
    /// Where the mount ends, for a mount whose name has slashes and a token that may not ask. `path` must begin with it.
    pub(super) mount: Option<String>,
    /// The secrets engine.
    #[schemars(extend("default" = "detect"))]
    pub(super) engine: Option<RawEngine>,
    /// KV version 2: always read this version.
    #[schemars(range(min = 1))]
    pub(super) version: Option<u64>,
    /// Time between reads where no lease says otherwise. At least 1s.
    #[schemars(extend("default" = duration_as_text(defaults::REFRESH)))]
    pub(super) refresh: Option<RawDuration>,
    /// How long files may be used after the last successful read before they count as stale. Not below `refresh`. Left out: 5m, or three times `refresh` where that is longer.
    #[schemars(extend("default" = duration_as_text(defaults::MAX_STALE)))]
    pub(super) max_stale: Option<RawDuration>,
    /// Whether the Pod's readiness waits for it.
    #[schemars(extend("default" = true))]
    pub(super) required: Option<bool>,
}

/// The secrets engine.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEngine {
    /// Ask Vault which it is.
    Detect,
    /// KV version 1.
    KvV1,
    /// KV version 2.
    KvV2,
    /// Any other: a plain read of the path.
    Other,
}

/// Files made from one source: every key a file (optionally below `prefix`), one `key`, or all keys in one file (`format`).
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["source"]))]
pub(super) struct RawOutput {
    /// Name of the source.
    pub(super) source: Option<String>,
    /// Directory for the files of an output that makes one file per key.
    #[schemars(extend("examples" = ["db"]))]
    pub(super) prefix: Option<String>,
    /// Only this key of the secret.
    pub(super) key: Option<String>,
    /// All keys in one file of this format.
    pub(super) format: Option<RawFormat>,
    /// Path of the file below the directory; with `key` or `format`. Left out with `key`: the key's name.
    #[schemars(extend("examples" = ["db/password", "config.json"]))]
    pub(super) file: Option<String>,
    /// How values are encoded in Vault; `base64` is decoded, for binary files. Not with `format`.
    #[schemars(extend("default" = "utf-8"))]
    pub(super) encoding: Option<RawEncoding>,
    /// Permission bits, octal, in quotes. Left out: `directory.fileMode`.
    #[schemars(regex(pattern = "^(0o?)?[4-7][0-7]{2}$"), extend("examples" = ["0400"]))]
    pub(super) mode: Option<String>,
}

/// How values are encoded in Vault.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum RawEncoding {
    /// As they are.
    #[serde(rename = "utf-8")]
    Utf8,
    /// Base64, to be decoded.
    #[serde(rename = "base64")]
    Base64,
}

/// Format of a file with all keys.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    /// `KEY='value'` lines that a POSIX shell can source.
    Dotenv,
    /// A JSON object.
    Json,
    /// Java properties.
    Properties,
    /// A YAML mapping.
    Yaml,
}

/// Where files go.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDirectory {
    /// The directory, which the agent makes and owns: below the mount of a memory `emptyDir`, not the mount itself.
    #[schemars(extend("default" = defaults::DIRECTORY))]
    pub(super) path: Option<String>,
    /// Permission bits of files, octal, in quotes. Left out: 0440 where the Pod has an `fsGroup`, else 0444.
    #[schemars(regex(pattern = "^(0o?)?[4-7][0-7]{2}$"), extend("examples" = ["0440"]))]
    pub(super) file_mode: Option<String>,
    /// Publish also where the directory is not in memory.
    #[schemars(extend("default" = false))]
    pub(super) allow_disk: Option<bool>,
    /// Most bytes that one set of files may have. Left out: half of what the volume holds.
    #[schemars(extend("examples" = ["512Ki"]))]
    pub(super) max_bytes: Option<RawSize>,
}

/// One Secret to keep as a copy of the published files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMirror {
    /// Type of the Secret. Types that grant an identity (ServiceAccount tokens, bootstrap tokens) cannot be mirrored.
    #[serde(rename = "type")]
    #[schemars(extend("default" = "Opaque"))]
    pub(super) secret_type: Option<RawSecretType>,
    /// Published file for each key of the Secret. Left out: every file, under its own path.
    #[schemars(extend("examples" = [{"tls.crt": "tls/certificate"}]))]
    pub(super) keys: Option<BTreeMap<String, String>>,
    /// Labels to set.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Annotations to set.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// Object that owns the Secret, so that the Secret is deleted with it: `serviceAccount` for the ServiceAccount of the Pod, or any object of the namespace.
    pub(super) owner: Option<RawOwner>,
    /// Mirror files of sources with leases too. They stop working when this Pod ends.
    #[schemars(extend("default" = false))]
    pub(super) allow_leased: Option<bool>,
    /// What to do where somebody else edited the Secret: put it right, or leave it and report it as `Drifted`.
    #[schemars(extend("default" = "repair"))]
    pub(super) on_drift: Option<RawOnDrift>,
    /// Take over a Secret of this name that keyferry did not create, restored from a backup for example.
    #[schemars(extend("default" = false))]
    pub(super) adopt: Option<bool>,
}

/// What to do where somebody else edited the Secret.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawOnDrift {
    /// Put it right within a minute.
    Repair,
    /// Leave it and report it.
    Report,
}

/// Type of a Secret.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum RawSecretType {
    /// Any keys.
    Opaque,
    /// Needs `tls.crt` and `tls.key`.
    #[serde(rename = "kubernetes.io/tls")]
    Tls,
    /// Needs `.dockerconfigjson`.
    #[serde(rename = "kubernetes.io/dockerconfigjson")]
    DockerConfigJson,
    /// Needs `username` or `password`.
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
    /// Needs `ssh-privatekey`.
    #[serde(rename = "kubernetes.io/ssh-auth")]
    SshAuth,
}

/// What to report on the Pod.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawStatus {
    /// Write pod conditions. Left out: yes where the Pod's name and UID are known.
    pub(super) conditions: Option<bool>,
    /// Record Events. Left out: yes where the Pod's name and UID are known.
    pub(super) events: Option<bool>,
    /// Name of our Pod. Left out: POD_NAME.
    pub(super) pod_name: Option<String>,
    /// UID of our Pod. Left out: POD_UID.
    pub(super) pod_uid: Option<String>,
    /// Namespace of our Pod. Left out: POD_NAMESPACE, else that of the ServiceAccount.
    pub(super) pod_namespace: Option<String>,
    /// Kubeconfig file for use outside a cluster. Left out: KUBECONFIG, else the ServiceAccount.
    pub(super) kubeconfig: Option<String>,
}

/// How failures are retried.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRetry {
    /// First ceiling of the wait.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_BASE)))]
    pub(super) base: Option<RawDuration>,
    /// Highest ceiling of the wait.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_MAX)))]
    pub(super) max: Option<RawDuration>,
    /// Ceiling of the wait after failures that waiting does not heal: denied, missing, invalid.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_SLOW)))]
    pub(super) slow: Option<RawDuration>,
}
