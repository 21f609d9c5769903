//! The agent's Vault token.

use std::time::Duration;

use super::SecretBytes;

/// A Vault token and the namespace that it belongs to.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultToken {
    bytes: SecretBytes,
    namespace: Option<String>,
}

impl VaultToken {
    /// Wraps a token, without the white space around it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { bytes: text.trim().into(), namespace: None }
    }

    /// The same token in `namespace`, in which lookup, renewal and revocation of the token are allowed. `None` is the
    /// namespace of the [`VaultServer`](super::VaultServer).
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

/// Key of a reading whose content is a child token
/// ([`RequestMethod::CreateToken`](super::RequestMethod::CreateToken)).
pub const CHILD_TOKEN_KEY: &str = "token";

/// Properties of a token, as Vault reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// TTL, counted from Vault's response. Zero if Vault reports zero, which a lagging standby can do. `None` if the token never
    /// expires, or if its expiry is unknown.
    pub ttl: Option<Duration>,
    /// Whether `auth/token/renew-self` can extend the token. Batch tokens cannot be renewed.
    pub renewable: bool,
}

/// Result of a login.
#[derive(Clone)]
pub struct Session {
    /// The token to use.
    pub token: VaultToken,
    /// Properties of the token.
    pub info: TokenInfo,
    /// Whether a login of the agent issued the token. The agent does not revoke a token that it was given.
    pub self_issued: bool,
    /// Whether Vault denied the lookup of the token by itself. Its TTL is then unknown.
    pub lookup_denied: bool,
}
