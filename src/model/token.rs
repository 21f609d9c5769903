//! What we know of our own Vault token.

use std::time::Duration;

use super::SecretBytes;

/// A Vault token. Held by the driver and lent to the vault room; no other room sees it.
#[derive(Clone)]
pub struct VaultToken(SecretBytes);

impl VaultToken {
    /// Wraps a token as Vault or a file gave it; surrounding white space is not part of a token.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The token for a request header.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// What Vault says about a token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Time to live counted from the answer; `None` for a token that never ends (a root token).
    pub ttl: Option<Duration>,
    /// Whether `auth/token/renew-self` can extend it. Batch tokens cannot be renewed.
    pub renewable: bool,
    /// The accessor: names the token in audit logs without giving access to it. Absent for batch tokens.
    pub accessor: Option<String>,
}
