//! `POST sys/leases/renew` (<https://developer.hashicorp.com/vault/api-docs/system/leases#renew-lease>)

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::error::VaultError;
use super::super::json::{Seconds, body};
use super::response::{errors, parse, rule, token_error};
use super::{Api, Call};
use crate::model::{Lease, LeaseId, VaultToken};

const PATH: &str = "sys/leases/renew";

/// Renews a lease. `increment` counts from now.
pub(in crate::vault) async fn renew(
    api: &Api,
    token: &VaultToken,
    id: &LeaseId,
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
    let renewal = Renewal { lease_id: &id.0, increment: increment.map(|time| time.as_secs()) };
    let response = api.send(Call::new(Method::POST, PATH).token(token).body(body(&renewal))).await?;
    let action = format!("failed to renew lease {}", id.0);
    match response.status {
        StatusCode::OK => {
            let renewed: Renewed = parse(PATH, &response)?;
            Ok(Lease {
                id: id.clone(),
                duration: renewed.lease_duration.0.unwrap_or_default(),
                renewable: renewed.renewable.unwrap_or_default(),
            })
        }
        // "lease not found", "lease is not renewable", "invalid lease ID": a new read fixes all of them.
        StatusCode::BAD_REQUEST if errors(&response).to_lowercase().contains("lease") => {
            Err(VaultError::LeaseLost { action, status: response.status.as_u16(), errors: errors(&response) })
        }
        _ => Err(token_error(&action, &response, || rule(PATH, "update"))),
    }
}
