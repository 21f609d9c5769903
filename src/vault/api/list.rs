//! `LIST <path>` (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#list-secrets>): the names in a folder.
//!
//! The request is a `GET` with `list=true`, as Vault's own clients send it, because some proxies reject other methods.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::super::error::VaultError;
use super::response::{is_from_vault, parse, token_error};
use super::{Api, Call};
use crate::model::VaultToken;

/// Lists the folder at `request_path`, which ends with a slash. Names with a slash at the end are folders. `None` if the
/// folder does not exist, which includes an empty one. `path` and `rule` are for the error: the folder as the user configured
/// it, and the policy rule that allows the request.
pub(in crate::vault) async fn list(
    api: &Api,
    token: &VaultToken,
    request_path: &str,
    path: &str,
    rule: impl FnOnce() -> String,
) -> Result<Option<Vec<String>>, VaultError> {
    #[derive(Deserialize)]
    struct Body {
        data: Option<Keys>,
    }
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<String>,
    }
    let query = vec![("list".to_owned(), "true".to_owned())];
    let response = api.send(Call::new(Method::GET, request_path).query(query).token(token)).await?;
    match response.status {
        StatusCode::OK => Ok(parse::<Body>(request_path, &response)?.data.map(|data| data.keys)),
        StatusCode::NOT_FOUND if is_from_vault(&response) => Ok(None),
        _ => Err(token_error(&format!("failed to list {path}"), &response, rule)),
    }
}
