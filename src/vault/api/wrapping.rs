//! Response wrapping (<https://developer.hashicorp.com/vault/api-docs/system/wrapping-lookup>,
//! <https://developer.hashicorp.com/vault/api-docs/system/wrapping-unwrap>), for wrapped secret IDs and wrapped secrets.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::{body, text};
use super::super::server_text::{clip, redact};
use super::response::{joined_errors, parse, status_error};
use super::secret::Envelope;
use super::{Api, Call};
use crate::model::{SecretBytes, VaultToken};

const LOOKUP: &str = "sys/wrapping/lookup";
const UNWRAP: &str = "sys/wrapping/unwrap";

/// The path that created a wrapping token. `what` names the wrapped secret, as in "the secret ID".
pub(in crate::vault) async fn creation_path(
    api: &Api,
    namespace: Option<&str>,
    token: &str,
    what: &'static str,
) -> Result<String, VaultError> {
    #[derive(Serialize)]
    struct Request<'a> {
        token: &'a str,
    }
    #[derive(Deserialize)]
    struct Body {
        data: Wrapping,
    }
    #[derive(Deserialize)]
    struct Wrapping {
        creation_path: String,
    }
    let call = Call::new(Method::POST, LOOKUP).namespace(namespace).body(body(&Request { token }));
    let response = api.send(call).await?;
    match response.status {
        StatusCode::OK => Ok(parse::<Body>(LOOKUP, &response)?.data.creation_path),
        _ => Err(unwrap_error(&format!("failed to look up the wrapping token of {what}"), what, &response, token)),
    }
}

/// The wrapped secret ID. A wrapping token works once.
pub(in crate::vault) async fn secret_id(
    api: &Api,
    namespace: Option<&str>,
    token: &str,
    what: &'static str,
) -> Result<SecretBytes, VaultError> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: Wrapped<'a>,
    }
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        secret_id: &'a RawValue,
    }
    let response = unwrap(api, namespace, token, what).await?;
    Ok(text(parse::<Body<'_>>(UNWRAP, &response)?.data.secret_id).unwrap_or_default())
}

/// The wrapped `data`, as JSON text; `None` if the response has none. A wrapping token works once.
pub(in crate::vault) async fn data(
    api: &Api,
    token: &str,
    what: &'static str,
) -> Result<Option<SecretBytes>, VaultError> {
    let response = unwrap(api, None, token, what).await?;
    let data = Envelope::parse(UNWRAP, &response)?.data;
    Ok(data.map(|data| SecretBytes::from(data.get())))
}

async fn unwrap(api: &Api, namespace: Option<&str>, token: &str, what: &'static str) -> Result<Response, VaultError> {
    let wrapping = VaultToken::new(token);
    let response = api.send(Call::new(Method::POST, UNWRAP).namespace(namespace).token(&wrapping)).await?;
    match response.status {
        StatusCode::OK => Ok(response),
        _ => Err(unwrap_error(&format!("failed to unwrap {what}"), what, &response, token)),
    }
}

/// The error for a response with an error status. A wrapping token that the server rejects has expired or was already used.
fn unwrap_error(action: &str, what: &'static str, response: &Response, token: &str) -> VaultError {
    match status_error(action, response) {
        VaultError::Status { action, status: status @ (400 | 401 | 403 | 404 | 405), .. } => {
            let errors = clip(&redact(joined_errors(response), &[token]));
            VaultError::NotUnwrapped { action, what, status, errors }
        }
        error => error,
    }
}
