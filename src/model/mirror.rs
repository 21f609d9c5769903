//! Configuration of mirrored Secrets, and the rules of Kubernetes for Secrets.

use std::collections::BTreeMap;

use super::{FilePath, NameError, ObjectName, SourceName};

/// `type` of a mirrored Secret. Types that grant an identity are not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretType {
    /// `Opaque`
    Opaque,
    /// `kubernetes.io/tls`
    Tls,
    /// `kubernetes.io/dockerconfigjson`
    DockerConfigJson,
    /// `kubernetes.io/basic-auth`
    BasicAuth,
    /// `kubernetes.io/ssh-auth`
    SshAuth,
}

impl SecretType {
    /// The value in the API.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::Tls => "kubernetes.io/tls",
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
            Self::BasicAuth => "kubernetes.io/basic-auth",
            Self::SshAuth => "kubernetes.io/ssh-auth",
        }
    }

    /// Keys that the API server requires for this type; for `basic-auth` at least one of them.
    const fn required_keys(&self) -> &'static [&'static str] {
        match self {
            Self::Opaque => &[],
            Self::Tls => &["tls.crt", "tls.key"],
            Self::DockerConfigJson => &[".dockerconfigjson"],
            Self::BasicAuth => &["username", "password"],
            Self::SshAuth => &["ssh-privatekey"],
        }
    }

    /// The missing keys that the API server requires, as text for a message; `None` if none is missing. `has` returns
    /// whether a key is present.
    #[must_use]
    pub fn missing_key(&self, has: impl Fn(&str) -> bool) -> Option<String> {
        let keys = self.required_keys();
        if matches!(self, Self::BasicAuth) {
            return (!keys.iter().any(|key| has(key))).then(|| format!("at least one of the keys {}", keys.join(", ")));
        }
        let missing: Vec<_> = keys.iter().copied().filter(|key| !has(key)).collect();
        (!missing.is_empty()).then(|| format!("the keys {}", missing.join(", ")))
    }
}

/// A key of the mirrored Secret and the published file that it copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorKey {
    /// The key in the Secret.
    pub key: String,
    /// The published file.
    pub file: FilePath,
    /// The source of the file if its output is optional. The Secret has no such key while the secret of this source lacks the
    /// key of the output.
    pub optional: Option<SourceName>,
}

impl MirrorKey {
    /// Checks that the API server accepts `key` as a key of a Secret
    /// (<https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data>).
    ///
    /// # Errors
    /// If it does not.
    pub fn check(key: &str) -> Result<(), NameError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > 253 || !key.bytes().all(known) || key == "." || key.starts_with("..") {
            return Err(NameError(
                "expected a key of a Secret: at most 253 letters, digits, '-', '_' and '.', without \"..\" at the start"
                    .into(),
            ));
        }
        Ok(())
    }
}

/// Owner of the mirrored Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorOwner {
    /// The `ServiceAccount` of the agent's Pod. Its name and UID are in the token for the API server.
    ServiceAccount,
    /// Any object in the same namespace.
    Object {
        /// `apiVersion` of the owner.
        api_version: String,
        /// `kind` of the owner.
        kind: String,
        /// Name of the owner.
        name: ObjectName,
        /// UID of the owner.
        uid: String,
    },
}

/// One Secret to keep as a copy of the published set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `type` of the Secret.
    pub secret_type: SecretType,
    /// The files to copy. If empty, every published file is copied, and its path is the key.
    pub keys: Vec<MirrorKey>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// The owner in `metadata.ownerReferences`, with which the Secret is garbage-collected.
    pub owner: Option<MirrorOwner>,
    /// Also copy files from leased sources. Their credentials stop working when the Pod terminates.
    pub allow_leased: bool,
    /// The response to changes by other field managers.
    pub on_drift: OnDrift,
    /// Take over an existing Secret that keyferry did not create (restored from a backup, or created by another tool).
    pub adopt: bool,
}

/// The response to a change of a mirrored Secret by another field manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDrift {
    /// Restore the mirrored data.
    #[default]
    Repair,
    /// Leave the Secret unchanged and report the drift.
    Report,
}
