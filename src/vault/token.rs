//! Our own token: look up, renew, revoke; and what a 403 means.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::classify;
use super::client::{Answer, Ask, Vault};
use super::wire::{AuthAnswer, LookupAnswer, SecretAnswer};
use crate::model::{Failure, FailureClass, Lease, LeaseId, Reason, TokenInfo, VaultToken};

impl Vault {
    /// What Vault says of `token`. `TokenDead` if it does not know it.
    pub(super) async fn lookup(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        let what = "failed to look up the vault token";
        let ask = Ask {
            method: Method::GET,
            path: "auth/token/lookup-self",
            token: Some(token),
            namespace: None,
            body: None,
        };
        let answer = self.send(what, ask).await?;
        if answer.status == 403 {
            let message = "failed to use the vault token: it was revoked or has expired";
            return Err(Failure::new(FailureClass::TokenDead, Reason::TokenExpired, message));
        }
        if !answer.is_ok() {
            return Err(classify::failure(what, &answer));
        }
        let parsed: Result<LookupAnswer, _> = serde_json::from_slice(&answer.body);
        let data = parsed.map_err(|error| classify::not_understood(what, &error))?.data;
        let ends = data.expire_time.is_some();
        Ok(TokenInfo {
            ttl: ends.then(|| Duration::from_secs(data.ttl)),
            renewable: data.renewable,
            accessor: data.accessor.filter(|accessor| !accessor.is_empty()),
        })
    }

    /// Tells a policy that does not allow it (`Denied`) from a dead token (`TokenDead`): Vault answers 403 to both, and a
    /// token may always look itself up.
    pub(super) async fn forbidden(&self, token: &VaultToken, denied: Failure) -> Failure {
        match self.lookup(token).await {
            Ok(_) => denied,
            Err(failure) => failure,
        }
    }

    /// Renews our token.
    ///
    /// # Errors
    /// `TokenDead` where it is too late; `Denied` where it may not be renewed.
    pub async fn renew_token(&self, token: &VaultToken) -> Result<TokenInfo, Failure> {
        let what = "failed to renew the vault token";
        let body = Some(Zeroizing::new(b"{}".to_vec()));
        let ask =
            Ask { method: Method::POST, path: "auth/token/renew-self", token: Some(token), namespace: None, body };
        let answer = self.send(what, ask).await?;
        if !answer.is_ok() {
            return Err(self.judge(token, classify::failure(what, &answer), &answer).await);
        }
        let parsed: Result<AuthAnswer, _> = serde_json::from_slice(&answer.body);
        let block = parsed.map_err(|error| classify::not_understood(what, &error))?.auth;
        drop(Zeroizing::new(block.client_token));
        let ttl = (block.lease_duration > 0).then(|| Duration::from_secs(block.lease_duration));
        Ok(TokenInfo { ttl, renewable: block.renewable, accessor: block.accessor.filter(|a| !a.is_empty()) })
    }

    /// Renews a lease; `increment` is the wanted time to live from now.
    ///
    /// # Errors
    /// `LeaseLost` where Vault does not know it any more or it has met its end.
    pub async fn renew_lease(
        &self,
        token: &VaultToken,
        id: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<Lease, Failure> {
        let what = "failed to renew a lease";
        let body = json!({"lease_id": id.0, "increment": increment.map_or(0, |increment| increment.as_secs())});
        let body = Some(Zeroizing::new(body.to_string().into_bytes()));
        let ask = Ask { method: Method::POST, path: "sys/leases/renew", token: Some(token), namespace: None, body };
        let answer = self.send(what, ask).await?;
        if answer.status == 400 {
            // "lease not found" or "lease is not renewable": https://developer.hashicorp.com/vault/api-docs/system/leases
            let message = format!("{what}: vault answers 400{}", classify::words(&answer));
            return Err(Failure::new(FailureClass::Missing, Reason::LeaseLost, message));
        }
        if !answer.is_ok() {
            return Err(self.judge(token, classify::failure(what, &answer), &answer).await);
        }
        let parsed: SecretAnswer<'_> =
            serde_json::from_slice(&answer.body).map_err(|error| classify::not_understood(what, &error))?;
        Ok(Lease {
            id: Some(id.clone()),
            duration: Duration::from_secs(parsed.lease_duration),
            renewable: parsed.renewable,
        })
    }

    /// Revokes our token, and with it every lease that it asked for. A token that is gone already is good news.
    ///
    /// # Errors
    /// Where Vault does not answer or cannot do it now.
    pub async fn revoke_self(&self, token: &VaultToken) -> Result<(), Failure> {
        let what = "failed to revoke the vault token";
        let ask = Ask {
            method: Method::POST,
            path: "auth/token/revoke-self",
            token: Some(token),
            namespace: None,
            body: None,
        };
        let answer = self.send(what, ask).await?;
        if answer.is_ok() || answer.status == 403 { Ok(()) } else { Err(classify::failure(what, &answer)) }
    }

    pub(super) async fn judge(&self, token: &VaultToken, failure: Failure, answer: &Answer) -> Failure {
        if answer.status == 403 { self.forbidden(token, failure).await } else { failure }
    }
}
