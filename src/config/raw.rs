//! The configuration file as the user writes it. The JSON Schema and `docs/config.md` are generated from the comments here.
//!
//! Every key is optional here, so that all missing keys are reported at once. Required keys are declared by `required`
//! (checked against the schema) or by the parsers of the sections.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::defaults;
use super::list::RawList;
use super::owner::RawOwner;
use super::parameter::RawParameter;
use super::previous::RawPrevious;
use super::quantity::{RawDuration, RawSize, duration_as_text};
use super::raw_notify::RawNotification;
use super::raw_output::RawOutput;
use super::raw_pki::RawPki;
use super::raw_refresh_now::RawRefreshNow;
use super::raw_token_file::RawTokenFile;
use super::toggle::Toggle;

/// Configuration of keyferry.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDocument {
    /// How to reach Vault or OpenBao.
    pub(super) vault: Option<RawVault>,
    /// How to log in.
    pub(super) auth: Option<RawAuth>,
    /// Secrets to read. Each key is a name that you choose.
    pub(super) sources: Option<BTreeMap<String, RawSource>>,
    /// Files to write. Default: one file for each key of each source.
    pub(super) outputs: Option<Vec<RawOutput>>,
    /// A file with a Vault token for an application that talks to Vault itself. The token is a child of keyferry's own token, with its own policies and TTL. Default: no token.
    pub(super) token_file: Option<RawTokenFile>,
    /// Where to write the files.
    pub(super) directory: Option<RawDirectory>,
    /// Kubernetes Secrets to keep as copies of the published files. Each key is the name of a Secret.
    pub(super) mirrors: Option<BTreeMap<String, RawMirror>>,
    /// How to notify the application when published files have changed. Each key is a name that you choose.
    pub(super) notify: Option<BTreeMap<String, RawNotification>>,
    /// A copy of the files to start from if Vault is unavailable. Default: a pod waits for Vault.
    pub(super) seed: Option<RawSeed>,
    /// What to report on the pod.
    pub(super) status: Option<RawStatus>,
    /// IP address and port for probes and metrics. Without an IP address (":8250"), the agent listens on all IPv6 and IPv4 addresses of the pod. Default: no listener.
    #[schemars(extend("examples" = [":8250", "127.0.0.1:8250", "[::]:8250"]))]
    pub(super) listen: Option<String>,
    /// Ways to request a refresh, in addition to `keyferry refresh` and SIGHUP. Default: none.
    pub(super) refresh_now: Option<RawRefreshNow>,
    /// Retry policy: exponential backoff with full jitter. The upper limit doubles from `base` to `max`.
    pub(super) retry: Option<RawRetry>,
    /// Maximum number of sources to read concurrently.
    #[schemars(range(min = 1, max = defaults::MAX_CONCURRENCY), extend("default" = defaults::CONCURRENCY))]
    pub(super) concurrency: Option<u32>,
    /// Revoke the Vault token when the agent stops. Default: true if the agent logged in itself, false if the token was supplied.
    pub(super) revoke_on_exit: Option<bool>,
    /// Maximum total time for the work at shutdown: the last report and the revocation of the token. Maximum: 5m.
    #[schemars(extend("default" = duration_as_text(defaults::DRAIN)))]
    pub(super) drain: Option<RawDuration>,
    /// `refresh` of the sources that templates add, from the environment.
    #[serde(skip)]
    pub(super) call_refresh: Option<RawDuration>,
}

/// How to reach Vault or OpenBao.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawVault {
    /// Address of the server, without a path.
    #[schemars(extend("examples" = ["https://vault.example.com:8200"]))]
    pub(super) address: Option<String>,
    /// Vault Enterprise or OpenBao namespace of the secrets.
    #[schemars(extend("examples" = ["team-a"]))]
    pub(super) namespace: Option<String>,
    /// Other addresses to which a standby node is allowed to redirect. Redirects to any other address are rejected, because the request contains the token.
    #[schemars(extend("examples" = [["https://vault-0.vault-internal:8200"]]))]
    pub(super) redirect_to: Option<Vec<String>>,
    /// Timeout for one request, including connection setup.
    #[schemars(extend("default" = duration_as_text(defaults::TIMEOUT)))]
    pub(super) timeout: Option<RawDuration>,
    /// Vault Enterprise 1.16 and later: subscribe to the events of KV secrets, and read a source as soon as Vault reports a change. keyferry still reads after each `refresh` interval. The policy must allow `read` on `sys/events/subscribe/kv*`, and `list` and `subscribe` on the secrets.
    #[schemars(extend("default" = false))]
    pub(super) events: Option<bool>,
    /// TLS for connections to Vault. Vault's certificate is always verified.
    pub(super) tls: Option<RawTls>,
}

/// TLS for connections to Vault.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTls {
    /// PEM file with the trusted CA certificates; no others are trusted. Reloaded on change. Default: the system store, which is empty in the keyferry image.
    pub(super) ca_file: Option<String>,
    /// DNS name to expect in Vault's certificate. Default: the host of the address.
    pub(super) server_name: Option<String>,
    /// PEM file with the client certificate. Requires `clientKeyFile`.
    pub(super) client_cert_file: Option<String>,
    /// PEM file with the private key of the client certificate. Requires `clientCertFile`.
    pub(super) client_key_file: Option<String>,
}

/// How to log in. Credentials are read from their files at each login.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAuth {
    /// Auth method. Default: `token` if `tokenFile` or VAULT_TOKEN is set and `role`, `mount`, `audience`, and `jwtFile` are not; otherwise `kubernetes`.
    pub(super) method: Option<RawAuthMethod>,
    /// Mount path of the auth method, without `auth/`. Default: the name of the method.
    pub(super) mount: Option<String>,
    /// Namespace of the auth method. Default: `vault.namespace`.
    pub(super) namespace: Option<String>,
    /// Role of the auth method. Required for `kubernetes`. Default for `jwt`: the default role of the mount.
    pub(super) role: Option<String>,
    /// `kubernetes`: required audience of the token in `jwtFile`. Checked before the token is sent.
    pub(super) audience: Option<String>,
    /// `kubernetes`, `jwt`: file with the JWT. Default for `kubernetes`: `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub(super) jwt_file: Option<String>,
    /// `approle`: file with the role ID.
    pub(super) role_id_file: Option<String>,
    /// `approle`: file with the secret ID, or with a wrapping token for it.
    pub(super) secret_id_file: Option<String>,
    /// `approle`: the secret ID is response-wrapped. It is accepted only if it was wrapped at this path.
    #[schemars(extend("examples" = ["auth/approle/role/webapp/secret-id"]))]
    pub(super) wrapped_creation_path: Option<String>,
    /// `approle`: remove the file with the secret ID after its first use.
    #[schemars(extend("default" = false))]
    pub(super) remove_secret_id: Option<bool>,
    /// `token`: file with the token. Default: the value of VAULT_TOKEN.
    pub(super) token_file: Option<String>,
}

/// Auth method.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAuthMethod {
    /// A ServiceAccount token, verified by the cluster.
    Kubernetes,
    /// A JWT, verified by its signature.
    Jwt,
    /// Role ID and secret ID.
    Approle,
    /// A supplied Vault token.
    Token,
}

impl RawAuthMethod {
    /// The name in the configuration file, and the default mount path.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
            Self::Approle => "approle",
            Self::Token => "token",
        }
    }
}

/// One secret, or one list of secrets, to read.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["path"]}, {"required": ["pki"]}]))]
pub(super) struct RawSource {
    /// Path of the secret as in `vault kv get` and `vault read`, without `data/`. With `list`, a path as in `vault kv list`. Required without `pki`.
    #[schemars(extend("examples" = ["secret/webapp/config", "database/creds/webapp"]))]
    pub(super) path: Option<String>,
    /// KV: read all secrets below `path` instead of the secret at `path`. The keys are `secret/key`, or `folder/secret/key`. `true` for the secrets in `path` itself, or a section. Requires the capability `list`.
    #[schemars(extend("examples" = [true, {"recursive": true, "exclude": ["**/draft"]}]))]
    pub(super) list: Option<Toggle<RawList>>,
    /// File with a wrapping token, for a secret that someone has wrapped for this pod. `path` must be the path at which the token was created, as in `vault unwrap`: `secret/data/webapp/config` for KV version 2, or `sys/wrapping/wrap`. The token works once; a new token in the file is a new secret. Nothing is read from `path`.
    #[schemars(extend("examples" = ["/run/wrapped/webapp"]))]
    pub(super) wrapping_token_file: Option<String>,
    /// A certificate to request instead of a secret at `path`.
    pub(super) pki: Option<RawPki>,
    /// Mount path of the secrets engine; must be a prefix of `path`. Required only if the mount path contains slashes and the token is not allowed to look it up.
    pub(super) mount: Option<String>,
    /// Type of the secrets engine. `other` saves two requests at the start if the mount path is not the name of the engine.
    #[schemars(extend("default" = "detect"))]
    pub(super) engine: Option<RawEngine>,
    /// KV version 2: read this version of the secret. Default: the latest version.
    #[schemars(range(min = 1))]
    pub(super) version: Option<u64>,
    /// KV version 2: also read the version before the latest one, for keys that must overlap. Each of its keys gets a suffix: `password.previous` next to `password`. `true`, or a section with the suffix. If that version does not exist or is deleted, these keys do not exist either.
    #[schemars(extend("default" = false))]
    pub(super) previous: Option<Toggle<RawPrevious>>,
    /// Method of the request, like `vault read` or `vault write`. keyferry repeats a write after each `refresh` interval, unless the response states a lifetime.
    #[schemars(extend("default" = "read"))]
    pub(super) method: Option<RawRequestMethod>,
    /// Parameters of the request, for engines other than KV. Text values and `path` can contain the placeholders `${POD_NAME}`, `${POD_NAMESPACE}`, `${POD_IP}`, `${NODE_NAME}`, and `${SERVICE_ACCOUNT}`. Set the environment variables of these names from the downward API.
    #[schemars(extend("examples" = [{"common_name": "${POD_NAME}.example.com", "ttl": "24h"}]))]
    pub(super) parameters: Option<BTreeMap<String, RawParameter>>,
    /// Interval between reads, unless the response states a lifetime. Minimum: 1s.
    #[schemars(extend("default" = duration_as_text(defaults::REFRESH)))]
    pub(super) refresh: Option<RawDuration>,
    /// Staleness tolerance: time after the last successful read until the source counts as stale. Minimum: `refresh`. Default: 5m, or three times `refresh` if that is longer.
    #[schemars(extend("default" = duration_as_text(defaults::MAX_STALE)))]
    pub(super) max_stale: Option<RawDuration>,
    /// How long a dynamic credential stays valid after its successor is visible. Then keyferry revokes its lease. Default: a tenth of the lease, and at least 30s. Limited to half of the lease.
    #[schemars(extend("examples" = ["5m"]))]
    pub(super) overlap: Option<RawDuration>,
    /// Interval at which keyferry looks up the lease, to notice that an operator revoked it. Minimum: 10s. Default: no lookups; a revoked lease is noticed at its next renewal.
    #[schemars(extend("examples" = ["5m"]))]
    pub(super) watch_lease: Option<RawDuration>,
    /// Whether the first set of files, and with it the readiness of the pod, requires this source.
    #[schemars(extend("default" = true))]
    pub(super) required: Option<bool>,
}

impl RawSource {
    /// The list to read; `None` for one secret.
    pub(super) fn list(&self) -> Option<Cow<'_, RawList>> {
        self.list.as_ref()?.section()
    }

    /// The suffix of the keys of the previous version; `None` if it is not read.
    pub(super) fn previous_suffix(&self) -> Option<String> {
        Some(self.previous.as_ref()?.section()?.suffix())
    }
}

/// Method of a request.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRequestMethod {
    /// `GET`
    Read,
    /// `POST`
    Write,
}

/// Type of the secrets engine.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEngine {
    /// Detect the type.
    Detect,
    /// KV version 1.
    KvV1,
    /// KV version 2.
    KvV2,
    /// Any other engine: a plain read of the path.
    Other,
}

/// Where to write the files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDirectory {
    /// Output directory, which the agent creates and owns. It must be below the mount point of a memory `emptyDir`, not the mount point itself.
    #[schemars(extend("default" = defaults::DIRECTORY))]
    pub(super) path: Option<String>,
    /// Permission bits of the files in octal, in quotes. Default: 0440 if the pod has an `fsGroup`, otherwise 0444.
    #[schemars(regex(pattern = "^(0o?)?[4-7][0-7]{2}$"), extend("examples" = ["0440"]))]
    pub(super) file_mode: Option<String>,
    /// Allow an output directory that is not in memory.
    #[schemars(extend("default" = false))]
    pub(super) allow_disk: Option<bool>,
    /// Maximum size of one set of files. Default: half the capacity of the volume.
    #[schemars(extend("examples" = ["512Ki"]))]
    pub(super) max_bytes: Option<RawSize>,
}

/// One Secret to keep as a copy of the published files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMirror {
    /// Type of the Secret. Types that grant an identity (ServiceAccount tokens, bootstrap tokens) are not supported.
    #[serde(rename = "type")]
    #[schemars(extend("default" = "Opaque"))]
    pub(super) secret_type: Option<RawSecretType>,
    /// Published file for each key of the Secret. Default: all files, each under its own path.
    #[schemars(extend("examples" = [{"tls.crt": "tls/certificate"}]))]
    pub(super) keys: Option<BTreeMap<String, String>>,
    /// Labels to set.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Annotations to set.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// Owner of the Secret. Kubernetes deletes the Secret together with its owner: `serviceAccount` for the ServiceAccount of the pod, or any object in the namespace. Default: no owner.
    pub(super) owner: Option<RawOwner>,
    /// Also mirror files from leased sources. Their credentials stop working when this pod terminates.
    #[schemars(extend("default" = false))]
    pub(super) allow_leased: Option<bool>,
    /// What to do if someone else edits the Secret: restore it, or leave it unchanged and report `Drifted`.
    #[schemars(extend("default" = "repair"))]
    pub(super) on_drift: Option<RawOnDrift>,
    /// Take over an existing Secret of this name that is not managed by keyferry, for example after a restore from a backup.
    #[schemars(extend("default" = false))]
    pub(super) adopt: Option<bool>,
}

/// What to do if someone else edits the Secret.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawOnDrift {
    /// Restore it within a minute.
    Repair,
    /// Leave it unchanged and report it.
    Report,
}

/// Type of a Secret.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum RawSecretType {
    /// Any keys.
    Opaque,
    /// Requires `tls.crt` and `tls.key`.
    #[serde(rename = "kubernetes.io/tls")]
    Tls,
    /// Requires `.dockerconfigjson`.
    #[serde(rename = "kubernetes.io/dockerconfigjson")]
    DockerConfigJson,
    /// Requires `username` or `password`.
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
    /// Requires `ssh-privatekey`.
    #[serde(rename = "kubernetes.io/ssh-auth")]
    SshAuth,
}

/// A copy of the files to start from if Vault is unavailable.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSeed {
    /// Directory with the copy: the mirrored Secret, mounted as an optional volume in keyferry's container. Required, here or in KEYFERRY_SEED.
    #[schemars(extend("examples" = ["/run/keyferry/seed"]))]
    pub(super) directory: Option<String>,
    /// Name of this Secret, as in `mirrors`. Default: the only mirror. If no mirror is configured, the directory must contain each file under its published path.
    pub(super) mirror: Option<String>,
    /// Time without an answer from Vault after which the copy is used. The copy is not used while Vault denies the login or a request. Minimum: 1s.
    #[schemars(extend("default" = duration_as_text(defaults::SEED_AFTER)))]
    pub(super) after: Option<RawDuration>,
}

/// What to report on the pod.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawStatus {
    /// Write pod conditions. Default: true if the name and UID of the pod are known.
    pub(super) conditions: Option<bool>,
    /// Record Events. Default: true if the name and UID of the pod are known.
    pub(super) events: Option<bool>,
    /// Name of the pod. Default: the value of POD_NAME.
    pub(super) pod_name: Option<String>,
    /// UID of the pod. Default: the value of POD_UID.
    pub(super) pod_uid: Option<String>,
    /// Namespace of the pod. Default: the value of POD_NAMESPACE, otherwise the namespace of the ServiceAccount.
    pub(super) pod_namespace: Option<String>,
    /// Kubeconfig file for use outside a cluster. Default: the value of KUBECONFIG, otherwise the ServiceAccount.
    pub(super) kubeconfig: Option<String>,
}

/// Retry policy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRetry {
    /// Upper limit of the first delay.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_BASE)))]
    pub(super) base: Option<RawDuration>,
    /// Maximum delay.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_MAX)))]
    pub(super) max: Option<RawDuration>,
    /// Maximum delay after errors that waiting does not fix: denied, not found, invalid.
    #[schemars(extend("default" = duration_as_text(defaults::RETRY_SLOW)))]
    pub(super) slow: Option<RawDuration>,
}
