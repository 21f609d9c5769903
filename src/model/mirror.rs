//! What the user asked for of mirrored Secrets, and Kubernetes' rules for them.

use std::collections::BTreeMap;

use super::{FilePath, NameError, ObjectName};

/// `type` of a mirrored Secret. Types that grant an identity cannot be written here.
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
    /// The API's name.
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

    /// What the API server would miss in a Secret of this type, in words for a message; `None` if nothing.
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

/// A key of the mirrored Secret and the published file it is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorKey {
    /// Key in the Secret.
    pub key: String,
    /// Published file.
    pub file: FilePath,
}

impl MirrorKey {
    /// # Errors
    /// If the API server would not take `key` as a key of a Secret
    /// (<https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data>).
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
    /// The `ServiceAccount` of our own Pod; its name and UID are in the API server's token.
    ServiceAccount,
    /// Any object of the same namespace.
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
    /// Type of the Secret.
    pub secret_type: SecretType,
    /// Which files; empty = every published file, under its path, which must then be a valid Secret key.
    pub keys: Vec<MirrorKey>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// Who owns the Secret, so that it is garbage-collected with its owner.
    pub owner: Option<MirrorOwner>,
    /// Mirror files of sources with leases too.
    pub allow_leased: bool,
    /// What to do where somebody else edited our Secret.
    pub on_drift: OnDrift,
    /// Take over a Secret of this name that we did not make (restored from a backup, or another tool's).
    pub adopt: bool,
}

/// What to do where somebody else edited a Secret that we made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDrift {
    /// Put it right.
    #[default]
    Repair,
    /// Leave it and report it.
    Report,
}
