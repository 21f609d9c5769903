//! `sys/leases` (<https://developer.hashicorp.com/vault/api-docs/system/leases>)

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::error::VaultError;
use super::super::json::{Seconds, body};
use super::response::{errors, parse, rule, token_error};
use super::{Api, Call};
use crate::model::{Lease, LeaseId, VaultToken};

const RENEW: &str = "sys/leases/renew";
const LOOK_UP: &str = "sys/leases/lookup";
const REVOKE: &str = "sys/leases/revoke";

/// Renews a lease. `increment` counts from now.
pub(in crate::vault) async fn renew(
    api: &Api,
    token: &VaultToken,
    id: &str,
    increment: Option<Duration>,
) -> Result<Lease, VaultError> {
    #[derive(Serialize)]
    struct Renewal<'a> {
        lease_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        increment: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Renewed {
        #[serde(default)]
        lease_duration: Seconds,
        #[serde(default)]
        renewable: Option<bool>,
    }
    let renewal = Renewal { lease_id: id, increment: increment.map(|time| time.as_secs()) };
    let response = api.send(Call::new(Method::POST, RENEW).token(token).body(body(&renewal))).await?;
    let action = format!("failed to renew lease {id}");
    match response.status {
        StatusCode::OK => {
            let renewed: Renewed = parse(RENEW, &response)?;
            Ok(Lease {
                id: LeaseId::Id(id.to_owned()),
                duration: renewed.lease_duration.0.unwrap_or_default(),
                renewable: renewed.renewable.unwrap_or_default(),
            })
        }
        // "lease not found", "lease is not renewable", "invalid lease ID": a new read fixes all of them.
        StatusCode::BAD_REQUEST if errors(&response).to_lowercase().contains("lease") => {
            Err(VaultError::LeaseLost { action, status: response.status.as_u16(), errors: errors(&response) })
        }
        _ => Err(token_error(&action, &response, || rule(RENEW, "update"))),
    }
}

/// Looks up a lease. A lease that does not exist is [`VaultError::LeaseLost`].
pub(in crate::vault) async fn look_up(api: &Api, token: &VaultToken, id: &str) -> Result<(), VaultError> {
    call(api, token, LOOK_UP, "look up", id).await
}

/// Revokes a lease. A lease that does not exist is not an error.
pub(in crate::vault) async fn revoke(api: &Api, token: &VaultToken, id: &str) -> Result<(), VaultError> {
    match call(api, token, REVOKE, "revoke", id).await {
        Err(VaultError::LeaseLost { .. }) => Ok(()),
        result => result,
    }
}

async fn call(api: &Api, token: &VaultToken, path: &str, verb: &str, id: &str) -> Result<(), VaultError> {
    #[derive(Serialize)]
    struct Request<'a> {
        lease_id: &'a str,
    }
    let request = Call::new(Method::POST, path).token(token).body(body(&Request { lease_id: id }));
    let response = api.send(request).await?;
    let action = format!("failed to {verb} lease {id}");
    match response.status {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
        StatusCode::BAD_REQUEST if errors(&response).to_lowercase().contains("lease") => {
            Err(VaultError::LeaseLost { action, status: response.status.as_u16(), errors: errors(&response) })
        }
        _ => Err(token_error(&action, &response, || rule(path, "update"))),
    }
}
