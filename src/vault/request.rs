//! A request with a method or parameters, to any engine except KV: `vault read <path> <parameters>` and
//! `vault write <path> <parameters>`.

use http::StatusCode;

use super::api::Api;
use super::api::secret::{EngineKind, Envelope, request, request_error};
use super::error::VaultError;
use super::json;
use crate::model::{Reading, RequestMethod, Source, VaultToken, Version};

/// "failed to <verb> <path>"
fn action(source: &Source) -> String {
    let verb = match source.method {
        RequestMethod::Read => "read",
        RequestMethod::Write => "write",
    };
    format!("failed to {verb} {}", source.path)
}

/// Sends the request of `source` once.
pub(super) async fn send(api: &Api, token: &VaultToken, source: &Source) -> Result<Reading, VaultError> {
    let response = request(api, token, source, &source.parameters).await?;
    let unusable = |found| VaultError::NotUsable { action: action(source), found };
    let envelope = match response.status {
        StatusCode::OK => Envelope::parse(&source.path, &response)?,
        StatusCode::NO_CONTENT => return Err(unusable("no data")),
        _ => return Err(request_error(&action(source), source, &response)),
    };
    let data = envelope.data.ok_or_else(|| unusable("no data"))?;
    let data = json::values(data).ok_or_else(|| unusable("data without keys"))?;
    let validity = envelope.validity(&source.path, EngineKind::NotKv, response.date);
    Ok(Reading { data, version: Version::default(), validity, warnings: envelope.warnings() })
}
