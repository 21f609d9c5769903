//! A request with a method or parameters, to any engine except KV: `vault read <path> <parameters>` and
//! `vault write <path> <parameters>`.

use std::sync::Mutex;

use http::StatusCode;

use super::api::Api;
use super::api::secret::{EngineKind, Envelope, request, request_error};
use super::error::VaultError;
use super::json;
use super::mounts::{Engine, MountTable, is_default_path_of_other_engine};
use super::read::described_mount;
use crate::model::{KvEngine, Reading, RequestMethod, Source, VaultToken, Version, lock};

/// "failed to <verb> <path>"
fn action(source: &Source) -> String {
    let verb = match source.method {
        RequestMethod::Read | RequestMethod::List => "read",
        RequestMethod::Write | RequestMethod::CreateToken => "write",
    };
    format!("failed to {verb} {}", source.path)
}

/// Fails if the path is in a KV engine, whose secret a write would replace. Queries a mount whose engine is not known, once.
async fn require_other_engine(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
) -> Result<(), VaultError> {
    let path = source.path.trim_matches('/');
    if source.engine == KvEngine::Other || path.split('/').next().is_some_and(is_default_path_of_other_engine) {
        return Ok(());
    }
    let known = lock(mounts).find(path).filter(|mount| mount.confirmed);
    let mount = if let Some(mount) = known {
        mount
    } else {
        let Some(mount) = described_mount(api, token, path).await? else { return Ok(()) };
        lock(mounts).learn(mount.clone());
        mount
    };
    match mount.engine {
        Engine::KvV1 | Engine::KvV2 => Err(VaultError::WriteToKv { path: source.path.clone(), mount: mount.path }),
        Engine::Other | Engine::Unknown => Ok(()),
    }
}

/// Sends the request of `source` once.
pub(super) async fn send(
    api: &Api,
    mounts: &Mutex<MountTable>,
    token: &VaultToken,
    source: &Source,
) -> Result<Reading, VaultError> {
    if source.method == RequestMethod::Write {
        require_other_engine(api, mounts, token, source).await?;
    }
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
    Ok(Reading { data, version: Version::default(), validity, warnings: envelope.warnings(), ..Reading::default() })
}
