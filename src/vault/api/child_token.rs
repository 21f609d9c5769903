//! A child token of the agent's token, for the application
//! (<https://developer.hashicorp.com/vault/api-docs/auth/token#create-token>).
//!
//! The child renews, looks up, and revokes itself. This requires no right of the agent's token, and the policy `default` of the
//! child allows it. A request by accessor would require a rule that allows the agent to renew and revoke other tokens too.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;

use super::super::error::VaultError;
use super::login::auth;
use super::secret::{request, request_error};
use super::{Api, token};
use crate::model::{
    CHILD_TOKEN_KEY, Lease, LeaseId, Reading, SecretBytes, SecretValue, Source, Validity, VaultToken, Version,
};

/// What messages call a child token.
const WHICH: &str = "the child token";

/// Creates the child token that `source` requests.
pub(in crate::vault) async fn create(api: &Api, parent: &VaultToken, source: &Source) -> Result<Reading, VaultError> {
    let action = format!("failed to create a token at {}", source.path);
    let response = request(api, parent, source, &source.parameters).await?;
    if response.status != StatusCode::OK {
        return Err(request_error(&action, source, &response));
    }
    let created = auth(&source.path, &response)?;
    let unusable = |problem| VaultError::ChildTokenUnusable { action, problem };
    if created.token.expose().is_empty() {
        return Err(unusable("Vault returned no token; check the path"));
    }
    // The application must never get the rights of the agent.
    if created.token == *parent {
        return Err(unusable("Vault returned the token of keyferry; check any proxy in front of Vault"));
    }
    if created.is_batch {
        return Err(unusable(
            "Vault returned a batch token, which cannot be renewed or revoked; set `token_type` of the token role to \
             `service`",
        ));
    }
    let value = SecretValue::Text(SecretBytes::new(created.token.expose().to_vec()));
    let duration = created.info.ttl.unwrap_or_default();
    let lease = Lease { id: LeaseId::Token(created.token), duration, renewable: created.info.renewable };
    Ok(Reading {
        data: BTreeMap::from([(CHILD_TOKEN_KEY.to_owned(), value)]),
        version: Version::default(),
        validity: Validity::Lease(lease),
        warnings: created.warnings,
        ..Reading::default()
    })
}

/// Renews a child token. `increment` counts from now.
pub(in crate::vault) async fn renew(
    api: &Api,
    child: &VaultToken,
    increment: Option<Duration>,
) -> Result<Lease, VaultError> {
    let info = token::renew(api, child, WHICH, increment).await.map_err(lost)?;
    let duration = info.ttl.unwrap_or_default();
    Ok(Lease { id: LeaseId::Token(child.clone()), duration, renewable: info.renewable })
}

/// Looks up a child token.
pub(in crate::vault) async fn look_up(api: &Api, child: &VaultToken) -> Result<(), VaultError> {
    token::look_up(api, child, WHICH).await.map(drop).map_err(lost)
}

/// Revokes a child token. Succeeds if the server does not recognize it.
pub(in crate::vault) async fn revoke(api: &Api, child: &VaultToken) -> Result<(), VaultError> {
    token::revoke(api, child, WHICH).await
}

/// A child token that the server does not recognize says nothing about the agent's token.
fn lost(error: VaultError) -> VaultError {
    match error {
        VaultError::TokenInvalid { action } => VaultError::ChildTokenLost { action },
        error => error,
    }
}
