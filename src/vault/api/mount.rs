//! `GET sys/internal/ui/mounts/<path>` (<https://openbao.org/api-docs/system/internal-ui-mounts/>): the mount of a path.
//! A token with any permission below the mount is allowed to query it.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::super::error::VaultError;
use super::response::{parse, status_error};
use super::{Api, Call};
use crate::model::VaultToken;

/// A mount as the server reports it.
#[derive(Deserialize)]
pub(in crate::vault) struct MountInfo {
    /// Path relative to the namespace, with a slash at the end.
    pub(in crate::vault) path: String,
    /// `kv`, `database` ...
    #[serde(rename = "type")]
    pub(in crate::vault) kind: String,
    #[serde(default)]
    options: Option<BTreeMap<String, Option<String>>>,
}

impl MountInfo {
    /// `options.version`
    pub(in crate::vault) fn version(&self) -> Option<&str> {
        self.options.as_ref()?.get("version")?.as_deref()
    }
}

/// Queries the mount of `path`. `None` if the server does not report it.
pub(in crate::vault) async fn mount_of(
    api: &Api,
    token: &VaultToken,
    path: &str,
) -> Result<Option<MountInfo>, VaultError> {
    #[derive(Deserialize)]
    struct Body {
        data: MountInfo,
    }
    let request_path = format!("sys/internal/ui/mounts/{path}");
    let response = api.send(Call::new(Method::GET, &request_path).token(token)).await?;
    match response.status {
        StatusCode::OK => Ok(Some(parse::<Body>(&request_path, &response)?.data)),
        StatusCode::TOO_MANY_REQUESTS => Err(status_error(&format!("failed to read {path}"), &response)),
        status if status.is_client_error() => Ok(None),
        _ => Err(status_error(&format!("failed to read {path}"), &response)),
    }
}
