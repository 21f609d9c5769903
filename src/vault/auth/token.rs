//! A given token, which is used without a login
//! (<https://developer.hashicorp.com/vault/docs/auth/token>).

use super::super::credential::Credential;
use crate::model::VaultToken;

/// Name of the credential in messages.
pub(in crate::vault) const WHAT: &str = "the Vault token";

/// The token in `namespace`.
pub(in crate::vault) fn token(given: &Credential, namespace: Option<&str>) -> VaultToken {
    VaultToken::new(given.expose()).in_namespace(namespace.map(str::to_owned))
}
