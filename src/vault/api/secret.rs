//! `GET <path>`: a read from any engine, and the validity of the content.

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::Seconds;
use super::super::server_text::clip;
use super::response::{parse, rule, status_error, token_error};
use super::validity::Origin;
use super::{Api, Call};
use crate::model::{Lease, LeaseId, Parameter, Parameters, RequestMethod, Source, Validity, VaultToken};

/// Reads `path`. `version` selects a version of KV version 2.
pub(in crate::vault) async fn get(
    api: &Api,
    token: &VaultToken,
    path: &str,
    version: Option<u64>,
) -> Result<Response, VaultError> {
    let query = version.map(|number| ("version".to_owned(), number.to_string()));
    api.send(Call::new(Method::GET, path).query(query.into_iter().collect()).token(token)).await
}

/// Sends the request of `source` with `parameters`.
pub(in crate::vault) async fn request(
    api: &Api,
    token: &VaultToken,
    source: &Source,
    parameters: &Parameters,
) -> Result<Response, VaultError> {
    let call = match source.method {
        RequestMethod::Read | RequestMethod::List => Call::new(Method::GET, &source.path).query(query(parameters)),
        RequestMethod::Write | RequestMethod::CreateToken => {
            let body: serde_json::Map<_, _> =
                parameters.iter().map(|(name, value)| (name.clone(), json(value))).collect();
            Call::new(Method::POST, &source.path).body(Value::from(body).to_string().into())
        }
    };
    api.send(call.token(token)).await
}

/// The error for a response with an error status to [`request`].
pub(in crate::vault) fn request_error(action: &str, source: &Source, response: &Response) -> VaultError {
    let capability = match source.method {
        RequestMethod::Read | RequestMethod::List => "read",
        RequestMethod::Write | RequestMethod::CreateToken => "update",
    };
    token_error(action, response, || rule(&source.path, capability))
}

/// A list becomes one pair per item, as in the Vault CLI.
fn query(parameters: &Parameters) -> Vec<(String, String)> {
    let text = |value: &Parameter| match value {
        Parameter::Text(text) => text.clone(),
        other => other.to_string(),
    };
    let items = |value: &Parameter| match value {
        Parameter::List(items) => items.iter().map(text).collect(),
        other => vec![text(other)],
    };
    parameters.iter().flat_map(|(name, value)| items(value).into_iter().map(|item| (name.clone(), item))).collect()
}

fn json(parameter: &Parameter) -> Value {
    match parameter {
        Parameter::Text(text) => text.as_str().into(),
        Parameter::Integer(number) => (*number).into(),
        Parameter::Boolean(flag) => (*flag).into(),
        Parameter::List(items) => items.iter().map(json).collect(),
    }
}

/// The error for a response with an error status to a read of `path`, which was requested as `request_path`.
pub(in crate::vault) fn read_error_with_rule(path: &str, request_path: &str, response: &Response) -> VaultError {
    token_error(&format!("failed to read {path}"), response, || rule(request_path, "read"))
}

/// [`read_error_with_rule`] for a response that does not concern the token.
pub(in crate::vault) fn read_error(path: &str, response: &Response) -> VaultError {
    status_error(&format!("failed to read {path}"), response)
}

/// The envelope of every response (<https://developer.hashicorp.com/vault/api-docs>). Unknown fields are ignored.
#[derive(Deserialize)]
pub(in crate::vault) struct Envelope<'a> {
    /// Unparsed, so that numbers keep their digits and secrets are not copied.
    #[serde(borrow, default)]
    pub(in crate::vault) data: Option<&'a RawValue>,
    #[serde(default)]
    lease_id: Option<String>,
    #[serde(default)]
    lease_duration: Seconds,
    #[serde(default)]
    renewable: Option<bool>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    /// Type of the mount that answered; Vault 1.17 and later.
    #[serde(default)]
    mount_type: Option<String>,
}

/// Known facts about the engine of a response without versions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) enum EngineKind {
    /// KV version 1.
    Kv,
    /// Another engine, according to the configuration or the mount table.
    NotKv,
    /// Any engine.
    Unknown,
}

impl<'a> Envelope<'a> {
    pub(in crate::vault) fn parse(path: &str, response: &'a Response) -> Result<Self, VaultError> {
        parse(path, response)
    }

    /// Vault's warnings, shortened.
    pub(in crate::vault) fn warnings(&self) -> Vec<String> {
        self.warnings.iter().flatten().map(|warning| clip(warning)).collect()
    }

    /// Validity of the response to a read of `path`. `date` is the time on the server's clock.
    pub(in crate::vault) fn validity(&self, path: &str, known: EngineKind, date: Option<Timestamp>) -> Validity {
        let lease_duration = self.lease_duration.0.unwrap_or_default();
        if let Some(id) = self.lease_id.clone().filter(|id| !id.is_empty()) {
            let renewable = self.renewable.unwrap_or_default();
            return Validity::Lease(Lease { id: LeaseId::Id(id), duration: lease_duration, renewable });
        }
        let mount_type = self.mount_type.as_deref();
        // KV version 1 returns the default TTL of the mount. The refresh interval of the source applies instead.
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v1#ttls
        if known == EngineKind::Kv || matches!(mount_type, Some("kv" | "generic")) {
            return Validity::Unlimited;
        }
        let confirmed = known == EngineKind::NotKv || mount_type.is_some();
        let origin = Origin { path, known, mount_type, date };
        if let Some(validity) = self.data.and_then(|data| origin.validity_of(data)) {
            return validity;
        }
        // For an unknown engine, the duration can be the default TTL of KV version 1.
        if confirmed && !lease_duration.is_zero() { Validity::Expires(lease_duration) } else { Validity::Unlimited }
    }
}
