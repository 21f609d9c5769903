//! What we know of our own Vault token.

use std::time::Duration;

use super::SecretBytes;

/// A Vault token and the namespace in which it lives. Kept by the core and lent to the Vault adapter.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultToken {
    bytes: SecretBytes,
    namespace: Option<String>,
}

impl VaultToken {
    /// Wraps a token as Vault or a file gave it; surrounding white space is not part of a token.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { bytes: text.trim().into(), namespace: None }
    }

    /// The same token, living in `namespace`: where it may look itself up, renew and revoke itself. `None` is the server's
    /// own namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }

    /// The token for a request header.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// See [`VaultToken::in_namespace`].
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// What Vault says about a token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Time to live counted from the answer, zero if the server says so (a standby may lag behind); `None` for a token that
    /// never ends, or whose end the server does not tell us.
    pub ttl: Option<Duration>,
    /// Whether `auth/token/renew-self` can extend it. Batch tokens cannot be renewed.
    pub renewable: bool,
}

/// What a login gives.
#[derive(Clone)]
pub struct Session {
    /// The token.
    pub token: VaultToken,
    /// What Vault says about it.
    pub info: TokenInfo,
    /// Whether a login issued it to us; a token that was given to us is not ours to revoke.
    pub self_issued: bool,
    /// Whether the token was seen to be forbidden to look itself up; then its time to live is not known either.
    pub lookup_denied: bool,
}
