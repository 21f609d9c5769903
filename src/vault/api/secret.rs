//! `GET <path>`: a read from any engine, and the validity of the content.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::error::VaultError;
use super::super::http::Response;
use super::super::json::{MAX_TIME, Seconds};
use super::super::server_text::clip;
use super::response::{parse, rule, status_error, token_error};
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
        RequestMethod::Read => Call::new(Method::GET, &source.path).query(query(parameters)),
        RequestMethod::Write => {
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
        RequestMethod::Read => "read",
        RequestMethod::Write => "update",
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
            return Validity::Lease(Lease { id: LeaseId(id), duration: lease_duration, renewable });
        }
        let mount_type = self.mount_type.as_deref();
        // KV version 1 returns the default TTL of the mount. The refresh interval of the source applies instead.
        // https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v1#ttls
        if known == EngineKind::Kv || matches!(mount_type, Some("kv" | "generic")) {
            return Validity::Unlimited;
        }
        let confirmed = known == EngineKind::NotKv || mount_type.is_some();
        let fields = self.data.and_then(|data| serde_json::from_str::<TtlFields>(data.get()).ok()).unwrap_or_default();
        if let Some(ttl) = fields.rotates(path, known, mount_type, date) {
            return Validity::Rotates(ttl);
        }
        if let Some(ttl) = fields.expires(path, known, mount_type, date) {
            return Validity::Expires(ttl);
        }
        // For an unknown engine, the duration can be the default TTL of KV version 1.
        if confirmed && !lease_duration.is_zero() { Validity::Expires(lease_duration) } else { Validity::Unlimited }
    }
}

/// Expiry fields in the data of engines without leases. Fields of unexpected types are ignored.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TtlFields {
    ttl: Seconds,
    token_ttl: Seconds,
    #[serde(deserialize_with = "time")]
    expires_at_seconds: Option<Timestamp>,
    #[serde(deserialize_with = "is_text")]
    token: bool,
    #[serde(deserialize_with = "is_text")]
    certificate: bool,
    #[serde(deserialize_with = "is_text")]
    access_key: bool,
    /// Seconds since 1970 for PKI, text for AWS.
    #[serde(deserialize_with = "time")]
    expiration: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    last_vault_rotation: Option<Timestamp>,
    rotation_period: Seconds,
    #[serde(deserialize_with = "is_text")]
    rotation_schedule: bool,
}

impl TtlFields {
    /// Time until the next rotation of a static role of the database, LDAP, or AWS engine. 0 means that the rotation is due; it
    /// stays 0 as long as the rotation fails. A role that was not rotated yet has no `last_vault_rotation`
    /// (<https://developer.hashicorp.com/vault/api-docs/secret/databases#get-static-credentials>,
    /// <https://developer.hashicorp.com/vault/api-docs/secret/ldap#static-role-passwords>).
    fn rotates(
        &self,
        path: &str,
        known: EngineKind,
        mount_type: Option<&str>,
        date: Option<Timestamp>,
    ) -> Option<Duration> {
        let is_role = self.last_vault_rotation.is_some() || self.rotation_period.0.is_some() || self.rotation_schedule;
        let is_aws = self.access_key && is_engine("aws", "/static-creds/", path, known, mount_type);
        self.ttl.0.filter(|_| is_role).or_else(|| left(self.expiration.filter(|_| is_aws)?, date))
    }

    /// <https://developer.hashicorp.com/vault/api-docs/secret/identity/tokens#generate-a-signed-id-token> and
    /// <https://developer.hashicorp.com/vault/api-docs/secret/gcp#generate-secret-iam-service-account-creds-oauth2-access-token>
    ///
    /// A secret of KV version 1 can have keys with these names. If the engine is unknown, the mount type in the response or the
    /// path must match.
    fn expires(
        &self,
        path: &str,
        known: EngineKind,
        mount_type: Option<&str>,
        date: Option<Timestamp>,
    ) -> Option<Duration> {
        let is = |engine: &str, on_path: &str| is_engine(engine, on_path, path, known, mount_type);
        // https://developer.hashicorp.com/vault/api-docs/secret/pki#generate-certificate-and-key
        if self.certificate && (known == EngineKind::NotKv || mount_type == Some("pki")) {
            return left(self.expiration?, date);
        }
        if !self.token {
            return None;
        }
        let gcp = || self.token_ttl.0.or_else(|| left(self.expires_at_seconds?, date)).filter(|_| is("gcp", "/token"));
        self.ttl.0.filter(|_| is("identity", "identity/oidc/token/")).or_else(gcp)
    }
}

/// Whether a response is from this engine, according to the mount type, or to a part of the path if neither the configuration
/// nor the response says what the engine is.
fn is_engine(engine: &str, on_path: &str, path: &str, known: EngineKind, mount_type: Option<&str>) -> bool {
    known == EngineKind::NotKv || mount_type.map_or_else(|| path.contains(on_path), |found| found == engine)
}

/// Time from `date`, the server's time of the response, until `end`; 0 if it has passed.
fn left(end: Timestamp, date: Option<Timestamp>) -> Option<Duration> {
    Some(Duration::try_from(end.duration_since(date?)).unwrap_or_default().min(MAX_TIME))
}

fn is_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(<&RawValue>::deserialize(deserializer)?.get().starts_with('"'))
}

/// A time as text, or as seconds since 1970.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let seconds = || raw.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(raw.trim_matches('"').parse().ok().or_else(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(path: &str, known: EngineKind, body: &str) -> Validity {
        let response = Response::for_test(200, body);
        let date = "2026-01-01T00:00:00Z".parse().ok();
        Envelope::parse(path, &response).unwrap_or_else(|error| panic!("{body}: {error}")).validity(path, known, date)
    }

    fn data(path: &str, known: EngineKind, mount_type: Option<&str>, data: &str) -> Validity {
        let mount_type = mount_type.map_or("null".to_owned(), |kind| format!("\"{kind}\""));
        validity(path, known, &format!(r#"{{"lease_duration":0,"mount_type":{mount_type},"data":{data}}}"#))
    }

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn lease_requires_id_and_clamps_duration() {
        for (seconds, expected) in
            [("60", Duration::from_mins(1)), ("0", Duration::ZERO), ("-1", Duration::ZERO), ("9e18", MAX_TIME)]
        {
            let body = format!(r#"{{"lease_id":"a/b","lease_duration":{seconds},"renewable":true,"data":{{}}}}"#);
            let lease = validity("a", EngineKind::Unknown, &body).lease().cloned().expect("a lease");
            assert_eq!((lease.id, lease.duration, lease.renewable), (LeaseId("a/b".into()), expected, true));
        }
    }

    #[test]
    fn duration_without_lease_expires_except_for_kv() {
        let body =
            |kind: &str| format!(r#"{{"lease_id":"","lease_duration":60,"mount_type":{kind},"data":{{"a":"b"}}}}"#);
        let minute = Validity::Expires(Duration::from_mins(1));
        assert_eq!(validity("a/b", EngineKind::NotKv, &body("null")), minute);
        assert_eq!(validity("pki/issue/a", EngineKind::Unknown, &body("\"pki\"")), minute);
        assert_eq!(validity("a/b", EngineKind::Unknown, &body("null")), Validity::Unlimited);
        assert_eq!(validity("a/b", EngineKind::Kv, &body("null")), Validity::Unlimited);
        assert_eq!(validity("a/b", EngineKind::NotKv, &body("\"kv\"")), Validity::Unlimited);
    }

    #[test]
    fn static_role_rotates_even_when_rotation_is_due() {
        let role =
            |ttl: &str| format!(r#"{{"last_vault_rotation":"2026-01-01T00:00:00.5Z","ttl":{ttl},"password":"p"}}"#);
        for (known, kind) in
            [(EngineKind::NotKv, None), (EngineKind::Unknown, Some("database")), (EngineKind::Unknown, None)]
        {
            assert_eq!(data("a", known, kind, &role("1800")), Validity::Rotates(Duration::from_mins(30)));
            assert_eq!(data("a", known, kind, &role("0")), Validity::Rotates(Duration::ZERO));
            assert_eq!(data("a", known, kind, &role("18446744073709551615")), Validity::Rotates(MAX_TIME));
        }
        // A value in a KV secret must not control the refresh interval.
        assert_eq!(data("a", EngineKind::NotKv, Some("kv"), &role("1")), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::Kv, None, &role("1")), Validity::Unlimited);
        let untimed = r#"{"last_vault_rotation":"","ttl":1}"#;
        assert_eq!(data("a", EngineKind::NotKv, None, untimed), Validity::Unlimited);
        // Roles that have not been rotated yet, with a period or with a schedule.
        for when in [r#""rotation_period":86400"#, r#""rotation_schedule":"0 0 * * SAT""#] {
            let new = format!(r#"{{"ttl":1800,{when},"password":"p"}}"#);
            assert_eq!(data("a", EngineKind::NotKv, None, &new), Validity::Rotates(Duration::from_mins(30)), "{when}");
        }
        assert_eq!(data("a", EngineKind::NotKv, None, r#"{"ttl":1,"rotation_period":"x"}"#), Validity::Unlimited);
    }

    #[test]
    fn aws_static_role_rotates_at_its_expiration() {
        let role = r#"{"access_key":"A","secret_key":"s","expiration":"2026-01-01T01:00:00Z"}"#;
        for (path, known, kind) in [
            ("aws/static-creds/app", EngineKind::NotKv, None),
            ("cloud/static-creds/app", EngineKind::Unknown, Some("aws")),
        ] {
            assert_eq!(data(path, known, kind, role), Validity::Rotates(Duration::from_hours(1)));
        }
        assert_eq!(data("kv/app", EngineKind::Unknown, None, role), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::NotKv, Some("kv"), role), Validity::Unlimited);
        assert_eq!(data("a", EngineKind::NotKv, None, r#"{"expiration":"2026-01-01T01:00:00Z"}"#), Validity::Unlimited);
    }

    #[test]
    fn expiry_in_data_is_recognized_for_known_engines() {
        let identity = r#"{"client_id":"c","token":"eyJ","ttl":86400}"#;
        let path = "identity/oidc/token/app";
        for (known, kind) in
            [(EngineKind::NotKv, None), (EngineKind::Unknown, Some("identity")), (EngineKind::Unknown, None)]
        {
            assert_eq!(data(path, known, kind, identity), Validity::Expires(DAY));
        }
        let path = "gcp/roleset/app/token";
        for (known, kind) in
            [(EngineKind::NotKv, Some("gcp")), (EngineKind::Unknown, Some("gcp")), (EngineKind::Unknown, None)]
        {
            let both = r#"{"token":"ya29","token_ttl":3599,"expires_at_seconds":1767229200}"#;
            assert_eq!(data(path, known, kind, both), Validity::Expires(Duration::from_secs(3599)));
            let end = r#"{"token":"ya29","expires_at_seconds":1767229200}"#;
            assert_eq!(
                data(path, known, kind, end),
                Validity::Expires(Duration::from_hours(1)),
                "by the response's Date"
            );
        }
        for unlike in [r#"{"token":1,"ttl":60}"#, r#"{"ttl":60}"#, r#"{"token":"x","ttl":"60"}"#, r#"{"token":"x"}"#] {
            assert_eq!(data("a", EngineKind::NotKv, None, unlike), Validity::Unlimited, "{unlike}");
        }
        // Can be a secret of KV version 1 with these keys.
        assert_eq!(data("kv/app", EngineKind::Unknown, None, identity), Validity::Unlimited);
    }
}
